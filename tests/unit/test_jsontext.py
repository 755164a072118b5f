"""JSON text: valid whatever comes, and no NaN that becomes null in silence."""

import dataclasses
import datetime as dt
import json
import math
import uuid
from collections import OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from omi_runtime.errors import InferenceFailed, InvalidInput
from omi_runtime.jsontext import NanPolicy, dump_json, fragment, load_json


@dataclasses.dataclass
class Point:
    x: float
    _hidden: float = math.nan


class Pair(NamedTuple):
    x: float


class Reading(BaseModel):
    x: float


class Members(list[float]):
    pass


NAN, INFINITY = math.nan, math.inf

HOLDERS: list[tuple[Any, Any]] = [
    (lambda x: x, lambda x: x),
    (lambda x: [0, x], lambda x: [0, x]),
    (lambda x: (0, x), lambda x: [0, x]),
    (lambda x: Members([x]), lambda x: [x]),
    (lambda x: {"a": {"b": x}}, lambda x: {"a": {"b": x}}),
    (lambda x: OrderedDict(a=x), lambda x: {"a": x}),
    (lambda x: {1: x}, lambda x: {"1": x}),
    (np.float32, lambda x: x),
    (np.float16, lambda x: x),
    (np.array, lambda x: x),
    (lambda x: np.array([[0, x]], "<f4"), lambda x: [[0, x]]),
    (lambda x: np.array([x, 0, 1, 0], "<f8")[::2], lambda x: [x, 1]),
    (lambda x: np.array([x, "a", None], object), lambda x: [x, "a", None]),
    (lambda x: {x}, lambda x: [x]),
    (Point, lambda x: {"x": x}),
    (lambda x: [Point(x)], lambda x: [{"x": x}]),
    (Pair, lambda x: {"x": x}),
    (lambda x: {"a": Reading(x=x)}, lambda x: {"a": {"x": x}}),
]


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize(("hold", "written"), HOLDERS, ids=range(len(HOLDERS)))
def test_what_json_has_no_word_for_follows_the_policy_wherever_it_hides(
    hold: Any, written: Any, number: float
) -> None:
    word = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(number)]
    with pytest.raises(InferenceFailed, match=f"holds {word}, which JSON cannot hold: OMI_NAN=nul"):
        dump_json(hold(number), NanPolicy.ERROR)
    assert json.loads(dump_json(hold(number), NanPolicy.NULL)) == written(None)
    assert json.loads(dump_json(hold(number), NanPolicy.STRING)) == written(word)


@pytest.mark.parametrize("policy", NanPolicy)
@pytest.mark.parametrize(("hold", "written"), HOLDERS, ids=range(len(HOLDERS)))
def test_finite_numbers_and_nulls_are_left_alone(
    hold: Any, written: Any, policy: NanPolicy
) -> None:
    assert json.loads(dump_json([hold(1.5), None], policy)) == [written(1.5), None]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(
        st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)  # fmt: skip


@given(value=plain, policy=st.sampled_from(NanPolicy))
def test_the_text_is_always_json_and_says_what_the_value_was(value: Any, policy: NanPolicy) -> None:
    def said(value: Any) -> Any:
        match value:
            case float() if not math.isfinite(value):
                names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
                return None if policy is NanPolicy.NULL else names[str(value)]
            case list():
                return [said(member) for member in value]
            case dict():
                return {key: said(member) for key, member in value.items()}
        return value

    def finite(value: Any) -> bool:
        members = value.values() if isinstance(value, dict) else value
        if isinstance(value, list | dict):
            return all(map(finite, members))
        return not isinstance(value, float) or math.isfinite(value)

    def refuse(word: str) -> Any:
        raise AssertionError(word)

    if policy is NanPolicy.ERROR and not finite(value):
        with pytest.raises(InferenceFailed):
            dump_json(value, policy)
        return
    text = dump_json(value, policy)
    assert json.loads(text, parse_constant=refuse) == said(value)
    assert dump_json([fragment(value, policy)], NanPolicy.ERROR) == b"[" + text + b"]"


def test_what_models_answer_with_is_written() -> None:
    value = {
        "int": np.int64(2**63 - 1),
        "unsigned": np.uint64(2**64 - 1),
        "half": np.array([0.5], "<f2"),
        "flag": np.bool_(True),
        "date": dt.date(2026, 1, 31),
        "id": uuid.UUID(int=0),
        "set": {2, 1},
        2: "key",
    }
    assert orjson.loads(dump_json(value, NanPolicy.ERROR)) == {
        "int": 2**63 - 1,
        "unsigned": 2**64 - 1,
        "half": [0.5],
        "flag": True,
        "date": "2026-01-31",
        "id": str(uuid.UUID(int=0)),
        "set": [1, 2],
        "2": "key",
    }


@pytest.mark.parametrize(
    "value", [object(), b"bytes", Decimal(1), 2**64, 1j, "\ud800", {object(): 1}, [len]]
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InferenceFailed, match="cannot be written as JSON: "):
        dump_json(value, NanPolicy.ERROR)


@pytest.mark.parametrize(
    "text",
    [b"", b"nope", b"NaN", b"[Infinity]", b"1e999", b"[1,]", b'"\\ud800"', b"\xff", b"01", b"{",
     b"[" * 100_000],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="is not JSON: "):
        load_json(text)


def test_json_is_read_from_bytes_and_views() -> None:
    assert load_json(b'{"a": [1, 2.5, null, "\\u00fc"]}') == {"a": [1, 2.5, None, "ü"]}
    assert load_json(memoryview(b"18446744073709551615")) == 2**64 - 1
