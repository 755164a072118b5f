"""The OpenAPI document: FastAPI's, with the model's own schemas, examples and answers.

It describes what can be asked of this model: explain, generate, loading and unloading only where
they are offered.
"""

from __future__ import annotations

from typing import Any, Final

from omi_kserve.convert_generate import TextFields
from omi_kserve.convert_v2 import DETECT_DRIFT, EXPLAIN
from omi_kserve.schemas import ModelSchemas, Schema, v1_example, v2_example
from omi_kserve.served import card_of, extensions
from omi_runtime.handler import ModelHandler
from omi_runtime.signature import Signature

_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_ERRORS: Final = {
    "400": "The request, or an input of it, is wrong; the message names it.",
    "404": "There is no such model or version.",
    "405": "The route has another method.",
    "408": "The request did not arrive in time.",
    "413": "The request or its answer is too large.",
    "415": "The Content-Type or Content-Encoding is not read here.",
    "431": "The head of the request is too large.",
    "500": "The model failed.",
    "501": "The model or server does not offer what was asked for.",
    "503": "The model is not ready, or too busy: then with Retry-After.",
    "504": "The answer took too long.",
}
_BINARY_WORDS: Final = (
    "With the header Inference-Header-Content-Length, binary tensors follow so many bytes of JSON."
)
"""No parameter in the document: what a body means depends on it in ways that no schema can say."""


def complete(
    document: dict[str, Any], handler: ModelHandler, signature: Signature
) -> dict[str, Any]:
    """FastAPI's document, made the model's own.

    Args:
        document: changed in place, and returned.
        handler: around the model.
        signature: of the model.
    """
    card = card_of(handler)
    offered = {EXPLAIN: handler.explains, DETECT_DRIFT: handler.detects_drift}
    extra_outputs = [name for name, yes in offered.items() if yes]
    schemas = ModelSchemas(signature, handler.settings.nan, extra_outputs)
    described = _Described(document["paths"])
    fields = TextFields.of(signature)
    v1, v2 = "/v1/models/{model}", "/v2/models/{model}"
    described.body(f"{v1}:predict", schemas.v1_request(), v1_example(signature))
    described.answer(f"{v1}:predict", schemas.v1_response())
    if handler.explains:
        described.body(f"{v1}:explain", schemas.v1_request(), v1_example(signature))
        described.answer(f"{v1}:explain", schemas.v1_response(explanations=True))
    else:
        described.drop(f"{v1}:explain")
    for path in (v2, v2 + "/versions/{version}"):
        described.body(
            f"{path}/infer",
            schemas.v2_request(),
            v2_example(signature),
            binary=True,
        )
        described.answer(f"{path}/infer", schemas.v2_response(), binary=True)
        for verb in ("generate", "generate_stream"):
            if fields is None:
                described.drop(f"{path}/{verb}")
                continue
            example = {"text_input": "text"}
            described.body(f"{path}/{verb}", schemas.generate_request(fields), example)
            described.answer(f"{path}/{verb}", schemas.generate_response())
        if fields is not None:
            described.stream(f"{path}/generate_stream", schemas.generate_response())
    described.body("/v2/repository/index", _INDEX_REQUEST, {"ready": False}, required=False)
    for verb in ("load", "unload"):
        path = "/v2/repository/models/{model}/" + verb
        if "model_repository" in extensions(handler):
            described.body(path, {"type": "object"}, {}, required=False)
        else:
            described.drop(path)
    described.finish(handler.name, card.version)
    document["components"] = {"schemas": schemas.components}
    return document


_INDEX_REQUEST: Final[Schema] = {"type": "object", "properties": {"ready": {"type": "boolean"}}}


class _Described:
    """The paths of a document, completed step by step."""

    def __init__(self, paths: dict[str, Any]) -> None:
        self._paths = paths

    def drop(self, path: str) -> None:
        """Leave out what is not offered."""
        del self._paths[path]

    def body(
        self,
        path: str,
        schema: Schema,
        example: Any,
        *,
        required: bool = True,
        binary: bool = False,
    ) -> None:
        """Say what is sent to a path."""
        content = {"application/json": {"schema": schema, "example": example}}
        operation = self._paths[path]["post"]
        if binary:
            content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
            operation["description"] = f"{operation['description']} {_BINARY_WORDS}"
        operation["requestBody"] = {"required": required, "content": content}

    def answer(self, path: str, schema: Schema, *, binary: bool = False) -> None:
        """Say what is answered with 200."""
        content: dict[str, Any] = {"application/json": {"schema": schema}}
        if binary:
            content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        self._paths[path]["post"]["responses"] = {
            "200": {"description": "The answer.", "content": content}
        }

    def stream(self, path: str, schema: Schema) -> None:
        """Say that the answer is a stream of events, each of which has the schema."""
        answer = self._paths[path]["post"]["responses"]["200"]
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
        event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
        answer["content"] = {"text/event-stream": {"schema": event}}
        answer["description"] = "Events, each the answer of generate with a piece of the text."

    def finish(self, model: str, version: str) -> None:
        """Name what can stand in the paths, and the errors of every operation."""
        known = {"model": model, "version": version}
        for operations in self._paths.values():
            for operation in operations.values():
                # FastAPI takes a version that is not in the path for one in the query.
                parameters = [p for p in operation.get("parameters", []) if p["in"] != "query"]
                operation["parameters"] = parameters
                for parameter in parameters:
                    if parameter["in"] == "path":
                        name = known[parameter["name"]]
                        parameter["schema"] = {"type": "string", "enum": [name]}
                        parameter["example"] = name
                responses = operation["responses"]
                responses.pop("422", None)  # FastAPI's own way to refuse, which nobody meets here
                for status, text in _ERRORS.items():
                    responses.setdefault(status, {"description": text, "content": _ERROR})
