"""Threads for work that waits on disks, apart from the event loop and from the model.

One of them works as long as it makes progress, and all the others sleep: on a fast disk a file is
several short system calls, each of which releases the interpreter's lock, and threads that run at
once spend most of their time passing it to one another. When little gets done, because a disk is
slow or does not answer at all, another thread joins, and what is queued is not held up. What waits
for a disk in any case does so in a pool of its own, which hardly needs the lock.

They are not the loop's default executor: that makes several objects and locks for a call, wakes the
loop for each, and holds the process at its end until a network's disk has answered. These threads
are daemons.

    run ──▶ outbox ── once per turn of the loop ──▶ working pool ◀──yield──▶ waiting pool
     ▲                                                   │                        │
     └─ event loop, woken when a thread's queue is empty ◀────────────────────────┘
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, None]

FILE_THREADS: Final = 8
"""As many calls may hang on their disks before the calls for other disks wait too."""

_CHECK_SECONDS: Final = 0.002
_PROGRESS: Final = 4
"""Calls taken from one check to the next. A pool that takes fewer waits most of the time, and
another thread costs nothing; in one that takes more, they would only compete for the lock."""

_MOST_UNDELIVERED: Final = 5
"""Checks in a row that leave what is done to the thread that did it, which is still busy."""

_MOST_IN_STEPS: Final = 64
"""Generators under way, each of which may hold files open."""


class Threads:
    """Runs functions on threads of its own, which start when needed. Use it on the event loop.

    Args:
        name: of the threads.
        n: how many in each of the two pools at most.
    """

    def __init__(self, name: str = "omi-files", n: int = FILE_THREADS) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox: list[_Call] = []
        self._checking = False
        self._undelivered = 0
        self._in_steps = asyncio.Semaphore(_MOST_IN_STEPS)
        self._lock = threading.Lock()  # for both pools
        self._working = _Pool(name, n)
        self._waiting = _Pool(f"{name}-waiting", n)
        self._done: deque[_Call] = deque()

    def run(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """What the function returns, or raises; it is not begun if nobody waits any more."""
        return self._put(_Function(self._loop.create_future(), partial(function, *arguments)))

    async def run_steps(self, function: Callable[..., Steps], *arguments: Any) -> None:
        """Run a generator to its end.

        It yields before it waits for what it has begun, such as a disk, and again afterwards. If
        nobody waits for it any more, it is closed where it yields.
        """
        await self._in_steps.acquire()  # until it is done, whether somebody waits for it or not
        await self._put(_Steps(self._loop.create_future(), function(*arguments), self._in_steps))

    def _put(self, call: _Call) -> asyncio.Future[Any]:
        if not self._outbox:
            self._loop.call_soon(self._hand_over)
        self._outbox.append(call)
        return call.future

    def _hand_over(self) -> None:
        with self._lock:
            self._working.queue += self._outbox
            self._outbox = []
            if not self._working.active:
                self._wake(self._working)
        if not self._checking:
            self._checking = True
            self._loop.call_later(_CHECK_SECONDS, self._check_progress)

    def _check_progress(self) -> None:
        """Every few milliseconds, while there is work: help a thread that is at something long."""
        working, waiting = self._working, self._waiting
        self._undelivered += 1
        deliver = working.taken < _PROGRESS or self._undelivered == _MOST_UNDELIVERED
        with self._lock:
            self._grow_if_stalled(working, waiting)
            self._grow_if_stalled(waiting, working)
            working.taken = waiting.taken = 0
            # An active thread may yet pass calls on, and then hang before it wakes the other pool.
            self._checking = bool(
                working.queue or waiting.queue or working.active or waiting.active
            )
        if self._checking:
            self._loop.call_later(_CHECK_SECONDS, self._check_progress)
        if deliver:
            self._deliver()

    def _grow_if_stalled(self, pool: _Pool, other: _Pool) -> None:
        """With the lock: one thread more if calls are queued that those who should do not take.

        Not at the first check that finds it so, for somebody may have woken just before. Whom
        nobody has woken yet has the other pool's last thread to do it.
        """
        stalled = bool(pool.queue) and (pool if pool.active else other).taken < _PROGRESS
        if stalled and pool.stalled and pool.active < pool.n:
            self._wake(pool)
        pool.stalled = stalled

    def _wake(self, pool: _Pool) -> None:
        """With the lock: one thread more, which counts as active from now on."""
        pool.active += 1
        if pool.idle:
            pool.idle.pop().put(None)
            return
        name = f"{pool.name}-{pool.active - 1}"
        other = self._waiting if pool is self._working else self._working
        thread = threading.Thread(target=self._work, args=(pool, other), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there may be no more: the next check tries again
            pool.active -= 1

    def _work(self, pool: _Pool, other: _Pool) -> None:
        wakeup: SimpleQueue[None] = SimpleQueue()
        while True:
            done = 0
            while call := self._next(pool, other, wakeup):
                if call.advance():
                    done += 1
                    self._done.append(call)
                else:
                    other.queue.append(call)  # `_next` wakes the other pool at the end
                del call  # an idle thread is not to hold it
            if done:
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop is closed: the process is at its end
                    return
            wakeup.get()

    def _next(self, pool: _Pool, other: _Pool, wakeup: SimpleQueue[None]) -> _Call | None:
        """The next call of a thread's pool; None if there is none, and then it is idle."""
        with self._lock:
            pool.taken += 1
            if pool.queue:
                return pool.queue.popleft()
            pool.active -= 1
            pool.idle.append(wakeup)
            if other.queue and not other.active:
                self._wake(other)
            return None

    def _deliver(self) -> None:
        """On the event loop: what has been done goes to those who wait for it."""
        self._undelivered = 0
        while self._done:
            call = self._done.popleft()
            call.finish()
            if call.future.done():
                continue
            if call.error is None:
                call.future.set_result(call.outcome)
            else:
                call.future.set_exception(call.error)


