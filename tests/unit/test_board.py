"""Numbers in shared memory: every process counts on its own page, and any can read all."""

import os
import signal
from collections.abc import Callable

import pytest

from omi_runtime.board import MAX_BOUNDS, SLOTS, Board, Page, Series
from omi_runtime.exposition import merged

COUNT = Series("count", "counter", "counts")
LEVEL = Series("level", "gauge", "a level")
HIGHEST = Series("highest", "gauge", "the highest", merge="max")
LOWEST = Series("lowest", "gauge", "the lowest", merge="min")
SIZES = Series("sizes", "histogram", "sizes", {"of": "fruit"}, bounds=(1.0, 2.0))


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


def in_a_child(work: Callable[[], None], *, killed: bool = False) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if killed else 0)


def add(page: Page, series: Series, value: float, offset: int = 0) -> None:
    page.values[page.slot(series) + offset] += value


def read(board: Board) -> dict[str, list[float]]:
    return {series.name: values for series, values in merged(board)}


def test_what_all_processes_count_is_added_up() -> None:
    board = Board(3)
    for number, page in enumerate(board.pages):
        in_a_child(lambda page=page, number=number: add(page, COUNT, 1 + number))
    assert read(board) == {"count": [6]}
    in_a_child(lambda: os._exit(0 if read(board) == {"count": [6]} else 1))


def test_gauges_are_merged_as_each_says_and_histograms_bucket_by_bucket() -> None:
    board = Board(2)
    for page, value in zip(board.pages, (3, 5), strict=True):
        for series in (LEVEL, HIGHEST, LOWEST):
            add(page, series, value)
        for offset in range(4):
            add(page, SIZES, value * 10**offset, offset)
    assert read(board) == {
        "level": [8],
        "highest": [5],
        "lowest": [3],
        "sizes": [8, 80, 800, 8000],
    }


def test_a_killed_process_leaves_its_counts_to_its_successor() -> None:
    board = Board(1)
    (page,) = board.pages

    def work() -> None:
        for series in (SIZES, COUNT, LEVEL):
            add(page, series, 2)

    in_a_child(work, killed=True)
    assert read(board) == {"sizes": [2, 0, 0, 0], "count": [2], "level": [2]}
    in_a_child(lambda: add(page, COUNT, 1))
    assert read(board) == {"sizes": [2, 0, 0, 0], "count": [3], "level": [0]}
    in_a_child(work, killed=True)
    assert read(board) == {"sizes": [4, 0, 0, 0], "count": [5], "level": [2]}


def test_labels_tell_series_apart_whatever_their_order() -> None:
    (page,) = Board().pages
    first = Series("x", "counter", "x", {"a": "1", "b": "2"})
    assert page.slot(first) == page.slot(Series("x", "counter", "x", {"b": "2", "a": "1"}))
    assert page.slot(first) != page.slot(Series("x", "counter", "x", {"a": "2", "b": "1"}))
    awkward = {"a": 'new\nline "quoted" \\ ünï'}
    add(page, Series("y", "counter", "y\nz", awkward), 1)
    assert [s.labels for s, _ in page.read() if s.name == "y"] == [awkward]


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_what_finds_no_room_is_counted_nowhere(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    (page,) = Board().pages
    bounds = tuple(map(float, range(MAX_BOUNDS))) if kind == "histogram" else ()
    size = Series("x", kind, "", bounds=bounds).size
    for number in range(SLOTS // size + 10):
        series = Series("many", kind, "text" * 10, {"id": str(number)}, bounds=bounds)
        for offset in range(size):
            add(page, series, 1, offset)
    found = [values for _, values in page.read()]
    assert len(found) in range(1000 if kind == "counter" else 100, SLOTS // size + 1)
    assert all(values == [1] * size for values in found)
    assert "no room for another metric: many with labels {'id': '" in caplog.text
