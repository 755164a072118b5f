"""Values ↔ the bytes of a media type, and values ↔ JSON.

The file wires (OMI, Modzy) use `decode` and `encode` on one item's value; the JSON wires use
`from_jsonable`, `jsonable_column` and `jsontext.dump_json`. Media types and extensions:

    .json  application/json           Tensor, Json, Text
    .npy   application/x-npy          Tensor
    .csv   text/csv                   Tensor of at most two dimensions
    .bin   application/octet-stream   Tensor: little-endian, row-major; BYTES length-prefixed; Bytes
    .txt   text/plain                 Text
"""

from __future__ import annotations

import base64
import csv
import io
import math
import mimetypes
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import orjson

from omi_runtime import casting, datatypes, npy, parts
from omi_runtime.batch import Column
from omi_runtime.datatypes import Array
from omi_runtime.errors import InvalidInput, UnsupportedMediaType
from omi_runtime.jsontext import load_json
from omi_runtime.signature import Bytes, Field, Json, Tensor, Text

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
CSV: Final = "text/csv"
BINARY: Final = "application/octet-stream"
TEXT: Final = "text/plain"

EXTENSIONS: Final = {".json": JSON, ".npy": NPY, ".csv": CSV, ".bin": BINARY, ".txt": TEXT}
"""The extensions that name a media type of ours."""


def media_types(field: Field) -> dict[str, str]:
    """The extensions under which a field's file may come, each with its media type."""
    if isinstance(field.marker, Tensor):
        return {extension: EXTENSIONS[extension] for extension in (".json", ".npy", ".csv", ".bin")}
    if isinstance(field.marker, Text):
        return {".txt": TEXT, ".json": JSON}
    if isinstance(field.marker, Json):
        return {".json": JSON}
    extensions = {".bin": BINARY}
    for media_type in field.marker.media_types:
        extensions |= dict.fromkeys(mimetypes.guess_all_extensions(media_type), media_type)
    return extensions


def usual_extensions(field: Field) -> set[str]:
    """Those of `media_types` that are worth naming: of a media type with many, the first."""
    by_media_type: dict[str, list[str]] = {}
    for extension, media_type in media_types(field).items():
        by_media_type.setdefault(media_type, []).append(extension)
    return {
        extension
        for extensions in by_media_type.values()
        for extension in (extensions if len(extensions) <= _MOST_NAMED else extensions[:1])
    }


_MOST_NAMED: Final = 3
"""Such as .jpg, .jpe and .jpeg; application/octet-stream has a dozen."""

Buffer = bytes | memoryview
"""What is decoded. Tensors of .npy and .bin files are views of it, not copies."""


def decode(field: Field, media_type: str | None, data: Buffer) -> Any:
    """One item's value from bytes; without a media type, the field's usual one.

    Raises:
        InvalidInput: the bytes are not what the field declares; the message opens with its name.
        UnsupportedMediaType: the field is not read from that media type.
    """
    marker = field.marker
    try:
        if isinstance(marker, Bytes):
            return bytes(data)
        if isinstance(marker, Text):
            return _decode_text(data, media_type or TEXT)
        if isinstance(marker, Json):
            return load_json(data)
        assert isinstance(marker, Tensor)
        decoder = _DECODERS.get(media_type or JSON)
        if decoder is not None:
            return decoder(data, marker)
    except InvalidInput as error:
        raise InvalidInput(f"{field.name}: {error.message}") from None
    accepted = ", ".join(_DECODERS)
    raise UnsupportedMediaType(f"{field.name}: {media_type} is not read; send one of {accepted}")


def decoder(field: Field, media_type: str | None) -> Callable[[Buffer], Any]:
    """`decode` for one field and media type, made once for many items.

    JSON of a tensor whose shape is known, which nearly every small item is, takes two calls in
    place of six.
    """
    decode_any = partial(decode, field, media_type)
    marker = field.marker
    if not isinstance(marker, Tensor) or media_type not in (None, JSON) or -1 in marker.shape:
        return decode_any
    datatype, shape = marker.datatype, marker.shape

    def decode_tensor(data: Buffer) -> Any:
        if len(data) >= parts.PART_BYTES:
            return decode_any(data)
        try:
            array = casting.from_json(orjson.loads(data), datatype)
        except (orjson.JSONDecodeError, InvalidInput):
            return decode_any(data)  # which has the words for what is wrong
        return array if array.shape == shape else decode_any(data)

    return decode_tensor


def from_jsonable(field: Field, value: Any) -> Any:
    """One item's value from parsed JSON; Bytes are `{"b64": …}` (TensorFlow Serving's convention).

    Raises:
        InvalidInput: the message opens with the field's name.
    """
    marker = field.marker
    if isinstance(marker, Json):
        return value
    try:
        if isinstance(marker, Tensor):
            return check_shape(casting.from_json(value, marker.datatype), marker)
        if isinstance(marker, Text):
            if isinstance(value, str):
                return value
            raise InvalidInput("expected a string")
        return decode_base64(value)
    except InvalidInput as error:
        raise InvalidInput(f"{field.name}: {error.message}") from None


