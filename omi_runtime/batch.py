"""Items as columns: what goes through the core, and what comes back.

A `Batch` is uniform: every item has the same inputs, and arrays of one shape, so that it can be
handed to `predict` as it is and merged with others of the same key. Items that differ become
several batches (`group_rows`), and their results one again (`Result.assemble`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omi_runtime.datatypes import Array
from omi_runtime.errors import OMIError
from omi_runtime.timings import Timings

Column = Array | list[Any]
"""n values of one field: an array of shape (n, *item shape), or a list of n."""

Row = Mapping[str, Any]
"""One item by field name; tensors as arrays of the item's shape."""

MergeKey = tuple[Any, ...]


@dataclass(slots=True)
class Batch:
    """n items as columns, by input name.

    Attributes:
        key: batches with equal keys can be merged. Set where it is known beforehand, as what a
            model's signature says; None is to be made (`merge_key`).
    """

    columns: dict[str, Column]
    n: int
    key: MergeKey | None = field(default=None, compare=False)

    def merge_key(self) -> MergeKey:
        """Which inputs there are, with what dtypes and item shapes."""
        return tuple(
            [
                (name, column.dtype.char, column.shape[1:])
                if isinstance(column, np.ndarray)
                else name
                for name, column in self.columns.items()
            ]
        )

    def slice(self, start: int, stop: int) -> Batch:
        """Items start to stop; arrays are views."""
        if start == 0 and stop == self.n:
            return self
        columns = {name: column[start:stop] for name, column in self.columns.items()}
        return Batch(columns, stop - start)

    def rows(self) -> list[dict[str, Any]]:
        """The items one by one; arrays are views."""
        return [
            {name: item(column, i) for name, column in self.columns.items()} for i in range(self.n)
        ]

    def loosened(self) -> Batch:
        """The same items as lists, which can be merged with those of other shapes; read-only."""
        columns: dict[str, Column] = {}
        for name, column in self.columns.items():
            if isinstance(column, np.ndarray):
                column.flags.writeable = False
            columns[name] = [item(column, i) for i in range(self.n)]
        return Batch(columns, self.n)

    @staticmethod
    def merge(batches: Sequence[Batch]) -> Batch:
        """One batch of all the items, in order. The keys must be equal."""
        if len(batches) == 1:
            return batches[0]
        columns = {
            name: _join([batch.columns[name] for batch in batches]) for name in batches[0].columns
        }
        return Batch(columns, sum([batch.n for batch in batches]))


@dataclass(slots=True)
class Result:
    """The answers to n items, in their order.

    Attributes:
        columns: by output name. An array if every item succeeded with one shape, else a list, with
            None for items that failed. Json outputs are `orjson.Fragment`s: they are encoded once,
            on the model's thread, where a value that JSON cannot hold fails its own item.
        errors: of the items that failed, by row.
        explanation: per item, if asked for and offered: a Fragment, or the OMIError it ended with.
        drift: the same.
        timings: of the batches that the items were in; None where the model was not asked.
    """

    columns: dict[str, Column]
    n: int
    errors: dict[int, OMIError] = field(default_factory=dict)
    explanation: list[Any] | None = None
    drift: list[Any] | None = None
    timings: Timings | None = None

    @staticmethod
    def failed(errors: Sequence[OMIError]) -> Result:
        """A result in which every item failed."""
        return Result({}, len(errors), dict(enumerate(errors)))

    def slice(self, start: int, stop: int) -> Result:
        """The answers start to stop; arrays are views."""
        if start == 0 and stop == self.n:
            return self
        columns = {name: column[start:stop] for name, column in self.columns.items()}
        errors = {row - start: error for row, error in self.errors.items() if start <= row < stop}
        if self.errors and not errors:
            # Lists only for the sake of rows that failed elsewhere: arrays again without them.
            columns = {
                name: column if isinstance(column, np.ndarray) else stack_values(column)
                for name, column in columns.items()
            }
        return Result(
            columns,
            stop - start,
            errors,
            None if self.explanation is None else self.explanation[start:stop],
            None if self.drift is None else self.drift[start:stop],
            self.timings,
        )

    def split(self, sizes: Sequence[int]) -> list[Result]:
        """The answers to so many items after one another; together they are all. Arrays are views.

        Of a single output, as nearly all models have, it takes one call for each part, not three.
        """
        if len(sizes) == 1:
            return [self]
        ends = list(itertools.accumulate(sizes))
        bounds = zip([0, *ends], ends, strict=False)
        extras = self.explanation is not None or self.drift is not None
        if self.errors or extras or len(self.columns) != 1:
            return [self.slice(start, stop) for start, stop in bounds]
        ((name, column),) = self.columns.items()
        return [
            Result({name: column[start:stop]}, stop - start, {}, None, None, self.timings)
            for start, stop in bounds
        ]

    def raise_error(self) -> None:
        """Raise the first error, naming the rows that share it; for wires without item errors."""
        if not self.errors:
            return
        first = self.errors[min(self.errors)]
        if self.n == 1:
            raise first
        same = (type(first), first.message)
        raise first.with_rows(
            sorted(row for row, e in self.errors.items() if (type(e), e.message) == same)
        )

    @staticmethod
    def assemble(n: int, parts: Sequence[tuple[Sequence[int], Result]]) -> Result:
        """One result of n items from results of some of its rows; together they cover all."""
        if len(parts) == 1 and parts[0][1].n == n:
            return parts[0][1]
        errors: dict[int, OMIError] = {}
        for rows, result in parts:
            errors.update({rows[i]: error for i, error in result.errors.items()})
        names = {name: None for _, result in parts for name in result.columns}
        columns = {name: _scatter(n, parts, name, whole=not errors) for name in names}
        return Result(
            columns,
            n,
            errors,
            _scatter_list(n, [(rows, result.explanation) for rows, result in parts]),
            _scatter_list(n, [(rows, result.drift) for rows, result in parts]),
            _sum_timings(result.timings for _, result in parts),
        )


