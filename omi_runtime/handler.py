"""ModelHandler: the one core that every interface is mounted around. It knows no wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from omi_runtime.batch import Batch, Part, Result, Row, group_rows
from omi_runtime.errors import OMIError
from omi_runtime.keeper import ModelKeeper
from omi_runtime.request import RequestContext
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.signature import Signature
from omi_runtime.timings import Timings
from omi_runtime.validation import (
    check_batch,
    check_names,
    check_tensors,
    no_rows,
)

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
    ) -> RequestContext:
        """A request that has just come; the transport tells it how long the caller waits.

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
        signature = self._signature
        if signature is None:
            signature = await self.loaded(request)
        check_batch(batch, signature)
        if not batch.n:
            return no_rows(signature)
        assert self._runner is not None, "it comes with the signature"
        return await self._engine.submit(
            self._runner.arrange(batch), self._offered(wanted), request
        )

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
        signature = self._signature
        if signature is None:
            signature = await self.loaded(request)
        rows = list(rows)
        if len(rows) < MANY_ROWS:
            parts, errors = _group(rows, signature)
        else:
            parts, errors = await asyncio.to_thread(_group, rows, signature)
        self.metrics.failed(errors.values())
        assert self._runner is not None, "it comes with the signature"
        batches = [self._runner.arrange(part.batch) for part in parts]
        if len(batches) == 1 and not errors:
            return await self._engine.submit(batches[0], self._offered(wanted), request)
        results = await self._engine.submit_together(batches, self._offered(wanted), request)
        answered = [(part.rows, result) for part, result in zip(parts, results, strict=True)]
        failed = [([row], Result.failed([error])) for row, error in errors.items()]
        n = sum(len(part.rows) for part in parts) + len(errors)
        return Result.assemble(n, [*answered, *failed]) if n else no_rows(signature)

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
        assert self._runner is not None
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

    def _offered(self, wanted: Wanted) -> Wanted:
        """What is wanted and the model has; the rest is logged and answered with nothing."""
        if wanted is NOTHING_MORE:
            return wanted
        offered = Wanted(wanted.explanation and self.explains, wanted.drift and self.detects_drift)
        if offered != wanted:
            logger.info("explanation or drift was asked for, which %s does not have", self.name)
        return offered if any(offered) else NOTHING_MORE


def _group(
    rows: Sequence[Row | OMIError], signature: Signature
) -> tuple[list[Part], dict[int, OMIError]]:
    """Rows as batches of what is alike, checked; and the errors of those that are none."""
    parts, errors = group_rows([check_names(row, signature) for row in rows])
    for part in parts:
        check_tensors(part.batch, signature)
    return parts, errors
