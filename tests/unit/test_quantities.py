"""Spans of time and sizes, as model.yaml spells them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime.quantities import parse_size, parse_span

# --- time spans ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("0s", 0),
        ("1h1m1s1ms", 3661.001),
    ],
)
def test_a_span(text: str, seconds: float) -> None:
    assert parse_span(text) == pytest.approx(seconds)


def test_an_empty_span_is_none() -> None:
    assert parse_span("") is None


@pytest.mark.parametrize("text", ["20", "s", "20 s", "1d", "-1s", "1s!", "1,5s", "soon"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="is no time span: write for example 20s or 1m30s"):
        parse_span(text)


@given(
    parts=st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60)])),
        min_size=1,
    )
)
def test_the_parts_of_a_span_add_up(parts: list[Any]) -> None:
    text = "".join(f"{number}{unit}" for number, (unit, _) in parts)
    total = sum(number * seconds for number, (_, seconds) in parts)
    assert parse_span(text) == pytest.approx(total)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("100B", 100),
        ("512K", 512 * 1024),
        ("5M", 5 * 1024**2),
        ("5 MB", 5 * 1024**2),
        ("5MiB", 5 * 1024**2),
        ("1.5G", 1.5 * 1024**3),
        (" 2g ", 2 * 1024**3),
        ("1T", 1024**4),
    ],
)
def test_a_size(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_an_empty_size_is_none() -> None:
    assert parse_size("") is None


@pytest.mark.parametrize("text", ["M", "-1M", "5 X", "five", "5MM", "1,5M", "5M!"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: write for example 512K or 5M"):
        parse_size(text)
