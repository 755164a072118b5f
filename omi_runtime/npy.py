"""Files of numpy's own format (.npy), from somebody who is not believed."""

from __future__ import annotations

import io
import math
from typing import Any, Final

import numpy as np
from numpy.lib import format  # noqa: A004 - its name there

from omi_runtime.datatypes import Array
from omi_runtime.errors import InvalidInput

_HEAD_BYTES: Final = 2**16 + 12
"""More than the header of an .npy file takes; numpy itself believes none above 10,000 bytes."""


def read(data: bytes | memoryview) -> Array:
    """View the array of a file's bytes; np.load would believe a header that says terabytes.

    Raises:
        InvalidInput: they are no such file, or hold Python objects.
    """
    shape, fortran_order, dtype, start = _read_head(data)
    if dtype.hasobject:
        raise InvalidInput("holds pickled Python objects, which are not read")
    count, rest = math.prod(shape), len(data) - start
    if count * dtype.itemsize != rest or min(shape, default=0) < 0:
        raise InvalidInput(f"has {rest} bytes where shape {list(shape)} is said")
    try:
        array = np.frombuffer(data, dtype, count, start)
        return array.reshape(shape, order="F" if fortran_order else "C")
    except (ValueError, OverflowError):
        raise InvalidInput(f"has a header that says {dtype} of shape {list(shape)}") from None


def _read_head(data: bytes | memoryview) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether column by column, dtype, and where the elements begin.

    numpy's own words for what is wrong are left out: they show its objects' addresses.
    """
    stream = io.BytesIO(data[:_HEAD_BYTES])
    try:
        version = format.read_magic(stream)
    except ValueError:
        raise InvalidInput(r"is not an .npy file: it does not begin with \x93NUMPY") from None
    read_header = (
        format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0
    )
    try:
        return *read_header(stream), stream.tell()
    except Exception:  # noqa: BLE001 - numpy evaluates the header as Python source
        raise InvalidInput(
            "is not an .npy file: its header is no dictionary of descr, fortran_order and shape"
        ) from None
