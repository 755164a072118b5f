"""Open Inference Protocol V2 tensors ↔ the core's types, for REST and gRPC alike; pure functions.

A wire's own module turns its messages into `InputTensor`s, and `OutputTensor`s into its messages;
all that the protocol says of names, datatypes, shapes, batches and requested outputs is here.

Tensors travel with the batch dimension first; a tensor without it, told by its rank, is one item
and is answered without one. Text, Json and Bytes are BYTES: UTF-8, JSON text, and the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from omi_runtime import codecs, datatypes, jsontext
from omi_runtime.batch import Batch, Column, Result
from omi_runtime.card import ModelCard
from omi_runtime.datatypes import Array
from omi_runtime.errors import (
    InferenceFailed,
    InvalidInput,
    InvalidRequest,
    NotOffered,
    OMIError,
)
from omi_runtime.provenance import MODEL_KEY
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.signature import Bytes, Field, Json, Signature, Tensor, Text

PLATFORM: Final = "omi_python"

_PROPERTIES: Final = ("title", "author", "summary", "source")

EXPLAIN: Final = "explain"
DETECT_DRIFT: Final = "detect_drift"
"""Request parameters of this runtime's own, and the names of the outputs that answer them."""

_NOT_OFFERED: Final = {
    "classification": "classification",
    "shared_memory_region": "shared memory",
}
"""Parameters of Triton's that change what a tensor is: to ignore them would be a wrong answer."""

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
    outputs: Sequence[str] | None = None
    wanted: Wanted = NOTHING_MORE

    def check_offered(self, model: str, *, explains: bool, detects_drift: bool) -> None:
        """Refuse to be asked for what the model does not have.

        Raises:
            NotOffered: names what.
        """
        if self.wanted.explanation and not explains:
            raise NotOffered(f"model {model} has no explain")
        if self.wanted.drift and not detects_drift:
            raise NotOffered(f"model {model} has no drift")


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


def model_metadata(card: ModelCard, signature: Signature) -> dict[str, Any]:
    """The metadata of the model: names, datatypes and shapes, with the batch dimension.

    `properties` are what the card says of the model, where it says something.
    """
    said = {name: getattr(card, name) for name in _PROPERTIES}
    properties = {name: text for name, text in said.items() if text and text != card.name}
    if card.digest:
        properties[MODEL_KEY] = card.identity
    return {
        "name": card.name,
        **({"versions": [card.version]} if card.version else {}),
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(field) for field in signature.inputs],
        "outputs": [
            _tensor_metadata(field, streaming=signature.streaming) for field in signature.outputs
        ],
        **({"properties": properties} if properties else {}),
    }


def check_parameters(names: Iterable[str], where: str) -> None:
    """Refuse parameters that ask for an extension that is not here.

    Args:
        names: of the parameters of a request, an input or a requested output.
        where: whose, for the message.

    Raises:
        NotOffered: names the parameter.
    """
    for name in names:
        if name in _NOT_OFFERED:
            raise NotOffered(f"{where}.{name}: {_NOT_OFFERED[name]} is not offered here")


def read_request(
    signature: Signature,
    tensors: Iterable[InputTensor],
    *,
    request_id: str | None = None,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> InferRequest:
    """Check an infer request and turn its tensors into a batch.

    Args:
        signature: of the model.
        tensors: the inputs.
        request_id: None if there is none.
        outputs: the names asked for; none is all.
        parameters: of the request; of them `explain` and `detect_drift` are read here.

    Raises:
        InvalidRequest: the request as a whole is malformed.
        InvalidInput: a tensor is; names it.
    """
    columns: dict[str, Column] = {}
    kinds: set[bool] = set()
    for tensor in tensors:
        column, batched = _read_tensor(tensor, signature)
        if tensor.name in columns:
            raise InvalidRequest(f"input {tensor.name!r} is given twice")
        columns[tensor.name] = column
        kinds.add(batched)
    if len(kinds) > 1:
        raise InvalidInput("some inputs have a batch dimension and some have not: give all one")
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"the inputs have different batch sizes: {sizes}")
    n = next(iter(sizes.values()), 0)
    if not sizes and signature.required_names:
        raise InvalidInput(f"inputs: expected {', '.join(signature.input_names)}")
    if outputs:
        _check_outputs(outputs, signature)
    wanted = _read_wanted(parameters) if parameters else NOTHING_MORE
    return InferRequest(request_id, Batch(columns, n), kinds != {False}, outputs or None, wanted)


