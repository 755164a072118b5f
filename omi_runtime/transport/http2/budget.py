"""How many frames that bring nothing a client may send."""

from __future__ import annotations

import time
from typing import Final

from omi_runtime.transport.http2.wire import Code, ConnectionFault

_AT_ONCE: Final = 10_000.0
_A_SECOND: Final = 1_000.0
"""Frames that cost us something and bring nothing (pings, settings, given up requests, empty data)
which a client may send at once, beside those that answers allow, and how many more each second.
Well-behaved ones stay far below; without a bound, opening and giving up requests in a loop takes a
server down."""


class FrameBudget:
    """What one connection has left of them.

    Attributes:
        left: idle frames that the client may still send, at this moment; answers add to it.
    """

    __slots__ = ("_at", "left")

    def __init__(self) -> None:
        self.left = _AT_ONCE
        self._at = time.monotonic()

    def spend(self, cost: int = 1) -> None:
        """Bear a frame that brings nothing, and costs as much as this many.

        Raises:
            ConnectionFault: there were too many.
        """
        self.left = min(self.left, _AT_ONCE) - cost
        if self.left > 0:
            return
        now = time.monotonic()
        self.left += min(_AT_ONCE, (now - self._at) * _A_SECOND)
        self._at = now
        if self.left < 1:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that bring nothing")
