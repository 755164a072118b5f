"""A request that takes too long is answered in time, on every wire, and does no more harm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from clients import WIRES, Answer, Client, is_failure, only, process, until

from omi_runtime.errors import ErrorCode

HOLD = -8.0
LIMIT = 0.5
PROMPT = 0.2
"""Seconds within which a caller is told, on a machine that has nothing else to do."""


@pytest.mark.parametrize(
    ("operator", "caller"),
    [(LIMIT, None), (60.0, LIMIT), (0.0, LIMIT)],
    ids=["the operator's", "the caller's", "only the caller's"],
)
def test_a_request_expires(
    operator: float, caller: float | None, start: Any, marks: Path, later: Any
) -> None:
    server, client = start("Diary", OMI_TIMEOUT=f"{operator:g}")
    until(client.ready, "the model has loaded")
    client.limit = caller
    began = time.monotonic()
    held = later(lambda: client.infer([{"pair": [HOLD, 1.0]}]))
    until((marks / "holding").exists, "a prediction runs")
    outcomes = [held(), client.infer([{"pair": [1.0, 2.0]}])]
    took = time.monotonic() - began
    assert not (marks / "release").exists(), "both are answered while the model is busy"
    for (outcome,) in outcomes:
        assert is_failure(outcome, ErrorCode.DEADLINE_EXCEEDED), outcome
        if caller is None:
            assert outcome.message == "not answered within 0.5 s, the limit of OMI_TIMEOUT"
    assert 2 * LIMIT <= took < 2 * (LIMIT + PROMPT) * process.slowness()

    (marks / "release").touch()
    # Also with the operator's limit: the machine may be too busy for the first.
    until(lambda: client.infer([{"pair": [1.0, 3.0]}]) == [Answer({"total": 4.0})], "an answer")
    assert set((marks / "seen").read_text().split()) == {"1", "3"}, "never the one that waited"
    assert "Traceback" not in server.log


@only(*(wire for wire in WIRES if wire.opens_early))
def test_waiting_for_the_load_counts(start: Any, marks: Path) -> None:
    _, client = start("Gated", OMI_TIMEOUT=str(LIMIT))
    until((marks / "loading").exists, "the model loads")
    until(client.live, "the port is open")
    began = time.monotonic()
    (outcome,) = client.infer([{"pair": [1.0, 2.0]}])
    assert is_failure(outcome, ErrorCode.DEADLINE_EXCEEDED), outcome
    assert "OMI_TIMEOUT" in outcome.message
    assert LIMIT <= time.monotonic() - began < (LIMIT + PROMPT) * process.slowness()
    (marks / "open").touch()
    until(client.ready, "the model has loaded")
    until(lambda: client.infer([{"pair": [1.0, 2.0]}]) == [Answer({"total": 3.0})], "an answer")


def test_a_limit_that_is_not_reached_changes_nothing(totals: Client) -> None:
    totals.limit = 30.0
    try:
        assert totals.infer([{"pair": [1.0, 2.0]}]) == [Answer({"total": 3.0})]
    finally:
        totals.limit = None
