"""A model that is loaded before the fork, so that all workers share its memory (`OMI_PRELOAD`).

The process that loads it goes on to fork, also when a worker has died, and a fork copies one
thread alone: whatever else ran, or held a lock, is missing in the child, which then waits for it
for ever. So nothing that serves is imported here, numeric libraries have been told to use one
thread, and every child tries the model out before it opens a port, while the supervisor watches.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress

from omi_runtime import examples, logs
from omi_runtime.batch import group_rows
from omi_runtime.board import Board
from omi_runtime.card import ModelCard
from omi_runtime.errors import InferenceFailed, LoadError, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.loading import Loader, loader_for
from omi_runtime.model import Model
from omi_runtime.request import RequestContext
from omi_runtime.settings import Settings
from omi_runtime.signature import Signature
from omi_runtime.timelimits import load_limit, load_took_too_long

logger = logging.getLogger(__name__)


def preload(settings: Settings) -> Loader:
    """Load the model in this process; returns what hands it to the handlers of its children.

    A load that takes too long ends the process.

    Raises:
        SettingsError: `OMI_MODEL` names no model.
        LoadError: anything else; the author's traceback is in the log.
    """
    cards: list[ModelCard] = []
    try:
        load = loader_for(settings)
        with _limited(settings, cards) as limit:

            def publish(card: ModelCard) -> None:
                cards.append(card)
                limit()

            model, signature = load(settings.model_source(), settings.model_name, publish)
    except LoadError as error:
        if error.__cause__ is not None:
            logger.exception("the model did not load", exc_info=error.__cause__)
        raise
    # What load() counted would be counted again by every worker.
    model.metrics.move(Board().pages[0], counts=False)
    gc.collect()
    # The collector writes into every object that it looks at, and so copies the page that it is on.
    gc.freeze()

    def loaded(
        _source: str, _served_name: str, publish: Callable[[ModelCard], None]
    ) -> tuple[Model, Signature]:
        publish(cards[-1])
        return model, signature

    return loaded


@contextmanager
def _limited(settings: Settings, cards: list[ModelCard]) -> Iterator[Callable[[], None]]:
    """End the process when the load within takes too long; gives what looks at the limit again.

    By an alarm, for there is no event loop here, and may be no thread.
    """

    def end(_number: int, _frame: object) -> None:
        code = logs.fail(load_took_too_long(cards[-1] if cards else None, settings))
        logging.shutdown()
        os._exit(code)

    def limit() -> None:
        seconds = load_limit(cards[-1] if cards else None, settings).seconds
        passed = time.monotonic() - began
        signal.setitimer(
            signal.ITIMER_REAL, 0 if seconds == math.inf else max(seconds - passed, 0.001)
        )

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, end)
    limit()
    try:
        yield limit
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def try_out(handler: ModelHandler) -> None:
    """Make one prediction from example inputs, without a limit of time.

    Whatever the model says to them, that it answers shows that it has survived the fork.
    """
    signature = handler.signature
    codec = ItemCodec(signature, handler.name, handler.settings.nan)
    row = codec.decode(examples.files(signature))
    with suppress(OMIError):
        if signature.streaming:
            parts, _ = group_rows([row])
            for part in parts:
                async with aclosing(handler.infer_stream(part.batch, RequestContext())) as values:
                    await anext(values, None)
            return
        result = await handler.infer_rows([row], request=RequestContext())
        for error in result.errors.values():
            if isinstance(error, InferenceFailed):
                logger.warning("a prediction from example inputs failed: %s", error.message)
