"""Large JSON and CSV read part by part: the same arrays as if read whole, and no others."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from omi_runtime import casting, parts
from omi_runtime.datatypes import DTYPES, Array
from omi_runtime.errors import InvalidInput
from omi_runtime.jsontext import load_json

DATATYPES = ["BOOL", "INT8", "UINT64", "INT64", "FP32", "FP64"]


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", 5)
        patch.setattr(parts, "_PART_ROWS", 2)
        yield


def arrays(datatype: str, shapes: st.SearchStrategy[tuple[int, ...]]) -> st.SearchStrategy[Array]:
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None
    return hnp.arrays(DTYPES[datatype], shapes, elements=finite)


def same(found: Array | None, expected: Array) -> None:
    assert found is not None
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tolist() == expected.tolist()


@given(data=st.data(), datatype=st.sampled_from(DATATYPES), indent=st.sampled_from([None, 0, 2]))
def test_json_is_read_as_it_was_written(
    data: st.DataObject, datatype: str, indent: int | None
) -> None:
    array = data.draw(arrays(datatype, hnp.array_shapes(max_dims=4, max_side=5)))
    text = json.dumps(array.tolist(), indent=indent).encode()
    found = parts.from_json(memoryview(b"  " + text + b" \n"), datatype)
    same(found, casting.from_json(json.loads(text), datatype))
    same(found, array)


@given(
    text=st.text("[[[]]],,,,012.-e \n", min_size=5, max_size=40)
    | st.lists(st.sampled_from(["[", "]", "],[", ",", "1", "[1,2]", "0.5", "null"]), max_size=20)
    .map("".join)
    .map("[{}]".format),
    datatype=st.sampled_from(["INT64", "FP32"]),
)
def test_json_that_is_none_is_left_to_who_reads_the_whole(text: str, datatype: str) -> None:
    found = parts.from_json(text.encode(), datatype)
    if found is not None:
        same(found, casting.from_json(load_json(text.encode()), datatype))


@pytest.mark.parametrize(
    "text",
    ["1000000", "[1,2,3,", "[1,2,3,4,]", "[1,,2,3]", "[1,2,3],4", "[[1,2],[3,4],[5]]", '["a","b"]'],
)
def test_json_that_is_left_to_who_reads_the_whole(text: str) -> None:
    assert parts.from_json(text.encode(), "FP32") is None


@given(data=st.data(), datatype=st.sampled_from(DATATYPES), quoting=st.sampled_from([0, 1]))
def test_csv_is_read_as_it_was_written(data: st.DataObject, datatype: str, quoting: Any) -> None:
    array = data.draw(arrays(datatype, st.tuples(st.integers(1, 7), st.integers(1, 4))))
    stream = io.StringIO()
    csv.writer(stream, quoting=quoting).writerows(array.tolist())
    same(parts.from_csv(memoryview(stream.getvalue().encode()), datatype), array)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2\n3,4\n5", "has lists of unequal lengths"),
        ("1,2\n3,4\n5,x", "has 'x' where FP32 expects a number"),
        ("1\n[2\n3]\n4", r"has '\[2' where FP32 expects a number"),
        ("[1],2", r"has '\[1\]' where FP32 expects a number"),
        ("true", "has 'true' where FP32 expects a number"),
        ("1,2\n3,null", "has 'null' where FP32 expects a number"),
    ],
)
def test_csv_that_is_none(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        parts.from_csv(text.encode(), "FP32")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n1\n\n2\n\n3", [[1], [2], [3]]),
        ("1\r2\r3", [[1], [2], [3]]),
        ("+1, 2 ,.5", [[1, 2, 0.5]]),
        ('"1\n",2', [[1, 2]]),
    ],
)
def test_csv_that_is_written_otherwise(text: str, expected: list[Any]) -> None:
    same(parts.from_csv(text.encode(), "FP64"), np.array(expected, np.float64))
