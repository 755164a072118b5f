"""The datatypes of the Open Inference Protocol V2, and their raw form. `casting` has their values.

Names and sizes: Open Inference Protocol, "Tensor Data Types"; the framing of BYTES is that of
Triton's binary tensor extension (a little-endian uint32 length before each element). BF16 has no
numpy dtype: its values are widened to float32 on the way in, which is exact, and rounded to the
nearest even on the way out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from omi_runtime.errors import InvalidInput

Array = NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<f4"),
    "BYTES": np.dtype(object),
}
"""V2 datatype → the dtype that an author's array has."""

FEW: Final = 64
"""Elements up to which Python's own loops beat numpy's calls."""

_MAX_BYTES_ELEMENT: Final = 2**32 - 1


def element_size(datatype: str) -> int:
    """Bytes per element of `datatype` on the wire; 0 for BYTES, whose elements vary."""
    if datatype == "BYTES":
        return 0
    return 2 if datatype == "BF16" else DTYPES[datatype].itemsize


def from_raw(data: bytes | memoryview, datatype: str, count: int | None = None) -> Array:
    """View little-endian, row-major, unpadded tensor bytes as a flat array, without a copy.

    BYTES and BF16 cannot be viewed and are built. With `count`, the number of elements must match.

    Raises:
        InvalidInput: the bytes do not divide into elements, or `count` differs.
    """
    if datatype == "BYTES":
        array = _unframe(memoryview(data))
    else:
        size = element_size(datatype)
        if len(data) % size:
            raise InvalidInput(f"has {len(data)} bytes, not a multiple of {size} for {datatype}")
        if datatype == "BF16":
            words = np.frombuffer(data, "<u2").astype("<u4")
            array = (words << np.uint32(16)).view("<f4")
        else:
            array = np.frombuffer(data, DTYPES[datatype])
        if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
            raise InvalidInput("has a byte other than 0 and 1 where BOOL is expected")
    if count is not None and array.size != count:
        raise InvalidInput(f"has {array.size} elements where the shape needs {count}")
    return array


def to_raw(array: Array, datatype: str) -> bytes:
    """The inverse of from_raw, for an array of the dtype that DTYPES gives for `datatype`."""
    return bytes(view_raw(array, datatype))


def view_raw(array: Array, datatype: str) -> bytes | memoryview:
    """`to_raw` without a copy where the array already lies in memory as on the wire."""
    if datatype == "BYTES":
        return frame(array.ravel().tolist())
    if datatype == "BF16":
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        # Rounding must not carry a NaN's mantissa into infinity.
        words = np.where(np.isnan(array), (bits >> np.uint32(16)) | np.uint32(0x40), rounded >> 16)
        return words.astype("<u2").tobytes()
    if not array.size:
        return b""  # of which there is no flat view
    return np.ascontiguousarray(array, DTYPES[datatype]).reshape(-1).view(np.uint8).data


def object_array(values: Sequence[Any], shape: tuple[int, ...] | None = None) -> Array:
    """An array of Python objects. numpy would look into sequences of equal length if asked."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array if shape is None else array.reshape(shape)


def all_finite(array: Array) -> bool:
    """Whether a float array holds no NaN and no infinity."""
    # A sum is several times faster than a mask, and only a finite one is conclusive.
    if array.size <= FEW:
        total = sum(array.ravel().tolist())
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.add.reduce(array, axis=None))
    return math.isfinite(total) or bool(np.isfinite(array).all())


def _unframe(data: memoryview) -> Array:
    elements: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        if position + 4 > end:
            raise InvalidInput("ends inside the length of a BYTES element")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > end:
            raise InvalidInput(f"ends inside a BYTES element of {length} bytes")
        elements.append(bytes(data[position : position + length]))
        position += length
    return object_array(elements)


def frame(elements: Iterable[bytes]) -> bytes:
    """BYTES elements in the raw form, a little-endian uint32 length before each."""
    parts: list[bytes] = []
    for element in elements:
        if len(element) > _MAX_BYTES_ELEMENT:
            raise InvalidInput("has a BYTES element of 4 GiB or more")
        parts += (struct.pack("<I", len(element)), element)
    return b"".join(parts)
