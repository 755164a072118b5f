"""Predictions: n items in, n outcomes out, in order, whatever becomes of single items."""

from __future__ import annotations

import math
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clients import WIRES, Answer, Client, Failure, is_failure, only
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omi_runtime.errors import ErrorCode

REFUSE, FAIL, NAN, WRITE, QUIT = -1.0, -2.0, -3.0, -4.0, -7.0
"""As in tests/models.py."""

NUMBERS = st.integers(0, 1000).map(float)


def pairs(*values: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"pair": [first, second]} for first, second in values]


def test_one_item(totals: Client) -> None:
    assert totals.infer(pairs((1, 2.5))) == [Answer({"total": 3.5})]


def test_no_items(totals: Client) -> None:
    assert totals.infer([]) == []


def test_more_items_than_a_batch_takes_come_back_in_order(totals: Client) -> None:
    items = [(float(i), 1000.0) for i in range(61)]
    assert totals.infer(pairs(*items)) == [Answer({"total": 1000.0 + i}) for i in range(61)]


def test_everyone_gets_their_own_answers(totals: Client) -> None:
    def ask(caller: int) -> None:
        chance = random.Random(caller)
        for _ in range(6):
            values = [
                (float(caller), chance.randrange(100) / 4) for _ in range(chance.choice(SIZES))
            ]
            expected = [Answer({"total": first + second}) for first, second in values]
            assert totals.infer(pairs(*values)) == expected

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ask, range(8)))


SIZES = (1, 1, 2, 5, 9)


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, 2.0, REFUSE, FAIL, WRITE]), NUMBERS),
        min_size=1,
        max_size=12,
    )
)
def test_bad_items_fail_and_good_ones_do_not(
    totals: Client, values: list[tuple[float, float]]
) -> None:
    outcomes = totals.infer(pairs(*values))
    assert len(outcomes) == len(values)
    if totals.item_errors:
        for (first, second), outcome in zip(values, outcomes, strict=True):
            _check_item(first, second, outcome)
    else:
        _check_request(values, outcomes)


def _check_item(first: float, second: float, outcome: Any) -> None:
    if first >= 0:
        assert outcome == Answer({"total": first + second})
    elif first == REFUSE:
        assert is_failure(outcome, ErrorCode.INVALID_INPUT), outcome
        assert f"pair: {second:g} is refused" in outcome.message
    else:
        assert is_failure(outcome, ErrorCode.INFERENCE_FAILED), outcome
        assert (f"broke on {second:g}" if first == FAIL else "read-only") in outcome.message


def _check_request(values: list[tuple[float, float]], outcomes: list[Any]) -> None:
    """One bad row fails the request with the first error, naming the rows that share it."""
    bad = [row for row, (first, _) in enumerate(values) if first < 0]
    if not bad:
        assert outcomes == [Answer({"total": first + second}) for first, second in values]
        return
    outcome = outcomes[0]
    assert isinstance(outcome, Failure)
    assert outcome.whole
    _check_item(*values[bad[0]], outcome)
    if len(values) == 1:
        return
    named = re.match(r"rows? ([\d, ]+):", outcome.message)
    assert named, outcome
    rows = [int(row) for row in named[1].split(",")]
    alike = [row for row in bad if _same_trouble(values[row], values[bad[0]])]
    assert rows == alike


