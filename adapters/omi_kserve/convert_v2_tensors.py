"""Open Inference Protocol V2 tensors ↔ columns of the core, of REST and gRPC alike; pure functions.

Tensors travel with the batch dimension first; a tensor without it, told by its rank, is one item
and is answered without one. Text, Json and Bytes are BYTES: UTF-8, JSON text, and the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from omi_runtime import casting, codecs, datatypes, jsontext
from omi_runtime.batch import Column, Result
from omi_runtime.datatypes import Array
from omi_runtime.errors import InferenceFailed, InvalidInput, OMIError
from omi_runtime.signature import Bytes, Field, Signature, Tensor, Text

_MOST_EMPTY_ITEMS: Final = 65_536
"""Other items cost their sender bytes; of these a few bytes could ask for billions."""


@dataclass(slots=True)
class InputTensor:
    """One input as it came.

    Attributes:
        datatype: None if the sender left it out.
        shape: of the whole tensor, with the batch dimension or without.
        data: `bytes` or a `memoryview` of the raw form (little-endian, row-major; BYTES with a
            length before each element); a flat array, of typed gRPC contents; anything else is
            parsed JSON, nested or flat.
    """

    name: str
    datatype: str | None
    shape: Sequence[int]
    data: Any


@dataclass(slots=True)
class OutputTensor:
    """One output as it is to be sent.

    Attributes:
        shape: of the whole tensor, without the batch dimension if the request's were.
        elements: flat, in row-major order: an array, of objects for BYTES; or a list of BYTES
            elements, as text, bytes or an `orjson.Fragment`.
    """

    name: str
    datatype: str
    shape: list[int]
    elements: Array | list[Any]

    def json(self, model: str, nan: jsontext.NanPolicy) -> orjson.Fragment:
        """The flat data as JSON.

        Raises:
            InferenceFailed: a number that JSON does not have.
            InvalidInput: BYTES that JSON does not have; the caller can ask for them in binary.
        """
        elements = self.elements
        if isinstance(elements, np.ndarray) and elements.dtype.kind != "O":
            try:
                return jsontext.fragment(elements, nan)
            except InferenceFailed as error:
                raise InferenceFailed(f"{model}: output {self.name!r} {error.message}") from None
        return orjson.Fragment(orjson.dumps([self._text(element) for element in elements]))

    def raw(self) -> bytes | memoryview:
        """The data in the raw form; of numbers a view, not a copy."""
        elements = self.elements
        if isinstance(elements, np.ndarray):
            return datatypes.view_raw(elements, self.datatype)
        return datatypes.frame(self.bytes_elements())

    def bytes_elements(self) -> list[bytes]:
        """The elements of a BYTES tensor."""
        return [_as_bytes(element) for element in self.elements]

    def _text(self, element: Any) -> str:
        if isinstance(element, str):
            return element
        try:
            return _as_bytes(element).decode()
        except UnicodeDecodeError:
            raise InvalidInput(
                f"output {self.name!r} holds bytes that are not UTF-8, which JSON cannot carry: "
                "ask for binary data"
            ) from None


def datatype_of(field: Field) -> str:
    """The V2 datatype that a field travels as."""
    return field.marker.datatype if isinstance(field.marker, Tensor) else "BYTES"


def item_shape_of(field: Field) -> tuple[int, ...]:
    """The shape of one item, which the batch dimension precedes."""
    return field.marker.shape if isinstance(field.marker, Tensor) else ()


def as_array(tensor: InputTensor) -> Array:
    """The elements of a tensor whose datatype is known, as an array of its shape.

    Raises:
        InvalidInput: they are not as many, or not of the datatype.
    """
    assert tensor.datatype is not None
    return _read_data(tensor.data, tensor.datatype, tuple(tensor.shape))


def read_tensor(tensor: InputTensor, signature: Signature) -> tuple[Column, bool]:
    """The column of n items, and whether the batch dimension was there.

    Raises:
        InvalidInput: names the input, and what was expected.
    """
    name = tensor.name
    field = signature.input_by_name.get(name)
    if field is None:
        known = ", ".join(signature.input_names)
        raise InvalidInput(f"unknown input {name!r}: this model takes {known}")
    datatype = datatype_of(field)
    if tensor.datatype != datatype:
        raise InvalidInput(f"input {name!r}: has datatype {tensor.datatype!r}, expected {datatype}")
    shape = tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise InvalidInput(f"input {name!r}: shape has to be a list of whole numbers, 0 or more")
    batched = _has_batch_dimension(shape, field)
    try:
        array = _read_data(tensor.data, datatype, shape)
    except InvalidInput as error:
        raise InvalidInput(f"input {name!r}: {error.message}") from None
    return _from_bytes(field, array if batched else array[None]), batched


def _has_batch_dimension(shape: tuple[int, ...], field: Field) -> bool:
    item_shape = item_shape_of(field)
    rank = len(shape) - len(item_shape)
    item = shape[1:] if rank == 1 else shape
    if rank not in (0, 1) or any(
        want not in (-1, have) for want, have in zip(item_shape, item, strict=True)
    ):
        raise InvalidInput(
            f"input {field.name!r}: has shape {list(shape)}, expected {[-1, *item_shape]}"
        )
    if rank == 1 and 0 in item and shape[0] > _MOST_EMPTY_ITEMS:
        raise InvalidInput(
            f"input {field.name!r}: has {shape[0]} items without an element, more than "
            f"{_MOST_EMPTY_ITEMS}"
        )
    return rank == 1


def _read_data(data: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    """The elements as an array of `shape`."""
    if isinstance(data, bytes | memoryview):
        array = _read_raw(data, datatype, shape)
    elif isinstance(data, np.ndarray):
        array = data if data.dtype == object else casting.fit(data, datatype)
        _check_count(array, shape, "has")
    else:
        array = _read_json(data, datatype, shape)
    try:
        return array.reshape(shape)
    except ValueError:  # nothing times sizes that no array can have
        raise InvalidInput(f"shape {list(shape)} is larger than an array can be") from None


def _read_raw(data: bytes | memoryview, datatype: str, shape: tuple[int, ...]) -> Array:
    size = datatypes.element_size(datatype)
    if size and len(data) != math.prod(shape) * size:
        raise InvalidInput(
            f"has {len(data)} bytes, shape {list(shape)} of {datatype} needs "
            f"{math.prod(shape) * size}"
        )
    array = datatypes.from_raw(data, datatype)
    _check_count(array, shape, "has")
    return array


def _read_json(data: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    """Nested or flat lists in row-major order."""
    if not isinstance(data, list):
        if shape:
            raise InvalidInput("data has to be a list")
        data = [data]
    array = casting.from_json(data, datatype)
    _check_count(array, shape, "data has")
    if array.ndim > 1 and array.shape != shape:
        raise InvalidInput(f"data is nested as {list(array.shape)}, shape says {list(shape)}")
    return array


def _check_count(array: Array, shape: tuple[int, ...], what: str) -> None:
    count = math.prod(shape)
    if array.size != count:
        raise InvalidInput(f"{what} {array.size} elements, shape {list(shape)} needs {count}")


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


def write_tensor(model: str, field: Field, column: Column, *, batched: bool) -> OutputTensor:
    """A column of an answer, with the batch dimension or without.

    Raises:
        InferenceFailed: its items are of different shapes.
    """
    datatype = datatype_of(field)
    shape: Sequence[int]
    elements: Array | list[Any]
    if isinstance(field.marker, Tensor):
        if not isinstance(column, np.ndarray):
            raise InferenceFailed(
                f"{model}: output {field.name!r} has items of different shapes, which one tensor "
                "cannot hold"
            )
        shape, elements = column.shape, column.reshape(-1)
    else:
        try:
            shape, elements = casting.unnest(list(column))
        except InvalidInput as error:  # the model's fault: it yielded not as often for every item
            raise InferenceFailed(f"{model}: output {field.name!r} {error.message}") from None
    return OutputTensor(field.name, datatype, list(shape if batched else shape[1:]), elements)


def _as_bytes(element: Any) -> bytes:
    """A BYTES element: text as UTF-8, encoded JSON as its text."""
    if isinstance(element, str):
        return element.encode()
    return element if isinstance(element, bytes) else orjson.dumps(element)
