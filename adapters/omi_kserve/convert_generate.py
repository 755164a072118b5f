"""Bodies of the generate extension ↔ the core's types; pure functions.

`{"id"?, "text_input", "parameters"?}` → `{"id"?, "model_name", "model_version"?, "text_output"}`.
(Open Inference Protocol, generate_rest.yaml; Triton, docs/protocol/extension_generate.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from omi_kserve.convert_json import read_object
from omi_runtime import codecs
from omi_runtime.batch import Batch, Result, Row, group_rows
from omi_runtime.card import ModelCard
from omi_runtime.errors import InvalidInput, InvalidRequest
from omi_runtime.signature import Field, Signature, Text

TEXT_INPUT: Final = "text_input"
TEXT_OUTPUT: Final = "text_output"

HINTS: Final = frozenset({"temperature", "top_p", "max_tokens", "stop", "details"})
"""Parameters that the protocol names, and clients send to every model: one that has no such input
does without."""


@dataclass(frozen=True)
class TextFields:
    """The input that takes the text, and the output that gives it."""

    input: Field
    output: Field

    @classmethod
    def of(cls, signature: Signature) -> TextFields | None:
        """Those of a model that generates text; None if it is another kind.

        A text is what is called so in the protocol, else the only required input and the only
        output.
        """
        required = [field for field in signature.inputs if field.required]
        text_input = _text(signature.inputs, TEXT_INPUT, required)
        text_output = _text(signature.outputs, TEXT_OUTPUT, list(signature.outputs))
        if text_input is None or text_output is None or {*required} - {text_input}:
            return None
        return cls(text_input, text_output)


@dataclass(frozen=True)
class GenerateRequest:
    """What a generate request asks for: one item."""

    id: str | None
    batch: Batch


def read_request(body: bytes, fields: TextFields, signature: Signature) -> GenerateRequest:
    """Parse and check a generate request.

    Raises:
        InvalidRequest: the body is malformed.
        InvalidInput: the text or a parameter is; names it.
    """
    content = read_object(body)
    for name in content:
        if name not in ("id", TEXT_INPUT, "parameters"):
            raise InvalidRequest(f"{name}: expected id, {TEXT_INPUT} and parameters")
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidRequest("id: expected a string")
    text = content.get(TEXT_INPUT)
    if not isinstance(text, str):
        raise InvalidInput(f"{TEXT_INPUT}: expected a string")
    row: Row = {fields.input.name: text} | _read_parameters(content, fields, signature)
    (part,), _ = group_rows([row])
    return GenerateRequest(request_id, part.batch)


def write_response(
    request: GenerateRequest, result: Result, fields: TextFields, card: ModelCard
) -> bytes:
    """One answer, of the whole text or a piece of it."""
    value = result.columns[fields.output.name][0]
    answer = {"model_name": card.name}
    if card.version:
        answer["model_version"] = card.version
    if request.id is not None:
        answer["id"] = request.id
    # Of a model that yields, answered at once: all the pieces.
    answer[TEXT_OUTPUT] = value if isinstance(value, str) else "".join(value)
    return orjson.dumps(answer)


def _text(fields: tuple[Field, ...], name: str, otherwise: list[Field]) -> Field | None:
    named = [field for field in fields if field.name == name] or otherwise
    return named[0] if len(named) == 1 and isinstance(named[0].marker, Text) else None


def _read_parameters(
    content: Mapping[str, Any], fields: TextFields, signature: Signature
) -> dict[str, Any]:
    """Parameters that are inputs of the model, as their values."""
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters: expected an object")
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        field = signature.input_by_name.get(name)
        if field is None and name in HINTS:
            continue
        if field is None or field is fields.input:
            known = [f.name for f in signature.inputs if f is not fields.input]
            raise InvalidInput(
                f"unknown parameter {name!r}: this model takes {', '.join(known) or 'none'}"
            )
        try:
            values[name] = codecs.from_jsonable(field, value)
        except InvalidInput as error:
            raise InvalidInput(f"parameters.{error.message}") from None
    return values
