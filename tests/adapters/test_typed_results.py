"""Typed answers, `omi_runtime.results`, are the same JSON on every wire that carries JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from golden_servers import Serve, Server
from omi_grpc._pb import model_pb2 as pb
from test_golden_omi_v2 import MODELS, PATIENCE, TYPED


def omi(server: Server, _folder: Path) -> dict[str, Any]:
    request = pb.RunRequest(inputs=[pb.InputItem(input={"text": b"hello"})])
    with grpc.insecure_channel(server.address) as channel:
        stub = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        (output,) = stub(request, timeout=PATIENCE).outputs
    return json.loads(output.output["results.json"])["data"]["result"]


def modzy(server: Server, folder: Path) -> dict[str, Any]:
    (folder / "text").write_text("hello")
    body = {"type": "file", "input": str(folder), "output": str(folder)}
    answer = httpx.post(f"http://{server.address}/run", json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return json.loads((folder / "results.json").read_text())["data"]["result"]


def v1(server: Server, _folder: Path) -> dict[str, Any]:
    url = f"http://{server.address}/v1/models/typed:predict"
    answer = httpx.post(url, json={"instances": ["hello"]}, timeout=PATIENCE)
    (prediction,) = answer.json()["predictions"]
    return prediction


def v2(server: Server, _folder: Path) -> dict[str, Any]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hello"]}
    names = [{"name": name} for name in TYPED]  # bytes cannot go with JSON here
    body = {"inputs": [tensor], "outputs": names}
    url = f"http://{server.address}/v2/models/typed/infer"
    answer = httpx.post(url, json=body, timeout=PATIENCE)
    return {output["name"]: json.loads(output["data"][0]) for output in answer.json()["outputs"]}


@pytest.mark.parametrize(
    ("interface", "ask"), [("omi", omi), ("modzy", modzy), ("kserve", v1), ("kserve", v2)]
)
def test_the_same_json_everywhere(interface: str, ask: Any, serve: Serve, tmp_path: Path) -> None:
    said = ask(serve(f"{MODELS}:Typed", interface), tmp_path)
    assert {name: said[name] for name in TYPED} == TYPED
