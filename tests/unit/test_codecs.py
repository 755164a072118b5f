"""Media types there and back: tensors of every datatype and shape, text, JSON and bytes."""

import base64
import csv
import io
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from omi_runtime import codecs, datatypes
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InvalidInput, OMIError, UnsupportedMediaType
from omi_runtime.jsontext import NanPolicy, dump_json
from omi_runtime.signature import Bytes, Field, Json, Marker, Tensor, Text

item_shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def field(marker: Marker, name: str = "x") -> Field:
    return Field(name, marker, name)


@st.composite
def tensors(draw: st.DrawFn, shapes: Any = item_shapes, finite: bool = False) -> Any:
    """A datatype and an array of it, with all the values that it can hold."""
    datatype = draw(st.sampled_from(list(DTYPES)))
    shape = draw(shapes)
    if datatype == "BYTES":
        texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
        count = math.prod(shape)
        values = draw(st.lists(texts.map(str.encode), min_size=count, max_size=count))
        return datatype, datatypes.object_array(values, shape)
    dtype = DTYPES[datatype]
    elements = {}
    if dtype.kind == "f":
        elements = {"allow_nan": not finite, "allow_infinity": not finite}
    array = draw(npst.arrays(dtype, shape, elements=npst.from_dtype(dtype, **elements)))
    if datatype == "BF16":
        array = datatypes.from_raw(datatypes.to_raw(array, "BF16"), "BF16").reshape(shape)
        if finite:
            array = np.nan_to_num(array, posinf=1, neginf=-1)
    return datatype, array


