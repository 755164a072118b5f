"""Numbers that several processes count, and that any of them can read.

A `Board` is memory that processes forked later share. Each of them writes on a `Page` of its own
and on no other: an increment is one store without a lock, any process can add all pages up at any
time, and what a killed process had counted stays. Its successor takes over the page.

A page holds 64-bit floating-point numbers, and a text that says, line by line, what they are: so a
reader needs to know nothing of the metrics that a model makes in another process.
"""

from __future__ import annotations

import logging
import mmap
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

logger = logging.getLogger(__name__)

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]

SLOTS: Final = 8192
"""Numbers on a page; a histogram takes one for each bucket and one for the sum."""

MAX_BOUNDS: Final = 64
"""The most bounds that a histogram may have."""

_SPILL: Final = SLOTS
_HEADER_BYTES: Final = 8
_VALUE_BYTES: Final = 8 * (SLOTS + MAX_BOUNDS + 2)
_TEXT_BYTES: Final = 512 * 1024
_PAGE_BYTES: Final = _HEADER_BYTES + _VALUE_BYTES + _TEXT_BYTES


@dataclass(frozen=True)
class Series:
    """What some numbers of a page are.

    Attributes:
        name: as Prometheus has it.
        kind: a counter and a gauge are one number; a histogram is one for each bucket, not
            accumulated, and the sum.
        text: what it measures.
        labels: by name.
        merge: how a gauge's values of several processes become one.
        bounds: the upper bounds of a histogram's buckets, ascending; infinity is implied.
    """

    name: str
    kind: Kind
    text: str
    labels: Mapping[str, str] = field(default_factory=dict)
    merge: Merge = "sum"
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers it takes."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What tells it from the others."""
        return self.name, tuple(sorted(self.labels.items()))


class Board:
    """The pages of all processes.

    Args:
        pages: how many processes there will be at most. Memory that nobody writes takes no room.
    """

    def __init__(self, pages: int = 1) -> None:
        memory = memoryview(mmap.mmap(-1, pages * _PAGE_BYTES))
        self.pages = [
            Page(memory[number * _PAGE_BYTES : (number + 1) * _PAGE_BYTES], self)
            for number in range(pages)
        ]


class Page:
    """The numbers of one process.

    Attributes:
        values: the numbers. Each is written by one thread only, or under a lock of its writers.
        board: where it belongs to.
    """

    def __init__(self, memory: memoryview, board: Board) -> None:
        self._length = memory[:_HEADER_BYTES].cast("q")
        self.values: memoryview[float] = memory[_HEADER_BYTES:][:_VALUE_BYTES].cast("d")
        self._text = memory[_HEADER_BYTES + _VALUE_BYTES :]
        self.board = board
        self._slots: dict[object, int] | None = None
        self._used = 0
        self._lock = threading.Lock()

    def slot(self, series: Series) -> int:
        """Where the numbers of a series begin; a place for them is made if there is none.

        On a full page, what has found no room is counted where nobody reads.
        """
        with self._lock:
            if self._slots is None:
                self._slots = self._take_over()
            found = self._slots.get(series.key)
            if found is None:
                found = self._slots[series.key] = self._add(series)
            return found

    def read(self) -> Iterator[tuple[Series, list[float]]]:
        """All series and their numbers."""
        start = 0
        for line in bytes(self._text[: self._length[0]]).splitlines():
            fields = orjson.loads(line)
            series = Series(**fields | {"bounds": tuple(fields["bounds"])})
            yield series, list(self.values[start : start + series.size])
            start += series.size

    def _take_over(self) -> dict[object, int]:
        """The series of the process that had the page before; what it had in hand is gone."""
        slots: dict[object, int] = {}
        for series, _ in self.read():
            slots[series.key] = self._used
            if series.kind == "gauge":
                self.values[self._used] = 0.0
            self._used += series.size
        return slots

    def _add(self, series: Series) -> int:
        line = orjson.dumps(series) + b"\n"
        begin = self._length[0]
        end = begin + len(line)
        if self._used + series.size > SLOTS or end > _TEXT_BYTES:
            logger.warning(
                "no room for another metric: %s with labels %s is not counted. Labels need few "
                "values: an id or a text is none",
                series.name,
                dict(series.labels),
            )
            return _SPILL
        slot, self._used = self._used, self._used + series.size
        self._text[begin:end] = line
        self._length[0] = end  # readers see the whole line, or none of it
        return slot