class _Pool:
    """Threads that take calls from one queue.

    Attributes:
        queue: of calls. Either a thread is active, or the other pool's last active thread wakes
            one, or the next check does.
        active: how many threads look for calls or are at one.
        idle: how to wake the others; the last to become idle, whose caches are warm, comes first.
        taken: how often one of them has come for a call since the last check.
        stalled: whether the last check found calls that too few were taken of.
    """

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self.n = n
        self.queue: deque[_Call] = deque()
        self.active = 0
        self.idle: list[SimpleQueue[None]] = []
        self.taken = 0
        self.stalled = False


class _Call(ABC):
    """What somebody waits for, and what came of it."""

    __slots__ = ("error", "future", "outcome")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.outcome: Any = None
        self.error: Exception | None = None

    @abstractmethod
    def advance(self) -> bool:
        """Whether it is done now. Raises nothing."""

    def fail(self, raised: BaseException) -> None:
        """Keep an error that a future takes and that ends no event loop."""
        if isinstance(raised, StopIteration) or not isinstance(raised, Exception):
            raised = RuntimeError(f"work on files raised {raised!r}")
        self.error = raised

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """On the event loop, once it is done."""


class _Function(_Call):
    """Done at once; not begun if nobody waits for it any more."""

    __slots__ = ("function",)

    def __init__(self, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        super().__init__(future)
        self.function = function

    def advance(self) -> bool:
        if not self.future.cancelled():
            try:
                self.outcome = self.function()
            except BaseException as raised:  # noqa: BLE001 - told to the caller
                self.fail(raised)
                del self  # which the error's traceback would hold
        return True


class _Steps(_Call):
    """A generator: done at its end, or closed when nobody waits for it any more."""

    __slots__ = ("limit", "steps")

    def __init__(self, future: asyncio.Future[Any], steps: Steps, limit: asyncio.Semaphore) -> None:
        super().__init__(future)
        self.steps = steps
        self.limit = limit

    def advance(self) -> bool:
        try:
            if self.future.cancelled():
                self.steps.close()
                return True
            next(self.steps)
        except StopIteration:
            return True
        except BaseException as raised:  # noqa: BLE001 - told to the caller
            self.fail(raised)
            del self  # which the error's traceback would hold
            return True
        return False

    def finish(self) -> None:
        self.limit.release()