@dataclass(slots=True)
class Part:
    """Some rows of a request, alike enough to be one batch."""

    rows: list[int]
    batch: Batch


def group_rows(rows: Sequence[Row | OMIError]) -> tuple[list[Part], dict[int, OMIError]]:
    """Sort items into uniform batches, in order of first appearance; errors stay apart, by row."""
    if len(rows) == 1 and not isinstance(only := rows[0], OMIError):
        return [Part([0], _stack([only]))], {}
    groups: dict[tuple[Any, ...], tuple[list[int], list[Row]]] = {}
    errors: dict[int, OMIError] = {}
    for index, row in enumerate(rows):
        if isinstance(row, OMIError):
            errors[index] = row
            continue
        key = tuple(
            (name, value.dtype.char, value.shape) if isinstance(value, np.ndarray) else name
            for name, value in row.items()
        )
        indices, members = groups.setdefault(key, ([], []))
        indices.append(index)
        members.append(row)
    return [Part(indices, _stack(members)) for indices, members in groups.values()], errors


def _stack(rows: Sequence[Row]) -> Batch:
    columns: dict[str, Column] = {}
    for name, first in rows[0].items():
        if not isinstance(first, np.ndarray):
            columns[name] = [row[name] for row in rows]
        elif len(rows) == 1:
            columns[name] = first[None]
        else:
            columns[name] = np.stack([row[name] for row in rows])
    return Batch(columns, len(rows))


def stack_values(values: list[Any]) -> Column:
    """A column of item values: an array if all are arrays of one shape, else the list."""
    if values and all(isinstance(value, np.ndarray) for value in values):
        shape = values[0].shape
        if all(value.shape == shape for value in values):
            return np.stack(values)
    return values


def item(column: Column, i: int) -> Any:
    """Item i of a column; of an array an array, where numpy would give a scalar."""
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return column[i : i + 1].reshape(())
    return column[i]


def _join(columns: Sequence[Column]) -> Column:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return [value for column in columns for value in column]


def _scatter(
    n: int, parts: Sequence[tuple[Sequence[int], Result]], name: str, *, whole: bool
) -> Column:
    values: list[Any] = [None] * n
    for rows, result in parts:
        column = result.columns.get(name)
        if column is not None:
            for i, row in enumerate(rows):
                values[row] = item(column, i)
    return stack_values(values) if whole else values


def _scatter_list(n: int, parts: Sequence[tuple[Sequence[int], list[Any] | None]]) -> Any:
    if all(values is None for _, values in parts):
        return None
    scattered: list[Any] = [None] * n
    for rows, values in parts:
        for row, value in zip(rows, values or [None] * len(rows), strict=True):
            scattered[row] = value
    return scattered


def _sum_timings(parts: Iterable[Timings | None]) -> Timings | None:
    total: Timings | None = None
    for timings in parts:
        if timings is not None:
            total = timings if total is None else total + timings
    return total
