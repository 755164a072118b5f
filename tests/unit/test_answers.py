"""What models answer with, checked: the right thing passes, and the rest says what was expected."""

import dataclasses
from collections import namedtuple
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import BaseModel

from omi_runtime import answers
from omi_runtime.batch import Column
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InferenceFailed
from omi_runtime.jsontext import NanPolicy
from omi_runtime.signature import Bytes, Field, Json, Marker, Signature, Tensor, Text

ERROR = NanPolicy.ERROR


def field(marker: Marker, name: str = "output", python_type: Any = Any) -> Field:
    return Field(name, marker, name, python_type=python_type)


def read(marker: Marker, column: Any, n: int) -> Column:
    return answers.read_column(field(marker), column, n, ERROR)


def one(marker: Marker, answer: Any) -> Any:
    """A single item's answer, as its column of one."""
    return answers.read_item(answer, Signature((), (field(marker),), bare=True), ERROR)["output"]


def refused(marker: Marker, column: Any, n: int) -> str:
    with pytest.raises(InferenceFailed) as failure:
        read(marker, column, n)
    return failure.value.message


# --- tensors ---


@pytest.mark.parametrize("datatype", [d for d in DTYPES if d != "BYTES"])
@given(data=st.data())
def test_a_column_of_the_declared_kind_passes_as_it_is(datatype: str, data: st.DataObject) -> None:
    shape = data.draw(npst.array_shapes(max_dims=3, max_side=3))
    column = np.zeros(shape, DTYPES[datatype])
    same = read(Tensor(datatype, shape[1:]), column, len(column))
    assert isinstance(same, np.ndarray)
    assert same.dtype == column.dtype
    assert same.shape == shape
    listed = read(Tensor(datatype, shape[1:]), column.tolist(), len(column))
    np.testing.assert_array_equal(np.asarray(listed), column)


def test_numbers_are_converted_if_nothing_is_lost() -> None:
    assert one(Tensor("INT64"), 2.0).dtype == np.int64
    assert one(Tensor("FP32"), 2).dtype == np.float32
    assert one(Tensor("BOOL"), np.bool_(True)).tolist() == [True]
    assert one(Tensor("UINT64", [2]), [2**64 - 1, 0]).tolist() == [[2**64 - 1, 0]]
    assert one(Tensor("FP32", [2]), (1, 2)).tolist() == [[1, 2]]
    assert read(Tensor("INT8"), np.array([1, 2], ">i8"), 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("marker", "column", "n", "message"),
    [
        (Tensor("INT8"), [300], 1, "output 'output' has a number outside the range of INT8"),
        (Tensor("INT8"), [0.5], 1, "output 'output' has a fraction where INT8 expects whole"),
        (Tensor("INT8"), ["a"], 1, "output 'output' holds str"),
        (Tensor("INT8"), [None], 1, "output 'output' holds object values where INT8 is expected"),
        (Tensor("INT8"), [True], 1, "output 'output' holds bool values where INT8 is expected"),
        (Tensor("BOOL"), [1], 1, "output 'output' holds int64 values where BOOL is expected"),
        (Tensor("FP32", [2]), [[1]], 1, "output 'output' has items of shape [1], expected [2]"),
        (Tensor("FP32", [-1]), [[[1]]], 1, "output 'output' has items of shape [1, 1], expected"),
        (Tensor("FP32", [2]), [[1, 2], [1]], 2, "output 'output' has items of shape [1], expected"),
        (Tensor("FP32"), [1, 2, 3], 2, "output 'output' has 3 rows, expected 2: one for each item"),
        (Tensor("FP32"), 1.5, 2, "output 'output' is float, expected 2 rows"),
        (Tensor("FP32"), np.array(1.5), 2, "output 'output' is ndarray, expected 2 rows"),
        (Tensor("FP32"), {"a": 1}, 1, "output 'output' is one dict, expected a list of 1"),
        (Tensor("FP32"), None, 1, "output 'output' is NoneType, expected 1 rows"),
        (Tensor("BYTES"), [1], 1, "output 'output' does not hold bytes or str, as Tensor('BYTES'"),
        (Tensor("BYTES", [2]), [["a"]], 1, "output 'output' has items of shape [1], expected [2]"),
        (
            Tensor("BYTES", [3, 2]),
            [[["a", "b"], ["c"], ["d", "e", "f"]]],
            1,
            "output 'output' has lists of unequal lengths where a tensor is expected",
        ),
        (Text(), ["a", 1], 2, "output 'output' is int, expected str"),
        (Text(), "ab", 2, "output 'output' is one str, expected a list of 2"),
        (Text(), [b"a"], 1, "output 'output' is bytes, expected str"),
        (Bytes(), ["a"], 1, "output 'output' is str, expected bytes"),
        (Bytes(), b"ab", 2, "output 'output' is one bytes, expected a list of 2"),
        (Json(), [object()], 1, "output 'output' cannot be written as JSON: "),
        (Json(), [{"a": float("nan")}], 1, "output 'output' holds NaN, which JSON cannot hold"),
        (Json(), {"a": 1}, 1, "output 'output' is one dict, expected a list of 1"),
    ],
)
def test_what_does_not_fit_names_the_output_and_what_was_expected(
    marker: Marker, column: Any, n: int, message: str
) -> None:
    assert refused(marker, column, n).startswith(message)


