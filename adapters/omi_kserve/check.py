"""`omi check` of the KServe interface: V1, and Open Inference Protocol V2 over REST.

Sources: KServe's data plane V1 (kserve/website, v1-protocol.md); Open Inference Protocol
(kserve/open-inference-protocol, inference_rest.md).
"""

from __future__ import annotations

import math
from typing import Any, Final

from omi_runtime.check.rules import Book, Broken, Level, Row, Skipped, expect
from omi_runtime.check.target import Reply, Target

MUST, SHOULD = Level.MUST, Level.SHOULD
_BOOK: Final[Book[Target]] = Book()
_rule = _BOOK.rule

_V1: Final = "KServe V1"
_V2: Final = "Open Inference Protocol"
_STRANGER: Final = "omi-check-no-such-model"
_DATATYPES: Final = {
    "BOOL",
    "BYTES",
    *(f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)),
    *(f"FP{bits}" for bits in (16, 32, 64)),
}


def check(target: Target, protocol: str = "") -> list[Row]:
    """Apply the rules; those of one protocol, `v1` or `v2`, or of both."""
    return _BOOK.apply(target, [protocol] if protocol else ["v1", "v2"])


def _model(target: Target) -> str:
    """The model's name: as told, or as the server lists it."""
    if target.model:
        return target.model
    content = target.ask("GET", "/v1/models").expect(200).content
    names = [name if isinstance(name, str) else name.get("name") for name in content["models"]]
    expect(names, "GET /v1/models lists no model: say which with --model")
    return str(names[0])


def _expect_error(reply: Reply, *statuses: int) -> None:
    """Break the rule unless it is an error in the protocol's one form."""
    reply.expect(*statuses)
    content = reply.content
    expect(
        isinstance(content, dict) and isinstance(content.get("error"), str),
        f'{reply}; expected {{"error": text}}',
    )


@_rule("kserve.v1.list", SHOULD, f"{_V1}, list models", "GET /v1/models lists names", protocol="v1")
def _v1_list(target: Target) -> None:
    reply = target.ask("GET", "/v1/models").expect(200)
    expect(
        isinstance(reply.content, dict) and isinstance(reply.content.get("models"), list),
        f'{reply}; expected {{"models": […]}}',
    )


@_rule(
    "kserve.v1.ready", MUST, f"{_V1}, model ready", "a model says that it is ready", protocol="v1"
)
def _v1_ready(target: Target) -> None:
    name = _model(target)
    reply = target.ask("GET", f"/v1/models/{name}").expect(200)
    # Some servers have the text "True" in it.
    found = reply.content
    ready = str(found.get("ready")).lower() == "true" and found.get("name") == name
    expect(ready, f'{reply}; expected {{"name": "{name}", "ready": true}}')


@_rule("kserve.v1.unknown", MUST, f"{_V1}, predict", "an unknown model is 404", protocol="v1")
def _v1_unknown(target: Target) -> None:
    _expect_error(target.ask("POST", f"/v1/models/{_STRANGER}:predict", {"instances": []}), 404)


@_rule(
    "kserve.v1.malformed", MUST, f"{_V1}, predict", "a body that is no JSON is 400", protocol="v1"
)
def _v1_malformed(target: Target) -> None:
    _expect_error(target.ask("POST", f"/v1/models/{_model(target)}:predict", b"{"), 400)


@_rule(
    "kserve.v1.instances",
    MUST,
    f"{_V1}, predict",
    "instances that are no list are 400",
    protocol="v1",
)
def _v1_instances(target: Target) -> None:
    path = f"/v1/models/{_model(target)}:predict"
    _expect_error(target.ask("POST", path, {"instances": "none"}), 400)


@_rule(
    "kserve.v2.server",
    MUST,
    f"{_V2}, server metadata",
    "GET /v2 tells of the server",
    protocol="v2",
)
def _v2_server(target: Target) -> None:
    reply = target.ask("GET", "/v2").expect(200)
    lacking = {"name", "version", "extensions"} - set(reply.content)
    expect(not lacking, f"{reply} lacks {', '.join(sorted(lacking))}")


@_rule("kserve.v2.live", MUST, f"{_V2}, health", "GET /v2/health/live is 200", protocol="v2")
def _v2_live(target: Target) -> None:
    target.ask("GET", "/v2/health/live").expect(200)


@_rule("kserve.v2.ready", MUST, f"{_V2}, health", "GET /v2/health/ready is 200", protocol="v2")
def _v2_ready(target: Target) -> None:
    target.ask("GET", "/v2/health/ready").expect(200)


@_rule("kserve.v2.model-ready", MUST, f"{_V2}, health", "the model is ready", protocol="v2")
def _v2_model_ready(target: Target) -> None:
    target.ask("GET", f"/v2/models/{_model(target)}/ready").expect(200)


@_rule("kserve.v2.metadata", MUST, f"{_V2}, model metadata", "tensors are described", protocol="v2")
def _v2_metadata(target: Target) -> None:
    content = _metadata(target)
    lacking = {"name", "platform", "inputs", "outputs"} - set(content)
    expect(not lacking, f"the model's metadata lack {', '.join(sorted(lacking))}")
    expect(content["inputs"] and content["outputs"], "the model's metadata name no tensors")
    for tensor in (*content["inputs"], *content["outputs"]):
        expect(tensor.get("datatype") in _DATATYPES, f"{tensor} has an unknown datatype")
        expect(
            all(isinstance(size, int) and size >= -1 for size in tensor["shape"]),
            f"{tensor} has a dimension that is no size",
        )


