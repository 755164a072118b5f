"""A few threads for work that waits on disks, apart from the event loop and from the model.

They are not the loop's default executor: that makes several objects and locks for a call, which
costs more than a small file does, and it holds the process at its end until a network's disk has
answered. These threads are daemons.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

FILE_THREADS: Final = 4
"""More only wait for one another where a disk is fast, and for the disk where it is slow."""


class Threads:
    """Runs functions on threads of its own, which start with the first. Use it on the event loop.

    Args:
        name: of the threads.
        n: how many.
    """

    def __init__(self, name: str = "omi-files", n: int = FILE_THREADS) -> None:
        self._name = name
        self._n = n
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = (
            queue.SimpleQueue()
        )

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, or raises; it is not begun if nobody waits any more."""
        if self._loop is None:
            self._start()
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put((future, partial(function, *arguments)))
        return await future

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in range(self._n):
            threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def _work(self) -> None:
        assert self._loop is not None
        while True:
            future, function = self._inbox.get()
            if future.cancelled():
                continue
            outcome, error = None, None
            try:
                outcome = function()
            except Exception as raised:  # noqa: BLE001 - told to the caller
                error = raised
            try:
                self._loop.call_soon_threadsafe(_tell, future, outcome, error)
            except RuntimeError:  # the loop is closed: the process is at its end
                return
            del future, function, outcome, error  # a waiting thread is not to hold them


def _tell(future: asyncio.Future[Any], outcome: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
