"""V2 over gRPC with the clients of others: tritonclient's, and kserve's InferenceGRPCClient."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clients import KServeGRPCClient
from clients.process import TESTS
from environments import PEERS, Environment, kserve_sdk

GOLDEN = TESTS / "adapters" / "models.py"


@pytest.fixture(scope="module")
def sdk() -> Environment:
    return kserve_sdk()


def ask(sdk: Environment, servers: Any, model: str, client: str = "triton") -> dict[str, Any]:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{GOLDEN}:{model}")
    port = str(KServeGRPCClient.port_of(server))
    done = sdk.run(str(PEERS / f"{client}_grpc_client.py"), port, model.lower())
    assert done.code == 0, done
    said: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return said


def test_kserves_client(sdk: Environment, servers: Any) -> None:
    assert ask(sdk, servers, "Total", "kserve") == {
        "live": True,
        "ready": True,
        "model": True,
        "typed": ["typed", "total", "INT64", [3, 7]],
        "raw": ["raw", "total", "INT64", [3, 7]],
        "refused": [
            "INVALID_ARGUMENT",
            "input 'values': has shape [1, 3], expected [-1, 2]",
        ],
    }


def test_tritons_client(sdk: Environment, servers: Any) -> None:
    said = ask(sdk, servers, "Total")
    metadata = said.pop("metadata")
    assert metadata["inputs"] == [{"name": "values", "datatype": "INT32", "shape": ["-1", "2"]}]
    assert said == {
        "live": True,
        "ready": True,
        "model": True,
        "server": "omi-runtime",
        "index": {"models": [{"name": "total", "version": "1.0.0", "state": "READY"}]},
        "infer": ["a", [3, 7]],
        "asynchronous": [3, 7],
        "streamed": [[str(i), [[3, 7]], True] for i in range(5)],
        "stranger": ["StatusCode.NOT_FOUND", "no model 'stranger' here, only 'total'"],
        "version": ["StatusCode.NOT_FOUND", "no version '9' of 'total' here, only '1.0.0'"],
        "load": [
            "StatusCode.UNIMPLEMENTED",
            "loading and unloading are off here: OMI_ADMIN=on would offer them",
        ],
    }


def test_bytes_that_are_no_text(sdk: Environment, servers: Any) -> None:
    said = ask(sdk, servers, "Names")
    assert said["reversed"] == ["né".encode()[::-1].hex(), b"a\x00\xff".hex()]


def test_a_stream_of_a_model_that_yields(sdk: Environment, servers: Any) -> None:
    said = ask(sdk, servers, "Counting")
    assert said["streamed"] == [
        *(["three", [[number]], False] for number in (1, 2, 3)),
        ["three", [], True],
        *(["too many", [[number]], False] for number in range(1, 13)),
        "counting: RuntimeError: thirteen is too much",
        ["one", [[1]], False],
        ["one", [], True],
    ]
