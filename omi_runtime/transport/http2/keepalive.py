"""Whether anybody is at the other end of a connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

logger = logging.getLogger(__name__)

SILENT_SECONDS: Final = 45.0
"""Balancers forget connections that are silent for a minute or more, often without a word: pings
keep them, and tell when a client has vanished, whose calls then end."""
PING_SECONDS: Final = 20.0
"""How long a client may take to answer one."""


class Line(Protocol):
    """A connection, as far as it matters here."""

    @property
    def begun(self) -> bool:
        """Whether the client has begun as HTTP/2 does."""

    def ping(self) -> None:
        """Ask the client for a sign of life."""

    def abort(self) -> None:
        """End the connection at once."""


class Keepalive:
    """Looks from time to time, which costs a frame that comes no more than a note.

    Args:
        line: what is looked after, from now on.

    Attributes:
        heard: whether anything has come since the last look; set by the connection.
    """

    def __init__(self, line: Line) -> None:
        self.heard = True
        self._line = line
        self._pinged = False
        self._look_later(SILENT_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        if not self._line.begun:
            self._line.abort()
        elif self.heard:
            self._pinged = self.heard = False
            self._look_later(SILENT_SECONDS)
        elif not self._pinged:
            self._pinged = True
            self._line.ping()
            self._look_later(PING_SECONDS)
        else:
            logger.info("a gRPC client has vanished: it answered no ping for %g s", PING_SECONDS)
            self._line.abort()
