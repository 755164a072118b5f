"""Values become arrays of a V2 datatype without loss: parsed JSON, and arrays of another dtype."""

from __future__ import annotations

import itertools
import marshal
import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from omi_runtime.datatypes import (
    DTYPES,
    FEW,
    Array,
    all_finite,
    from_raw,
    object_array,
    to_raw,
)
from omi_runtime.errors import InvalidInput

_EXACT_INTEGERS_IN_FLOAT64: Final = 2**53
_LEAST_INTEGER: Final = -(2**63)
_MAX_DIMENSIONS: Final = 32  # numpy 1's limit; numpy 2 allows 64
_LARGEST: Final = {
    **{name: float(np.finfo(DTYPES[name]).max) for name in ("FP16", "FP32", "FP64")},
    "BF16": -1.0,  # is rounded by hand, always
}
_NUMERIC_PYTHON_TYPES: Final = {int, float}
_PLAIN: Final[dict[str, tuple[set[type], float, float]]] = {
    "BOOL": ({bool}, False, True),
    # All whole numbers so small are floats without rounding, of which there is to be no second one.
    **{name: ({int, float}, -(2.0**53), 2.0**53) for name in ("FP32", "FP64")},
    **{
        name: ({int}, np.iinfo(dtype).min, np.iinfo(dtype).max)
        for name, dtype in DTYPES.items()
        if dtype.kind in "iu"
    },
}
"""By datatype, the types and the range of the elements that numpy converts as `from_json` would."""
RAGGED: Final = "has lists of unequal lengths where a tensor is expected"


def from_json(value: Any, datatype: str) -> Array:
    """Turn a parsed JSON value (number, string, nested list) into an array of `datatype`.

    Strict, because a value that is changed in silence is a wrong prediction: every number must fit
    without loss (rounding a decimal fraction to the nearest float apart), a boolean is no number,
    a string is no number, and lists must not be ragged.

    Raises:
        InvalidInput: says what was found and what was expected; the caller adds the name.
    """
    # What nearly every small request brings, one list of numbers or one in a list: two calls of
    # Python functions in place of five. All else, and whatever is wrong, is looked at below.
    plain = _PLAIN.get(datatype)
    if plain is not None and type(value) is list and value:
        elements = value[0] if len(value) == 1 and type(value[0]) is list else value
        types, low, high = plain
        if (
            0 < len(elements) <= FEW
            and types.issuperset(map(type, elements))
            and low <= min(elements)
            and max(elements) <= high
        ):
            return np.array(value, DTYPES[datatype])
    if datatype == "BYTES":
        return _bytes_from_json(value)
    if type(value) is list and value and type(value[0]) is float and DTYPES[datatype].kind == "f":
        floats = _floats(value)
        if floats is not None:
            return fit(floats, datatype)
    _check_elements(value, datatype)
    try:
        array = np.array(value)
    except ValueError:
        raise InvalidInput(RAGGED) from None
    except OverflowError:
        raise InvalidInput(f"has a number outside the range of {datatype}") from None
    if array.size == 0 or datatype == "BOOL":
        return array.astype(DTYPES[datatype])
    if array.dtype.kind not in "iuf":
        return _exact(value, array, datatype)
    return fit(array, datatype, original=value)


def fit(array: Array, datatype: str, *, original: Any = None) -> Array:
    """Convert a numeric or boolean array to `datatype` if every value fits without loss.

    `original` is what the array was made from if that was lists, for numpy has already turned a
    mix of large and negative or fractional numbers into floats: where those lose integers, the
    original is read again exactly.

    Raises:
        InvalidInput: a value does not fit.
    """
    dtype = DTYPES[datatype]
    if array.dtype == dtype and datatype != "BF16":
        return array
    kind = array.dtype.kind
    if dtype.kind == "b" or kind not in "iuf":
        raise InvalidInput(f"holds {array.dtype.name} values where {datatype} is expected")
    if dtype.kind == "f":
        return _to_float(array, datatype, dtype)
    if kind == "f":
        if original is not None and (np.abs(array) >= _EXACT_INTEGERS_IN_FLOAT64).any():
            return _exact(original, array, datatype)
        if not (np.isfinite(array).all() and (np.trunc(array) == array).all()):
            raise InvalidInput(f"has a fraction where {datatype} expects whole numbers")
    if array.size and _outside(array, np.iinfo(dtype)):
        raise InvalidInput(f"has a number outside the range of {datatype}")
    return array.astype(dtype)


def flatten(value: Any, depth: int) -> Iterable[Any]:
    """The elements of lists nested `depth` deep, in row-major order."""
    for _ in range(depth - 1):
        value = itertools.chain.from_iterable(value)
    return value if depth else (value,)


def _to_float(array: Array, datatype: str, dtype: np.dtype[Any]) -> Array:
    # Telling numpy to be quiet costs more than all else, and few numbers are soon looked at. With a
    # NaN among them this may not hold, and never holds where it should not.
    largest = _LARGEST[datatype]
    if array.size <= FEW and max(map(abs, array.ravel().tolist()), default=0) <= largest:
        return array.astype(dtype)
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
        if datatype == "BF16":
            converted = from_raw(to_raw(converted, "BF16"), "BF16").reshape(array.shape)
    if all_finite(converted) or (np.isfinite(converted) == np.isfinite(array)).all():
        return converted
    raise InvalidInput(f"has a number outside the range of {datatype}")


