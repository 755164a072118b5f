"""Every datatype at its extremes: raw bytes there and back, and JSON strictly in."""

import json
import math
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from omi_runtime import casting, datatypes
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InvalidInput
from omi_runtime.jsontext import load_json

INTEGERS = ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
FLOATS = ["FP16", "FP32", "FP64", "BF16"]
NUMBERS = [*INTEGERS, *FLOATS]
SIZES = {"BOOL": 1, "FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2, "BYTES": 0} | {
    name: int(name.removeprefix("U").removeprefix("INT")) // 8 for name in INTEGERS
}

EDGES = [
    *(sign * (2**power + offset) for power in (7, 8, 11, 15, 16, 24, 31, 32, 53, 63, 64)
      for offset in (-1, 0, 1) for sign in (1, -1)),
    *(0, 10**30, -(10**30), 10**400, 0.0, -0.0, 0.1, 0.5, -0.5, 1.5, 1e19, 1e20, 2.0**63, 2.0**53),
    *(65504.0, 65519.9, 65520.0, 3.4028234e38, 3.4028236e38, 3.39e38, 1.7976931348623157e308),
    *(5e-324, 1e-45, 6e-8, 1e-40, 16777217, 16777217.0, 257.0, 2.0**64, -(2.0**63) * 1.5),
]  # fmt: skip
"""Where datatypes begin and end, where floats stop counting, and the neighbours."""

