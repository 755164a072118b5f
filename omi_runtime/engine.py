"""The micro-batching engine: a bounded queue, the threads that predict, and the way back.

Threads follow a leader: whoever holds the lock waits for jobs, gathers one chunk of work, gives the
lock up and runs the chunk, while the next thread gathers. So a single thread never contends, and no
thread ever waits for work that another could take. There is no artificial delay unless asked for:
a chunk is whatever waits when a thread comes for it.

    submit ──▶ inbox (SimpleQueue) ──▶ leader: waiting, by merge key ──▶ chunk
       ▲                                                                    │
       └─ event loop, woken once per chunk ◀─ split by job ◀─ Runner.run ◀──┘
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

from omi_runtime.batch import Batch, Result
from omi_runtime.errors import InternalError, OMIError, Overloaded
from omi_runtime.jobs import Chunk, Expiry, Job, Lines
from omi_runtime.metrics import Metrics
from omi_runtime.request import WORKED_ON, RequestContext
from omi_runtime.runner import NOTHING_MORE, Wanted, log_failures
from omi_runtime.timings import Timings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Run = Callable[[Batch, Wanted], Result]


class _Call(NamedTuple):
    """A function to run on the model's thread, such as load and close."""

    function: Callable[[], Any]
    future: asyncio.Future[Any]
    requests: Sequence[RequestContext]
    deadline: float = math.inf


_STOP: Final = None


