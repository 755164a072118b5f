"""The KServe wires: V1, and the Open Inference Protocol V2, over REST."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import httpx

from clients.base import Answer, Failure, Item, Outcome
from clients.http import LIMIT, HTTPClient
from omi_runtime.errors import ErrorCode

_CODES: Final = {
    400: {ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_INPUT},
    404: {ErrorCode.MODEL_NOT_FOUND},
    413: {ErrorCode.TOO_LARGE},
    415: {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    500: {ErrorCode.INFERENCE_FAILED, ErrorCode.INTERNAL},
    501: {ErrorCode.NOT_OFFERED},
    504: {ErrorCode.DEADLINE_EXCEEDED},
}
_AS_BYTES: Final = ("bytes", "json", "text")
"""Kinds that V2 has in tensors of BYTES."""


class KServeClient(HTTPClient):
    """What V1 and V2 have in common."""

    interface: ClassVar = "kserve"
    opens_early: ClassVar = False
    item_errors: ClassVar = False
    stops: ClassVar = False
    names_models: ClassVar = True
    pages = ("/metrics", "/docs", "/openapi.json")

    def live(self) -> bool:
        answer = self.get("/v2/health/live", 5.0)
        return answer is not None and answer.json() == {"live": True}

    def ready(self) -> bool:
        name = self.spec.name
        paths = (f"/v1/models/{name}", f"/v2/models/{name}/ready", "/v2/health/ready")
        answers = [self.get(path, 5.0) for path in paths]
        statuses = {0 if answer is None else answer.status_code for answer in answers}
        assert statuses <= {0, 200, 503}, statuses
        return statuses == {200}

    def nonsense(self) -> Failure | None:
        return failure(self.http.post(self.infer_path, content=b"cats and dogs"))

    def foreign(self) -> Failure | None:
        headers = {"content-type": "image/png"}
        return failure(self.http.post(self.infer_path, content=b"\x89PNG", headers=headers))

    def stranger(self) -> Failure | None:
        path = self.infer_path.replace(self.spec.name, "stranger")
        return failure(self.http.post(path, json={"instances": [], "inputs": []}))

    def metadata(self) -> bool:
        answer = self.http.get(f"/v2/models/{self.spec.name}")
        return bool(answer.json()["name"] == self.spec.name)

    def oversized(self) -> Failure | None:
        return _failure(*self.announce(self.infer_path, LIMIT + 1))


class KServeV1Client(KServeClient):
    wire: ClassVar = "kserve-v1"
    explains: ClassVar = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.infer_path = f"/v1/models/{self.spec.name}:predict"

    def infer(self, items: Sequence[Item], *, explain: bool = False) -> list[Outcome]:
        path = self.infer_path.replace(":predict", ":explain") if explain else self.infer_path
        body = {"instances": [self._instance(item) for item in items]}
        answer = self.http.post(path, json=body)
        if answer.status_code != 200:
            return [failure(answer)] * len(items)
        content = answer.json()
        assert set(content) == {"predictions"} | ({"explanations"} if explain else set()), content
        predictions = content["predictions"]
        explanations = content.get("explanations", [None] * len(items))
        assert len(predictions) == len(explanations) == len(items), content
        return [
            Answer(self._outputs(prediction), explanation)
            for prediction, explanation in zip(predictions, explanations, strict=True)
        ]

    def _instance(self, item: Item) -> Any:
        values = {
            name: {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
            for name, value in item.items()
        }
        if len(self.spec.inputs) == 1 and set(values) == set(self.spec.inputs):
            (values,) = values.values()
        return values

    def _outputs(self, prediction: Any) -> dict[str, Any]:
        if len(self.spec.outputs) == 1:
            prediction = dict.fromkeys(self.spec.outputs, prediction)
        return {
            name: base64.b64decode(prediction[name]["b64"]) if kind == "bytes" else prediction[name]
            for name, kind in self.spec.outputs.items()
        }


class KServeV2Client(KServeClient):
    wire: ClassVar = "kserve-v2"
    explains: ClassVar = False
    mixes: ClassVar = False
    carries_bytes: ClassVar = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.infer_path = f"/v2/models/{self.spec.name}/infer"

    def infer(self, items: Sequence[Item], *, explain: bool = False) -> list[Outcome]:
        assert not explain, "V2 REST has no explanation yet"
        names = dict.fromkeys(name for item in items for name in item)
        inputs = [self._tensor(name, [item[name] for item in items]) for name in names]
        if not items:
            inputs = [self._no_rows(tensor) for tensor in self._metadata()["inputs"]]
        answer = self.http.post(self.infer_path, json={"id": "same", "inputs": inputs})
        if answer.status_code != 200:
            return [failure(answer)] * len(items)
        content = answer.json()
        assert content["id"] == "same", content
        columns = {tensor["name"]: self._column(tensor) for tensor in content["outputs"]}
        assert set(columns) == set(self.spec.outputs), content
        assert {len(column) for column in columns.values()} == {len(items)}, content
        rows = range(len(items))
        return [Answer({name: columns[name][row] for name in columns}) for row in rows]

    def _tensor(self, name: str, values: list[Any]) -> dict[str, Any]:
        kind = self.spec.inputs.get(name, "FP32")
        if kind == "json":
            values = [json.dumps(value) for value in values]
        elif kind == "bytes":
            values = [value.decode() for value in values]
        shape = [len(values), *_shape(values[0])]
        datatype = "BYTES" if kind in _AS_BYTES else kind
        return {"name": name, "datatype": datatype, "shape": shape, "data": values}

    def _metadata(self) -> Any:
        return self.http.get(f"/v2/models/{self.spec.name}").json()

    def _no_rows(self, tensor: dict[str, Any]) -> dict[str, Any]:
        return tensor | {"shape": [max(0, size) for size in tensor["shape"]], "data": []}

    def _column(self, tensor: dict[str, Any]) -> list[Any]:
        kind = self.spec.outputs[tensor["name"]]
        assert tensor["datatype"] == ("BYTES" if kind in _AS_BYTES else kind), tensor
        if kind == "json":
            return [json.loads(element) for element in tensor["data"]]
        if kind == "bytes":
            return [element.encode() for element in tensor["data"]]
        return _nested(tensor["data"], tensor["shape"])


def failure(answer: httpx.Response) -> Failure:
    """A refused request in the interface's one error shape."""
    retry = "retry-after" in answer.headers
    assert answer.headers["content-type"] == "application/json", answer.headers
    return _failure(answer.status_code, answer.json(), retry=retry)


def _failure(status: int, content: Any, *, retry: bool = False) -> Failure:
    assert set(content) == {"error"}, content
    if status == 503:  # what says that a model is not ready never says when to come back
        code = ErrorCode.OVERLOADED if retry else ErrorCode.MODEL_NOT_READY
        return Failure(frozenset({code}), content["error"], whole=True, retry=retry)
    return Failure(frozenset(_CODES[status]), content["error"], whole=True)


def _shape(value: Any) -> list[int]:
    return [len(value), *_shape(value[0])] if isinstance(value, list) else []


def _nested(flat: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1:
        return flat
    size = len(flat) // shape[0]
    return [_nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