numbers = st.one_of(
    st.sampled_from(EDGES),
    st.integers(-300, 300),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
odd = st.one_of(st.booleans(), st.none(), st.text(max_size=3), st.just({}), st.just({"a": 1}))
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def json_tensors(draw: st.DrawFn) -> Any:
    """Nested lists of one kind of element, or of two."""
    shape = draw(shapes)
    kinds = [numbers, st.sampled_from(EDGES), st.booleans(), st.text(max_size=3), numbers | odd]
    elements = draw(st.sampled_from(kinds).flatmap(lambda kind: st.lists(kind, min_size=27)))
    return nest(shape, iter(elements))


def nest(shape: tuple[int, ...], elements: Iterator[Any]) -> Any:
    if not shape:
        return next(elements)
    return [nest(shape[1:], elements) for _ in range(shape[0])]


json_values = st.one_of(
    json_tensors(),
    st.recursive(numbers | odd, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
)


def expected(value: Any, datatype: str) -> tuple[tuple[int, ...], list[list[Any]]] | None:
    """By the book: the shape and each element's allowed values; None if it is to be refused."""
    shape, elements = [], [value]
    while elements and all(isinstance(element, list) for element in elements):
        sizes = {len(element) for element in elements}
        if len(sizes) > 1:
            return None
        shape.append(sizes.pop())
        elements = [inner for element in elements for inner in element]
        if shape[-1] == 0:
            break
    allowed = [_allowed(element, datatype) for element in elements]
    return (tuple(shape), allowed) if all(allowed) else None


def _allowed(element: Any, datatype: str) -> list[Any]:
    if datatype == "BYTES":
        return [element.encode()] if isinstance(element, str) else []
    if datatype == "BOOL":
        return [element] if isinstance(element, bool) else []
    if type(element) not in (int, float):
        return []
    if datatype in INTEGERS:
        limits = np.iinfo(DTYPES[datatype])
        if element != int(element) or not limits.min <= element <= limits.max:
            return []
        # -2**63 as a float may have been a smaller integer: such a one is not guessed.
        return [] if isinstance(element, float) and element <= -(2**63) else [int(element)]
    try:
        number = float(element)
    except OverflowError:
        return []
    with np.errstate(over="ignore"):
        nearest = [DTYPES[datatype].type(number)]
        if -(2**63) <= element < 2**64 and element == int(element):
            kind = np.int64 if element < 2**63 else np.uint64
            nearest.append(np.array(int(element), kind).astype(DTYPES[datatype])[()])
    if datatype == "BF16":
        nearest = [_to_bf16(number) for number in nearest]
    largest = float(np.finfo(DTYPES[datatype]).max)
    return [float(number) for number in nearest if abs(float(number)) <= largest]


def _to_bf16(number: float) -> float:
    """The nearest number that has the upper half of a float32; of two, the even one."""
    if not math.isfinite(number):
        return number
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    low = bits & 0xFFFF0000
    choices = [
        (abs(_float32(half) - float(number)), half >> 16 & 1, half) for half in (low, low + 0x10000)
    ]
    return _float32(min(choices)[2])


def _float32(bits: int) -> float:
    """Of the bits, but what would be the next number where float32 ends."""
    if bits & 0x7FFFFFFF == 0x7F800000:
        return math.copysign(2.0**128, -1 if bits >> 31 else 1)
    return struct.unpack("<f", struct.pack("<I", bits))[0]


@pytest.mark.parametrize("datatype", DTYPES)
@given(value=json_values)
@example(value=[2**63, -1])
@example(value=[2**63, 0.5])
@example(value=[2**53 + 1, 0.0])
@example(value=[-(2**63) - 1])
@example(value=[2**64 - 1, 1.0])
@example(value=[2.0**60, 300])
@example(value=[True, 2])
@example(value=[True, 0.5])
@example(value=[[1], [1, 2]])
@example(value=[[], [1]])
@example(value=[[1, 2], [3, None]])
@example(value=[["a", "b"], ["c"], ["d", "e", "f"]])
@example(value=[["a"], "b"])
@example(value=["1"])
@example(value=None)
def test_json_is_represented_or_refused(value: Any, datatype: str) -> None:
    check(value, datatype)


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_edge_is_represented_or_refused(datatype: str) -> None:
    for edge in EDGES:
        check(edge, datatype)
        check([edge], datatype)
        for other in (0, 0.5, -1, 2**63, edge):
            check([[edge, other]], datatype)


def check(value: Any, datatype: str) -> None:
    allowed = expected(value, datatype)
    text = json.dumps(value).encode()
    if allowed is None:
        with pytest.raises(InvalidInput):
            pytest.fail(f"{value!r} became {casting.from_json(load_json(text), datatype)!r}")
        return
    array = casting.from_json(load_json(text), datatype)
    shape, elements = allowed
    assert array.dtype == DTYPES[datatype]
    assert array.shape == shape
    for have, want in zip(array.ravel().tolist(), elements, strict=True):
        assert have in want


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_integers_end_where_they_end(datatype: str, beyond: int) -> None:
    limits = np.iinfo(DTYPES[datatype])
    for end, step in ((int(limits.max), 1), (int(limits.min), -1)):
        number = end + beyond * step
        for value in (number, [number], [number, 0]):
            if beyond > 0:
                with pytest.raises(InvalidInput, match=f"outside the range of {datatype}"):
                    casting.from_json(value, datatype)
            else:
                array = casting.from_json(value, datatype)
                assert int(array.ravel()[0]) == number


@pytest.mark.parametrize(
    ("value", "datatype", "message"),
    [
        (1.5, "INT32", "has a fraction where INT32 expects whole numbers"),
        ([1, 2.0**54 + 4, 0.5], "INT64", "has a fraction where INT64 expects whole numbers"),
        ("7", "INT32", "has a string where INT32 expects a number"),
        ([1, None], "FP32", "has null where FP32 expects a number"),
        ({"a": 1}, "FP32", "has an object where FP32 expects a number"),
        (True, "UINT8", "has a boolean where UINT8 expects a number"),
        ([5, True], "UINT8", "has a boolean where UINT8 expects a number"),
        ([True, 1], "BOOL", "has a number where BOOL expects true or false"),
        (["true"], "BOOL", "has a string where BOOL expects true or false"),
        (["a", 1], "BYTES", "has a number where BYTES expects strings"),
        ([["a"], ["b", "c"]], "BYTES", "has lists of unequal lengths where a tensor is expected"),
        ([[1], [2, 3]], "FP64", "has lists of unequal lengths where a tensor is expected"),
        (1e300, "FP32", "has a number outside the range of FP32"),
        (10**400, "FP64", "has a number outside the range of FP64"),
        (math.inf, "INT64", "has a number outside the range of INT64"),
        (math.nan, "INT64", "has a fraction where INT64 expects whole numbers"),
    ],
)
def test_says_what_was_found_and_what_was_expected(value: Any, datatype: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        casting.from_json(value, datatype)
    assert refusal.value.message == message


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("depth", [33, 70, 500])
def test_deep_nesting_is_refused_not_a_crash(datatype: str, depth: int) -> None:
    element: Any = {"BYTES": "a", "BOOL": True}.get(datatype, 1)
    text = "[" * depth + json.dumps(element) + "]" * depth
    if depth == 33 and datatype != "BYTES":
        return  # numpy 2 takes 64 dimensions, numpy 1 takes 32
    with pytest.raises(InvalidInput):
        casting.from_json(load_json(text.encode()), datatype)


ODD: dict[str, Any] = {
    "an integer": 2, "a huge integer": 10**30, "a boolean": True, "null": None, "a string": "1.5",
    "a list": [2.0], "an object": {}, "something of Python": object(), "numpy's": np.float64(1.5),
    "too large": 1e300, "NaN": math.nan,
}  # fmt: skip


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("kind", ODD)
def test_many_floats_with_one_odd_are_read_as_few_are(kind: str, datatype: str) -> None:
    """Many are read in another way."""

    def read(floats: int) -> Any:
        try:
            return casting.from_json([*[0.5] * floats, ODD[kind]], datatype)
        except InvalidInput as refused:
            return refused.message

    few, many = read(2), read(1000)
    if isinstance(few, str):
        assert many == few
    else:
        np.testing.assert_array_equal(many[-3:], few)
        assert (many.dtype, many.shape) == (few.dtype, (1001,))


@pytest.mark.parametrize("position", [0, 1500, 2999])
@pytest.mark.parametrize("number", [0, 1, 7, 0.5])
def test_one_boolean_in_a_long_list_of_numbers_is_found(position: int, number: float) -> None:
    value: list[Any] = [number] * 3000
    assert casting.from_json(value, "FP32").size == 3000
    for boolean in (True, False):
        value[position] = boolean
        with pytest.raises(InvalidInput, match="a boolean"):
            casting.from_json(value, "FP32")


# --- raw bytes ---


def raw_tensors(datatype: str) -> st.SearchStrategy[bytes]:
    if datatype == "BYTES":
        return st.lists(st.binary(max_size=5)).map(_frame)
    if datatype == "BOOL":
        return st.lists(st.sampled_from([0, 1])).map(bytes)
    size = SIZES[datatype]
    return st.binary(max_size=8 * size).map(lambda data: data[: len(data) // size * size])


def _frame(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BF16"])
@given(data=st.data())
def test_raw_bytes_come_back_as_they_were(datatype: str, data: st.DataObject) -> None:
    raw = data.draw(raw_tensors(datatype))
    array = datatypes.from_raw(raw, datatype)
    assert array.dtype == DTYPES[datatype]
    assert array.ndim == 1
    assert datatypes.to_raw(array, datatype) == raw
    assert datatypes.to_raw(datatypes.from_raw(memoryview(raw), datatype), datatype) == raw


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in ("BYTES", "BF16")])
def test_extremes_have_the_bytes_that_the_protocol_says(datatype: str) -> None:
    dtype = DTYPES[datatype]
    if dtype.kind in "iu":
        values: list[Any] = [int(np.iinfo(dtype).min), int(np.iinfo(dtype).max), 0, 1]
    elif dtype.kind == "f":
        values = [float(np.finfo(dtype).min), float(np.finfo(dtype).max), math.inf, -0.0]
    else:
        values = [True, False]
    code = {"BOOL": "?", "FP16": "e", "FP32": "f", "FP64": "d"}.get(datatype) or {
        1: "b", 2: "h", 4: "i", 8: "q",
    }[SIZES[datatype]]  # fmt: skip
    code = code.upper() if datatype.startswith("UINT") else code
    raw = struct.pack(f"<{len(values)}{code}", *values)
    assert datatypes.from_raw(raw, datatype).tolist() == values
    assert datatypes.to_raw(np.array(values, dtype), datatype) == raw


@pytest.mark.parametrize("datatype", DTYPES)
def test_element_size_is_that_of_the_wire(datatype: str) -> None:
    assert datatypes.element_size(datatype) == SIZES[datatype]


def test_raw_numbers_are_a_view_and_not_a_copy() -> None:
    data = bytearray(struct.pack("<2f", 1, 2))
    array = datatypes.from_raw(memoryview(data), "FP32")
    data[:4] = struct.pack("<f", 7)
    assert array.tolist() == [7, 2]


@given(array=npst.arrays("<f4", npst.array_shapes(max_dims=3), elements=st.floats(width=32)))
def test_big_endian_strided_and_fortran_arrays_are_written_row_major(array: np.ndarray) -> None:
    raw = np.ascontiguousarray(array).tobytes()
    for same in (array.astype(">f4"), np.asfortranarray(array), np.repeat(array, 2, 0)[::2]):
        assert datatypes.to_raw(same, "FP32") == raw


@given(words=npst.arrays("<u2", npst.array_shapes(max_dims=1)))
def test_bf16_is_widened_exactly(words: np.ndarray) -> None:
    array = datatypes.from_raw(words.tobytes(), "BF16")
    assert array.dtype == np.float32
    assert array.view("<u4").tolist() == [int(word) << 16 for word in words]
    back = np.frombuffer(datatypes.to_raw(array, "BF16"), "<u2")
    number = ~np.isnan(array)
    assert (back[number] == words[number]).all()
    assert np.isnan(datatypes.from_raw(back.tobytes(), "BF16")[~number]).all()


@given(number=st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(number=3.3961775292304957e38)
@example(number=1.00390625)
@example(number=1.01171875)
@example(number=1e-45)
def test_bf16_is_rounded_to_the_nearest_even(number: float) -> None:
    raw = datatypes.to_raw(np.array([number], "<f4"), "BF16")
    (rounded,) = datatypes.from_raw(raw, "BF16").tolist()
    assert math.copysign(min(abs(rounded), 2.0**128), rounded) == _to_bf16(number)
    assert math.copysign(1, rounded) == math.copysign(1, number)


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF])
def test_no_nan_is_rounded_to_infinity(bits: int) -> None:
    array = np.array([bits], "<u4").view("<f4")
    assert np.isnan(datatypes.from_raw(datatypes.to_raw(array, "BF16"), "BF16")).all()


@given(elements=st.lists(st.binary(max_size=4), min_size=1), data=st.data())
def test_bytes_cut_off_anywhere_are_refused(elements: list[bytes], data: st.DataObject) -> None:
    framed = _frame(elements)
    ends = {len(_frame(elements[:n])) for n in range(len(elements) + 1)}
    cut = data.draw(st.integers(0, len(framed)))
    if cut in ends:
        assert len(datatypes.from_raw(framed[:cut], "BYTES")) <= len(elements)
        return
    with pytest.raises(InvalidInput, match="ends inside"):
        datatypes.from_raw(framed[:cut], "BYTES")


@pytest.mark.parametrize(
    ("raw", "datatype", "count", "message"),
    [
        (b"\0\0\0", "INT16", None, "has 3 bytes, not a multiple of 2 for INT16"),
        (b"\0\0\0", "BF16", None, "has 3 bytes, not a multiple of 2 for BF16"),
        (b"\0\1\2", "BOOL", None, "has a byte other than 0 and 1 where BOOL is expected"),
        (b"\0" * 8, "FP32", 3, "has 2 elements where the shape needs 3"),
        (b"\xff\xff\xff\xff", "BYTES", None, "ends inside a BYTES element of 4294967295 bytes"),
        (b"\0\0", "BYTES", None, "ends inside the length of a BYTES element"),
        (b"", "BYTES", 1, "has 0 elements where the shape needs 1"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(
    raw: bytes, datatype: str, count: int | None, message: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        datatypes.from_raw(raw, datatype, count)
    assert refusal.value.message == message


# --- arrays of other dtypes ---


@given(
    array=npst.arrays(
        st.one_of(npst.integer_dtypes(), npst.unsigned_integer_dtypes(), npst.floating_dtypes(
            endianness="?", sizes=(16, 32, 64))),
        st.integers(1, 4),
    ),
    datatype=st.sampled_from(NUMBERS),
)  # fmt: skip
def test_an_array_is_converted_without_loss_or_refused(array: np.ndarray, datatype: str) -> None:
    values = array.tolist()
    if datatype in INTEGERS:
        limits = np.iinfo(DTYPES[datatype])
        fits = all(
            math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max
            for value in values
        )
    else:
        with np.errstate(over="ignore"):
            nearest = array.astype(DTYPES[datatype])
        if datatype == "BF16":
            nearest = np.array([_to_bf16(x) if np.isfinite(x) else x for x in nearest.tolist()])
            nearest[abs(nearest) == 2.0**128] = math.inf
        fits = bool((np.isfinite(nearest) == np.isfinite(array)).all())
    if not fits:
        with pytest.raises(InvalidInput):
            casting.fit(array, datatype)
        return
    fitted = casting.fit(array, datatype)
    assert fitted.dtype == DTYPES[datatype]
    if datatype in INTEGERS:
        assert fitted.tolist() == values
    else:
        np.testing.assert_array_equal(fitted, nearest)


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "FP32"])
@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "object", "U1", "S1"])
def test_other_kinds_of_arrays_are_refused(datatype: str, dtype: str) -> None:
    with pytest.raises(InvalidInput, match=f"where {datatype} is expected"):
        casting.fit(np.zeros(2, dtype), datatype)


def test_numbers_are_no_booleans_and_booleans_no_numbers() -> None:
    with pytest.raises(InvalidInput, match="holds int64 values where BOOL is expected"):
        casting.fit(np.array([0, 1]), "BOOL")
    with pytest.raises(InvalidInput, match="holds bool values where INT8 is expected"):
        casting.fit(np.array([True]), "INT8")


@given(array=npst.arrays(st.sampled_from(["<f2", "<f4", "<f8"]), npst.array_shapes(max_dims=2)))
def test_all_finite_is_what_a_mask_says(array: np.ndarray) -> None:
    assert datatypes.all_finite(array) == np.isfinite(array).all()


@given(values=st.lists(st.one_of(st.binary(), st.lists(st.integers(), min_size=2, max_size=2))))
def test_an_object_array_does_not_look_into_its_elements(values: list[Any]) -> None:
    array = datatypes.object_array(values)
    assert array.shape == (len(values),)
    assert array.tolist() == values
    assume(values)
    assert datatypes.object_array(values, (len(values), 1)).shape == (len(values), 1)


@given(array=npst.arrays(np.int8, npst.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_flatten_goes_row_by_row(array: np.ndarray) -> None:
    assert list(casting.flatten(array.tolist(), array.ndim)) == array.ravel().tolist()


def test_a_long_text_among_numbers_costs_no_memory() -> None:
    """numpy alone would make every element as long as the longest text: here 16 GB."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="a string where FP32 expects a number"):
            casting.from_json(["a" * 200_000] + [1] * 20_000, "FP32")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
