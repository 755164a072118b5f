"""Threads for work that waits on disks, apart from the event loop and from the model.

One of them works as long as it gets on, and all the others sleep: on a fast disk a file is several
short calls of the system, each of which gives the interpreter's lock away, and threads that run at
once spend most of their time passing it to one another. When little gets done, because a disk is
slow or does not answer at all, another thread joins, and what waits is not held up.

They are not the loop's default executor: that makes several objects and locks for a call, wakes the
loop for each, and holds the process at its end until a network's disk has answered. These threads
are daemons.

    run ──▶ outbox ── once per turn of the loop ──▶ fresh ──▶ a thread ──▶ begun, or done
     ▲                                                          ▲           │        │
     │                                                          └───────────┘        │
     └─ event loop, woken when the thread has nothing more to do ◀───────────────────┘
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

T = TypeVar("T")

FILE_THREADS: Final = 8
"""As many files may wait for their disks at once, and as many disks may hang before all wait."""

_LOOK_SECONDS: Final = 0.002
_GETS_ON: Final = 4
"""Steps from one look to the next. A thread that takes fewer waits most of the time, and another
costs nothing; one that takes more would only have to share the interpreter's lock."""

_MOST_BEGUN: Final = 32
"""Calls that are half done; each may hold files open."""


class Threads:
    """Runs functions on threads of its own, which start when needed. Use it on the event loop.

    Args:
        name: of the threads.
        n: how many at most.
    """

    def __init__(self, name: str = "omi-files", n: int = FILE_THREADS) -> None:
        self._name = name
        self._n = n
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox: list[_Call] = []
        self._looking = False
        # Below is what the threads share.
        self._lock = threading.Lock()
        self._fresh: deque[_Call] = deque()
        self._begun: deque[_Call] = deque()
        self._started = 0
        self._awake = 0
        self._steps = 0
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._done: deque[_Call] = deque()

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, or raises; it is not begun if nobody waits any more."""
        outcome: T = await self._put(_Call(function, arguments))
        return outcome

    async def run_steps(
        self, function: Callable[..., Generator[None, None, None]], *arguments: Any
    ) -> None:
        """Run a generator to its end, and other calls wherever it yields.

        It yields before it waits for what it has started, such as a disk: then the same thread
        starts the others first, and one wait may do for all. If nobody waits any more, it is
        closed.
        """
        await self._put(_Steps(function, arguments))

    def _put(self, call: _Call) -> asyncio.Future[Any]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        call.future = self._loop.create_future()
        if not self._outbox:
            self._loop.call_soon(self._hand_over)
        self._outbox.append(call)
        return call.future

    def _hand_over(self) -> None:
        with self._lock:
            self._fresh += self._outbox
            if not self._awake:
                self._wake()
        self._outbox = []
        if not self._looking:
            self._look_later()

    def _wake(self) -> None:
        """With the lock: one thread more. It is awake from now on, whenever it hears the bell."""
        self._awake += 1
        if self._awake > self._started:
            name = f"{self._name}-{self._started}"
            self._started += 1
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._bell.put(None)

    def _look_later(self) -> None:
        assert self._loop is not None
        self._looking = True
        self._loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Tell what a thread has done that is at something long; have it helped if it needs it."""
        self._tell()
        with self._lock:
            self._looking = bool(self._fresh or self._begun)
            if self._looking and self._steps < _GETS_ON and self._awake < self._n:
                self._wake()
            self._steps = 0
        if self._looking:
            self._look_later()

    def _work(self) -> None:
        assert self._loop is not None
        while True:
            self._bell.get()
            while call := self._next():
                self._advance(call)
                del call  # a waiting thread is not to hold it
            try:
                self._loop.call_soon_threadsafe(self._tell)
            except RuntimeError:  # the loop is closed: the process is at its end
                return

    def _next(self) -> _Call | None:
        """What is to be done next. If there is nothing, the thread is not awake any more."""
        with self._lock:
            self._steps += 1
            if self._fresh and len(self._begun) < _MOST_BEGUN:
                return self._fresh.popleft()
            if self._begun:
                return self._begun.popleft()
            self._awake -= 1
            return None

    def _advance(self, call: _Call) -> None:
        try:
            if call.future.cancelled():
                call.drop()
                return
            done = call.advance()
        except Exception as raised:  # noqa: BLE001 - told to the caller
            call.error, done = raised, True
        if done:
            self._done.append(call)
        else:
            with self._lock:
                self._begun.append(call)

    def _tell(self) -> None:
        """On the event loop: hand over what has been done."""
        while self._done:
            call = self._done.popleft()
            if call.future.done():
                continue
            if call.error is None:
                call.future.set_result(call.outcome)
            else:
                call.future.set_exception(call.error)


class _Call:
    """A function to run, and what came of it."""

    __slots__ = ("arguments", "error", "function", "future", "outcome")

    future: asyncio.Future[Any]

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.outcome: Any = None
        self.error: Exception | None = None

    def advance(self) -> bool:
        """Whether it is done now."""
        self.outcome = self.function(*self.arguments)
        return True

    def drop(self) -> None:
        """Nobody waits for it any more."""


class _Steps(_Call):
    """A generator: done at its end."""

    __slots__ = ("steps",)

    def __init__(
        self, function: Callable[..., Generator[None, None, None]], arguments: tuple[Any, ...]
    ) -> None:
        super().__init__(function, arguments)
        self.steps: Generator[None, None, None] | None = None

    def advance(self) -> bool:
        if self.steps is None:
            self.steps = self.function(*self.arguments)
        return next(self.steps, _END) is _END

    def drop(self) -> None:
        if self.steps is not None:
            self.steps.close()


_END: Final = object()
