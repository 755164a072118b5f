"""Values that are well-formed and cannot be meant, on every wire: nesting, sizes, NaN."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from golden_files import send
from golden_servers import Serve
from omi_grpc._pb import model_pb2 as pb

DEEP = b"[" * 100_000 + b"]" * 100_000
HUGE = 2**40

JSON_VALUES = {
    "nested deeply": DEEP,
    "nested deeply in an object": b'{"a": ' * 50_000 + b"1" + b"}" * 50_000,
    "NaN": b"[[NaN, 1.0]]",
    "infinity": b"[[-Infinity, 1.0]]",
    "more than the datatype holds": b"[[1e999, 1.0]]",
}


def npy(shape: str) -> bytes:
    """An .npy file of eight bytes whose header claims some shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)


SHAPES = {
    "product overflows": (HUGE, HUGE),
    "product overflows to nothing": (2**32, 2**32),
    "negative": (-1, -2),
    "one negative": (-1, 2),
    "larger than memory": (1, HUGE),
}
FILES = {f"json {what}": ("grid.json", data) for what, data in JSON_VALUES.items()} | {
    f"npy {what}": ("grid.npy", npy(str(shape))) for what, shape in SHAPES.items()
}


@pytest.mark.parametrize("what", JSON_VALUES)
def test_v1(what: str, serve: Serve) -> None:
    body = b'{"instances": [%b]}' % JSON_VALUES[what]
    answer = send(serve("Grid", "kserve").address, "POST", "/v1/models/grid:predict", body)
    assert answer.status == 400, answer.body[:200]
    assert list(answer.json()) == ["error"]


def tensor(shape: Any, data: bytes) -> bytes:
    head = {"name": "grid", "datatype": "FP32", "shape": shape}
    return b'{"inputs": [%b, "data": %b}]}' % (json.dumps(head).encode()[:-1], data)


V2 = {what: tensor([1, 1, 2], data) for what, data in JSON_VALUES.items()} | {
    f"shape {what}": tensor([1, *shape], b"[1.0, 2.0]") for what, shape in SHAPES.items()
}


@pytest.mark.parametrize("what", V2)
def test_v2(what: str, serve: Serve) -> None:
    answer = send(serve("Grid", "kserve").address, "POST", "/v2/models/grid/infer", V2[what])
    assert answer.status == 400, answer.body[:200]
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("what", SHAPES)
def test_v2_binary(what: str, serve: Serve) -> None:
    head = {
        "name": "grid",
        "datatype": "FP32",
        "shape": [1, *SHAPES[what]],
        "parameters": {"binary_data_size": 8},
    }
    text = json.dumps({"inputs": [head]}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    address = serve("Grid", "kserve").address
    answer = send(address, "POST", "/v2/models/grid/infer", text + bytes(8), headers)
    assert answer.status == 400, answer.body[:200]
    assert "grid" in answer.json()["error"]


@pytest.mark.parametrize("what", FILES)
def test_omi(what: str, serve: Serve) -> None:
    name, data = FILES[what]
    with grpc.insecure_channel(
        serve("Grid", "omi").address, [("grpc.enable_http_proxy", 0)]
    ) as channel:
        run = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        good = pb.InputItem(input={"grid.json": b"[[1.0, 2.0]]"})
        bad = pb.InputItem(input={name: data})
        answer = run(pb.RunRequest(inputs=[bad, good]), timeout=60)
    assert answer.status_code == 200
    assert [output.success for output in answer.outputs] == [False, True]
    assert "grid" in answer.outputs[0].output["error"].decode()


@pytest.mark.parametrize("what", FILES)
def test_modzy(what: str, serve: Serve, tmp_path: Path) -> None:
    name, data = FILES[what]
    (tmp_path / name).write_bytes(data)
    job = {"type": "file", "input": str(tmp_path), "output": str(tmp_path)}
    body = json.dumps(job).encode()
    answer = send(serve("Grid", "modzy").address, "POST", "/run", body)
    assert answer.status == 422, answer.body
    assert "grid" in answer.json()["message"]


def test_modzy_job(serve: Serve) -> None:
    answer = send(
        serve("Grid", "modzy").address, "POST", "/run", DEEP, {"content-type": "application/json"}
    )
    assert answer.status == 400
