"""The same requests to this server and to KServe's ModelServer, around the same model.

Every answer is the same, or its difference is on the published list of deviations
(docs/interfaces/kserve.md), whose row says which clause decides it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from clients import KServeGRPCClient, Server, Spec
from clients.process import ROOT, TESTS
from environments import Environment, kserve_sdk
from omi_kserve._pb import open_inference_pb2 as pb

GOLDEN = TESTS / "adapters" / "models.py"
MODELS = ("Total", "Names", "Decimals")


@dataclass(frozen=True)
class REST:
    """One request; `differs` is the row of the list that says why the answers are not the same."""

    title: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    model: str = "Total"
    differs: str = ""

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True)
class GRPC:
    """One call."""

    title: str
    method: str
    fields: dict[str, Any] = field(default_factory=dict)
    model: str = "Total"
    differs: str = ""

    def __str__(self) -> str:
        return self.title


def tensor(**changed: Any) -> dict[str, Any]:
    return {"name": "values", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]} | changed


def infer(**changed: Any) -> dict[str, Any]:
    return {"inputs": [tensor()]} | changed


def binary(body: bytes, **content: Any) -> dict[str, Any]:
    head = json.dumps(content).encode()
    return {
        "body": head + body,
        "headers": {
            "inference-header-content-length": str(len(head)),
            "content-type": "application/octet-stream",
        },
    }


RAW = np.array([[1, 2], [3, 4]], "<i4").tobytes()
IN_BINARY = {"name": "values", "datatype": "INT32", "shape": [2, 2],
             "parameters": {"binary_data_size": 16}}  # fmt: skip
V1, V2 = "/v1/models/total", "/v2/models/total"
VALIDATION = "a request that fails validation"
SHAPES = "wrong shape or size, a number out of range, no inputs"

REQUESTS = [
    REST("alive", "GET", "/"),
    REST("V1 list", "GET", "/v1/models"),
    REST("V1 ready", "GET", V1),
    REST("V1 ready, another model", "GET", "/v1/models/other"),
    REST("V1 predict", "POST", f"{V1}:predict", {"instances": [[1, 2], [3, 4]]}),
    REST("V1 predict, inputs", "POST", f"{V1}:predict", {"inputs": [[1, 2]]}),
    REST("V1 predict, another model", "POST", "/v1/models/other:predict", {"instances": []}),
    REST("V1 predict, no JSON", "POST", f"{V1}:predict", b"cats and dogs"),
    REST("V1 predict, no list", "POST", f"{V1}:predict", {"instances": 1}),
    REST("V1 predict, wrong shape", "POST", f"{V1}:predict", {"instances": [[1, 2, 3]]}),
    REST("V1 predict, refused", "POST", f"{V1}:predict", {"instances": [[13, 0]]}),
    REST("V1 predict, failing", "POST", f"{V1}:predict", {"instances": [[666, 0]]}),
    REST("V1 explain", "POST", f"{V1}:explain", {"instances": [[1, 2]]}),
    REST("V1 explain, not offered", "POST", "/v1/models/names:explain",
         {"instances": [["a"]]}, model="Names"),
    REST("V2 live", "GET", "/v2/health/live"),
    REST("V2 ready", "GET", "/v2/health/ready"),
    REST("V2 server", "GET", "/v2", differs="`extensions` of the server"),
    REST("V2 model", "GET", V2, differs="metadata of the model"),
    REST("V2 model ready", "GET", f"{V2}/ready"),
    REST("V2 another model", "GET", "/v2/models/other"),
    REST("V2 by version", "GET", f"{V2}/versions/1.0.0", differs="paths with a version"),
    REST("V2 list", "GET", "/v2/models"),
    REST("V2 infer", "POST", f"{V2}/infer", infer(id="a")),
    REST("V2 infer, nested", "POST", f"{V2}/infer", infer(inputs=[tensor(data=[[1, 2], [3, 4]])])),
    REST("V2 infer, outputs", "POST", f"{V2}/infer", infer(outputs=[{"name": "total"}])),
    REST("V2 infer, unknown output", "POST", f"{V2}/infer", infer(outputs=[{"name": "sum"}])),
    REST("V2 infer, unknown input", "POST", f"{V2}/infer", infer(inputs=[tensor(name="x")])),
    REST("V2 infer, datatype", "POST", f"{V2}/infer", infer(inputs=[tensor(datatype="FP32")])),
    REST("V2 infer, shape", "POST", f"{V2}/infer", infer(inputs=[tensor(shape=[2, 3])])),
    REST("V2 infer, refused", "POST", f"{V2}/infer", infer(inputs=[tensor(data=[1, 2, 13, 4])])),
    REST("V2 infer, failing", "POST", f"{V2}/infer", infer(inputs=[tensor(data=[666, 2, 3, 4])])),
    REST("V2 infer, another model", "POST", "/v2/models/other/infer", infer()),
    REST("V2 infer, beyond the datatype", "POST", f"{V2}/infer",
         infer(inputs=[tensor(data=[2**31, 2, 3, 4])]), differs=SHAPES),
    REST("V2 infer, no inputs", "POST", f"{V2}/infer", {"inputs": []}),
    REST("V2 infer, no object", "POST", f"{V2}/infer", [], differs=VALIDATION),
    REST("V2 infer, empty body", "POST", f"{V2}/infer", b"", differs=VALIDATION),
    REST("V2 unknown route", "GET", "/v2/cats", differs="unknown routes and wrong methods"),
    REST("V2 wrong method", "PUT", f"{V2}/infer", differs="unknown routes and wrong methods"),
    REST("V2 binary in", "POST", f"{V2}/infer", **binary(RAW, inputs=[IN_BINARY])),
    REST("V2 binary, too short", "POST", f"{V2}/infer", **binary(RAW[:8], inputs=[IN_BINARY]),
         differs=SHAPES),
    REST("V2 NaN", "POST", "/v2/models/decimals/infer", infer(
        inputs=[{"name": "word", "datatype": "BYTES", "shape": [1], "data": ["nan"]}]),
        model="Decimals", differs="NaN and infinity in a JSON answer"),
    REST("V1 no type of JSON", "POST", f"{V1}:predict", b'{"instances": [[1, 2]]}',
         {"content-type": "application/x-www-form-urlencoded"},
         differs="a V1 body of `application/json; charset=utf-8`, or curl's own type"),
]  # fmt: skip


def typed(*values: int, shape: tuple[int, ...] = (2, 2), **changed: Any) -> dict[str, Any]:
    tensor = {"name": "values", "datatype": "INT32", "shape": shape} | changed
    return tensor | {"contents": {"int_contents": values}}


CALLS = [
    GRPC("live", "ServerLive"),
    GRPC("ready", "ServerReady"),
    GRPC("model ready", "ModelReady", {"name": "total"}),
    GRPC("another model ready", "ModelReady", {"name": "other"}),
    GRPC("server", "ServerMetadata", differs="`extensions` of the server"),
    GRPC("model", "ModelMetadata", {"name": "total"}, differs="metadata of the model"),
    GRPC("another model", "ModelMetadata", {"name": "other"}),
    GRPC("typed", "ModelInfer", {"inputs": [typed(1, 2, 3, 4)], "id": "a"}),
    GRPC("raw", "ModelInfer",
         {"inputs": [{"name": "values", "datatype": "INT32", "shape": [2, 2]}],
          "raw_input_contents": [RAW], "id": "a"}),
    GRPC("no id", "ModelInfer", {"inputs": [typed(1, 2, 3, 4)]}),
    GRPC("outputs", "ModelInfer", {"inputs": [typed(1, 2, 3, 4)], "id": "a",
                                   "outputs": [{"name": "total"}]}),
    GRPC("an unknown output", "ModelInfer", {"inputs": [typed(1, 2, 3, 4)],
                                             "outputs": [{"name": "sum"}]}),
    GRPC("another version", "ModelInfer", {"inputs": [typed(1, 2, 3, 4)], "model_version": "9"},
         differs="gRPC: another `model_version`"),
    GRPC("an unknown input", "ModelInfer", {"inputs": [typed(1, 2, 3, 4, name="x")]}),
    GRPC("another datatype", "ModelInfer", {"inputs": [typed(1, 2, 3, 4, datatype="INT8")]}),
    GRPC("another shape", "ModelInfer", {"inputs": [typed(1, 2, 3, 4, shape=(2, 3))]}),
    GRPC("a refused input", "ModelInfer", {"inputs": [typed(1, 2, 13, 4)]}),
    GRPC("a model that fails", "ModelInfer", {"inputs": [typed(666, 2, 3, 4)]},
         differs="gRPC: a model that fails"),
    GRPC("infer of another model", "ModelInfer",
         {"inputs": [typed(1, 2, 3, 4)], "model_name": "other"}),
    GRPC("index", "RepositoryIndex", differs="gRPC: `ModelStreamInfer`, `RepositoryIndex`"),
]  # fmt: skip


def deviations() -> set[str]:
    """The rows of the published list, by what they are about."""
    page = (ROOT / "docs" / "interfaces" / "kserve.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## What differs from KServe's Python server")
    return {line.split(" | ")[0].strip("| ") for line in section.splitlines() if line[:1] == "|"}


def test_every_difference_is_on_the_published_list() -> None:
    assert {one.differs for one in [*REQUESTS, *CALLS] if one.differs} <= deviations()


@pytest.fixture(scope="module")
def sdk() -> Environment:
    return kserve_sdk()


class Pair:
    """Both servers around one model, each with a client."""

    def __init__(self, model: str, sdk: Environment, directory: Path, stack: ExitStack) -> None:
        common = {"INTERFACE": "kserve", "OMI_MODEL": f"{GOLDEN}:{model}"}
        ours = stack.enter_context(Server(directory, **common))
        theirs = stack.enter_context(
            Server(
                directory,
                command=(sdk.python, "-m", "omi_runtime"),
                OMI_KSERVE_SERVER="sdk",
                **common,
            )
        )
        self.servers = (ours, theirs)
        spec = Spec("", model.lower(), {}, {})
        self.http, self.grpc = [], []
        for server in self.servers:
            address = f"http://127.0.0.1:{server.port('kserve')}"
            # KServe's server answers a failure of its own with a 500 that promises to keep the
            # connection, and closes it a moment later: a next request on it may be lost. Ours
            # must keep what it promises.
            kept = None if server is ours else 0
            limits = httpx.Limits(max_keepalive_connections=kept)
            client = httpx.Client(base_url=address, trust_env=False, timeout=30, limits=limits)
            self.http.append(stack.enter_context(client))
            port = KServeGRPCClient.port_of(server)
            self.grpc.append(stack.enter_context(KServeGRPCClient(port, spec, directory)))


@pytest.fixture(scope="module")
def pairs(sdk: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    with ExitStack() as stack:
        yield {model: Pair(model, sdk, tmp_path_factory.mktemp(model), stack) for model in MODELS}


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_rest(request_: REST, pairs: dict[str, Pair]) -> None:
    ours, theirs = (_ask(client, request_) for client in pairs[request_.model].http)
    assert (ours != theirs) == bool(request_.differs), (ours, theirs)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_grpc(call: GRPC, pairs: dict[str, Pair]) -> None:
    ours, theirs = (_call(client, call) for client in pairs[call.model].grpc)
    assert (ours != theirs) == bool(call.differs), (ours, theirs)


def test_what_is_said_without_being_there(pairs: dict[str, Pair]) -> None:
    """The one difference that every answer to infer has, and that `_ask` leaves out."""
    ours, theirs = (
        client.post(f"{V2}/infer", json=infer()).json() for client in pairs["Total"].http
    )
    assert "`id`, `parameters`, `model_version` of an answer" in deviations()
    assert set(ours) == {"model_name", "model_version", "outputs"}
    assert set(theirs) == {*ours, "id", "parameters"}
    assert theirs["parameters"] is None


def _ask(client: httpx.Client, request: REST) -> tuple[int, Any]:
    """Status and content, without the texts of errors, without nulls and invented ids."""
    content = request.body if isinstance(request.body, bytes | None) else None
    as_json = None if content is not None or request.body is None else request.body
    answer = client.request(
        request.method, request.path, content=content, json=as_json, headers=request.headers
    )
    try:
        told = _without_nulls(answer.json())
    except ValueError:
        told = answer.text
    if isinstance(told, dict):
        if "error" in told:
            told = {"error": ...}
        if not (isinstance(request.body, dict) and "id" in request.body):
            told.pop("id", None)
    return answer.status_code, told


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list) and value != [None]:
        return [_without_nulls(member) for member in value]
    return value


def _call(client: KServeGRPCClient, call: GRPC) -> Any:
    """The answer's message, or the status that it failed with."""
    fields = call.fields
    if call.method == "ModelInfer":
        fields = {"model_name": call.model.lower()} | fields
    request = getattr(pb, f"{call.method}Request")(**fields)
    response = getattr(pb, f"{call.method}Response")
    try:
        return client.call(f"inference.GRPCInferenceService/{call.method}", request, response)
    except grpc.RpcError as error:
        return error.code()
