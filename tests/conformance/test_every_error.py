"""Each error code, by the signs of every wire that can tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clients import WIRES, Answer, Client, Failure, is_failure, only, until

from omi_runtime.errors import ErrorCode


@pytest.fixture(autouse=True)
def _well_afterwards(totals: Client) -> Any:
    """Nothing that a caller does wrong may trouble the next caller."""
    yield
    assert totals.infer([{"pair": [1.0, 2.0]}]) == [Answer({"total": 3.0})]


@pytest.mark.parametrize(
    "pair",
    [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], ["one", "two"], [1.0, None], [1e300, 1.0], [True, 1.0]],
    ids=str,
)
def test_an_input_of_the_wrong_form_is_named(totals: Client, pair: list[Any]) -> None:
    (outcome,) = totals.infer([{"pair": pair}])
    assert is_failure(outcome, ErrorCode.INVALID_INPUT), outcome
    assert "pair" in outcome.message


def test_a_missing_input_is_named(totals: Client) -> None:
    (outcome,) = totals.infer([{"mystery": [1.0, 2.0]}])
    # Modzy's specification calls a missing file a malformed request.
    assert isinstance(outcome, Failure)
    assert outcome.codes & {ErrorCode.INVALID_INPUT, ErrorCode.INVALID_REQUEST}
    assert "pair" in outcome.message


def test_a_request_that_is_none(totals: Client) -> None:
    failure = totals.nonsense()
    assert failure
    assert ErrorCode.INVALID_REQUEST in failure.codes, failure


def test_a_form_that_is_not_read_here(totals: Client) -> None:
    failure = totals.foreign()
    assert failure
    assert ErrorCode.UNSUPPORTED_MEDIA_TYPE in failure.codes, failure


@only(*(wire for wire in WIRES if wire.names_models))
def test_another_model(totals: Client) -> None:
    failure = totals.stranger()
    assert failure
    assert failure.codes == {ErrorCode.MODEL_NOT_FOUND}
    assert "stranger" in failure.message
    assert totals.spec.name in failure.message


def test_a_request_over_the_limit(totals: Client) -> None:
    failure = totals.oversized()
    assert failure
    assert failure.codes == {ErrorCode.TOO_LARGE}


def test_a_full_queue(start: Any, marks: Path, later: Any) -> None:
    _, client = start(OMI_QUEUE_SIZE="1")
    until(client.ready, "the model has loaded")
    held = later(lambda: client.infer([{"pair": [-8.0, 20.0]}]))
    until((marks / "holding").exists, "a prediction runs")
    (outcome,) = client.infer([{"pair": [1.0, 2.0]}])
    (marks / "release").touch()
    assert is_failure(outcome, ErrorCode.OVERLOADED), outcome
    assert outcome.retry
    assert "OMI_QUEUE_SIZE" in outcome.message
    assert held() == [Answer({"total": 12.0})]
