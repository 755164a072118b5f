"""What most requests bring passes by one look; it is what a closer look would have let pass."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime import InvalidInput, Signature, Tensor, Text
from omi_runtime.batch import Batch
from omi_runtime.errors import OMIError
from omi_runtime.request_checker import RequestChecker
from omi_runtime.signature import Field
from omi_runtime.validation import check_batch, check_names

USUAL = Signature.of({"x": Tensor("FP32", [2]), "t": Text()}, {"output": Text()})
VARIABLE = Signature.of({"x": Tensor("FP32", [-1])}, {"output": Text()})
OPTIONAL = Signature(
    (Field("x", Tensor("FP32", [2]), "x"), Field("t", Text(), "t", required=False)),
    (Field("output", Text(), "output"),),
)
SIGNATURES = (USUAL, VARIABLE, OPTIONAL)

values = st.sampled_from(
    [
        np.zeros(2, "<f4"),
        np.zeros(3, "<f4"),
        np.zeros((2, 1), "<f4"),
        np.zeros((), "<f4"),
        np.zeros(2, "<f8"),
        np.zeros(2, ">f4"),
        "text",
        [1, 2],
    ]
)
rows = st.dictionaries(st.sampled_from(["x", "t", "u"]), values)


@pytest.mark.parametrize("signature", SIGNATURES)
@given(row=rows)
def test_a_row_is_taken_in_as_a_closer_look_would(
    signature: Signature, row: dict[str, Any]
) -> None:
    taken = RequestChecker(signature).row(row)
    if taken is None:
        return
    assert check_names(row, signature) is row
    check_batch(taken, signature)
    assert taken.n == 1
    assert [
        column[0] is row[name] if isinstance(column, list) else (column[0] == row[name]).all()
        for name, column in taken.columns.items()
    ] == [True] * len(row)


@pytest.mark.parametrize("signature", SIGNATURES)
@given(row=rows)
def test_a_batch_is_taken_in_or_refused_as_by_a_closer_look(
    signature: Signature, row: dict[str, Any]
) -> None:
    columns = {n: v[None] if isinstance(v, np.ndarray) else [v] for n, v in row.items()}
    told: list[str] = []
    for check in (lambda batch: check_batch(batch, signature), RequestChecker(signature).batch):
        try:
            check(Batch(columns, 1))
            told.append("taken")
        except InvalidInput as error:
            told.append(error.message)
    assert told[0] == told[1]


def test_what_is_usual_is_known_to_be_alike_whatever_its_order() -> None:
    x, texts = np.zeros((3, 2), "<f4"), ["a"] * 3
    checker = RequestChecker(USUAL)
    one, other = (checker.batch(Batch(c, 3)) for c in ({"x": x, "t": texts}, {"t": texts, "x": x}))
    row = checker.row({"x": x[0], "t": "a"})
    assert row is not None
    assert one.key == other.key == row.key is not None


@pytest.mark.parametrize("signature", [VARIABLE, OPTIONAL])
def test_what_is_not_usual_has_a_key_of_its_own(signature: Signature) -> None:
    x = np.zeros((1, 2), "<f4")
    batch = RequestChecker(signature).batch(Batch({"x": x}, 1))
    assert batch.key is None
    assert batch.merge_key() == (("x", "f", (2,)),)


def test_an_error_among_the_rows_stays_apart() -> None:
    error = OMIError("no")
    assert RequestChecker(USUAL).row(error) is None
    parts, errors = RequestChecker(USUAL).rows([{"x": np.zeros(2, "<f4"), "t": "a"}, error])
    assert ([part.rows for part in parts], errors) == ([[0]], {1: error})


def test_for_preprocess_items_go_as_lists_which_merge_in_any_shape() -> None:
    checker = RequestChecker(VARIABLE, loosened=True)
    assert checker.row({"x": np.zeros(2, "<f4")}) is None
    (part,), _ = checker.rows([{"x": np.zeros(2, "<f4")}])
    batch = checker.batch(Batch({"x": np.zeros((1, 5), "<f4")}, 1))
    assert part.batch.merge_key() == batch.merge_key() == ("x",)
