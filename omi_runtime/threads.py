"""Threads for work that waits on disks, apart from the event loop and from the model.

One of them works as long as it gets on, and all the others sleep: on a fast disk a file is several
short calls of the system, each of which gives the interpreter's lock away, and threads that run at
once spend most of their time passing it to one another. When little gets done, because a disk is
slow or does not answer at all, another thread joins, and what waits is not held up. What waits for
a disk in any case does so on a crew of its own, which takes next to nothing of the lock.

They are not the loop's default executor: that makes several objects and locks for a call, wakes the
loop for each, and holds the process at its end until a network's disk has answered. These threads
are daemons.

    run ──▶ outbox ── once per turn of the loop ──▶ working ◀──yield──▶ waiting
     ▲                                                 │                   │
     └─ event loop, woken when a thread has nothing more to do ◀───────────┘
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, None]

FILE_THREADS: Final = 8
"""As many disks may hang before calls for others wait."""

_LOOK_SECONDS: Final = 0.002
_GETS_ON: Final = 4
"""Calls taken from one look to the next. A thread that takes fewer waits most of the time, and
another costs nothing; one that takes more would only have to share the interpreter's lock."""

_MOST_UNTOLD: Final = 5
"""Looks in a row at which what is done is left to the thread to tell, which still has calls."""

_MOST_IN_STEPS: Final = 64
"""Generators under way, each of which may hold files open."""


class Threads:
    """Runs functions on threads of its own, which start when needed. Use it on the event loop.

    Args:
        name: of the threads.
        n: how many of each crew at most.
    """

    def __init__(self, name: str = "omi-files", n: int = FILE_THREADS) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox: list[_Call] = []
        self._looking = False
        self._untold = 0
        self._in_steps = asyncio.Semaphore(_MOST_IN_STEPS)
        self._lock = threading.Lock()  # for what the crews share
        self._working = _Crew(name, n)
        self._waiting = _Crew(f"{name}-waiting", n)
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
            self._working.line += self._outbox
            self._outbox = []
            if not self._working.awake:
                self._wake(self._working)
        if not self._looking:
            self._looking = True
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Every few milliseconds, while calls wait: help where a thread is at something long."""
        working, waiting = self._working, self._waiting
        self._untold += 1
        tell = working.taken < _GETS_ON or self._untold == _MOST_UNTOLD
        with self._lock:
            self._help(working, waiting)
            self._help(waiting, working)
            working.taken = waiting.taken = 0
            # As long as somebody is at a call, what the other crew has handed on may wait for it.
            self._looking = bool(working.line or waiting.line or working.awake or waiting.awake)
        if self._looking:
            self._loop.call_later(_LOOK_SECONDS, self._look)
        if tell:
            self._tell()

    def _help(self, crew: _Crew, other: _Crew) -> None:
        """With the lock: one thread more if calls wait, and those who should take them do not.

        Not at the first look that finds it so, for somebody may have woken just before.
        """
        slow = bool(crew.line) and (crew if crew.awake else other).taken < _GETS_ON
        if slow and crew.slow and crew.awake < crew.n:
            self._wake(crew)
        crew.slow = slow

    def _wake(self, crew: _Crew) -> None:
        """With the lock: one thread more. It is awake from now on, whenever it hears its bell."""
        crew.awake += 1
        if crew.asleep:
            crew.asleep.pop().put(None)
            return
        name = f"{crew.name}-{crew.awake - 1}"
        other = self._waiting if crew is self._working else self._working
        thread = threading.Thread(target=self._work, args=(crew, other), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there may be no more: the next look tries again
            crew.awake -= 1

    def _work(self, crew: _Crew, other: _Crew) -> None:
        bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        while True:
            done = 0
            while call := self._next(crew, other, bell):
                if call.advance():
                    done += 1
                    self._done.append(call)
                else:
                    other.line.append(call)  # whom `_next` wakes when this crew has no more
                del call  # a waiting thread is not to hold it
            if done:
                try:
                    self._loop.call_soon_threadsafe(self._tell)
                except RuntimeError:  # the loop is closed: the process is at its end
                    return
            bell.get()

    def _next(self, crew: _Crew, other: _Crew, bell: queue.SimpleQueue[None]) -> _Call | None:
        """What a thread of the crew does next. If there is nothing, it is not awake any more."""
        with self._lock:
            crew.taken += 1
            if crew.line:
                return crew.line.popleft()
            crew.awake -= 1
            crew.asleep.append(bell)
            if other.line and not other.awake:
                self._wake(other)
            return None

    def _tell(self) -> None:
        """On the event loop: hand over what has been done."""
        self._untold = 0
        while self._done:
            call = self._done.popleft()
            call.settle()
            if call.future.done():
                continue
            if call.error is None:
                call.future.set_result(call.outcome)
            else:
                call.future.set_exception(call.error)


class _Crew:
    """Threads that take calls from one line.

    Attributes:
        line: of calls. One that stands here is taken by somebody awake, or by whom the last of the
            other crew wakes, or the next look.
        awake: how many threads look for calls or are at one.
        asleep: the bells of the others; the last to fall asleep, whose caches are warm, is woken.
        taken: how often one of them has come for a call since the last look.
        slow: whether the last look found calls waiting that nobody came for.
    """

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self.n = n
        self.line: deque[_Call] = deque()
        self.awake = 0
        self.asleep: list[queue.SimpleQueue[None]] = []
        self.taken = 0
        self.slow = False


class _Call:
    """What somebody waits for, and what came of it."""

    __slots__ = ("error", "future", "outcome")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.outcome: Any = None
        self.error: Exception | None = None

    def advance(self) -> bool:
        """Whether it is done now. Raises nothing."""
        raise NotImplementedError

    def fail(self, raised: BaseException) -> None:
        """Keep an error that a future takes and that ends no event loop."""
        if isinstance(raised, StopIteration) or not isinstance(raised, Exception):
            raised = RuntimeError(f"work on files raised {raised!r}")
        self.error = raised

    def settle(self) -> None:
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

    __slots__ = ("slots", "steps")

    def __init__(self, future: asyncio.Future[Any], steps: Steps, slots: asyncio.Semaphore) -> None:
        super().__init__(future)
        self.steps = steps
        self.slots = slots

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

    def settle(self) -> None:
        self.slots.release()
