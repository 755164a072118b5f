"""ModelKeeper: the life of the one model in this process, from its load to its close."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from omi_runtime.capacity import batch_limit, threads_for
from omi_runtime.card import ModelCard
from omi_runtime.engine import Engine
from omi_runtime.errors import LoadError, ModelNotReady, SettingsError, StartupError
from omi_runtime.lifecycle import Lifecycle, State
from omi_runtime.loading import Loader, loader_for
from omi_runtime.metrics import Metrics
from omi_runtime.model import Model
from omi_runtime.request import RequestContext, within
from omi_runtime.request_checker import RequestChecker
from omi_runtime.runner import AnswerRules, Runner
from omi_runtime.settings import Settings
from omi_runtime.signature import Signature
from omi_runtime.timedload import TimedLoad
from omi_runtime.timelimits import load_limit, load_took_too_long, run_limit

if TYPE_CHECKING:
    from omi_runtime.tracing import Tracer

logger = logging.getLogger(__name__)


class ModelKeeper:
    """Loads one model, tells what is known of it, unloads it, loads it again, closes it.

    Create it on the event loop. All methods are called there; the author's code runs elsewhere.

    Attributes:
        card: what is known of the model; from the moment that its module has been imported.
        identity: which model it is, as every answer tells it; empty without a card.

    Args:
        settings: the core's.
        lifecycle: the process's.
        loader: where the model comes from; by default `OMI_MODEL`, verified if the settings say so.
        metrics: where to count; by default nobody else counts there.
        tracer: makes the spans, if there are traces.
    """

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        loader: Loader | None = None,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.tracer = tracer
        self.settings = settings
        self.lifecycle = lifecycle
        self._load_model = loader or loader_for(settings)
        self.card: ModelCard | None = None
        self.identity = ""  # the card's own, made once
        self._engine = Engine(
            queue_size=settings.queue_size,
            delay=settings.batch_delay_ms / 1000,
            metrics=self.metrics,
        )
        self._rules = AnswerRules(settings.nan, settings.error_detail == "full")
        self._model: Model | None = None
        self._checker: RequestChecker | None = None
        self._runner: Runner | None = None
        self._load_failure = "the model failed to load; the server's log has the details"
        self._reloading: asyncio.Task[None] | None = None
        self._loading: TimedLoad[tuple[Model, Signature]] | None = None
        self._administration = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._own_limit = run_limit(None, settings)  # replaced when model.yaml has been read

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
        if self._checker is None:
            raise self._not_ready()
        return self._checker.signature

    @property
    def signature_if_loaded(self) -> Signature | None:
        """The same, or None without a loaded model."""
        return None if self._checker is None else self._checker.signature

    @property
    def explains(self) -> bool:
        """Whether the model has an `explain`."""
        return hasattr(self._model, "explain")

    @property
    def detects_drift(self) -> bool:
        """Whether the model has a `drift`."""
        return hasattr(self._model, "drift")

    async def load(self) -> None:
        """Import the model and load it on its thread; again after a failure.

        A load that was not over in time goes on, and is what the next one waits for.

        Raises:
            SettingsError: `OMI_MODEL` names no model.
            LoadError: anything else; the author's traceback is in the log.
        """
        self.lifecycle.move(State.LOADING)
        if self._loading is None or self._loading.failed:
            self._loading = TimedLoad(self._engine, self._load_here, self._load_seconds)
        loading = self._loading
        try:
            outcome = await loading.outcome()
            if outcome is None:
                raise load_took_too_long(self.card, self.settings)
        except Exception as error:
            if error.__cause__ is not None:
                logger.exception("the model did not load", exc_info=error.__cause__)
            if self._rules.detailed_errors:
                self._load_failure = str(error)
            if self.lifecycle.state is State.LOADING:
                self.lifecycle.move(State.FAILED)
            raise
        model, signature = outcome
        self._loading = None
        self.metrics.loaded(loading.began)
        model.metrics.move(self.metrics.page)
        self._model = model
        self._checker = RequestChecker(signature, loosened=hasattr(model, "preprocess"))
        self._runner = Runner(model, signature, self._rules, asyncio.get_running_loop())
        run = self._runner.run
        self._engine.configure(
            run if self.tracer is None else self.tracer.traced(run),
            max_batch_size=batch_limit(model, self.settings),
            threads=threads_for(model, self.settings),
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
                await within(request, asyncio.shield(self._reloading))
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
        if self._checker is None:
            await within(request, self.lifecycle.wait_for(_is_settled))
        return self.signature

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
        self._checker = None  # whoever comes from now on is told that there is no model
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

    def _load_here(self) -> tuple[Model, Signature]:
        """On the model's thread."""
        settings = self.settings
        return self._load_model(settings.model_source(), settings.model_name, self._publish)

    def _load_seconds(self) -> float:
        return load_limit(self.card, self.settings).seconds

    def _publish(self, card: ModelCard) -> None:
        """On the model's thread: before the load, so that a Status of one that fails has it."""
        self.identity = card.identity
        self.card = card
        self._own_limit = run_limit(card, self.settings)
        if self._loading is not None:
            self._loading.limit_is_known()

    def _not_ready(self) -> ModelNotReady:
        state = self.lifecycle.state
        if state is State.FAILED:
            return ModelNotReady(self._load_failure)
        if state in (State.UNLOADING, State.UNLOADED):
            return ModelNotReady("the model is unloaded")
        return ModelNotReady(
            "the server is stopping" if _is_settled(state) else "the model is loading"
        )


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of a failure that nobody may wait for any more; it is logged already."""
    if not task.cancelled():
        task.exception()


def _is_settled(state: State) -> bool:
    return state not in (State.STARTING, State.LOADING)
