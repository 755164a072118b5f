"""The micro-batching engine, as the event loop sees it: a bounded queue and the way back.

There is no artificial delay unless asked for: the threads (`EngineThreads`) take whatever waits
when one of them comes for it.

    admit ──▶ outbox ── once per turn of the loop ──▶ EngineThreads: merge, Runner.run
      ▲                                                         │
      └─ event loop, woken once per chunk ◀─ split by job ◀─────┘
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar, cast

from omi_runtime.batch import Result
from omi_runtime.engine_threads import EngineThreads, Run
from omi_runtime.errors import Overloaded
from omi_runtime.jobs import Call, Chunk, Expiry, Job
from omi_runtime.metrics import Metrics
from omi_runtime.request import RequestContext
from omi_runtime.timings import Timings

T = TypeVar("T")


class Engine:
    """Has batches predicted; merges what waits, splits what is large.

    Args:
        queue_size: the most items admitted and not yet answered; beyond, `admit` raises Overloaded.
            One request holds half of that at most, so that one with many items leaves room for
            others; one larger than the whole is taken when nothing else waits.
        delay: seconds that a chunk waits for company; 0 is none.
        metrics: where to count; by default nobody looks.
    """

    def __init__(
        self, *, queue_size: int = 1024, delay: float = 0.0, metrics: Metrics | None = None
    ) -> None:
        self._metrics = metrics or Metrics()
        self._queue_size = queue_size
        self._loop = asyncio.get_running_loop()
        self._threads = EngineThreads(self._loop, self._deliver, delay)
        self._outbox: list[Job] = []
        self._items = 0
        self._counted = 0
        self._most_counted = max(1, queue_size // 2)  # of one request
        self._expiry = Expiry(self._loop)

    @property
    def items(self) -> int:
        """Items admitted and not yet answered.

        Those of a request that has expired, or whose caller has left, are not counted any more,
        not even while the model is still at them: that is a chunk for each thread at most.
        """
        return self._items

    @property
    def at_once(self) -> int:
        """How many items may be predicted at the same time: on all threads together."""
        return self._threads.at_once

    @property
    def running(self) -> bool:
        """Whether the author's code is running on one of the threads."""
        return bool(self._threads.running)

    async def idle(self) -> None:
        """Wait until none of the author's code is running."""
        while self._threads.running:  # noqa: ASYNC110 - what it is about lives on other threads
            await asyncio.sleep(0.01)

    async def drained(self) -> None:
        """Wait until nothing is admitted and none of the author's code is running."""
        while self._items or self._threads.running:  # noqa: ASYNC110 - see idle
            await asyncio.sleep(0.01)

    def configure(self, run: Run, *, max_batch_size: int, threads: int) -> None:
        """Say what to run, after the model is loaded; the loading thread is the first of them."""
        self._threads.configure(run, max_batch_size=max_batch_size, threads=threads)

    def forget(self) -> None:
        """Let go of what to run, which keeps the model in memory; after `drained`."""
        self._threads.forget()

    def admit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs of one request, all or none; then await the future of each.

        Its time may end first: then it comes to None. Whoever goes on without the answer calls
        `leave`, which takes along what is queued; what the model has begun it finishes, and nobody
        gets it.

        Raises:
            Overloaded: the queue is full.
        """
        n = jobs[0].n if len(jobs) == 1 else sum([job.n for job in jobs])
        if self._counted and self._counted + n > self._queue_size:
            raise self._full()
        self._items += n
        self._counted += n if n <= self._most_counted else self._count_less(jobs)
        self._expiry.waiting.update(jobs)
        if jobs[0].deadline < self._expiry.sweeps_at:
            self._expiry.sweep_at(jobs[0].deadline)
        if not self._outbox:
            # What comes in one turn of the loop goes to the threads together: each hand-over is a
            # thread to wake and the interpreter's lock to pass on, which cost more than the rest.
            self._loop.call_soon(self._hand_over)
        self._outbox += jobs

    def leave(self, job: Job) -> None:
        """The caller goes without an answer: time is over, or nobody waits any more."""
        if job.answered:
            return
        job.request.cancelled = True
        job.batch = None  # what a busy model keeps in the queue is not to hold memory
        job.future.cancel()  # if it is one of several, and not awaited yet
        self._expiry.waiting.discard(job)
        self._hold(-job.n, -job.counted)

    async def call(self, function: Callable[[], T], request: RequestContext | None = None) -> T:
        """Run a function on a thread of the engine, in turn with the batches.

        Args:
            function: to run.
            request: for whom, if for one.
        """
        call = self._call(function, request)
        return cast("T", await call.future)

    async def stream(
        self, start: Callable[[], Iterator[T]], request: RequestContext | None = None
    ) -> AsyncGenerator[T, None]:
        """The values of an iterator that lives on the model's thread, as the reader asks for them.

        Each value is a turn of its own among the batches, so that a slow reader holds up nobody;
        the iterator is closed on that thread too, between two values.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: the request's time is over before the last value.
        """
        request = request or RequestContext()
        if self._counted and self._counted + 1 > self._queue_size:
            raise self._full()
        self._hold(1, 1)
        iterator = start()
        turn = threading.Lock()  # the end may come on another thread than a value still computed

        def advance() -> list[T]:
            with turn:
                return list(itertools.islice(iterator, 1))

        def close() -> None:
            with turn:
                if isinstance(iterator, Generator):
                    iterator.close()

        finished = expired = False
        try:
            while values := await self._in_time(advance, request):
                yield values[0]
            expired = values is None
            finished = not expired
        finally:
            request.cancelled = not finished
            self._hold(-1, -1)
            closing = self._call(close, request).future
            closing.add_done_callback(_retrieve)
            if not expired:  # the model may be long at its value
                # A reader may be told to go more than once, by both clocks of a deadline say, and
                # a call whose future is cancelled never runs.
                await asyncio.shield(closing)
        if expired:
            raise request.expired()

    def close(self) -> None:
        """Let the threads end after what they are doing. They are daemons: none holds the exit."""
        self._threads.close()
        self._expiry.close()

    async def _in_time(self, function: Callable[[], T], request: RequestContext) -> T | None:
        """What a function answers on the model's thread; None if the request's time is over."""
        call = self._call(function, request, request.deadline)
        self._expiry.waiting.add(call)
        if call.deadline < self._expiry.sweeps_at:
            self._expiry.sweep_at(call.deadline)
        try:
            return cast("T | None", await call.future)
        finally:
            self._expiry.waiting.discard(call)

    def _call(
        self,
        function: Callable[[], Any],
        request: RequestContext | None,
        deadline: float = math.inf,
    ) -> Call:
        requests = () if request is None else (request,)
        call = Call(function, self._loop.create_future(), requests, deadline)
        self._threads.put(call)
        return call

    def _full(self) -> Overloaded:
        return Overloaded(
            f"the queue is full: {self._items} items wait and OMI_QUEUE_SIZE is "
            f"{self._queue_size}; try again later"
        )

    def _count_less(self, jobs: Sequence[Job]) -> int:
        """Count the jobs of one large request as what a request may hold."""
        left = self._most_counted
        for job in jobs:
            job.counted = min(job.n, left)
            left -= job.counted
        return self._most_counted

    def _hold(self, n: int, counted: int) -> None:
        """So many items more, or fewer, are admitted and not yet answered."""
        self._items += n
        self._counted += counted
        self._metrics.queue(self._items)

    def _hand_over(self) -> None:
        jobs, self._outbox = self._outbox, []
        self._metrics.queue(self._items)
        self._threads.put(jobs)

    def _deliver(self, chunk: Chunk, result: Result, begin: float) -> None:
        """Hand each job its rows, on the event loop; a job in several slices when all are there."""
        timings = result.timings or Timings()
        waits: list[float] = []
        whole = 0
        for (job, start, stop), part in zip(chunk.jobs, result.split(chunk.sizes), strict=True):
            if not start:
                waits.append(begin - job.admitted)
            if job.spent is not None:
                part.timings, job.spent = timings + job.spent, None
            answer: Result | None = part
            if stop - start == job.n:
                whole += 1
            else:
                answer = job.add(range(start, stop), part)
                if answer is None:
                    continue
                self._metrics.answered(answer.timings or timings)
            if not job.future.done():
                job.future.set_result(answer)
                job.answered = True
                self._expiry.waiting.discard(job)
                self._items -= job.n
                self._counted -= job.counted
        self._metrics.queue(self._items)
        self._metrics.batch(result.n, timings, waits)
        if result.errors:
            self._metrics.failed(result.errors.values())
        if whole:
            self._metrics.answered(timings, whole)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of how something ended that nobody waits for."""
    if not future.cancelled():
        future.exception()