def _same_trouble(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one == other or one[0] == other[0] == WRITE


def test_a_model_that_quits_is_answered_for_and_goes_on(totals: Client) -> None:
    """A model may even call sys.exit: its thread lives on, and everyone is answered."""
    outcomes = totals.infer(pairs((1, 1), (QUIT, 5)))
    assert is_failure(outcomes[1], ErrorCode.INFERENCE_FAILED), outcomes
    if totals.item_errors:
        assert outcomes[0] == Answer({"total": 2.0})
    assert totals.infer(pairs((1, 1))) == [Answer({"total": 2.0})]
    assert totals.ready()


_without_nan = only(*(wire for wire in WIRES if not wire.carries_nan))


@only(*(wire for wire in WIRES if wire.carries_nan))
def test_nan_is_a_number_where_the_wire_has_a_word_for_it(totals: Client) -> None:
    bad, good = totals.infer(pairs((NAN, 1), (1, 2)))
    assert isinstance(bad, Answer)
    assert math.isnan(bad.outputs["total"])
    assert good == Answer({"total": 3.0})


@_without_nan
@pytest.mark.parametrize("others", [[], [(1.0, 1.0), (2.0, 2.0)]], ids=["alone", "in a batch"])
def test_nan_is_refused_unless_asked_for(totals: Client, others: list[tuple[float, float]]) -> None:
    outcomes = totals.infer(pairs(*others, (NAN, 1)))
    assert is_failure(outcomes[-1], ErrorCode.INFERENCE_FAILED), outcomes
    assert "total" in outcomes[-1].message
    assert "OMI_NAN" in outcomes[-1].message
    if totals.item_errors:
        assert outcomes[:-1] == [Answer({"total": 2.0 * first}) for first, _ in others]


@_without_nan
def test_nan_as_null(lenient: Client) -> None:
    outcomes = lenient.infer(pairs((NAN, 1), (1, 2)))
    assert outcomes == [Answer({"total": None}), Answer({"total": 3.0})]


@_without_nan
def test_nan_as_a_word(pool: Any, totals: Client) -> None:
    client = pool.client(type(totals), totals.spec, OMI_NAN="string")
    outcomes = client.infer(pairs((NAN, 1), (1, 2)))
    assert outcomes == [Answer({"total": "NaN"}), Answer({"total": 3.0})]


def test_the_texts_of_exceptions_can_be_kept_from_callers(lenient: Client) -> None:
    (outcome,) = lenient.infer(pairs((FAIL, 17)))
    assert is_failure(outcome, ErrorCode.INFERENCE_FAILED), outcome
    assert "17" not in outcome.message
    (outcome,) = lenient.infer(pairs((REFUSE, 17)))
    assert "pair: 17 is refused" in outcome.message, "a refusal is meant for the caller"


@only(*(wire for wire in WIRES if wire.explains))
def test_explanations(totals: Client) -> None:
    outcomes = totals.infer(pairs((1, 2), (3, 4)), explain=True)
    assert outcomes == [
        Answer({"total": 3.0}, {"first": 1.0, "second": 2.0}),
        Answer({"total": 7.0}, {"first": 3.0, "second": 4.0}),
    ]
    assert totals.infer(pairs((1, 2))) == [Answer({"total": 3.0}, None)]


@only(*(wire for wire in WIRES if wire.explains))
def test_an_explanation_that_the_model_does_not_have(greeting: Client) -> None:
    (outcome,) = greeting.infer([{"name": "Ada"}], explain=True)
    if greeting.item_errors:
        assert outcome == GREETED, "where items have results of their own, it is null"
    else:
        assert is_failure(outcome, ErrorCode.NOT_OFFERED), outcome


GREETED = Answer({"text": "Ada", "facts": {"length": 3, "times": 1}, "seal": b"--"})


def test_an_optional_input_may_be_left_out(greeting: Client) -> None:
    assert greeting.infer([{"name": "Ada"}]) == [GREETED]


def test_several_inputs_and_outputs(greeting: Client) -> None:
    outcomes = greeting.infer(
        [
            {"name": "Zoë", "times": 2, "seal": "é".encode()},
            {"name": "李 \u2028\\", "times": 1, "seal": b""},
        ]
    )
    assert outcomes == [
        Answer({"text": "Zoë Zoë", "facts": {"length": 3, "times": 2}, "seal": "éé".encode()}),
        Answer({"text": "李 \u2028\\", "facts": {"length": 4, "times": 1}, "seal": b""}),
    ]


@only(*(wire for wire in WIRES if wire.carries_bytes))
def test_bytes_arrive_as_they_are(greeting: Client) -> None:
    everything = bytes(range(256))
    (outcome,) = greeting.infer([{"name": "", "seal": everything}])
    assert isinstance(outcome, Answer)
    assert outcome.outputs["seal"] == everything * 2


@only(*(wire for wire in WIRES if wire.mixes))
def test_items_with_different_inputs_in_one_request(greeting: Client) -> None:
    outcomes = greeting.infer([{"name": "a"}, {"name": "b", "times": 2}, {"name": "c"}])
    texts = [outcome.outputs["text"] for outcome in outcomes if isinstance(outcome, Answer)]
    assert texts == ["a", "b b", "c"]
