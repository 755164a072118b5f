"""How much of a model's work is done at the same time, by its class and by the operator."""

from __future__ import annotations

import inspect
from typing import Final

from omi_runtime.machine import usable_cpus
from omi_runtime.model import Model
from omi_runtime.settings import Settings

ASYNC_THREADS: Final = 32
"""How many calls of an async predict may be under way; each is awaited by one thread."""


def batch_limit(model: Model, settings: Settings) -> int:
    """The most items of one call: `OMI_MAX_BATCH_SIZE` can only lower the model's own."""
    return min(model.max_batch_size, settings.max_batch_size or model.max_batch_size)


def threads_for(model: Model, settings: Settings) -> int:
    """On how many threads its `predict` is called: one, unless it says that calls may overlap."""
    if inspect.iscoroutinefunction(model.predict) or inspect.isasyncgenfunction(model.predict):
        return settings.threads or ASYNC_THREADS
    return (settings.threads or usable_cpus()) if model.thread_safe else 1