def variable(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A declared shape that fits: some of the dimensions may be variable."""
    return tuple(draw(st.sampled_from([size, -1])) for size in shape)


def same(have: Any, want: np.ndarray) -> None:
    assert isinstance(have, np.ndarray)
    assert have.dtype == want.dtype
    assert have.shape == want.shape
    np.testing.assert_array_equal(have, want)


@given(data=st.data())
def test_json_there_and_back(data: st.DataObject) -> None:
    datatype, array = data.draw(tensors(finite=True))
    declared = field(Tensor(datatype, data.draw(st.composite(variable)(array.shape))))
    text = dump_json(codecs.jsonable_item(declared, array), NanPolicy.ERROR)
    if 0 in array.shape:  # lists say nothing of what follows
        after = array.shape[array.shape.index(0) + 1 :]
        declared = field(Tensor(datatype, (*[-1] * (array.ndim - len(after)), *after)))
    same(codecs.decode(declared, "application/json", text), array)
    same(codecs.decode(declared, None, text), array)
    same(codecs.decoder(declared, "application/json")(text), array)
    same(codecs.decoder(declared, None)(text), array)
    same(codecs.from_jsonable(declared, orjson.loads(text)), array)


@given(data=st.data())
def test_npy_there_and_back(data: st.DataObject) -> None:
    datatype, array = data.draw(tensors())
    declared = field(Tensor(datatype, data.draw(st.composite(variable)(array.shape))))
    stored = array
    if datatype == "BYTES":
        stored = array.astype("S" if data.draw(st.booleans()) else object)
        if stored.dtype == object:
            stored = np.array([x.decode() for x in array.ravel()], dtype="U").reshape(array.shape)
        if not stored.dtype.itemsize:
            return  # an array of nothing but empty strings
    order = data.draw(st.sampled_from(["C", "F"]))
    if stored.dtype.kind not in "SU" and data.draw(st.booleans()):
        stored = stored.astype(stored.dtype.newbyteorder(">"))
    for version in ((1, 0), (2, 0), None):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asarray(stored, order=order), version=version)
        same(codecs.decode(declared, "application/x-npy", stream.getvalue()), array)


@given(data=st.data())
def test_bin_there_and_back(data: st.DataObject) -> None:
    datatype, array = data.draw(tensors())
    shape = data.draw(st.composite(variable)(array.shape))
    raw = datatypes.to_raw(array, datatype)
    declared = field(Tensor(datatype, shape))
    known = [size for size in shape if size != -1]
    if shape.count(-1) > 1 or (-1 in shape and 0 in known):
        with pytest.raises(InvalidInput):
            codecs.decode(declared, "application/octet-stream", raw)
    else:
        same(codecs.decode(declared, "application/octet-stream", raw), array)


@given(data=st.data())
def test_csv_there_and_back(data: st.DataObject) -> None:
    two = st.tuples(st.integers(1, 3), st.integers(1, 3))
    one = st.tuples(st.integers(1, 4))
    datatype, array = data.draw(tensors(st.one_of(two, one, st.just(())), finite=True))
    declared = field(Tensor(datatype, data.draw(st.composite(variable)(array.shape))))
    rows = np.atleast_2d(array)
    if array.ndim == 1 and data.draw(st.booleans()):
        rows = rows.T
    stream = io.StringIO(newline="")
    # Of line ends, Python's writer quotes of its own accord only those that it writes itself.
    ends = datatype == "BYTES" and any(b"\r" in cell or b"\n" in cell for cell in array.ravel())
    writer = csv.writer(
        stream,
        quoting=data.draw(st.sampled_from([csv.QUOTE_ALL, *[csv.QUOTE_MINIMAL] * (not ends)])),
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    if datatype == "BYTES":
        rows = np.array([[cell.decode() for cell in row] for row in rows], dtype=object)
    writer.writerows(rows.tolist())
    same(codecs.decode(declared, "text/csv", stream.getvalue().encode()), array)


@pytest.mark.parametrize(
    ("marker", "media_type", "data", "message"),
    [
        (Tensor("FP32", [2]), None, b"[1]", "x: has shape [1], expected [2]"),
        (Tensor("FP32", [-1, 2]), None, b"[[1]]", "x: has shape [1, 1], expected [-1, 2]"),
        (Tensor("FP32"), None, b"nonsense", "x: is not JSON: "),
        (Tensor("FP32"), None, b"NaN", "x: is not JSON: "),
        (Tensor("FP32"), None, b"", "x: is not JSON: "),
        (Tensor("FP32", [2]), "text/csv", b"1,x", "x: has 'x' where FP32 expects a number"),
        (Tensor("FP32", [2]), "text/csv", b"1,nan", "x: has 'nan': NaN and infinity are refused"),
        (Tensor("FP32", [2]), "text/csv", b"1,1e999", "x: has '1e999': NaN and"),
        (Tensor("INT8", [2]), "text/csv", b"1_0,2", "x: has '1_0' where INT8 expects a number"),
        (Tensor("INT8", [2]), "text/csv", b"1,0.5", "x: has a fraction where INT8 expects"),
        (Tensor("INT8", [2]), "text/csv", b"1,", "x: has '' where INT8 expects a number"),
        (Tensor("INT8", [-1, 2]), "text/csv", b"1,2\n3", "x: has lists of unequal lengths"),
        (Tensor("INT8", [2]), "text/csv", b"\xff", "x: is not UTF-8: invalid start byte at byte 0"),
        (Tensor("INT8", [2]), "text/csv", b"1" * 200_000, "x: is not CSV: field larger than"),
        (Tensor("BOOL", [2]), "text/csv", b"true,2", "x: has a number where BOOL expects true or"),
        (Tensor("FP32"), "application/x-npy", b"PK\3\4zip", "x: is not an .npy file: it does not"),
        (Tensor("FP32"), "application/x-npy", b"", "x: is not an .npy file: it does not begin"),
        (Tensor("FP32", [2]), "application/octet-stream", b"123", "x: has 3 bytes, not a multiple"),
        (Tensor("FP32", [2]), "application/octet-stream", b"1234", "x: has 1 elements, expected 2"),
        (Tensor("FP32", [-1, 2]), "application/octet-stream", b"1234", "x: has 1 elements, which"),
        (Tensor("FP32", [-1, -1]), "application/octet-stream", b"", "x: has several variable"),
        (Text(), None, b"\xff", "x: is not UTF-8"),
        (Text(), "application/json", b"1", "x: expected a JSON string"),
        (Json(), None, b"{", "x: is not JSON: "),
    ],
)
def test_what_is_wrong_is_said_with_the_field(
    marker: Marker, media_type: str | None, data: bytes, message: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        codecs.decode(field(marker), media_type, data)
    assert refusal.value.message.startswith(message)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "file",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"1234"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -2)}", b"1234" * 4),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"12345"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"12345678"),
        npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1,)}"),
        npy("{'descr': '<f4', 'fortran_order': (False, 'shape': ((1,)}\n", b"1234"),
        npy("[" * 5000),
        npy("__import__('os').getcwd()"),
        npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}", b"12345678"),
        b"\x93NUMPY\x09\x00",
    ],
    ids=range(11),
)
@pytest.mark.filterwarnings("ignore")
def test_a_bad_npy_header_is_refused_before_it_costs_anything(file: bytes) -> None:
    with pytest.raises(InvalidInput):
        codecs.decode(field(Tensor("FP32", [-1])), "application/x-npy", file)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (npy("f(1)"), "x: is not an .npy file: its header is no dictionary of descr, "),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': f(1)}"),
            "x: is not an .npy file: its",
        ),
        (
            npy("{'descr': '<f4', 'fortran_order': False}"),
            "x: is not an .npy file: its header is no",
        ),
        (
            npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}"),
            "x: holds pickled Python objects",
        ),
        (
            npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1,)}"),
            "x: has a header that says |V0",
        ),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}"),
            "x: has 0 bytes where shape [3]",
        ),
    ],
)
def test_a_bad_npy_header_is_told_in_words_of_ours(file: bytes, message: str) -> None:
    """numpy's show the addresses of its objects: `<ast.Call object at 0x7f…>`."""
    with pytest.raises(InvalidInput) as refusal:
        codecs.decode(field(Tensor("FP32", [-1])), "application/x-npy", file)
    assert refusal.value.message.startswith(message)
    assert "0x" not in refusal.value.message


@pytest.mark.parametrize("media_type", [None, *codecs.EXTENSIONS.values()])
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_whatever_bytes_come_the_answer_is_a_value_or_an_error_of_ours(
    media_type: str | None, data: st.DataObject
) -> None:
    datatype, array = data.draw(tensors())
    stream = io.BytesIO()
    np.save(stream, array.astype("S") if datatype == "BYTES" else array)
    seeds = [b"[[1.5, 2]]", b'["a"]', b"1,2\n3,4\n", stream.getvalue(), b"\4\0\0\0abcd"]
    seed = bytearray(data.draw(st.one_of(st.sampled_from(seeds), st.binary())))
    for _ in range(data.draw(st.integers(0, 4))):
        if seed:
            seed[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    markers = [Tensor(datatype, array.shape), Tensor(datatype, [-1] * 2), Text(), Json(), Bytes()]
    for marker in markers:
        made_before = codecs.decoder(field(marker), media_type)
        try:
            value = codecs.decode(field(marker), media_type, bytes(seed))
        except OMIError as error:
            assert type(error) in (InvalidInput, UnsupportedMediaType)  # noqa: PT017
            with pytest.raises(type(error)) as refusal:
                made_before(bytes(seed))
            said, again = (e.message.partition(" at 0x")[0] for e in (error, refusal.value))
            assert said == again  # but for what numpy says of an object that it has met
        else:
            assert not isinstance(marker, Tensor) or marker.accepts_shape(value.shape)
            again = made_before(bytes(seed))
            assert type(again) is type(value)
            np.testing.assert_array_equal(np.asarray(again), np.asarray(value))


def test_the_extensions_of_each_kind_of_field() -> None:
    assert list(codecs.media_types(field(Tensor("FP32")))) == [".json", ".npy", ".csv", ".bin"]
    assert codecs.media_types(field(Text())) == {".txt": "text/plain", ".json": "application/json"}
    assert codecs.media_types(field(Json())) == {".json": "application/json"}
    images = codecs.media_types(field(Bytes("image/jpeg", "image/png")))
    assert images[".jpg"] == images[".jpeg"] == "image/jpeg"
    assert images[".png"] == "image/png"
    assert images[".bin"] == "application/octet-stream"


def test_text_and_bytes_and_json_as_they_are() -> None:
    assert codecs.decode(field(Text()), None, "Grüße\n".encode()) == "Grüße\n"
    assert codecs.decode(field(Text()), "text/plain", b'"quoted"') == '"quoted"'
    assert codecs.decode(field(Text()), "application/json", b'"quoted"') == "quoted"
    assert codecs.decode(field(Bytes("image/png")), "image/png", b"\0\xff") == b"\0\xff"
    assert codecs.decode(field(Json()), None, b'{"a": [1, null]}') == {"a": [1, None]}


def test_a_media_type_that_is_not_read_is_named_with_those_that_are() -> None:
    with pytest.raises(UnsupportedMediaType) as refusal:
        codecs.decode(field(Tensor("FP32")), "image/png", b"")
    assert refusal.value.message == (
        "x: image/png is not read; send one of application/json, application/x-npy, text/csv, "
        "application/octet-stream"
    )


@given(data=st.binary())
def test_bytes_travel_in_json_as_base64(data: bytes) -> None:
    declared = field(Bytes())
    value = codecs.jsonable_item(declared, data)
    assert value == {"b64": base64.b64encode(data).decode()}
    assert codecs.from_jsonable(declared, value) == data
    assert codecs.jsonable_column(declared, [data, None]) == [value, None]


@pytest.mark.parametrize(
    "value",
    ["aGk=", {"b64": "a"}, {"b64": "äöü="}, {"b64": "aG k="}, {"b64": 1}, {}, None,
     {"b64": "aGk=", "more": 1}],
)  # fmt: skip
def test_what_is_no_base64_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^x: (expected \{\"b64\"|b64 is not base64)"):
        codecs.from_jsonable(field(Bytes()), value)


@pytest.mark.parametrize(
    ("text", "shape", "taken"),
    [
        (b"[]", [-1], (0,)),
        (b"[]", [-1, 4], (0, 4)),
        (b"[]", [-1, -1], (0, 0)),
        (b"[[], []]", [-1, -1, 3], (2, 0, 3)),
        (b"[]", [4], None),
        (b"[[]]", [-1], None),
        (b"[[], []]", [3, -1, 3], None),
        (b"[]", [], None),
    ],
)
def test_an_empty_list_is_a_tensor_of_no_elements(
    text: bytes, shape: list[int], taken: tuple[int, ...] | None
) -> None:
    declared = field(Tensor("INT8", shape))
    if taken is None:
        with pytest.raises(InvalidInput, match="x: has shape"):
            codecs.decode(declared, None, text)
    else:
        same(codecs.decode(declared, None, text), np.empty(taken, "i1"))


def test_values_from_parsed_json() -> None:
    assert codecs.from_jsonable(field(Text()), "a") == "a"
    assert codecs.from_jsonable(field(Json()), [1, {}]) == [1, {}]
    with pytest.raises(InvalidInput, match="x: expected a string"):
        codecs.from_jsonable(field(Text()), 1)
    with pytest.raises(InvalidInput, match=r"x: has shape \[\], expected \[1\]"):
        codecs.from_jsonable(field(Tensor("FP32", [1])), 1)


def test_columns_as_json() -> None:
    numbers = np.array([[1, 2], [3, 4]], "<f4")
    assert codecs.jsonable_column(field(Tensor("FP32", [2])), numbers) is numbers
    texts = datatypes.object_array([b"a", "ü".encode()])
    assert codecs.jsonable_column(field(Tensor("BYTES")), texts) == ["a", "ü"]
    assert codecs.jsonable_column(field(Tensor("BYTES")), texts.reshape(2, 1)) == [["a"], ["ü"]]
    ragged = [datatypes.object_array([b"a"]), None, datatypes.object_array([])]
    assert codecs.jsonable_column(field(Tensor("BYTES", [-1])), ragged) == [["a"], None, []]
    assert codecs.jsonable_column(field(Text()), ["a", None]) == ["a", None]


def test_bytes_that_are_no_text_cannot_go_into_json() -> None:
    with pytest.raises(InvalidInput, match="x: holds bytes that are not UTF-8"):
        codecs.jsonable_column(field(Tensor("BYTES")), datatypes.object_array([b"\xff"]))