class Engine:
    """Runs batches on its own threads; merges what waits, splits what is large.

    Args:
        queue_size: the most items admitted and not yet answered; beyond, submit raises Overloaded.
            A single request larger than that is taken when nothing else waits.
        delay: seconds that a chunk waits for company; 0 is none.
        metrics: where to count; by default nobody looks.
    """

    def __init__(
        self, *, queue_size: int = 1024, delay: float = 0.0, metrics: Metrics | None = None
    ) -> None:
        self._metrics = metrics or Metrics()
        self._queue_size = queue_size
        self._delay = delay
        self._max_batch_size = 1
        self._run: Run | None = None
        self._loop = asyncio.get_running_loop()
        self._outbox: list[Job] = []
        self._inbox: queue.SimpleQueue[list[Job] | _Call | None] = queue.SimpleQueue()
        self._leading = threading.Lock()
        self._waiting = Lines()
        self._threads: list[threading.Thread] = []
        self._items = 0
        self._expiry = Expiry(self._loop)
        self._called_last = False
        self._running: set[int] = set()
        self._add_thread()

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
        return self._max_batch_size * len(self._threads)

    @property
    def running(self) -> bool:
        """Whether the author's code is running on one of the threads."""
        return bool(self._running)

    async def idle(self) -> None:
        """Wait until none of the author's code is running."""
        while self._running:  # noqa: ASYNC110 - what it is about lives on other threads
            await asyncio.sleep(0.01)

    async def drained(self) -> None:
        """Wait until nothing is admitted and none of the author's code is running."""
        while self._items or self._running:  # noqa: ASYNC110 - see idle
            await asyncio.sleep(0.01)

    def configure(self, run: Run, *, max_batch_size: int, threads: int) -> None:
        """Say what to run, after the model is loaded; the loading thread is the first of them."""
        self._run = run
        self._max_batch_size = max_batch_size
        while len(self._threads) < threads:
            self._add_thread()

    def forget(self) -> None:
        """Let go of what to run, which keeps the model in memory; after `drained`."""
        self._run = None

    async def call(self, function: Callable[[], T], request: RequestContext | None = None) -> T:
        """Run a function on a thread of the engine, in turn with the batches.

        Args:
            function: to run.
            request: for whom, if for one.
        """
        call = self._call(function, request)
        return cast("T", await call.future)

    async def submit(
        self,
        batch: Batch,
        wanted: Wanted = NOTHING_MORE,
        request: RequestContext | None = None,
    ) -> Result:
        """Predict a batch of any size; the caller's cancellation takes what is queued with it.

        So does the end of the request's time. What the model has begun, it finishes; nobody gets
        it.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: not answered in time.
        """
        self._check_room(batch.n)
        job = self._admit(batch, wanted, request or RequestContext())
        try:
            return _answer(job, await job.future)
        finally:
            self._leave(job)

    async def submit_together(
        self,
        batches: Sequence[Batch],
        wanted: Wanted = NOTHING_MORE,
        request: RequestContext | None = None,
    ) -> list[Result]:
        """Predict the batches of one request, which the queue takes whole or not at all.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: not all answered in time.
        """
        request = request or RequestContext()
        self._check_room(sum(batch.n for batch in batches))
        jobs = [self._admit(batch, wanted, request) for batch in batches]
        try:
            return [_answer(job, await job.future) for job in jobs]
        finally:
            for job in jobs:
                job.future.cancel()  # those not awaited yet, if the caller was cancelled
                self._leave(job)

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
        self._check_room(1)
        self._hold(1)
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
            self._hold(-1)
            closing = self._call(close, request)
            if expired:
                closing.future.add_done_callback(_retrieve)  # the model may be long at its value
            else:
                await closing.future
        if expired:
            raise request.expired()

    async def _in_time(self, function: Callable[[], T], request: RequestContext) -> T | None:
        """What a function answers on the model's thread; None if the request's time is over."""
        call = self._call(function, request, request.deadline)
        self._expiry.add(call)
        try:
            return cast("T | None", await call.future)
        finally:
            self._expiry.discard(call)

    def _call(
        self,
        function: Callable[[], Any],
        request: RequestContext | None,
        deadline: float = math.inf,
    ) -> _Call:
        requests = () if request is None else (request,)
        call = _Call(function, self._loop.create_future(), requests, deadline)
        self._inbox.put(call)
        return call

    def _admit(self, batch: Batch, wanted: Wanted, request: RequestContext) -> Job:
        job = Job(batch, wanted, self._loop.create_future(), request)
        self._hold(batch.n)
        self._expiry.add(job)
        if not self._outbox:
            # What comes in one turn of the loop goes to the threads together: each hand-over is a
            # thread to wake and the interpreter's lock to pass on, which cost more than the rest.
            self._loop.call_soon(self._hand_over)
        self._outbox.append(job)
        return job

    def _hand_over(self) -> None:
        jobs, self._outbox = self._outbox, []
        self._inbox.put(jobs)

    def _leave(self, job: Job) -> None:
        """The caller is answered, or gone."""
        if job.unanswered:
            job.request.cancelled = True
        self._hold(-job.n)
        self._expiry.discard(job)
        job.batch = None  # what a busy model keeps in the queue is not to hold memory

    def _hold(self, n: int) -> None:
        """So many items more, or fewer, are admitted and not yet answered."""
        self._items += n
        self._metrics.queue(self._items)

    def _check_room(self, n: int) -> None:
        if self._items and self._items + n > self._queue_size:
            raise Overloaded(
                f"the queue is full: {self._items} items wait and OMI_QUEUE_SIZE is "
                f"{self._queue_size}; try again later"
            )

    def close(self) -> None:
        """Let the threads end after what they are doing. They are daemons: none holds the exit."""
        for _ in self._threads:
            self._inbox.put(_STOP)
        self._expiry.close()

    def _add_thread(self) -> None:
        thread = threading.Thread(
            target=self._work, name=f"omi-engine-{len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while True:
            with self._leading:
                task = self._next()
            if task is _STOP:
                return
            if isinstance(task, _Call):
                self._called_last = True
                self._run_call(task)
            elif task:
                self._run_chunk(task)
            task = _STOP  # an idle thread is not to hold memory, nor a model that is unloaded

    def _next(self) -> Chunk | _Call | None:
        """The next chunk; or a call or stop, as soon as it comes."""
        if self._waiting and self._called_last:
            self._called_last = False  # calls, such as a stream's, take turns with batches
            return self._waiting.take(self._max_batch_size)
        if not self._waiting:
            first = self._inbox.get()
            if not isinstance(first, list):
                return first
            self._waiting.extend(first)
            if self._delay:
                return self._gather_until(time.monotonic() + self._delay)
        try:
            while True:
                more = self._inbox.get_nowait()
                if not isinstance(more, list):
                    return more
                self._waiting.extend(more)
        except queue.Empty:
            return self._waiting.take(self._max_batch_size)

    def _gather_until(self, deadline: float) -> Chunk | _Call | None:
        """Wait for company until a full chunk waits or the delay is over."""
        while self._waiting.longest() < self._max_batch_size:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            try:
                more = self._inbox.get(timeout=remaining)
            except queue.Empty:
                break
            if not isinstance(more, list):
                return more
            self._waiting.extend(more)
        return self._waiting.take(self._max_batch_size)

    def _run_call(self, call: _Call) -> None:
        if call.future.done() or call.deadline <= time.monotonic():
            return  # its caller has left, or is told so by `Expiry`
        WORKED_ON.set(call.requests)
        try:
            outcome = self._run_here(call.function)
        except BaseException as error:  # noqa: BLE001 - an author's code may even call sys.exit
            if isinstance(error, StopIteration) or not isinstance(error, Exception):
                # A future takes no StopIteration, and the others would end the event loop.
                cause, error = error, RuntimeError(f"the model raised {error!r}")
                error.__cause__ = cause
            self._post(_fail, call.future, error)
        else:
            self._post(_succeed, call.future, outcome)

    def _run_chunk(self, chunk: Chunk) -> None:
        assert self._run is not None, "configure comes before the first submit"
        begin = time.monotonic()
        try:
            merged = Batch.merge([batch.slice(start, stop) for _, batch, start, stop in chunk])
            WORKED_ON.set([job.request for job, _, _, _ in chunk])
            result = self._run_here(self._run, merged, chunk[0][0].wanted)
            _log_failures(chunk, result)
        except MemoryError:
            logger.error("no memory for a batch of %d requests", len(chunk))  # noqa: TRY400 - no traceback
            rows = sum(stop - start for _, _, start, stop in chunk)
            result = Result.failed([Overloaded("out of memory; try again later")] * rows)
        except BaseException:
            # The runner turns an author's exceptions into item errors: this is a bug, or a
            # SystemExit raised by the model. The thread must live on, and the callers be answered.
            logger.exception("a batch of %d items ended unexpectedly", len(chunk))
            rows = sum(stop - start for _, _, start, stop in chunk)
            result = Result.failed([InternalError()] * rows)
        self._post(self._deliver, chunk, result, begin)

    def _run_here(self, function: Callable[..., T], *arguments: Any) -> T:
        """Over before the outcome is posted: whoever sees the outcome sees that nothing runs."""
        thread = threading.get_ident()
        self._running.add(thread)
        try:
            return function(*arguments)
        finally:
            self._running.discard(thread)

    def _deliver(self, chunk: Chunk, result: Result, begin: float) -> None:
        """Hand each job its rows, on the event loop; a job in several slices when all are there."""
        offset = whole = 0
        for job, _, start, stop in chunk:
            if not start:
                self._metrics.waited(begin - job.admitted)
            part = result.slice(offset, offset + stop - start)
            offset += stop - start
            job.unanswered -= stop - start
            if job.unanswered or job.parts:
                job.parts.append((range(start, stop), part))
                if not job.unanswered:
                    part = Result.assemble(job.n, job.parts)
                    self._metrics.answered(part.timings or Timings())
            else:
                whole += 1
            if not job.unanswered and not job.future.done():
                job.future.set_result(part)
        timings = result.timings or Timings()
        self._metrics.batch(offset, timings)
        self._metrics.failed(result.errors.values())
        if whole:
            self._metrics.answered(timings, whole)

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the process is being cut off
            logger.debug("an answer came after the event loop had ended")


def _log_failures(chunk: Chunk, result: Result) -> None:
    """On the model's thread, each under the id of the request that it is about."""
    extras = [column for column in (result.explanation, result.drift) if column is not None]
    if not result.errors and not extras:
        return
    offset = 0
    for job, _, start, stop in chunk:
        rows = range(offset, offset + stop - start)
        offset = rows.stop
        WORKED_ON.set([job.request])
        log_failures(result.errors[row] for row in rows if row in result.errors)
        for column in extras:
            log_failures(column[row] for row in rows if isinstance(column[row], OMIError))


def _answer(job: Job, result: Result | None) -> Result:
    """What a job came to; None is the end of its time."""
    if result is None:
        raise job.request.expired()
    return result


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of how something ended that nobody waits for."""
    if not future.cancelled():
        future.exception()