@_rule("kserve.v2.unknown", MUST, f"{_V2}, errors", "an unknown model is 404", protocol="v2")
def _v2_unknown(target: Target) -> None:
    for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
        body: object = {"inputs": []} if method == "POST" else None
        _expect_error(target.ask(method, f"/v2/models/{_STRANGER}{path}", body), 404)


@_rule(
    "kserve.v2.malformed", MUST, f"{_V2}, errors", "a body that is no JSON is 400", protocol="v2"
)
def _v2_malformed(target: Target) -> None:
    _expect_error(target.ask("POST", f"/v2/models/{_model(target)}/infer", b"{"), 400)


@_rule("kserve.v2.inputs", MUST, f"{_V2}, errors", "a missing input is 400", protocol="v2")
def _v2_inputs(target: Target) -> None:
    _expect_error(target.ask("POST", f"/v2/models/{_model(target)}/infer", {"inputs": []}), 400)


@_rule(
    "kserve.v2.shape",
    MUST,
    f"{_V2}, tensor data",
    "data that do not fill a shape are 400",
    protocol="v2",
)
def _v2_shape(target: Target) -> None:
    request = _request(target)
    tensor = request["inputs"][0]
    tensor["data"] = [*tensor["data"], tensor["data"][0]]
    _expect_error(target.ask("POST", f"/v2/models/{_model(target)}/infer", request), 400)


@_rule(
    "kserve.v2.infer",
    MUST,
    f"{_V2}, inference",
    "an answer holds tensors that fill their shapes",
    protocol="v2",
)
def _v2_infer(target: Target) -> None:
    content = _infer(target)
    expect(
        content.get("model_name") == _model(target), f"model_name is {content.get('model_name')!r}"
    )
    expect(content.get("outputs"), "an answer without outputs")
    for tensor in content["outputs"]:
        count = len(_flat(tensor["data"]))
        expect(
            count == math.prod(tensor["shape"]),
            f"{tensor['name']} has shape {tensor['shape']} and {count} elements",
        )


@_rule("kserve.v2.id", MUST, f"{_V2}, inference", "an id is echoed if there is one", protocol="v2")
def _v2_id(target: Target) -> None:
    found = _infer(target, id="a-1").get("id")
    expect(found == "a-1", f"id 'a-1' was answered with {found!r}")


@_rule(
    "kserve.v2.outputs",
    MUST,
    f"{_V2}, inference",
    "only the outputs asked for are answered",
    protocol="v2",
)
def _v2_outputs(target: Target) -> None:
    name = _metadata(target)["outputs"][-1]["name"]
    found = [tensor["name"] for tensor in _infer(target, outputs=[{"name": name}])["outputs"]]
    expect(found == [name], f"asked for {name}, got {', '.join(found)}")


@_rule(
    "kserve.v2.null",
    SHOULD,
    f"{_V2}, inference",
    "what is optional is left out, not null",
    protocol="v2",
)
def _v2_null(target: Target) -> None:
    nulls = [key for key, value in _infer(target).items() if value is None]
    expect(not nulls, f"null: {', '.join(nulls)}")


@_rule(
    "kserve.routes",
    SHOULD,
    f"{_V2}, errors",
    "a path that is not there is 404 in the one form of errors",
)
def _routes(target: Target) -> None:
    _expect_error(target.ask("GET", "/omi-check"), 404)


def _metadata(target: Target) -> dict[str, Any]:
    content = target.ask("GET", f"/v2/models/{_model(target)}").expect(200).content
    expect(isinstance(content, dict), "the model's metadata are no object")
    return dict(content)


def _request(target: Target) -> dict[str, Any]:
    """A request of one item, made of zeros, from the model's own metadata."""
    inputs = []
    for tensor in _metadata(target)["inputs"]:
        shape = [max(size, 1) for size in tensor["shape"]]
        zero: object = (
            "" if tensor["datatype"] == "BYTES" else False if tensor["datatype"] == "BOOL" else 0
        )
        data = [zero] * math.prod(shape)
        inputs.append(
            {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": data}
        )
    return {"inputs": inputs}


def _infer(target: Target, **more: object) -> dict[str, Any]:
    """What an inference answers.

    Raises:
        Skipped: the model has no use for zeros and empty texts, and says so properly.
        Broken: it answers anything else than a result.
    """
    reply = target.ask("POST", f"/v2/models/{_model(target)}/infer", {**_request(target), **more})
    if reply.status in (400, 422):
        _expect_error(reply, 400)
        raise Skipped(f"the model refuses zeros: {reply.content['error'][:120]}")
    content = reply.expect(200).content
    if not isinstance(content, dict):
        raise Broken(f"{reply}; expected an object")
    return content


def _flat(data: Any) -> list[Any]:
    if isinstance(data, list):
        return [element for part in data for element in _flat(part)]
    return [data]
