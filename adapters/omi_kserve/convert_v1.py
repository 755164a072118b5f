"""V1 bodies ↔ the core's types; pure functions.

`{"instances": […]}` or `{"inputs": […]}` → `{"predictions": […]}`: rows. An instance is the value
itself if the model has one input, or an object of values by input name. `{"inputs": {name: […]}}`
has columns instead; predictions are rows all the same, for V1 has no other word. Bytes are
`{"b64": …}`, the convention of TensorFlow Serving, whose protocol V1 is.
"""

from __future__ import annotations

from typing import Any

from omi_kserve.convert_json import read_json
from omi_runtime import casting, codecs, jsontext
from omi_runtime.batch import Batch, Column, Result, Row
from omi_runtime.errors import InvalidInput, InvalidRequest, OMIError
from omi_runtime.nan import NanPolicy
from omi_runtime.signature import Field, Json, Signature, Tensor, Text


def read_request(
    body: bytes, signature: Signature, *, bare_base64: bool = False
) -> Batch | list[Row | OMIError]:
    """The instances of a request: one batch where they are alike, else item by item.

    Args:
        body: of the request.
        signature: of the model.
        bare_base64: an instance that is a string is base64 of the model's first input, as Chassis
            has it; not in columns, which it has not.

    Raises:
        InvalidRequest: the body is not `{"instances": […]}`.
        InvalidInput: its columns are not alike.
    """
    return read_content(read_json(body), signature, bare_base64=bare_base64)


def read_content(
    content: Any, signature: Signature, *, bare_base64: bool = False
) -> Batch | list[Row | OMIError]:
    """The same of a body that has been parsed."""
    instances = _read_instances(content, signature)
    if isinstance(content.get("inputs"), dict):  # values with a name: Chassis has none
        bare_base64 = False
    if not bare_base64:
        batch = _as_batch(instances, signature)
        if batch is not None:
            return batch
    return [_read_instance(instance, signature, bare_base64) for instance in instances]


def write_response(
    result: Result,
    signature: Signature,
    model: str,
    nan: NanPolicy,
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
    return jsontext.dump_outputs(answer, columns, model, nan)


def _read_instances(content: Any, signature: Signature) -> list[Any]:
    """The instances, whatever form they came in."""
    if isinstance(content, dict) and ("instances" in content) != ("inputs" in content):
        instances = content.get("instances", content.get("inputs"))
        if isinstance(instances, list):
            return instances
        if isinstance(instances, dict) and "inputs" in content:
            return _rows(instances, signature)
    raise InvalidRequest(
        'expected a body like {"instances": [...]}, or {"inputs": {"name": [...]}}'
    )


def _rows(columns: dict[str, Any], signature: Signature) -> list[dict[str, Any]]:
    """Columns by input name, as instances."""
    for name, column in columns.items():
        if not isinstance(column, list):
            raise InvalidInput(f"inputs.{name}: expected a list, of a value for each instance")
    sizes = {name: len(column) for name, column in columns.items()}
    if not sizes:
        raise InvalidInput(f"inputs: expected {_expected(signature)}")
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"inputs: the columns have different lengths: {sizes}")
    field = signature.inputs[0]
    if len(signature.inputs) == 1 and isinstance(field.marker, Json):
        if set(columns) != {field.name}:
            raise InvalidInput(f"inputs: expected {field.name}")
        return list(columns[field.name])  # of a single Json input, the value is the instance
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _as_batch(instances: list[Any], signature: Signature) -> Batch | None:
    """All instances as columns, the fast road; None if they have to be looked at one by one."""
    named = _alike(instances, signature)
    if named is None:
        return None
    columns: dict[str, Column] = {}
    for name, values in named.items():
        column = _as_column(values, signature.input_by_name[name])
        if column is None:
            return None
        columns[name] = column
    return Batch(columns, len(instances))


def _alike(instances: list[Any], signature: Signature) -> dict[str, list[Any]] | None:
    """The values by input name, if every instance has the same ones."""
    if not instances:
        return None
    first = instances[0]
    if not isinstance(first, dict):
        field = signature.inputs[0]
        named = len(signature.inputs) > 1 or any(isinstance(other, dict) for other in instances)
        return None if named else {field.name: instances}
    keys = first.keys()
    if not set(signature.required_names) <= keys <= signature.input_by_name.keys() or any(
        not isinstance(other, dict) or other.keys() != keys for other in instances
    ):
        return None
    if len(signature.inputs) == 1 and isinstance(signature.inputs[0].marker, Json):
        return None
    return {name: [instance[name] for instance in instances] for name in keys}


def _as_column(values: list[Any], field: Field) -> Column | None:
    """The values of one input; None if one of them is at fault, or its shape is its own."""
    marker = field.marker
    try:
        if isinstance(marker, Tensor):
            column = casting.from_json(values, marker.datatype)
            return column if marker.accepts_shape(column.shape[1:]) else None
        if isinstance(marker, Text):
            return values if all(type(value) is str for value in values) else None
        return [codecs.from_jsonable(field, value) for value in values]
    except InvalidInput:
        return None


def _read_instance(instance: Any, signature: Signature, bare_base64: bool) -> Row | OMIError:
    inputs = signature.inputs
    try:
        if bare_base64 and isinstance(instance, str):
            return {inputs[0].name: _read_base64(instance, inputs[0])}
        if len(inputs) == 1:
            field = inputs[0]
            if not _is_named(instance, field):
                return {field.name: codecs.from_jsonable(field, instance)}
        if not isinstance(instance, dict):
            raise InvalidInput(f"expected an object with {_expected(signature)}")
        # Names that are unknown or missing are the handler's to refuse.
        return {
            name: codecs.from_jsonable(signature.input_by_name[name], value)
            if name in signature.input_by_name
            else value
            for name, value in instance.items()
        }
    except OMIError as error:
        return error


def _expected(signature: Signature) -> str:
    """The inputs that have to be there, for a message; any, where none has to."""
    return ", ".join(signature.required_names or signature.input_names)


def _read_base64(text: str, field: Field) -> Any:
    """The input's file, as it would be sent to Modzy."""
    try:
        data = codecs.decode_base64({"b64": text})
    except InvalidInput:
        raise InvalidInput(f"{field.name}: expected base64, as OMI_V1_BASE64 is on") from None
    return codecs.decode(field, None, data)


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
