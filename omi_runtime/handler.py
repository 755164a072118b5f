"""ModelHandler: the one core that every interface is mounted around. It knows no wire."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from omi_runtime.batch import Batch, Part, Result, Row, group_rows
from omi_runtime.card import ModelCard
from omi_runtime.engine import Engine
from omi_runtime.errors import LoadError, ModelNotReady, OMIError, SettingsError, StartupError
from omi_runtime.lifecycle import Lifecycle, State
from omi_runtime.loading import Loader, load_model
from omi_runtime.machine import usable_cpus
from omi_runtime.metrics import Metrics
from omi_runtime.model import Model
from omi_runtime.request import RequestContext
from omi_runtime.runner import NOTHING_MORE, AnswerRules, Runner, Wanted
from omi_runtime.settings import Settings
from omi_runtime.signature import Signature
from omi_runtime.timings import Timings
from omi_runtime.validation import (
    check_batch,
    check_names,
    check_tensors,
    no_rows,
)

if TYPE_CHECKING:
    from omi_runtime.tracing import Tracer

logger = logging.getLogger(__name__)

T = TypeVar("T")

MANY_ROWS: Final = 1_000
"""Grouped on a thread: more take longer than a probe should have to wait."""

ASYNC_THREADS: Final = 32
"""How many calls of an async predict may be under way; each is awaited by one thread."""


class ModelHandler:
    """Loads one model and answers for it: readiness, card, predictions, explanation, drift.

    Create it on the event loop. All methods are called there; the author's code runs elsewhere.

    Args:
        settings: the core's.
        lifecycle: the process's.
        loader: where the model comes from.
        metrics: where to count; by default nobody else counts there.
        tracer: makes the spans, if there are traces.
    """

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        loader: Loader = load_model,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.tracer = tracer
        self.settings = settings
        self.lifecycle = lifecycle
        self._load_model = loader
        self.card: ModelCard | None = None
        self.identity = ""  # the card's own, made once
        self._engine = Engine(
            queue_size=settings.queue_size,
            delay=settings.batch_delay_ms / 1000,
            metrics=self.metrics,
        )
        self._rules = AnswerRules(settings.nan, settings.error_detail == "full")
        self._model: Model | None = None
        self._signature: Signature | None = None
        self._runner: Runner | None = None
        self._load_failure = "the model failed to load; the server's log has the details"
        self._reloading: asyncio.Task[None] | None = None
        self._administration = asyncio.Lock()
        self._closing = asyncio.Lock()
        # Seconds and who says so; replaced when model.yaml has been read.
        self._own_limit = _own_limit(None, settings)

    @property
    def live(self) -> bool:
        """Whether the process answers; liveness is nothing more than that."""
        return self.lifecycle.state is not State.STOPPED

    @property
    def ready(self) -> bool:
        """Whether the model can infer, and the process is not stopping."""
        return self.lifecycle.ready

    @property
    def alone(self) -> bool:
        """Whether this process is all that serves.

        One of several workers may not load or unload a model for a caller: it would speak for
        itself alone.
        """
        return self.settings.workers == 1

    @property
    def name(self) -> str:
        """The name served; empty until the model's module has been imported."""
        return self.card.name if self.card else self.settings.model_name

    @property
    def signature(self) -> Signature:
        """What the loaded model takes and gives.

        Raises:
            ModelNotReady: it has not loaded; `await loaded()` waits for it.
        """
        if self._signature is None:
            raise self._not_ready()
        return self._signature

    @property
    def explains(self) -> bool:
        """Whether the model has an `explain`."""
        return hasattr(self._model, "explain")

    @property
    def detects_drift(self) -> bool:
        """Whether the model has a `drift`."""
        return hasattr(self._model, "drift")

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

    async def load(self) -> None:
        """Import the model and load it on its thread; again after a failure.

        Raises:
            SettingsError: `OMI_MODEL` names no model.
            LoadError: anything else; the author's traceback is in the log.
        """
        self.lifecycle.move(State.LOADING)
        begin = time.monotonic()
        try:
            source, served_name = self.settings.model_source(), self.settings.model_name
            model, signature = await self._engine.call(
                lambda: self._load_model(source, served_name, self._publish)
            )
        except Exception as error:
            if error.__cause__ is not None:
                logger.exception("the model did not load", exc_info=error.__cause__)
            if self._rules.detailed_errors:
                self._load_failure = str(error)
            if self.lifecycle.state is State.LOADING:
                self.lifecycle.move(State.FAILED)
            raise
        self.metrics.loaded(begin)
        model.metrics.move(self.metrics.page)
        self._model, self._signature = model, signature
        loop = asyncio.get_running_loop()
        self._runner = Runner(model, signature, self._rules, loop)
        run = self._runner.run
        self._engine.configure(
            run if self.tracer is None else self.tracer.traced(run),
            max_batch_size=self._batch_limit(model),
            threads=self._threads(model),
        )
        if self.lifecycle.state is State.LOADING:
            self.lifecycle.move(State.READY)

    async def unload(self) -> None:
        """Take the model out of service and close it: not ready at once, then what is in flight.

        Does nothing if no model is loaded.

        Raises:
            ModelNotReady: the process is stopping.
        """
        async with self._administration:
            await self._unload()

    async def load_again(self) -> None:
        """Load the model, again if it is loaded: then it is unloaded first.

        Raises:
            ModelNotReady: it did not load, or the process is stopping.
        """
        async with self._administration:
            await self._unload()
            if self.lifecycle.state is State.FAILED:  # others may ask for the same
                await self.reload_if_failed()
                return
            try:
                await self.load()
            except StartupError:
                raise self._not_ready() from None

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

    async def reload_if_failed(self, request: RequestContext | None = None) -> None:
        """Wait while the model loads; if it failed, load it again, once for all who wait.

        Raises:
            ModelNotReady: it failed again, or the process is stopping.
            DeadlineExceeded: the request's time, if there is one, is over; the load goes on.
        """
        if self.lifecycle.state is State.FAILED:
            # A task of its own: whoever asked for it may leave, and the others wait for it.
            if self._reloading is None or self._reloading.done():
                self._reloading = asyncio.create_task(self.load())
                self._reloading.add_done_callback(_retrieve)
            with suppress(LoadError, SettingsError):  # told by `loaded`
                await _within(request, asyncio.shield(self._reloading))
        await self.loaded(request)

    async def become_ready(self) -> None:
        """What a Status asks: `reload_if_failed`, and then whether the model can infer.

        Raises:
            ModelNotReady: it cannot; says why.
        """
        await self.reload_if_failed()
        if not self.ready:
            raise self._not_ready()

    async def loaded(self, request: RequestContext | None = None) -> Signature:
        """The signature; waits while the model loads.

        Raises:
            ModelNotReady: the load failed, or the process is stopping without a model.
            DeadlineExceeded: the request's time, if there is one, is over.
        """
        if self._signature is None:
            await _within(request, self.lifecycle.wait_for(_is_settled))
        return self.signature

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

    async def close(self, timeout: float) -> bool:
        """Let the model give back what it took; False if its code still runs after `timeout` s."""
        try:
            async with asyncio.timeout(timeout):
                await self._close_model()
                if self._runner is not None:  # without one, what runs is a load that nobody wants
                    await self._engine.idle()
            closed = self._runner is None or not self._engine.running
        except TimeoutError:
            closed = False
        self._engine.close()
        return closed

    async def _unload(self) -> None:
        state = await self.lifecycle.wait_for(_is_settled)
        if state in (State.FAILED, State.UNLOADED):
            return
        if state is not State.READY:
            raise self._not_ready()
        self.lifecycle.move(State.UNLOADING)
        self._signature = None  # whoever comes from now on is told that there is no model
        await self._engine.drained()
        await self._close_model()
        if self.lifecycle.state is not State.UNLOADING:
            raise self._not_ready()  # the process is stopping
        self._runner = None
        self._engine.forget()
        logger.info("model %s is unloaded", self.name)
        self.lifecycle.move(State.UNLOADED)

    async def _close_model(self) -> None:
        """Let it give back what it took, once, whoever asks; what it raises is logged."""
        async with self._closing:
            model, self._model = self._model, None
            if model is None:
                return
            # A prediction whose request has expired may still be under way.
            await self._engine.idle()
            try:
                await self._engine.call(model.close)
            except Exception:
                logger.exception("%s.close raised", self.name)

    def _publish(self, card: ModelCard) -> None:
        """On the model's thread: before the load, so that a Status of one that fails has it."""
        self.identity = card.identity
        self.card = card
        self._own_limit = _own_limit(card, self.settings)

    def _batch_limit(self, model: Model) -> int:
        return min(model.max_batch_size, self.settings.max_batch_size or model.max_batch_size)

    def _threads(self, model: Model) -> int:
        if inspect.iscoroutinefunction(model.predict) or inspect.isasyncgenfunction(model.predict):
            return self.settings.threads or ASYNC_THREADS
        return (self.settings.threads or usable_cpus()) if model.thread_safe else 1

    def _not_ready(self) -> ModelNotReady:
        state = self.lifecycle.state
        if state is State.FAILED:
            return ModelNotReady(self._load_failure)
        if state in (State.UNLOADING, State.UNLOADED):
            return ModelNotReady("the model is unloaded")
        return ModelNotReady(
            "the server is stopping" if _is_settled(state) else "the model is loading"
        )

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


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of a failure that nobody may wait for any more; it is logged already."""
    if not task.cancelled():
        task.exception()


def _is_settled(state: State) -> bool:
    return state not in (State.STARTING, State.LOADING)


def _own_limit(card: ModelCard | None, settings: Settings) -> tuple[float, str]:
    """Seconds, infinity for none, and who says so: model.yaml, else the operator."""
    if card is not None and card.timeout_run:
        # Imported here, for it brings pydantic and yaml, which a card with a span has already.
        from omi_runtime.metadata import parse_span  # noqa: PLC0415

        return parse_span(card.timeout_run) or math.inf, "timeout.run of model.yaml"
    return settings.timeout or math.inf, "limit of OMI_TIMEOUT"


async def _within(request: RequestContext | None, waiting: Awaitable[T]) -> T:
    """Wait for something, but not beyond the request's time."""
    if request is None or request.deadline == math.inf:
        return await waiting
    try:
        return await asyncio.wait_for(waiting, request.deadline - time.monotonic())
    except TimeoutError:
        raise request.expired() from None