def _outside(array: Array, limits: np.iinfo[Any]) -> bool:
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":  # the largest integers are no floats: compare with the power of two
        return float(low) < limits.min or float(high) >= limits.max + 1
    return int(low) < limits.min or int(high) > limits.max


def _floats(values: list[Any]) -> Array | None:
    """Many floats of one list, or None if one of its elements is something else.

    `marshal` writes each element after a letter for its exact type, which is half the time of
    looking at every type and then having numpy take the values. What it wrote is not trusted: a
    Python that writes floats otherwise is only slower.
    """
    try:
        written = marshal.dumps(values, _MARSHAL_VERSION)
    except ValueError:  # something that it does not know, or lists a thousand deep
        return None
    head = len(written) - _MARSHALLED.itemsize * len(values)
    if head != _MARSHAL_HEAD:
        return None
    elements = np.frombuffer(written, _MARSHALLED, offset=head)
    return None if (elements["type"] != ord("g")).any() else elements["value"].astype(np.float64)


_MARSHAL_VERSION: Final = 2
"""The first with binary floats, and the last that does not refer back to equal objects."""

_MARSHAL_HEAD: Final = 5
_MARSHALLED: Final = np.dtype([("type", "u1"), ("value", "<f8")])


def _check_elements(value: Any, datatype: str) -> None:
    """Refuse all but numbers, or booleans for BOOL, before numpy sees them.

    numpy would count true as 1, and make a text as long as the longest of every element.
    """
    depth, level = 0, value
    while isinstance(level, list) and depth <= _MAX_DIMENSIONS:
        depth += 1
        level = level[0] if level else None
    expected = {bool} if datatype == "BOOL" else _NUMERIC_PYTHON_TYPES
    try:
        elements = value if depth == 1 else flatten(value, depth)
        if expected.issuperset(map(type, elements)):
            return
        odd = next(e for e in flatten(value, depth) if type(e) not in expected)
    except TypeError:  # an element where a list is expected
        raise InvalidInput(RAGGED) from None
    if isinstance(odd, list):
        raise InvalidInput(RAGGED)
    wanted = "true or false" if datatype == "BOOL" else "a number"
    raise InvalidInput(f"has {_found(odd)} where {datatype} expects {wanted}")


def _exact(value: Any, array: Array, datatype: str) -> Array:
    """Read JSON numbers one by one, for what numpy's own conversion would change or refuse."""
    elements = [e.item() if isinstance(e, np.generic) else e for e in flatten(value, array.ndim)]
    for element in elements:
        if type(element) not in _NUMERIC_PYTHON_TYPES:
            raise InvalidInput(f"has {_found(element)} where {datatype} expects a number")
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        try:
            return fit(np.array(elements, dtype=np.float64).reshape(array.shape), datatype)
        except OverflowError:
            raise InvalidInput(f"has a number outside the range of {datatype}") from None
    limits = np.iinfo(dtype)
    for element in elements:
        # orjson reads integers beyond 64 bits as floats, and the nearest to some is in range.
        beyond = type(element) is float and element <= _LEAST_INTEGER
        if beyond or not limits.min <= element <= limits.max:
            raise InvalidInput(f"has a number outside the range of {datatype}")
        if element != math.trunc(element):
            raise InvalidInput(f"has a fraction where {datatype} expects whole numbers")
    return np.array([int(element) for element in elements], dtype=dtype).reshape(array.shape)


def unnest(value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists, and their elements in row-major order.

    Raises:
        InvalidInput: the lists are ragged, or nested deeper than an array can be.
    """
    shape: list[int] = []
    elements = [value]
    while elements and isinstance(elements[0], list | tuple):
        size = len(elements[0])
        shape.append(size)
        if any(not isinstance(e, list | tuple) or len(e) != size for e in elements):
            raise InvalidInput(RAGGED)
        elements = list(itertools.chain.from_iterable(elements))
    if any(isinstance(element, list | tuple) for element in elements):
        raise InvalidInput(RAGGED)
    if len(shape) > _MAX_DIMENSIONS:
        raise InvalidInput(f"has lists nested {len(shape)} deep, more than {_MAX_DIMENSIONS}")
    return tuple(shape), elements


def _bytes_from_json(value: Any) -> Array:
    shape, elements = unnest(value)
    for element in elements:
        if not isinstance(element, str):
            raise InvalidInput(f"has {_found(element)} where BYTES expects strings")
    return object_array([element.encode() for element in elements], shape)


_JSON_WORDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _found(value: Any) -> str:
    """What a JSON value is, in a reader's words; of a list, its first odd element."""
    while isinstance(value, list) and value:
        value = value[0]
    return _JSON_WORDS.get(type(value), type(value).__name__)
