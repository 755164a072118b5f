"""Jobs on their way through the engine: the lines that they wait in and the time they have."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from omi_runtime.batch import Batch, Result
from omi_runtime.request import RequestContext
from omi_runtime.runner import Wanted
from omi_runtime.timings import Timings

_BY_ROW: Final = object()
"""The key of rows that are run one by one."""


class Job:
    """A caller's batch on its way: handed out in slices, finished when every row is answered.

    Create it on the event loop, let an `Engine` admit it, and wait for its future.

    Attributes:
        batch: None when the caller has left.
        future: comes to the Result, or to None if its time is over. Not to an exception: what
            waits behind a busy model would hold the frames that it went through.
        answered: the future has its Result.
        counted: as how many items it stands in the queue, by whoever admits it.
        spent: on batches that failed, and that its rows run after; not told to the caller yet.
    """

    __slots__ = (
        "_parts",
        "_unanswered",
        "admitted",
        "answered",
        "batch",
        "counted",
        "deadline",
        "future",
        "key",
        "n",
        "request",
        "spent",
        "taken",
        "wanted",
    )

    def __init__(self, batch: Batch, wanted: Wanted, request: RequestContext) -> None:
        self.batch: Batch | None = batch
        self.n = self.counted = batch.n
        self.request = request
        self.admitted = time.monotonic()
        self.deadline = request.deadline
        self.wanted = wanted
        self.key = (batch.merge_key() if batch.key is None else batch.key, wanted)
        self.future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self.taken = 0
        self.spent: Timings | None = None
        self.answered = False
        self._unanswered = batch.n
        self._parts: list[tuple[range, Result]] = []

    def add(self, rows: range, part: Result) -> Result | None:
        """Take the answer to some of the rows; the whole one when it was the last."""
        self._parts.append((rows, part))
        self._unanswered -= len(rows)
        return None if self._unanswered else Result.assemble(self.n, self._parts)


class Call(NamedTuple):
    """A function to run on the model's thread, such as load and close.

    Attributes:
        future: comes to what the function returns or raises; to None if its time is over.
    """

    function: Callable[[], Any]
    future: asyncio.Future[Any]
    requests: Sequence[RequestContext]
    deadline: float = math.inf


class Chunk:
    """What goes to the model at once: rows of some jobs, in order. Lists of the same length.

    Attributes:
        jobs: each with from which of its rows, and to which.
        sizes: how many rows that is.
        batches: the rows themselves.
        requests: for whom.
    """

    __slots__ = ("batches", "jobs", "requests", "sizes")

    def __init__(self) -> None:
        self.jobs: list[tuple[Job, int, int]] = []
        self.sizes: list[int] = []
        self.batches: list[Batch] = []
        self.requests: list[RequestContext] = []

    def add(self, job: Job, batch: Batch, start: int, stop: int) -> None:
        """Take some rows of a job, whose batch that is."""
        self.jobs.append((job, start, stop))
        self.sizes.append(stop - start)
        self.batches.append(batch if stop - start == batch.n else batch.slice(start, stop))
        self.requests.append(job.request)


class Lines:
    """What waits, by merge key. Used by one thread at a time.

    Attributes:
        by_key: empty if nothing waits. Under `_BY_ROW` nobody waits: it is the turn of `_rows`.
    """

    def __init__(self) -> None:
        self.by_key: dict[Any, deque[Job]] = {}
        self._rows: deque[tuple[Job, int]] = deque()

    def extend(self, jobs: Iterable[Job]) -> None:
        """Put each job at the end of its line."""
        for job in jobs:
            line = self.by_key.get(job.key)
            if line is None:
                line = self.by_key[job.key] = deque()
            line.append(job)

    def extend_by_row(self, chunk: Chunk) -> None:
        """Put the rows of a chunk that failed at the end of a line in which none is merged.

        The line has its turns among the others, so that nobody waits for all of it.
        """
        for job, start, stop in chunk.jobs:
            self._rows.extend((job, row) for row in range(start, stop))
        self.by_key.setdefault(_BY_ROW, deque())

    def longest(self) -> int:
        """The rows that wait in the longest line."""
        return max(sum(job.n - job.taken for job in line) for line in self.by_key.values())

    def take(self, room: int) -> Chunk:
        """Up to `room` rows of the key that has waited longest, taken in turns.

        A job that is larger than what is left of the chunk goes to the end of its line with the
        rest, and its key behind the other keys: neither starves the small ones. What has expired,
        or been left by its caller, is dropped.
        """
        now = time.monotonic()
        key = next(iter(self.by_key))
        line = self.by_key.pop(key)
        if key is _BY_ROW:
            return self._take_row(now)
        chunk = Chunk()
        for _ in range(len(line)):
            job = line.popleft()
            batch = job.batch
            if batch is None or job.deadline <= now or job.future.done():
                continue
            start = job.taken
            stop = job.taken = min(start + room, job.n)
            chunk.add(job, batch, start, stop)
            room -= stop - start
            if stop < job.n:
                line.append(job)
            if not room:
                break
        if line:
            self.by_key[key] = line
        return chunk

    def _take_row(self, now: float) -> Chunk:
        chunk = Chunk()
        while self._rows and not chunk.jobs:
            job, row = self._rows.popleft()
            batch = job.batch
            if batch is not None and job.deadline > now and not job.future.done():
                chunk.add(job, batch, row, row + 1)
        if self._rows:
            self.by_key[_BY_ROW] = deque()
        return chunk


class Expiry:
    """Ends what is waited for when its time is over, by the result None. Lives on the event loop.

    One timer serves all: it is set anew only for an earlier deadline, and most requests have been
    answered long before it fires. A timer for each would cost more than all else here.

    Attributes:
        waiting: what is watched over. Whoever adds a job with a deadline before `sweeps_at` calls
            `sweep_at`; whoever is answered, or gone, is taken out.
        sweeps_at: when the timer fires, a time of `time.monotonic`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: set[Job | Call] = set()
        self.sweeps_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Leave no timer behind, unless somebody still waits for it."""
        if self._timer is not None and not self.waiting:
            self._timer.cancel()

    def sweep_at(self, deadline: float) -> None:
        """Have the timer fire then."""
        if self._timer is not None:
            self._timer.cancel()
        self.sweeps_at = deadline
        self._timer = self._loop.call_later(deadline - time.monotonic(), self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        nearest = math.inf
        for job in self.waiting:
            if job.deadline > now:
                nearest = min(nearest, job.deadline)
            elif not job.future.done():
                job.future.set_result(None)
        self._timer, self.sweeps_at = None, math.inf
        if nearest < math.inf:
            self.sweep_at(nearest)
