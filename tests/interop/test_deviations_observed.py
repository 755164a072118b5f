"""Every cell of the published list of deviations is what the two servers answer."""

from __future__ import annotations

import os
from collections.abc import Iterator

import deviations
import pytest
from deviations import DEVIATIONS, Cells, Deviation
from environments import kserve_sdk
from observing import ROWS
from observing.sides import Here, KServe, Side

WRITE = os.environ.get("DEVIATIONS") == "write"
"""Whether to write what is seen instead of comparing it: `make deviations`."""

Sides = tuple[Side, Side]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """KServe's servers and ours; those that more than one row asks live until the last."""
    sdk = kserve_sdk()
    with (
        KServe(tmp_path_factory.mktemp("kserve"), sdk) as theirs,
        Here(tmp_path_factory.mktemp("here"), sdk) as ours,
    ):
        yield theirs, ours


def test_every_row_is_observed() -> None:
    assert set(ROWS) == {deviation.about for deviation in DEVIATIONS}


def test_the_version(sides: Sides) -> None:
    """The page names the version that the server under observation says it has."""
    version = sides[0].ask("total").get("/v2").json()["version"]
    if WRITE:
        deviations.write_version(version)
    assert version == deviations.version()


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: deviation.about)
def test_a_row(deviation: Deviation, sides: Sides) -> None:
    seen = Cells(*(ROWS[deviation.about](side) for side in sides))
    assert seen.kserve != seen.here, "this is no deviation any more"
    if WRITE:
        deviations.write_cells(deviation.about, seen)
    assert seen == deviation.cells, "make deviations writes it"
