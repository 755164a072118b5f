"""The threads that predict, and that run all else of the author's code.

They follow a leader: whoever holds the lock waits for jobs, gathers one chunk of work, gives the
lock up and runs the chunk, while the next thread gathers. So a single thread never contends, and no
thread ever waits for work that another could take.

    inbox (SimpleQueue) ──▶ leader: waiting, by merge key ──▶ chunk ──▶ Runner.run ──▶ event loop
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from omi_runtime.batch import Batch, Result
from omi_runtime.errors import InternalError, OMIError, Overloaded
from omi_runtime.failures import log_failures
from omi_runtime.jobs import Call, Chunk, Job, Lines
from omi_runtime.request import WORKED_ON
from omi_runtime.runner import BatchFailed, Wanted

logger = logging.getLogger(__name__)

T = TypeVar("T")
Run = Callable[[Batch, Wanted], Result]

_STOP: Final = None


class EngineThreads:
    """Runs what is put to it; there is one thread until `configure` asks for more.

    Args:
        loop: where outcomes are delivered.
        deliver: called there with a chunk, its result, and when it began, a time of
            `time.monotonic`.
        delay: seconds that a chunk waits for company; 0 is none.

    Attributes:
        put: has jobs or a call run.
        running: the threads on which the author's code is running.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Chunk, Result, float], None],
        delay: float,
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._delay = delay
        self._max_batch_size = 1
        self._run: Run | None = None
        self._inbox: queue.SimpleQueue[list[Job] | Chunk | Call | None] = queue.SimpleQueue()
        self.put: Callable[[list[Job] | Call], None] = self._inbox.put
        self._leading = threading.Lock()
        self._waiting = Lines()
        self._threads: list[threading.Thread] = []
        self._called_last = False
        self.running: set[int] = set()
        self._add_thread()

    @property
    def at_once(self) -> int:
        """How many items may be predicted at the same time: on all threads together."""
        return self._max_batch_size * len(self._threads)

    def configure(self, run: Run, *, max_batch_size: int, threads: int) -> None:
        """Say what jobs are to be run by, and on how many threads."""
        self._run = run
        self._max_batch_size = max_batch_size
        while len(self._threads) < threads:
            self._add_thread()

    def forget(self) -> None:
        """Let go of what to run, which keeps the model in memory; when nothing runs."""
        self._run = None

    def close(self) -> None:
        """Let the threads end after what they are doing. They are daemons: none holds the exit."""
        for _ in self._threads:
            self._inbox.put(_STOP)

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
            if isinstance(task, Call):
                self._called_last = True
                self._run_call(task)
            elif task.jobs:
                self._run_chunk(task)
            task = _STOP  # an idle thread is not to hold memory, nor a model that is unloaded

    def _next(self) -> Chunk | Call | None:
        """The next chunk; or a call or stop, as soon as it comes."""
        waiting = self._waiting
        if waiting.by_key and self._called_last:
            self._called_last = False  # calls, such as a stream's, take turns with batches
            return waiting.take(self._max_batch_size)
        if not waiting.by_key:
            first = self._inbox.get()
            if isinstance(first, Call | None):
                return first
            self._let_wait(first)
            if self._delay:
                return self._gather_until(time.monotonic() + self._delay)
        while not self._inbox.empty():  # nobody else takes from it meanwhile
            more = self._inbox.get_nowait()
            if isinstance(more, Call | None):
                return more
            self._let_wait(more)
        return waiting.take(self._max_batch_size)

    def _let_wait(self, came: list[Job] | Chunk) -> None:
        if isinstance(came, list):
            self._waiting.extend(came)
        else:
            self._waiting.extend_by_row(came)

    def _gather_until(self, deadline: float) -> Chunk | Call | None:
        """Wait for company until a full chunk waits or the delay is over."""
        while self._waiting.longest() < self._max_batch_size:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            try:
                more = self._inbox.get(timeout=remaining)
            except queue.Empty:
                break
            if isinstance(more, Call | None):
                return more
            self._let_wait(more)
        return self._waiting.take(self._max_batch_size)

    def _run_call(self, call: Call) -> None:
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
        begin = time.monotonic()
        try:
            assert self._run is not None, "configure comes before the first job"
            batches = chunk.batches
            batch = batches[0] if len(batches) == 1 else Batch.merge(batches)
            WORKED_ON.set(chunk.requests)
            result = self._run_here(self._run, batch, chunk.jobs[0][0].wanted)
            if result.errors or result.explanation is not None or result.drift is not None:
                _log_failures(chunk, result)
        except BatchFailed as failed:
            self._run_by_row(chunk, failed, begin)
            return
        except MemoryError:
            logger.error("no memory for a batch of %d requests", len(chunk.jobs))  # noqa: TRY400 - no traceback
            told = Overloaded("out of memory; try again later")
            result = Result.failed([told] * sum(chunk.sizes))
        except BaseException:
            # The runner turns an author's exceptions into item errors: this is a bug. The thread
            # must live on, and the callers be answered.
            logger.exception("a batch of %d requests ended unexpectedly", len(chunk.jobs))
            result = Result.failed([InternalError()] * sum(chunk.sizes))
        self._post(self._deliver, chunk, result, begin)

    def _run_by_row(self, chunk: Chunk, failed: BatchFailed, begin: float) -> None:
        """Have each of its rows wait for a turn of its own; what has been spent is counted."""
        n = sum(chunk.sizes)
        logger.debug("a batch of %d items runs again, one by one: %s", n, failed)
        for job, _, _ in chunk.jobs:
            job.spent = failed.timings if job.spent is None else job.spent + failed.timings
        self._post(self._deliver, Chunk(), Result({}, n, timings=failed.timings), begin)
        self._inbox.put(chunk)

    def _run_here(self, function: Callable[..., T], *arguments: Any) -> T:
        """Over before the outcome is posted: whoever sees the outcome sees that nothing runs."""
        thread = threading.get_ident()
        self.running.add(thread)
        try:
            return function(*arguments)
        finally:
            self.running.discard(thread)

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the process is being cut off
            logger.debug("an answer came after the event loop had ended")


def _log_failures(chunk: Chunk, result: Result) -> None:
    """On the model's thread, each under the id of the request that it is about."""
    extras = [column for column in (result.explanation, result.drift) if column is not None]
    offset = 0
    for request, size in zip(chunk.requests, chunk.sizes, strict=True):
        rows = range(offset, offset + size)
        offset = rows.stop
        WORKED_ON.set([request])
        log_failures(result.errors[row] for row in rows if row in result.errors)
        for column in extras:
            log_failures(column[row] for row in rows if isinstance(column[row], OMIError))


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)
