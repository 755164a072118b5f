"""What the handler asks of requests and classes, one check at a time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime import InvalidInput, Signature, Tensor, Text
from omi_runtime.batch import Batch
from omi_runtime.datatypes import DTYPES
from omi_runtime.signature import Bytes, Field, Json, Marker
from omi_runtime.validation import check_batch, check_names, no_rows

MARKERS: list[Marker] = [Text(), Bytes(), Json(), Tensor("FP32", [2]), Tensor("BYTES")]


def signature(*names: str, optional: str = "") -> Signature:
    inputs = [Field(name, Text(), name, required=name not in optional) for name in names]
    return Signature(tuple(inputs), (Field("output", Text(), "output"),))


@given(given_names=st.sets(st.sampled_from("abcxy")), optional=st.sets(st.sampled_from("abc")))
def test_the_names_are_those_that_are_declared(given_names: set[str], optional: set[str]) -> None:
    row = dict.fromkeys(given_names)
    checked = check_names(row, signature("a", "b", "c", optional="".join(optional)))
    if given_names <= set("abc") and set("abc") - optional <= given_names:
        assert checked is row
    else:
        assert isinstance(checked, InvalidInput)
        unknown = given_names - set("abc")
        wrong = unknown or set("abc") - optional - given_names
        assert any(repr(name) in checked.message for name in wrong)


def test_an_items_error_stays_what_it_is() -> None:
    error = InvalidInput("no")
    assert check_names(error, signature("a")) is error


@pytest.mark.parametrize("datatype", DTYPES)
def test_a_column_has_the_datatype_and_the_shape_that_are_declared(datatype: str) -> None:
    declared = Signature.of({"x": Tensor(datatype, [2, -1])}, {"output": Text()})
    fitting: Any = np.zeros((3, 2, 5), DTYPES[datatype])
    check_batch(Batch({"x": fitting}, 3), declared)
    for shaped in (fitting[:, :1], fitting[0], fitting[..., None]):
        with pytest.raises(InvalidInput, match=r"^x: has shape \[.*\], expected \[2, -1\]$"):
            check_batch(Batch({"x": shaped}, 3), declared)
    for other in (fitting.astype("<c8"), fitting.tolist()):
        with pytest.raises(InvalidInput, match=f"^x: expected {datatype} values$"):
            check_batch(Batch({"x": other}, 3), declared)


@pytest.mark.parametrize("marker", MARKERS, ids=repr)
def test_no_rows_have_the_declared_kind(marker: Marker) -> None:
    result = no_rows(Signature.of({}, {"output": marker}))
    assert (result.n, result.errors, len(result.columns["output"])) == (0, {}, 0)
    if isinstance(marker, Tensor):
        column = result.columns["output"]
        assert isinstance(column, np.ndarray)
        assert column.dtype == DTYPES[marker.datatype]
        assert column.shape == (0, *marker.shape)
