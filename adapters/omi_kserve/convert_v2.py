"""Open Inference Protocol V2 bodies ↔ the core's types; pure functions.

Tensors travel with the batch dimension first; a tensor without it, told by its rank, is one item
and is answered without one. Text, Json and Bytes are BYTES: UTF-8, JSON text, and the bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from omi_runtime import codecs, datatypes, jsontext
from omi_runtime.batch import Batch, Column, Result
from omi_runtime.card import ModelCard
from omi_runtime.datatypes import Array
from omi_runtime.errors import InferenceFailed, InvalidInput, InvalidRequest
from omi_runtime.signature import Bytes, Field, Json, Signature, Tensor, Text

PLATFORM: Final = "omi_python"


@dataclass(frozen=True)
class InferRequest:
    """What an infer request asks for.

    Attributes:
        id: echoed if given, else None.
        batched: whether the tensors have the batch dimension.
        outputs: the requested outputs in the order asked for, or None for all.
    """

    id: str | None
    batch: Batch
    batched: bool
    outputs: list[str] | None


def model_metadata(card: ModelCard, signature: Signature) -> dict[str, Any]:
    """The metadata of the model: names, datatypes and shapes, with the batch dimension."""
    return {
        "name": card.name,
        "versions": [card.version],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(field) for field in signature.inputs],
        "outputs": [_tensor_metadata(field) for field in signature.outputs],
    }


def read_request(body: bytes, signature: Signature) -> InferRequest:
    """Parse and check an infer request.

    Raises:
        InvalidRequest: the body as a whole is malformed.
        InvalidInput: a tensor is; names it.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidRequest("expected a JSON object")
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidRequest("id: expected a string")
    _check_parameters(content, "parameters")
    tensors = _objects(content, "inputs")
    columns: dict[str, Column] = {}
    kinds: set[bool] = set()
    for tensor in tensors:
        name, column, batched = _read_tensor(tensor, signature)
        if name in columns:
            raise InvalidRequest(f"input {name!r} is given twice")
        columns[name] = column
        kinds.add(batched)
    if len(kinds) > 1:
        raise InvalidInput("some inputs have a batch dimension and some have not: give all one")
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"the inputs have different batch sizes: {sizes}")
    n = next(iter(sizes.values()), 0)
    if not sizes and signature.required_names:
        raise InvalidInput(f"inputs: expected {', '.join(signature.input_names)}")
    return InferRequest(
        request_id, Batch(columns, n), kinds != {False}, _read_outputs(content, signature)
    )


def write_response(
    request: InferRequest,
    result: Result,
    signature: Signature,
    card: ModelCard,
    nan: jsontext.NanPolicy,
) -> bytes:
    """The answer: all outputs, or those asked for; no optional key without a value.

    Raises:
        OMIError: an item failed, or an output cannot be told in JSON; names it.
    """
    result.raise_error()
    fields = {field.name: field for field in signature.outputs}
    wanted = list(fields) if request.outputs is None else request.outputs
    outputs = [_write_tensor(fields[name], result.columns[name], request, nan) for name in wanted]
    answer: dict[str, Any] = {"model_name": card.name, "model_version": card.version}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = outputs
    return orjson.dumps(answer)


def _tensor_metadata(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "datatype": _datatype(field),
        "shape": [-1, *_item_shape(field)],
    }


def _datatype(field: Field) -> str:
    return field.marker.datatype if isinstance(field.marker, Tensor) else "BYTES"


def _item_shape(field: Field) -> tuple[int, ...]:
    return field.marker.shape if isinstance(field.marker, Tensor) else ()


