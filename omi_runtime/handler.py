"""ModelHandler: the one core that every interface is mounted around. It knows no wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from omi_runtime.batch import Batch, Result, Row
from omi_runtime.errors import OMIError
from omi_runtime.jobs import Job
from omi_runtime.keeper import ModelKeeper
from omi_runtime.request import RequestContext
from omi_runtime.request_checker import RequestChecker
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.timings import Timings
from omi_runtime.validation import check_batch, no_rows

logger = logging.getLogger(__name__)

MANY_ROWS: Final = 1_000
"""Grouped on a thread: more take longer than a probe should have to wait."""


class ModelHandler(ModelKeeper):
    """Answers for the model that it keeps: readiness, card, predictions, explanation, drift.

    What makes it, and how the model is loaded, unloaded and closed: `ModelKeeper`.
    """

    @property
    def busy(self) -> bool:
        """Whether items are admitted and not yet answered."""
        return self._engine.items > 0

    @property
    def at_once(self) -> int:
        """How many items the loaded model may be at at the same time: on all threads together."""
        return self._engine.at_once

    @property
    def running(self) -> bool:
        """Whether the author's code is running."""
        return self._engine.running

    def begin(
        self,
        interface: str = "",
        method: str = "",
        *,
        request_id: str = "",
        traceparent: str = "",
        started: float | None = None,
    ) -> RequestContext:
        """A request that has come just now, or when it `started`, a time of `time.monotonic`.

        The transport tells it how long the caller waits.

        It has to be answered within `timeout.run` of model.yaml if given, else `OMI_TIMEOUT`,
        which holds too until model.yaml has been read; and within what the caller allows.
        """
        seconds, source = self._own_limit
        return RequestContext(
            interface,
            method,
            request_id=request_id,
            traceparent=traceparent,
            seconds=seconds,
            source=source,
            started=started,
        )

    async def infer(
        self,
        batch: Batch,
        wanted: Wanted = NOTHING_MORE,
        request: RequestContext | None = None,
    ) -> Result:
        """Predict a uniform batch: n items in, n answers out, in order.

        Args:
            batch: the items.
            wanted: what is asked for beside the outputs.
            request: for whom; by default for somebody who has just come.

        Raises:
            InvalidInput: an input is unknown, missing, or of the wrong datatype or shape.
            ModelNotReady, Overloaded, DeadlineExceeded: see the error tree.
        """
        request = request or self.begin()
        checker = self._checker or await self._ready_to_take(request)
        batch = checker.batch(batch)
        if not batch.n:
            return no_rows(checker.signature)
        if wanted is not NOTHING_MORE:
            wanted = self._offered(wanted)
        job = Job(batch, wanted, request)
        self._engine.admit((job,))
        # Awaited here and below, not in a coroutine of the engine's: of a small request, each
        # coroutine more is two calls of some thirty.
        try:
            result = await job.future
        finally:
            if not job.answered:
                self._engine.leave(job)
        if result is None:
            raise request.expired()
        return result

    async def infer_rows(
        self,
        rows: Iterable[Row | OMIError],
        wanted: Wanted = NOTHING_MORE,
        request: RequestContext | None = None,
    ) -> Result:
        """Predict items that need not be alike; an error in place of an item is its answer.

        Args:
            rows: the items.
            wanted: what is asked for beside the outputs.
            request: for whom; by default for somebody who has just come.

        Raises:
            ModelNotReady, Overloaded, DeadlineExceeded: see the error tree.
        """
        request = request or self.begin()
        checker = self._checker or await self._ready_to_take(request)
        if wanted is not NOTHING_MORE:
            wanted = self._offered(wanted)
        rows = list(rows)
        batch = checker.row(rows[0]) if len(rows) == 1 else None
        if batch is None:
            return await self._infer_parts(rows, wanted, request, checker)
        job = Job(batch, wanted, request)
        self._engine.admit((job,))
        try:
            result = await job.future
        finally:
            if not job.answered:
                self._engine.leave(job)
        if result is None:
            raise request.expired()
        return result

    async def infer_stream(
        self, batch: Batch, request: RequestContext | None = None
    ) -> AsyncGenerator[Result, None]:
        """Predict a single item: one Result of one row for each value that the model yields.

        A model that does not yield answers once. The next value is asked for when the reader asks.
        The request's time is that for all values.

        Raises:
            OMIError: in place of the value that failed, or did not come in time; nothing follows.
        """
        request = request or self.begin()
        signature = await self.loaded(request)
        if not signature.streaming:
            result = await self.infer(batch, NOTHING_MORE, request)
            result.raise_error()
            yield result
            return
        check_batch(batch, signature)
        assert self._runner is not None, "it comes with the signature"
        runner = self._runner
        values = self._engine.stream(lambda: runner.stream(batch), request)
        spent = Timings()
        try:
            async for result in values:
                spent += result.timings or Timings()
                yield result
        finally:
            self.metrics.answered(spent)
            await values.aclose()  # a reader that leaves early ends the model's generator too

    async def _infer_parts(
        self,
        rows: Sequence[Row | OMIError],
        wanted: Wanted,
        request: RequestContext,
        checker: RequestChecker,
    ) -> Result:
        """Predict items as batches of what is alike, which the queue takes whole or not at all."""
        if len(rows) < MANY_ROWS:
            parts, errors = checker.rows(rows)
        else:
            parts, errors = await asyncio.to_thread(checker.rows, rows)
            if self._checker is not checker:  # unloaded meanwhile: ask whoever is there now
                return await self.infer_rows(rows, wanted, request)
        self.metrics.failed(errors.values())
        answered = [([row], Result.failed([error])) for row, error in errors.items()]
        jobs = [Job(part.batch, wanted, request) for part in parts]
        if jobs:
            self._engine.admit(jobs)
        try:
            for part, job in zip(parts, jobs, strict=True):
                result = await job.future
                if result is None:
                    raise request.expired()
                answered.append((part.rows, result))
        finally:
            for job in jobs:
                if not job.answered:
                    self._engine.leave(job)
        return Result.assemble(len(rows), answered) if rows else no_rows(checker.signature)

    async def _ready_to_take(self, request: RequestContext) -> RequestChecker:
        """Wait while the model loads; raises what `loaded` raises."""
        await self.loaded(request)
        assert self._checker is not None, "it comes with the signature"
        return self._checker

    def _offered(self, wanted: Wanted) -> Wanted:
        """What is wanted and the model has; the rest is logged and answered with nothing."""
        offered = Wanted(wanted.explanation and self.explains, wanted.drift and self.detects_drift)
        if offered != wanted:
            logger.info("explanation or drift was asked for, which %s does not have", self.name)
        return offered if any(offered) else NOTHING_MORE
