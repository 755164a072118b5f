"""How long the rest of a gRPC request is waited for, and how much of a refused one is let in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from omi_runtime import limits
from omi_runtime.errors import DeadlineExceeded, OMIError

MOST_DISCARDED: Final = 512 * 1024 * 1024
DISCARD_SECONDS: Final = 10.0
"""Up to how many bytes, and how long, a message that is refused may go on coming before its caller
is told. Node's HTTP/2 counts what it has yet to send as memory of the connection, and while that is
over 10 MB it reads no header field: of an early answer it tells its program nothing at all, or
something of bandwidth, and what it no longer may send counts for as long as the connection lasts,
which so becomes of no use. It has to be rid of the message first."""


class RequestTimeout:
    """The rest of a request that was not complete when its head had come.

    Args:
        timeout: seconds that the caller waits from now on; None if it has not said.
        give_up: is called once with the reason, if the rest does not come.
    """

    def __init__(self, timeout: float | None, give_up: Callable[[OMIError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._timeout = timeout
        self._give_up = give_up
        self._came = 0
        self._seen = 0
        self._timer = self._watch()

    def took(self) -> float:
        """Seconds since the head came."""
        return self._loop.time() - self._begun

    def come(self, size: int) -> None:
        """Take note of this many bytes."""
        self._came += size

    def discard(self, error: OMIError) -> None:
        """The request is refused: wait for what is on its way, though not for long."""
        self.over()
        seconds = DISCARD_SECONDS
        if self._timeout is not None:  # the caller is to be told before it gives up by itself
            seconds = max(0.0, min(seconds, (self._timeout - self.took()) / 2))
        self._timer = self._loop.call_later(seconds, self._give_up, error)

    def over(self) -> None:
        """Nothing is waited for any more."""
        self._timer.cancel()

    def _watch(self) -> asyncio.TimerHandle:
        left = None if self._timeout is None else self._timeout - self.took()
        if left is not None and left < limits.BODY_SECONDS:
            return self._loop.call_later(max(0.0, left), self._be_late)
        return self._loop.call_later(limits.BODY_SECONDS, self._look)

    def _be_late(self) -> None:
        self._give_up(
            DeadlineExceeded(
                f"the request did not arrive within the caller's limit: after {self._timeout:g} s "
                f"there were {self._came} bytes, and not its end"
            )
        )

    def _look(self) -> None:
        if self._came - self._seen >= limits.SLOWEST_BODY:
            self._seen = self._came
            self._timer = self._watch()
        else:
            self._give_up(
                DeadlineExceeded(
                    f"the request stalled: {limits.BODY_SECONDS:g} s brought less than "
                    f"{limits.SLOWEST_BODY} bytes, and not its end"
                )
            )
