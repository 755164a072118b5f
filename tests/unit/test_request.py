"""A request's id, which may be anything when it comes from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime.request import LONGEST_ID, RequestContext


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-1", "abc-1"),
        ("  abc  ", "abc"),
        ("a\r\nERROR forged: line", "aERROR forged: line"),
        ("\x1b[31mred", "[31mred"),
        ("naïve", "nave"),
        ("x" * 1000, "x" * LONGEST_ID),
    ],
)
def test_of_a_callers_id_remains_what_may_stand_in_a_line(sent: str, kept: str) -> None:
    assert RequestContext(request_id=sent).id == kept


@pytest.mark.parametrize("sent", ["", "   ", "\t\n", "été"[:1]])
def test_an_id_of_which_nothing_remains_is_made_here(sent: str) -> None:
    first, second = RequestContext(request_id=sent).id, RequestContext(request_id=sent).id
    assert first != second
    assert len(first) > 12


@given(st.text())
def test_whatever_is_sent_the_id_fits_a_header(sent: str) -> None:
    request_id = RequestContext(request_id=sent).id
    assert 0 < len(request_id) <= LONGEST_ID
    assert request_id.isascii()
    assert request_id.isprintable()
    assert request_id == request_id.strip()
