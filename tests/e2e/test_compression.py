"""Bodies that are compressed, in and out, on every HTTP interface."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from clients import MODELS, Server

LIMIT = 1_000_000
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class Wire(NamedTuple):
    """One interface, with a request that it takes."""

    interface: str
    path: str
    body: bytes


def v1(n: int) -> bytes:
    return json.dumps({"instances": [[i, 0.5] for i in range(n)]}).encode()


def v2(n: int) -> bytes:
    data = [number for i in range(n) for number in (i, 0.5)]
    tensor = {"name": "pair", "datatype": "FP32", "shape": [n, 2], "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(
        tmp_path_factory.mktemp("log"),
        INTERFACE="kserve,modzy",
        OMI_MODEL=f"{MODELS}:Totals",
        PSC_MODEL_PORT="0",
        OMI_MAX_REQUEST_BYTES=str(LIMIT),
    ) as server:
        yield {name: server.port(name) for name in ("kserve", "modzy")}
        assert "Traceback" not in server.log


@pytest.fixture(params=["kserve-v1", "kserve-v2", "modzy"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Wire:
    (tmp_path / "pair").write_text("[1, 2]")
    job = {"type": "file", "input": str(tmp_path), "output": str(tmp_path)}
    return {
        "kserve-v1": Wire("kserve", "/v1/models/totals:predict", v1(2)),
        "kserve-v2": Wire("kserve", "/v2/models/totals/infer", v2(2)),
        "modzy": Wire("modzy", "/run", json.dumps(job).encode()),
    }[request.param]


def post(port: int, path: str, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        client.headers.clear()
        return client.post(f"http://127.0.0.1:{port}{path}", content=body, headers=named)


@pytest.mark.parametrize("coding", PACK)
def test_a_compressed_request_is_answered_as_any_other(
    wire: Wire, coding: str, ports: dict[str, int]
) -> None:
    port = ports[wire.interface]
    plain = post(port, wire.path, wire.body)
    packed = post(port, wire.path, PACK[coding](wire.body), content_encoding=coding)
    assert (plain.status_code, packed.status_code) == (200, 200), packed.text
    assert packed.content == plain.content


@pytest.mark.parametrize("coding", PACK)
def test_a_bomb_is_refused(wire: Wire, coding: str, ports: dict[str, int]) -> None:
    bomb = PACK[coding](b" " * 50 * LIMIT)
    assert len(bomb) < LIMIT
    answer = post(ports[wire.interface], wire.path, bomb, content_encoding=coding)
    assert answer.status_code == 413
    assert "OMI_MAX_REQUEST_BYTES" in answer.text
    assert str(LIMIT) in answer.text


def test_what_is_not_compressed_as_it_says(wire: Wire, ports: dict[str, int]) -> None:
    port = ports[wire.interface]
    assert post(port, wire.path, wire.body, content_encoding="gzip").status_code == 400
    refused = post(port, wire.path, wire.body, content_encoding="br")
    assert refused.status_code == 415
    assert "gzip" in refused.text
    assert refused.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "body"), [("v1/models/totals:predict", v1), ("v2/models/totals/infer", v2)]
)
@pytest.mark.parametrize("asked", ["gzip", "deflate", "gzip, deflate, br", "br", "gzip;q=0", ""])
@pytest.mark.parametrize("n", [10, 20_000])
def test_a_large_answer_is_compressed_if_that_is_asked_for(
    path: str, body: Callable[[int], bytes], asked: str, n: int, ports: dict[str, int]
) -> None:
    port = ports["kserve"]
    plain = post(port, f"/{path}", body(n))
    assert "content-encoding" not in plain.headers
    answer = post(port, f"/{path}", body(n), accept_encoding=asked)
    assert answer.content == plain.content  # httpx unpacks it
    if n == 10 or asked in ("br", "gzip;q=0", ""):
        assert "content-encoding" not in answer.headers
    else:
        assert answer.headers["content-encoding"] == asked.partition(",")[0]
        assert int(answer.headers["content-length"]) < len(plain.content) / 2


@pytest.mark.parametrize("coding", PACK)
def test_what_the_web_framework_answers_is_read_too(ports: dict[str, int], coding: str) -> None:
    index = f"http://127.0.0.1:{ports['kserve']}/v2/repository/index"

    def ask(content: bytes, encoding: str = coding) -> httpx.Response:
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        return httpx.post(index, content=content, headers=headers)

    answer = ask(PACK[coding](b'{"ready": true}'))
    assert [model["name"] for model in answer.json()] == ["totals"], answer.text
    assert ask(b'{"ready": true}').status_code == 400
    assert ask(b"{}", "br").status_code == 415
    assert ask(PACK[coding](b" " * (LIMIT + 1))).status_code == 413