@pytest.mark.parametrize("answer", [[[1, 2], [3]], [[1], 2]])
def test_a_ragged_tensor_is_refused(answer: Any) -> None:
    with pytest.raises(InferenceFailed, match="output 'output' has lists of unequal lengths"):
        one(Tensor("FP32", [-1, -1]), answer)


def test_items_of_different_shapes_are_a_list_where_the_shape_is_variable() -> None:
    column = read(Tensor("FP32", [-1]), [[1, 2], [3]], 2)
    assert isinstance(column, list)
    assert [(item.dtype, item.tolist()) for item in column] == [("<f4", [1, 2]), ("<f4", [3])]
    arrays = [np.zeros((2, 1)), np.zeros((0, 1))]
    assert [item.shape for item in read(Tensor("FP32", [-1, 1]), arrays, 2)] == [(2, 1), (0, 1)]
    assert isinstance(read(Tensor("FP32", [-1]), [[1, 2], [3, 4]], 2), np.ndarray)


@pytest.mark.parametrize(
    "answer",
    [
        [["a", b"b\0"]],
        np.array([["a", "b\0"]], object),
        [[bytearray(b"a"), memoryview(b"b\0")]],
        (("a", "b\0"),),
    ],
)
def test_strings_and_bytes_make_a_tensor_of_bytes(answer: Any) -> None:
    column = read(Tensor("BYTES", [2]), answer, 1)
    assert isinstance(column, np.ndarray)
    assert column.tolist() == [[b"a", b"b\0"]]


def test_bytes_and_text_are_made_plain() -> None:
    assert read(Bytes(), [b"a", bytearray(b"b"), memoryview(b"c")], 3) == [b"a", b"b", b"c"]
    assert read(Text(), np.array(["a", "b"]), 2) == ["a", "b"]
    assert one(Bytes(), b"ab") == [b"ab"]
    assert one(Text(), "ab") == ["ab"]


@pytest.mark.parametrize("marker", [Tensor("FP32", [2]), Tensor("FP32", [-1])], ids=repr)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_the_authors_is_copied_as_it_is(marker: Tensor, dtype: str, order: Any) -> None:
    signature = Signature((), (field(marker),), bare=True)
    answer = np.array([[1, 2], [3, 4], [5, 6]], dtype, order=order)
    columns = answers.read_columns(answer, signature, 3, ERROR)
    (item,) = (answers.read_item(row, signature, ERROR)["output"] for row in answer[1:2])
    kept = answer.tolist()
    answer[:] = 0  # as a model does that uses its array again
    for column, expected in ((columns["output"], kept), (item, kept[1:2])):
        assert isinstance(column, np.ndarray)
        assert column.dtype == "<f4"
        assert column.tolist() == expected


@pytest.mark.parametrize("n", [0, 2, 4])
def test_an_array_of_too_few_or_too_many_rows_is_refused(n: int) -> None:
    signature = Signature((), (field(Tensor("FP32", [2])),), bare=True)
    with pytest.raises(InferenceFailed, match="output 'output' has 3 rows, expected"):
        answers.read_columns(np.zeros((3, 2), "<f4"), signature, n, ERROR)


# --- JSON ---


class Point(BaseModel):
    x: float


def test_json_is_encoded_once() -> None:
    (fragment,) = read(Json(), [{"a": np.float32(1.5)}], 1)
    assert isinstance(fragment, orjson.Fragment)
    assert orjson.dumps(fragment) == b'{"a":1.5}'


def test_the_authors_type_is_checked_on_the_way_out() -> None:
    points = field(Json(), python_type=Point)
    (fragment,) = answers.read_column(points, [Point(x=1)], 1, ERROR)
    assert orjson.dumps(fragment) == b'{"x":1.0}'
    with pytest.raises(InferenceFailed, match=r"output 'output' is not a .*Point'>: "):
        answers.read_column(points, ["something else"], 1, ERROR)


@pytest.mark.parametrize(
    ("nan", "written"), [(NanPolicy.NULL, b'{"x":null}'), (NanPolicy.STRING, b'{"x":"NaN"}')]
)
def test_nan_follows_the_policy_in_typed_json_too(nan: NanPolicy, written: bytes) -> None:
    points = field(Json(), python_type=Point)
    (fragment,) = answers.read_column(points, [Point(x=float("nan"))], 1, nan)
    assert orjson.dumps(fragment) == written
    with pytest.raises(InferenceFailed, match="output 'output' holds NaN"):
        answers.read_column(points, [Point(x=float("nan"))], 1, ERROR)


# --- several outputs ---

Pair = namedtuple("Pair", "label score")  # noqa: PYI024 - the plainest form


@dataclasses.dataclass
class Record:
    label: Any
    score: Any