def write_outputs(
    request: InferRequest, result: Result, signature: Signature, model: str
) -> list[OutputTensor]:
    """The outputs asked for, or all; then explanation and drift, if asked for.

    Raises:
        OMIError: an item failed, or an output is no tensor; names it.
    """
    result.raise_error()
    fields = {field.name: field for field in signature.outputs}
    wanted = fields if request.outputs is None else request.outputs
    outputs = [
        _write_tensor(model, fields[name], result.columns[name], batched=request.batched)
        for name in wanted
    ]
    if request.wanted is not NOTHING_MORE:
        outputs += _extra_outputs(request, result)
    return outputs


def as_array(tensor: InputTensor) -> Array:
    """The elements of a tensor whose datatype is known, as an array of its shape.

    Raises:
        InvalidInput: they are not as many, or not of the datatype.
    """
    assert tensor.datatype is not None
    return _read_data(tensor.data, tensor.datatype, tuple(tensor.shape))


def _tensor_metadata(field: Field, *, streaming: bool = False) -> dict[str, Any]:
    # A model that yields has a list of values for each item; a list of JSON is JSON itself.
    values = [-1] if streaming and not isinstance(field.marker, Json) else []
    return {
        "name": field.name,
        "datatype": datatype_of(field),
        "shape": [-1, *values, *item_shape_of(field)],
    }


def _check_outputs(names: Sequence[str], signature: Signature) -> None:
    known = [field.name for field in signature.outputs]
    for name in names:
        if name not in known:
            raise InvalidInput(f"unknown output {name!r}: this model gives {', '.join(known)}")
        if names.count(name) > 1:
            raise InvalidRequest(f"output {name!r} is asked for twice")


def _read_wanted(parameters: Mapping[str, Any]) -> Wanted:
    wanted = Wanted(*(_read_switch(parameters, name) for name in (EXPLAIN, DETECT_DRIFT)))
    return wanted if any(wanted) else NOTHING_MORE


def _read_switch(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameters.{name}: expected a boolean")
    return value


def _read_tensor(tensor: InputTensor, signature: Signature) -> tuple[Column, bool]:
    """The column of n items, and whether the batch dimension was there."""
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
        array = data if data.dtype == object else datatypes.fit(data, datatype)
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
    array = datatypes.from_json(data, datatype)
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


def _write_tensor(model: str, field: Field, column: Column, *, batched: bool) -> OutputTensor:
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
            shape, elements = datatypes.unnest(list(column))
        except InvalidInput as error:  # the model's fault: it yielded not as often for every item
            raise InferenceFailed(f"{model}: output {field.name!r} {error.message}") from None
    return OutputTensor(field.name, datatype, list(shape if batched else shape[1:]), elements)


def _as_bytes(element: Any) -> bytes:
    """A BYTES element: text as UTF-8, encoded JSON as its text."""
    if isinstance(element, str):
        return element.encode()
    return element if isinstance(element, bytes) else orjson.dumps(element)


def _extra_outputs(request: InferRequest, result: Result) -> list[OutputTensor]:
    """Explanation and drift as BYTES outputs of JSON text.

    A failed drift is null, for it never fails a prediction; a failed explanation is the error.
    """
    outputs = []
    for name, asked, values in (
        (EXPLAIN, request.wanted.explanation, result.explanation),
        (DETECT_DRIFT, request.wanted.drift, result.drift),
    ):
        if not asked:
            continue
        answers = values or []
        failed = {row: value for row, value in enumerate(answers) if isinstance(value, OMIError)}
        if name == EXPLAIN:
            Result({}, result.n, failed).raise_error()
        texts = [b"null" if row in failed else value for row, value in enumerate(answers)]
        shape = [len(texts)] if request.batched else []
        outputs.append(OutputTensor(name, "BYTES", shape, texts))
    return outputs
