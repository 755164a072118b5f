"""Jobs on their way through the engine: the lines that they wait in and the time they have."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from omi_runtime.batch import Batch, Result
from omi_runtime.request import RequestContext
from omi_runtime.runner import Wanted


class Job:
    """A caller's batch on its way: handed out in slices, finished when every row is answered."""

    __slots__ = (
        "admitted",
        "batch",
        "deadline",
        "future",
        "key",
        "n",
        "parts",
        "request",
        "taken",
        "unanswered",
        "wanted",
    )

    def __init__(
        self,
        batch: Batch,
        wanted: Wanted,
        future: asyncio.Future[Result | None],
        request: RequestContext,
    ) -> None:
        self.batch: Batch | None = batch  # None when the caller has been answered or has left
        self.n = batch.n
        self.request = request
        self.admitted = time.monotonic()
        self.deadline = request.deadline
        self.wanted = wanted
        self.key = (batch.key, wanted)
        self.future = future
        self.taken = 0
        self.unanswered = batch.n
        self.parts: list[tuple[range, Result]] = []


Chunk = list[tuple[Job, Batch, int, int]]
"""Jobs, their batches, and from which row to which. Plain tuples: a NamedTuple takes several times
as long to make, and there is one for every request."""


class Lines:
    """What waits, by merge key. Used by one thread at a time."""

    def __init__(self) -> None:
        self._lines: dict[Any, deque[Job]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def extend(self, jobs: Iterable[Job]) -> None:
        """Put each job at the end of its line."""
        for job in jobs:
            line = self._lines.get(job.key)
            if line is None:
                line = self._lines[job.key] = deque()
            line.append(job)

    def longest(self) -> int:
        """The rows that wait in the longest line."""
        return max(sum(job.n - job.taken for job in line) for line in self._lines.values())

    def take(self, room: int) -> Chunk:
        """Up to `room` rows of the key that has waited longest, taken in turns.

        A job that is larger than what is left of the chunk goes to the end of its line with the
        rest, and its key behind the other keys: neither starves the small ones. What has expired,
        or been left by its caller, is dropped.
        """
        now = time.monotonic()
        key = next(iter(self._lines))
        line = self._lines.pop(key)
        chunk: Chunk = []
        for _ in range(len(line)):
            job = line.popleft()
            batch = job.batch
            if batch is None or job.deadline <= now or job.future.done():
                continue
            start = job.taken
            job.taken = min(start + room, job.n)
            chunk.append((job, batch, start, job.taken))
            room -= job.taken - start
            if job.taken < job.n:
                line.append(job)
            if not room:
                break
        if line:
            self._lines[key] = line
        return chunk


class Waiting(Protocol):
    """What a caller waits for, until its time is over."""

    @property
    def deadline(self) -> float:
        """Until when, a time of `time.monotonic`; or infinity."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """What it comes to."""


class Expiry:
    """Ends what is waited for when its time is over, by the result None. Lives on the event loop.

    One timer serves all: it is set anew only for an earlier deadline, and most requests have been
    answered long before it fires. A timer for each would cost more than all else here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: set[Waiting] = set()
        self._sweeps_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, job: Waiting) -> None:
        """Watch over a job, or a call."""
        self._jobs.add(job)
        if job.deadline < self._sweeps_at:
            self._sweep_at(job.deadline)

    def discard(self, job: Waiting) -> None:
        """The job's caller is answered, or gone."""
        self._jobs.discard(job)

    def close(self) -> None:
        """Leave no timer behind, unless somebody still waits for it."""
        if self._timer is not None and not self._jobs:
            self._timer.cancel()

    def _sweep_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sweeps_at = deadline
        self._timer = self._loop.call_later(deadline - time.monotonic(), self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        nearest = math.inf
        for job in self._jobs:
            if job.deadline > now:
                nearest = min(nearest, job.deadline)
            elif not job.future.done():
                job.future.set_result(None)
        self._timer, self._sweeps_at = None, math.inf
        if nearest < math.inf:
            self._sweep_at(nearest)
