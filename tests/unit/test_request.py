"""A request's id and trace, which may be anything when they come from outside."""

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


TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "sent", [f"00-{TRACE}-{CALLER}-01", f"cc-{TRACE}-{CALLER}-00", f"01-{TRACE}-{CALLER}-01-more"]
)
def test_a_callers_trace_is_kept(sent: str) -> None:
    assert RequestContext(traceparent=sent).traceparent == sent


@pytest.mark.parametrize(
    "sent",
    [
        "junk",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-01-more",
        f"01-{TRACE}-{CALLER}-01more",
        f"00-{TRACE}-{CALLER}",
        f"00-{TRACE}-{CALLER}-01\n",
        f"0-{TRACE}-{CALLER}-01",
        f"00-{TRACE[1:]}-{CALLER}-01",
    ],
)
def test_what_is_no_trace_is_none(sent: str) -> None:
    """W3C Trace Context, sections 3.2 and 4.3."""
    assert RequestContext(traceparent=sent).traceparent == ""