def check_shape(array: Array, marker: Tensor) -> Array:
    """The array itself if its shape, of one item, is the declared one."""
    rank = array.ndim
    if array.size == 0 and 0 < rank < len(marker.shape) and array.shape[-1] == 0:
        # Lists say no more than that there is nothing, where nothing is in them.
        array = array.reshape(array.shape + tuple(max(size, 0) for size in marker.shape[rank:]))
    if not marker.accepts_shape(array.shape):
        raise InvalidInput(f"has shape {list(array.shape)}, expected {list(marker.shape)}")
    return array


def decode_base64(value: Any) -> bytes:
    """The bytes of a `{"b64": "…"}` object."""
    match value:
        case {"b64": str(text)} if len(value) == 1:
            try:
                return base64.b64decode(text, validate=True)
            except ValueError as error:
                raise InvalidInput(f"b64 is not base64: {error}") from None
    raise InvalidInput('expected {"b64": "<base64>"}')


def jsonable_item(field: Field, value: Any) -> Any:
    """One item's output as dump_json takes it."""
    if isinstance(field.marker, Tensor) and field.marker.datatype == "BYTES":
        return _strings(np.asarray(value, dtype=object), field)
    if isinstance(field.marker, Bytes):
        if isinstance(value, list):  # of a model that yields
            return [jsonable_item(field, member) for member in value]
        return {"b64": base64.b64encode(value).decode()}
    return value


def jsonable_column(field: Field, column: Column) -> Any:
    """A whole output column as dump_json takes it."""
    if isinstance(column, np.ndarray) and column.dtype.kind != "O":
        return column
    if isinstance(column, np.ndarray):
        return _strings(column, field)
    if isinstance(field.marker, Json | Text):
        return column
    return [None if value is None else jsonable_item(field, value) for value in column]


def _strings(array: Array, field: Field) -> Any:
    def text(element: bytes) -> str:
        try:
            return element.decode()
        except UnicodeDecodeError:
            raise InvalidInput(
                f"{field.name}: holds bytes that are not UTF-8, which JSON cannot carry: "
                "ask for binary data"
            ) from None

    flat = [text(element) for element in array.ravel().tolist()]
    return datatypes.object_array(flat, array.shape).tolist()


def _decode_text(data: Buffer, media_type: str) -> str:
    if media_type == JSON:
        value = load_json(data)
        if isinstance(value, str):
            return value
        raise InvalidInput("expected a JSON string")
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"is not UTF-8: {error.reason} at byte {error.start}") from None


def _decode_json(data: Buffer, marker: Tensor) -> Array:
    array = parts.from_json(data, marker.datatype)
    if array is None:
        array = casting.from_json(load_json(data), marker.datatype)
    return check_shape(array, marker)


def _decode_npy(data: Buffer, marker: Tensor) -> Array:
    array = npy.read(data)
    if marker.datatype == "BYTES":
        if array.dtype.kind == "U":
            array = np.char.encode(array, "utf-8")
        if array.dtype.kind != "S":
            raise InvalidInput(f"holds {array.dtype.name} values where BYTES is expected")
        return check_shape(datatypes.object_array(array.ravel().tolist(), array.shape), marker)
    return check_shape(casting.fit(array, marker.datatype), marker)


def _decode_csv(data: Buffer, marker: Tensor) -> Array:
    if marker.datatype == "BYTES":
        array = casting.from_json(_csv_rows(_decode_text(data, TEXT)), marker.datatype)
    else:
        try:
            array = parts.from_csv(data, marker.datatype)
        except UnicodeDecodeError:
            _decode_text(data, TEXT)  # which says where
            raise
    if array.ndim == 2 and len(marker.shape) < 2:
        if len(marker.shape) == 1 and 1 in array.shape:
            array = array.reshape(-1)
        elif array.size == 1:
            array = array.reshape(())
    return check_shape(array, marker)


def _csv_rows(text: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise InvalidInput(f"is not CSV: {error}") from None


def _decode_binary(data: Buffer, marker: Tensor) -> Array:
    array = datatypes.from_raw(data, marker.datatype)
    shape = list(marker.shape)
    if shape.count(-1) > 1:
        raise InvalidInput(
            "has several variable dimensions: send .npy or .json, which say its shape"
        )
    known = math.prod(size for size in shape if size != -1)
    if -1 in shape:
        if known == 0 or array.size % known:
            raise InvalidInput(f"has {array.size} elements, which do not fill shape {shape}")
        shape[shape.index(-1)] = array.size // known
    elif array.size != known:
        raise InvalidInput(f"has {array.size} elements, expected {known} for shape {shape}")
    return array.reshape(shape)


_DECODERS: Final = {JSON: _decode_json, NPY: _decode_npy, CSV: _decode_csv, BINARY: _decode_binary}
