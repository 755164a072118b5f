"""Open Inference Protocol V2 infer requests → the core's types; pure functions.

Tensors travel with the batch dimension first; a tensor without it, told by its rank, is one item
and is answered without one. Text, Json and Bytes are BYTES: UTF-8, JSON text, and the bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import orjson

from omi_runtime import codecs, datatypes
from omi_runtime.batch import Batch, Column, Result
from omi_runtime.datatypes import Array
from omi_runtime.errors import InvalidInput, InvalidRequest, OMIError
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.signature import Bytes, Field, Signature, Tensor, Text

EXPLAIN: Final = "explain"
DETECT_DRIFT: Final = "detect_drift"
"""Request parameters of this runtime's own, and the names of the outputs that answer them."""

_MOST_EMPTY_ITEMS: Final = 65_536
"""Other items cost their sender bytes; of these a few bytes could ask for billions."""


@dataclass(frozen=True)
class InferRequest:
    """What an infer request asks for.

    Attributes:
        id: echoed if given, else None.
        batched: whether the tensors have the batch dimension.
        outputs: the requested outputs in the order asked for, or None for all.
        wanted: explanation and drift, of the request's parameters.
    """

    id: str | None
    batch: Batch
    batched: bool
    outputs: list[str] | None
    wanted: Wanted


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
        request_id,
        Batch(columns, n),
        kinds != {False},
        _read_outputs(content, signature),
        _read_wanted(content),
    )


def datatype_of(field: Field) -> str:
    """The V2 datatype that a field travels as."""
    return field.marker.datatype if isinstance(field.marker, Tensor) else "BYTES"


def item_shape_of(field: Field) -> tuple[int, ...]:
    """The shape of one item, which the batch dimension precedes."""
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


def _read_wanted(content: dict[str, Any]) -> Wanted:
    parameters = content.get("parameters") or {}
    wanted = Wanted(*(_read_switch(parameters, name) for name in (EXPLAIN, DETECT_DRIFT)))
    return wanted if any(wanted) else NOTHING_MORE


def _read_switch(parameters: dict[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameters.{name}: expected a boolean")
    return value


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
    datatype = datatype_of(field)
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
    except InvalidInput as error:
        raise InvalidInput(f"input {name!r}: {error.message}") from None
    return name, _from_bytes(field, array if batched else array[None]), batched


def _read_shape(tensor: dict[str, Any], name: str) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        type(size) is int and 0 <= size < 2**63 for size in shape
    ):
        raise InvalidInput(f"input {name!r}: shape has to be a list of whole numbers, 0 or more")
    return tuple(shape)


def _has_batch_dimension(shape: tuple[int, ...], field: Field, name: str) -> bool:
    item_shape = item_shape_of(field)
    rank = len(shape) - len(item_shape)
    item = shape[1:] if rank == 1 else shape
    if rank not in (0, 1) or any(
        want not in (-1, have) for want, have in zip(item_shape, item, strict=True)
    ):
        raise InvalidInput(f"input {name!r}: has shape {list(shape)}, expected {[-1, *item_shape]}")
    if rank == 1 and 0 in item and shape[0] > _MOST_EMPTY_ITEMS:
        raise InvalidInput(
            f"input {name!r}: has {shape[0]} items without an element, more than "
            f"{_MOST_EMPTY_ITEMS}"
        )
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
    try:
        return array.reshape(shape)
    except ValueError:  # nothing times sizes that no array can have
        raise InvalidInput(f"shape {list(shape)} is larger than an array can be") from None


def _from_bytes(field: Field, array: Array) -> Column:
    """BYTES elements as what the field declares."""
    marker = field.marker
    if isinstance(marker, Tensor):
        return array
    elements: list[bytes] = array.tolist()
    if isinstance(marker, Bytes):
        return elements
    media_type = codecs.TEXT if isinstance(marker, Text) else codecs.JSON
    column: list[Any] = []
    errors: dict[int, OMIError] = {}
    for row, element in enumerate(elements):
        try:
            column.append(codecs.decode(field, media_type, element))
        except InvalidInput as error:
            errors[row] = error
    Result({}, len(elements), errors).raise_error()
    return column