def _objects(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    members = content.get(key)
    if not isinstance(members, list) or not all(isinstance(m, dict) for m in members):
        raise InvalidRequest(f"{key}: expected a list of objects")
    return members


def _check_parameters(content: dict[str, Any], where: str) -> None:
    parameters = content.get("parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}: expected an object")
    for name, value in parameters.items():
        if not isinstance(value, str | int | float | bool):
            raise InvalidRequest(f"{where}.{name}: expected a string, number or boolean")


def _read_outputs(content: dict[str, Any], signature: Signature) -> list[str] | None:
    if content.get("outputs") is None:
        return None
    known = [field.name for field in signature.outputs]
    names = []
    for output in _objects(content, "outputs"):
        name = output.get("name")
        if name not in known:
            raise InvalidInput(f"unknown output {name!r}: this model gives {', '.join(known)}")
        _check_parameters(output, f"output {name!r}: parameters")
        names.append(name)
    return names or None


def _read_tensor(tensor: dict[str, Any], signature: Signature) -> tuple[str, Column, bool]:
    """The name, the column of n items, and whether the batch dimension was there."""
    name = tensor.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("inputs: every tensor needs a name")
    field = signature.input_by_name.get(name)
    if field is None:
        known = ", ".join(signature.input_names)
        raise InvalidInput(f"unknown input {name!r}: this model takes {known}")
    _check_parameters(tensor, f"input {name!r}: parameters")
    datatype = _datatype(field)
    if tensor.get("datatype") != datatype:
        raise InvalidInput(
            f"input {name!r}: has datatype {tensor.get('datatype')!r}, expected {datatype}"
        )
    shape = _read_shape(tensor, name)
    batched = _has_batch_dimension(shape, field, name)
    if "data" not in tensor:
        raise InvalidInput(f"input {name!r}: data is missing")
    try:
        array = _read_data(tensor["data"], datatype, shape)
        if not batched:
            array = array[None]
        return name, _from_bytes(field, array), batched
    except InvalidInput as error:
        raise InvalidInput(f"input {name!r}: {error.message}") from None


def _read_shape(tensor: dict[str, Any], name: str) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        type(size) is int and 0 <= size < 2**63 for size in shape
    ):
        raise InvalidInput(f"input {name!r}: shape has to be a list of whole numbers, 0 or more")
    return tuple(shape)


def _has_batch_dimension(shape: tuple[int, ...], field: Field, name: str) -> bool:
    item_shape = _item_shape(field)
    rank = len(shape) - len(item_shape)
    item = shape[1:] if rank == 1 else shape
    if rank not in (0, 1) or any(
        want not in (-1, have) for want, have in zip(item_shape, item, strict=True)
    ):
        raise InvalidInput(f"input {name!r}: has shape {list(shape)}, expected {[-1, *item_shape]}")
    return rank == 1


def _read_data(data: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    """Nested or flat lists in row-major order, as an array of `shape`."""
    if not isinstance(data, list):
        if shape:
            raise InvalidInput("data has to be a list")
        data = [data]
    array = datatypes.from_json(data, datatype)
    count = math.prod(shape)
    if array.size != count:
        raise InvalidInput(f"data has {array.size} elements, shape {list(shape)} needs {count}")
    if array.ndim > 1 and array.shape != shape:
        raise InvalidInput(f"data is nested as {list(array.shape)}, shape says {list(shape)}")
    return array.reshape(shape)


def _from_bytes(field: Field, array: Array) -> Column:
    """BYTES elements as what the field declares."""
    marker = field.marker
    if isinstance(marker, Tensor):
        return array
    elements: list[bytes] = array.tolist()
    if isinstance(marker, Text | Json):
        media_type = codecs.TEXT if isinstance(marker, Text) else codecs.JSON
        return [codecs.decode(field, media_type, element) for element in elements]
    return elements


def _write_tensor(
    field: Field, column: Column, request: InferRequest, nan: jsontext.NanPolicy
) -> dict[str, Any]:
    try:
        shape, data = _write_data(field, column, nan)
    except InferenceFailed as error:
        raise InferenceFailed(f"output {field.name!r}: {error.message}") from None
    return {
        "name": field.name,
        "datatype": _datatype(field),
        "shape": shape if request.batched else shape[1:],
        "data": data,
    }


def _write_data(
    field: Field, column: Column, nan: jsontext.NanPolicy
) -> tuple[list[int], orjson.Fragment]:
    """The shape and the flat data, encoded."""
    if isinstance(field.marker, Tensor):
        if not isinstance(column, np.ndarray):
            raise InferenceFailed("has items of different shapes, which one tensor cannot hold")
        flat = codecs.jsonable_column(field, column.reshape(-1))
        return list(column.shape), jsontext.fragment(flat, nan)
    elements = [_text(field, value, nan) for value in column]
    return [len(elements)], jsontext.fragment(elements, nan)


def _text(field: Field, value: Any, nan: jsontext.NanPolicy) -> str:
    """One item of a Text, Json or Bytes output as the UTF-8 text of a BYTES element."""
    if isinstance(value, str):
        return value
    if isinstance(field.marker, Bytes) and isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(
                f"output {field.name!r} is not UTF-8, which JSON cannot carry"
            ) from None
    return jsontext.dump_json(value, nan).decode()
