"""One request on its way: who asks for what, until when, and whether anybody still waits.

A transport begins it (`ModelHandler.begin`), the adapter hands it on, the engine watches over its
time, and the model may look at it (`current_request`).
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import time
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from omi_runtime.errors import DeadlineExceeded, ErrorCode, OMIError

T = TypeVar("T")


class RequestContext:
    """One request, from its first byte to its answer. It runs from when it is made, or `started`.

    Attributes:
        interface: by which interface it came, as `INTERFACE` names it.
        method: what is asked, in the interface's own words, such as `v2.infer`.
        traceparent: W3C trace context as the caller sent it; empty if it sent no valid one.
        started: when it came, a time of `time.monotonic`.
        deadline: until when it has to be answered, a time of `time.monotonic`; or infinity.
        cancelled: nobody waits any more: the caller has gone, or has been told that time is over.
        span: of OpenTelemetry, where there are traces.
        code: OK, or the code of the error that it was answered with; empty until it is answered.
    """

    __slots__ = (
        "_id",
        "_seconds",
        "_source",
        "cancelled",
        "code",
        "deadline",
        "interface",
        "method",
        "span",
        "started",
        "traceparent",
    )

    def __init__(
        self,
        interface: str = "",
        method: str = "",
        *,
        request_id: str = "",
        traceparent: str = "",
        seconds: float = math.inf,
        source: str = "limit that nobody set",
        started: float | None = None,
    ) -> None:
        self.interface = interface
        self.method = method
        self._id = request_id and fit_for_a_line(request_id)
        self.traceparent = traceparent and _well_formed(traceparent)
        self.started = time.monotonic() if started is None else started
        self.deadline = self.started + seconds
        self.cancelled = False
        self.code = ""
        self.span: Any = None
        self._seconds = seconds
        self._source = source

    @property
    def id(self) -> str:
        """The caller's own, by `x-request-id`, as far as it fits a line; else one made here."""
        if not self._id:
            self._id = _make_id()
        return self._id

    def allow(self, seconds: float | None) -> None:
        """Take note of how long the caller waits at most; None if it does not say."""
        if seconds is not None and seconds < self._seconds:
            self._seconds = seconds
            self._source = "limit that the caller set"
            self.deadline = self.started + seconds

    def failed(self, error: Exception) -> None:
        """Take note of the error that it is answered with."""
        self.code = error.code if isinstance(error, OMIError) else ErrorCode.INTERNAL

    def expired(self) -> DeadlineExceeded:
        """What the caller of a request whose time is over is told."""
        return DeadlineExceeded(f"not answered within {self._seconds:.3g} s, the {self._source}")


async def within(request: RequestContext | None, waiting: Awaitable[T]) -> T:
    """Wait for something, but not beyond the request's time, if there is a request.

    Raises:
        DeadlineExceeded: its time is over.
    """
    if request is None or request.deadline == math.inf:
        return await waiting
    try:
        return await asyncio.wait_for(waiting, request.deadline - time.monotonic())
    except TimeoutError:
        raise request.expired() from None


class CurrentRequest:
    """What a model can know of the requests that it is working on: of one, or of a merged batch.

    A model that takes long may look at `cancelled` now and then, and stop.
    """

    __slots__ = ("_requests",)

    def __init__(self, requests: Sequence[RequestContext]) -> None:
        self._requests = requests

    @property
    def ids(self) -> tuple[str, ...]:
        """The requests' ids, in the order of their items."""
        return tuple(dict.fromkeys(request.id for request in self._requests))

    @property
    def id(self) -> str:
        """The ids as one text; empty outside of a request."""
        return ",".join(self.ids)

    @property
    def traceparent(self) -> str:
        """W3C trace context of the first request that has one, or empty."""
        return next((r.traceparent for r in self._requests if r.traceparent), "")

    @property
    def deadline(self) -> float:
        """When nobody waits any more, a time of `time.monotonic`; infinity is no limit."""
        return max((request.deadline for request in self._requests), default=math.inf)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more: not one of the callers."""
        return bool(self._requests) and all(request.cancelled for request in self._requests)


def current_request() -> CurrentRequest:
    """The request that the model is being called for; outside of one, one that never ends."""
    return CurrentRequest(WORKED_ON.get())


WORKED_ON: Final[ContextVar[Sequence[RequestContext]]] = ContextVar("omi_requests", default=())
"""What the engine's thread, or a transport's task, is at; log lines name it, and the coroutines of
an async model inherit it."""

LONGEST_ID: Final = 128
"""Characters of a caller's id that are kept."""

_COUNTER: Final = itertools.count(1)
_prefix = os.urandom(6).hex()


def fit_for_a_line(text: str) -> str:
    """What of a caller's text may stand in a log line and a header: it could be anything."""
    if len(text) <= LONGEST_ID and text.isascii() and text.isprintable():
        return text.strip()
    return "".join(c for c in text if c.isascii() and c.isprintable())[:LONGEST_ID].strip()


def _well_formed(traceparent: str) -> str:
    """A valid one; what is not is to be ignored (W3C Trace Context, section 3.2)."""
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""


_PARENT: Final = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT: Final = re.compile(rf"00{_PARENT}|(?!00|ff)[0-9a-f]{{2}}{_PARENT}(?:-[!-~]*)?")
"""Later versions than 00 may have more behind it; ff is none."""


def _make_id() -> str:
    """Unique in the process and most likely in the world; several times cheaper than a UUID."""
    return f"{_prefix}-{next(_COUNTER):x}"


def _begin_anew() -> None:
    """In a worker that was forked: its ids are not to be its sibling's."""
    global _prefix  # noqa: PLW0603 - one for the process, as it has one counter
    _prefix = os.urandom(6).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
