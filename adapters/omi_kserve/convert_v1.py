"""V1 bodies ↔ the core's types; pure functions.

`{"instances": […]}` or `{"inputs": […]}` → `{"predictions": […]}`. An instance is the value itself
if the model has one input, or an object of values by input name. Bytes are `{"b64": …}`, the
convention of TensorFlow Serving, whose protocol V1 is.
"""

from __future__ import annotations

from typing import Any

import orjson

from omi_runtime import codecs, datatypes, jsontext
from omi_runtime.batch import Batch, Result, Row
from omi_runtime.errors import InferenceFailed, InvalidInput, InvalidRequest, OMIError
from omi_runtime.signature import Field, Json, Signature, Tensor


def read_request(body: bytes, signature: Signature) -> Batch | list[Row | OMIError]:
    """The instances of a request: one batch where they are alike, else item by item.

    Raises:
        InvalidRequest: the body is not `{"instances": […]}`.
    """
    instances = _instances(body)
    inputs = signature.inputs
    if len(inputs) == 1 and isinstance(inputs[0].marker, Tensor) and instances:
        batch = _as_column(instances, inputs[0])
        if batch is not None:
            return batch
    return [_read_instance(instance, signature) for instance in instances]


def write_response(
    result: Result,
    signature: Signature,
    model: str,
    nan: jsontext.NanPolicy,
    *,
    explanations: bool = False,
) -> bytes:
    """The answer; with `explanations`, beside the predictions.

    Raises:
        OMIError: an item failed; V1 has no word for one bad row.
    """
    result.raise_error()
    columns = {
        field.name: codecs.jsonable_column(field, result.columns[field.name])
        for field in signature.outputs
    }
    if len(columns) == 1:
        (predictions,) = columns.values()
    else:
        predictions = _objects(columns, result.n)
    answer = {"predictions": predictions}
    if explanations:
        answer["explanations"] = _explanations(result)
    try:
        return jsontext.dump_json(answer, nan)
    except InferenceFailed as error:
        names = ", ".join(map(repr, columns))
        raise InferenceFailed(f"{model}: output {names} {error.message}") from None


def _instances(body: bytes) -> list[Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if isinstance(content, dict):
        instances = content.get("instances", content.get("inputs"))
        if isinstance(instances, list):
            return instances
    raise InvalidRequest('expected a body like {"instances": [...]}')


def _as_column(instances: list[Any], field: Field) -> Batch | None:
    """All instances as one array, the fast road; None if they have to be looked at one by one."""
    marker = field.marker
    assert isinstance(marker, Tensor)
    try:
        column = datatypes.from_json(instances, marker.datatype)
    except InvalidInput:
        return None
    if not marker.accepts_shape(column.shape[1:]):
        return None
    return Batch({field.name: column}, len(instances))


def _read_instance(instance: Any, signature: Signature) -> Row | OMIError:
    inputs = signature.inputs
    try:
        if len(inputs) == 1:
            field = inputs[0]
            if not _is_named(instance, field):
                return {field.name: codecs.from_jsonable(field, instance)}
        if not isinstance(instance, dict):
            names = ", ".join(signature.input_names)
            raise InvalidInput(f"expected an object with {names}")
        # Names that are unknown or missing are the handler's to refuse.
        return {
            name: codecs.from_jsonable(signature.input_by_name[name], value)
            if name in signature.input_by_name
            else value
            for name, value in instance.items()
        }
    except InvalidInput as error:
        return error


def _is_named(instance: Any, field: Field) -> bool:
    """Whether an instance for a single input is `{name: value}` rather than the value itself."""
    if isinstance(field.marker, Json) or not isinstance(instance, dict):
        return False
    return field.name in instance or "b64" not in instance


def _objects(columns: dict[str, Any], n: int) -> list[dict[str, Any]]:
    return [{name: column[row] for name, column in columns.items()} for row in range(n)]


def _explanations(result: Result) -> list[Any]:
    explanations = result.explanation or []
    failed = {row: e for row, e in enumerate(explanations) if isinstance(e, OMIError)}
    Result({}, result.n, failed).raise_error()
    return explanations