BOTH = Signature((), (field(Text(), "label"), field(Tensor("FP32"), "score")))


@pytest.mark.parametrize("make", [lambda **both: both, Pair, Record])
def test_a_mapping_or_a_record_of_outputs(make: Any) -> None:
    columns = answers.read_item(make(label="a", score=0.5), BOTH, ERROR)
    assert columns["label"] == ["a"]
    assert np.asarray(columns["score"]).tolist() == [0.5]
    columns = answers.read_columns(make(label=["a", "b"], score=[0.5, 1]), BOTH, 2, ERROR)
    assert columns["label"] == ["a", "b"]
    assert np.asarray(columns["score"]).tolist() == [0.5, 1]


def test_more_outputs_than_declared_are_left_out() -> None:
    columns = answers.read_item({"label": "a", "score": 1, "debug": object()}, BOTH, ERROR)
    assert set(columns) == {"label", "score"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"label": "a"}, "output 'score' is missing from the answer, which has label"),
        ({}, "output 'label' is missing from the answer, which has nothing"),
        ("a", "the answer is str, expected a mapping of label, score"),
        (None, "the answer is NoneType, expected a mapping of label, score"),
        (("a", 0.5), "the answer is tuple, expected a mapping of label, score"),
    ],
)
def test_an_output_that_is_missing_is_named(answer: Any, message: str) -> None:
    with pytest.raises(InferenceFailed) as failure:
        answers.read_item(answer, BOTH, ERROR)
    assert failure.value.message == message


def test_a_signature_set_in_load_with_one_output_takes_the_bare_value_too() -> None:
    signature = Signature.of({}, {"label": Text()})
    assert answers.read_item("a", signature, ERROR) == {"label": ["a"]}
    assert answers.read_item({"label": "a"}, signature, ERROR) == {"label": ["a"]}


@pytest.mark.parametrize(
    "answer",
    [
        {"label": ["a", "b"], "score": np.array([1, 2])},
        Pair(["a", "b"], [1, 2]),
        Record(["a", "b"], [1, 2]),
    ],
)
def test_a_batch_of_raw_answers_is_split_for_postprocess(answer: Any) -> None:
    items = answers.split_answer(answer, 2)
    assert items == [{"label": "a", "score": 1}, {"label": "b", "score": 2}]
    for wrong in (1, 3):
        with pytest.raises(InferenceFailed, match=f"output 'label' has 2 rows, expected {wrong}"):
            answers.split_answer(answer, wrong)


def test_a_bare_column_of_raw_answers_is_split() -> None:
    first, second = answers.split_answer(np.array([[1, 2], [3, 4]]), 2)
    assert (first.tolist(), second.tolist()) == ([1, 2], [3, 4])
    assert answers.split_answer(["a", "b"], 2) == ["a", "b"]
    with pytest.raises(InferenceFailed, match="the answer has 2 rows, expected 3"):
        answers.split_answer(["a", "b"], 3)


def test_extras_are_one_json_value_for_each_item() -> None:
    first, second = answers.read_extra(np.array([[1.5], [2]]), 2, "why", ERROR)
    assert (orjson.dumps(first), orjson.dumps(second)) == (b"[1.5]", b"[2.0]")
    with pytest.raises(InferenceFailed, match="why has 1 rows, expected 2"):
        answers.read_extra([1], 2, "why", ERROR)
    with pytest.raises(InferenceFailed, match="why is one dict, expected a list of 1"):
        answers.read_extra({"a": 1}, 1, "why", ERROR)


# --- what was yielded, as one answer ---


@pytest.mark.parametrize(
    ("marker", "yielded", "collected"),
    [
        (Text(), ["a", "b"], [["a", "b"]]),
        (Text(), [], [[]]),
        (Bytes(), [b"a", b"b"], [[b"a", b"b"]]),
        (Tensor("FP32"), [1, 2], [[1, 2]]),
        (Tensor("FP32", [2]), [[1, 2], [3, 4], [5, 6]], [[[1, 2], [3, 4], [5, 6]]]),
        (Tensor("FP32"), [], [[]]),
        (Json(), [{"a": 1}, None], [[{"a": 1}, None]]),
        (Json(), [], [[]]),
    ],
)
def test_yielded_values_become_one_list(marker: Marker, yielded: Any, collected: Any) -> None:
    signature = Signature((), (field(marker),), bare=True, streaming=True)
    values = [answers.read_item(value, signature, ERROR) for value in yielded]
    column = answers.collect(values, signature)["output"]
    assert len(column) == 1
    if isinstance(marker, Json):
        column = [orjson.loads(orjson.dumps(column[0]))]
    assert (column.tolist() if isinstance(column, np.ndarray) else column) == collected


def test_yielded_tensors_of_different_shapes_stay_apart() -> None:
    signature = Signature((), (field(Tensor("FP32", [-1])),), bare=True, streaming=True)
    values = [answers.read_item(value, signature, ERROR) for value in ([1], [2, 3])]
    (members,) = answers.collect(values, signature)["output"]
    assert [member.tolist() for member in members] == [[1], [2, 3]]
