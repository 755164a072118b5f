"""What the benchmarks say stands in the documentation as the tool wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest
from clients.process import ROOT

BENCHMARKS = ROOT / "tests" / "benchmarks"


@pytest.fixture(scope="module")
def report() -> Iterator[ModuleType]:
    """The tool's own module, which finds its neighbours as the tool does: by sys.path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield import_module("report")


@pytest.fixture(scope="module")
def results(report: ModuleType) -> dict[str, object]:
    return json.loads((ROOT / report.RESULTS).read_text())


def test_the_page_is_what_the_stored_results_say(report, results) -> None:
    assert (ROOT / report.PAGE).read_text() == report.page(results)


def test_the_readme_has_the_rows_that_the_tool_wrote(report, results) -> None:
    readme = (ROOT / report.README).read_text()
    assert readme.count(report.BEGIN) == readme.count(report.END) == 1
    assert readme == report.with_rows(readme, results)
    assert readme.count("| times as fast |") == 1


def test_rows_that_somebody_changed_by_hand_are_noticed(report, results) -> None:
    readme = (ROOT / report.README).read_text()
    row = next(line for line in readme.splitlines() if line.startswith("| KServe V1 JSON"))
    assert report.with_rows(readme.replace(row, row.replace(" (", "0 (")), results) == readme


def test_every_row_of_work_was_measured(report, results) -> None:
    keys = {workload.key for workload in report.all_workloads()}
    assert keys == set(results["workloads"])
