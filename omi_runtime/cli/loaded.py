"""Loading a model for a command, asking it something, and closing it again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from omi_runtime import environment, logs, offline
from omi_runtime.errors import StartupError
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import Lifecycle
from omi_runtime.settings import Settings

T = TypeVar("T")

MODEL_HELP = "MODEL is what OMI_MODEL names: a directory with model.py, a file, file.py:Class."


def with_model(model: str | None, ask: Callable[[ModelHandler], Awaitable[T]]) -> T:
    """Load the model, ask it something, close it; start-up errors end the program."""
    if model is not None:
        os.environ["OMI_MODEL"] = model

    async def run() -> T:
        settings = environment.read(Settings)
        if settings.offline:
            offline.enforce()
        logs.configure("warning", settings.log_format)
        handler = ModelHandler(settings, Lifecycle())
        await handler.load()
        try:
            return await ask(handler)
        finally:
            await handler.close(timeout=settings.grace)

    try:
        return asyncio.run(run())
    except StartupError as error:
        fail(error)


def fail(error: StartupError) -> NoReturn:
    """End the program with the error's exit code and its line."""
    raise SystemExit(logs.fail(error))
