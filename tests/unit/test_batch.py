"""Items as columns: merging and slicing, grouping and assembling, undo one another."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime.batch import Batch, Result, group_rows, item, stack_values
from omi_runtime.errors import InferenceFailed, InvalidInput, OMIError, Overloaded
from omi_runtime.timings import Timings

dtypes = st.sampled_from(["<f4", "<i8", "?", "O"])


@st.composite
def columns(draw: st.DrawFn, n: int, kind: Any) -> Any:
    dtype, shape = kind
    if dtype is None:
        return draw(st.lists(st.text(max_size=3), min_size=n, max_size=n))
    count = n * int(np.prod(shape, dtype=int))
    if dtype == "O":
        column = np.empty(count, object)
        column[:] = draw(st.lists(st.binary(max_size=2), min_size=count, max_size=count))
    else:
        column = np.array(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), dtype)
    return column.reshape(n, *shape)


kinds = st.one_of(
    st.just((None, ())), st.tuples(dtypes, st.lists(st.integers(0, 2), max_size=2).map(tuple))
)


@st.composite
def alike(draw: st.DrawFn) -> list[Batch]:
    """Batches of any sizes, none empty, that can be merged."""
    signature = draw(st.dictionaries(st.sampled_from("abc"), kinds, min_size=1))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return [
        Batch({name: draw(columns(n, kind)) for name, kind in signature.items()}, n) for n in sizes
    ]


def plain(value: Any) -> Any:
    return (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value


def rows_of(batch: Batch) -> list[Any]:
    return [{name: plain(value) for name, value in row.items()} for row in batch.rows()]


@given(batches=alike())
def test_merging_keeps_every_row_in_order(batches: list[Batch]) -> None:
    merged = Batch.merge(batches)
    assert merged.n == sum(batch.n for batch in batches)
    assert rows_of(merged) == [row for batch in batches for row in rows_of(batch)]
    assert {batch.merge_key() for batch in batches} == {merged.merge_key()}


@given(batches=alike())
def test_slicing_undoes_merging(batches: list[Batch]) -> None:
    merged = Batch.merge(batches)
    start = 0
    for batch in batches:
        part = merged.slice(start, start + batch.n)
        start += batch.n
        assert part.n == batch.n
        assert rows_of(part) == rows_of(batch)
        assert part.merge_key() == batch.merge_key()


@given(batches=alike(), data=st.data())
def test_merging_undoes_slicing(batches: list[Batch], data: st.DataObject) -> None:
    whole = Batch.merge(batches)
    cuts = sorted({0, whole.n, *data.draw(st.lists(st.integers(0, whole.n)))})
    parts = [whole.slice(a, b) for a, b in itertools.pairwise(cuts)]
    again = Batch.merge(parts)
    assert again.n == whole.n
    assert rows_of(again) == rows_of(whole)


@given(batches=alike())
def test_slices_of_arrays_are_views(batches: list[Batch]) -> None:
    merged = Batch.merge(batches)
    for name, column in merged.slice(0, 1).columns.items():
        if isinstance(column, np.ndarray) and column.size:
            assert np.shares_memory(column, merged.columns[name])
    assert merged.slice(0, merged.n) is merged


def test_one_batch_alone_is_not_copied() -> None:
    batch = Batch({"x": np.zeros((2, 3))}, 2)
    assert Batch.merge([batch]) is batch


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.zeros((1, 2), "<f4")},
        {"x": np.zeros((1, 3), "<f8")},
        {"y": np.zeros((1, 3), "<f4")},
        {"x": np.zeros((1, 3), "<f4"), "y": ["a"]},
        {"x": ["a"]},
    ],
)
def test_what_cannot_be_merged_has_another_key(other: dict[str, Any]) -> None:
    assert Batch({"x": np.zeros((2, 3), "<f4")}, 2).merge_key() != Batch(other, 1).merge_key()


def test_an_item_of_an_array_is_an_array() -> None:
    scalar = item(np.array([1.5, 2.5]), 1)
    assert isinstance(scalar, np.ndarray)
    assert scalar.shape == ()
    assert scalar == 2.5
    assert item(np.array([[1, 2]]), 0).tolist() == [1, 2]
    assert item(["a", "b"], 1) == "b"


# --- items that differ ---


@st.composite
def mixed_rows(draw: st.DrawFn) -> list[Any]:
    signatures = draw(
        st.lists(st.dictionaries(st.sampled_from("ab"), kinds, min_size=1), min_size=1, max_size=3)
    )
    rows: list[Any] = []
    for number in range(draw(st.integers(0, 8))):
        if draw(st.integers(0, 4)) == 0:
            rows.append(InvalidInput(f"row {number} is bad"))
            continue
        signature = draw(st.sampled_from(signatures))
        batch = Batch({name: draw(columns(1, kind)) for name, kind in signature.items()}, 1)
        rows += batch.rows()
    return rows


@given(rows=mixed_rows())
def test_every_row_is_in_one_uniform_part_or_among_the_errors(rows: list[Any]) -> None:
    parts, errors = group_rows(rows)
    places = sorted([row for part in parts for row in part.rows] + list(errors))
    assert places == list(range(len(rows)))
    assert len({part.batch.merge_key() for part in parts}) == len(parts)
    assert [part.rows[0] for part in parts] == sorted(part.rows[0] for part in parts)
    for part in parts:
        assert part.rows == sorted(part.rows)
        assert part.batch.n == len(part.rows)
        for row, have in zip(part.rows, rows_of(part.batch), strict=True):
            assert have == {name: plain(value) for name, value in rows[row].items()}
    assert all(rows[row] is error for row, error in errors.items())


@given(rows=mixed_rows(), data=st.data())
def test_assembling_puts_the_answers_back_in_order(rows: list[Any], data: st.DataObject) -> None:
    parts, errors = group_rows(rows)
    answered: list[tuple[list[int], Result]] = []
    extras = data.draw(st.booleans())
    for part in parts:
        failing = data.draw(st.sets(st.sampled_from(range(part.batch.n))))
        values: Any = np.array(part.rows, "<i8")
        if failing:
            values = [None if i in failing else np.array(row) for i, row in enumerate(part.rows)]
        answered.append(
            (
                part.rows,
                Result(
                    {"output": values},
                    part.batch.n,
                    {i: InferenceFailed(f"row {part.rows[i]} failed") for i in failing},
                    [f"why {row}" for row in part.rows] if extras else None,
                ),
            )
        )
    failed = {part[i] for part, result in answered for i in result.errors}
    answered += [([row], Result.failed([error])) for row, error in errors.items()]
    data.draw(st.randoms()).shuffle(answered)
    result = Result.assemble(len(rows), answered)
    assert result.n == len(rows)
    assert result.drift is None
    assert set(result.errors) == failed | set(errors)
    for row in range(len(rows)):
        if row in errors:
            assert result.errors[row] is errors[row]
        elif row in failed:
            assert result.errors[row].message == f"row {row} failed"
        else:
            assert result.columns["output"][row] == row
        if extras and parts and row not in errors:
            assert result.explanation is not None
            assert result.explanation[row] == f"why {row}"
    if not result.errors and rows:
        assert isinstance(result.columns["output"], np.ndarray)


@given(n=st.integers(1, 6), bad=st.sets(st.integers(0, 5)), extra=st.booleans(), data=st.data())
def test_a_slice_of_a_result_has_its_own_rows(
    n: int, bad: set[int], extra: bool, data: st.DataObject
) -> None:
    errors: dict[int, OMIError] = {row: InferenceFailed(str(row)) for row in bad if row < n}
    words = [str(row) for row in range(n)] if extra else None
    result = Result({"output": list(range(n))}, n, errors, words, words)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    part = result.slice(start, stop)
    assert part.n == stop - start
    assert part.columns["output"] == list(range(start, stop))
    assert {row: e.message for row, e in part.errors.items()} == {
        row - start: str(row) for row in range(start, stop) if row in errors
    }
    assert part.explanation == (words[start:stop] if words else None)
    assert part.drift == part.explanation


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    bad=st.sets(st.integers(0, 11)),
    extra=st.booleans(),
    outputs=st.sampled_from([("array", "list"), ("array",), ("list",)]),
)
def test_a_result_is_split_as_by_slices(
    sizes: list[int], bad: set[int], extra: bool, outputs: tuple[str, ...]
) -> None:
    n = sum(sizes)
    errors: dict[int, OMIError] = {row: InferenceFailed(str(row)) for row in bad if row < n}
    words = [str(row) for row in range(n)] if extra else None
    every: dict[str, Any] = {"array": np.arange(n), "list": words or list(range(n))}
    columns = {name: every[name] for name in outputs}
    result = Result(columns, n, errors, words, words, Timings(predict=1.0))
    start = 0
    for size, part in zip(sizes, result.split(sizes), strict=True):
        expected = result.slice(start, start + size)
        start += size
        assert part.columns.keys() == expected.columns.keys()
        for output, column in part.columns.items():
            assert list(column) == list(expected.columns[output]), output
        for name in ("n", "errors", "explanation", "drift", "timings"):
            assert getattr(part, name) == getattr(expected, name), name


def test_arrays_of_one_shape_are_stacked_and_others_listed() -> None:
    assert isinstance(stack_values([np.zeros(2), np.ones(2)]), np.ndarray)
    ragged = [np.zeros(2), np.ones(3)]
    assert stack_values(ragged) is ragged
    assert stack_values([]) == []
    assert stack_values(["a"]) == ["a"]


def test_results_of_other_shapes_come_together_as_a_list() -> None:
    parts = [([1], Result({"o": np.ones((1, 3))}, 1)), ([0], Result({"o": np.zeros((1, 2))}, 1))]
    column = Result.assemble(2, parts).columns["o"]
    assert [value.tolist() for value in column] == [[0, 0], [1, 1, 1]]


# --- the first error, for wires without item errors ---


class Refused(InvalidInput):
    """What an author may raise: an error with arguments of its own."""

    def __init__(self, pixel: int, limit: int) -> None:
        super().__init__(f"pixel {pixel} is over {limit}")


@pytest.mark.parametrize(
    ("n", "errors", "message"),
    [
        (1, {0: InvalidInput("no")}, "no"),
        (3, {2: InvalidInput("no")}, "row 2: no"),
        (3, {2: InvalidInput("no"), 0: InvalidInput("no")}, "rows 0, 2: no"),
        (3, {1: InvalidInput("a"), 2: InvalidInput("b")}, "row 1: a"),
        (3, {1: InvalidInput("a"), 2: Overloaded("a")}, "row 1: a"),
        (2, {1: Refused(7, 5)}, "row 1: pixel 7 is over 5"),
    ],
)
def test_the_first_error_names_the_rows_that_share_it(
    n: int, errors: dict[int, OMIError], message: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        Result({}, n, errors).raise_error()
    assert raised.value.message == str(raised.value) == message
    assert type(raised.value) is type(errors[min(errors)])
    Result({}, n).raise_error()
