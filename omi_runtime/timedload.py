"""A load on the model's thread, which is waited for no longer than it may take."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Generic, TypeVar

from omi_runtime.engine import Engine

logger = logging.getLogger(__name__)

T = TypeVar("T")


class TimedLoad(Generic[T]):
    """One load, which goes on when its time is over, as no thread can be ended.

    Create it on the event loop, and wait for it at once; it may be waited for again.

    Attributes:
        began: a time of `time.monotonic`.

    Args:
        engine: whose thread loads.
        load: the load.
        seconds: how long it may take, infinity for no limit; asked again after `limit_is_known`.
    """

    def __init__(self, engine: Engine, load: Callable[[], T], seconds: Callable[[], float]) -> None:
        self.began = time.monotonic()
        self._load = load
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting_since = 0.0
        self._timer = asyncio.timeout(None)
        self._thread = 0
        self._outcome = asyncio.ensure_future(engine.call(self._run))
        self._outcome.add_done_callback(_retrieve)

    @property
    def failed(self) -> bool:
        """Whether it has ended, and there is nothing to be had from it."""
        over = self._outcome.done()
        return over and (self._outcome.cancelled() or self._outcome.exception() is not None)

    async def outcome(self) -> T | None:
        """What it gives; None if it goes on when its time, counted from now on, is over."""
        self._waiting_since = self._loop.time()
        self._timer = asyncio.timeout(None)
        try:
            async with self._timer:
                self._set_timer()
                return await asyncio.shield(self._outcome)
        except TimeoutError:
            if not self._timer.expired():
                raise
            logger.error("the model is still loading, and is at:\n%s", self._whereabouts())  # noqa: TRY400
            return None
        except asyncio.CancelledError:
            self._outcome.cancel()
            raise

    def limit_is_known(self) -> None:
        """On the model's thread: what `seconds` says may have changed."""
        with suppress(RuntimeError):  # the loop is closed: the process is being cut off
            self._loop.call_soon_threadsafe(self._set_timer)

    def _set_timer(self) -> None:
        seconds = self._seconds()
        with suppress(RuntimeError):  # nobody waits any more
            self._timer.reschedule(None if seconds == math.inf else self._waiting_since + seconds)

    def _run(self) -> T:
        self._thread = get_ident()
        return self._load()

    def _whereabouts(self) -> str:
        """What its thread is doing at this moment, as a traceback shows it."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, underscore and all
        return "".join(traceback.format_stack(frame)).rstrip() if frame else "an earlier one's end"


def _retrieve(outcome: asyncio.Future[T]) -> None:
    """Take note of a failure that nobody may wait for any more."""
    if not outcome.cancelled():
        outcome.exception()
