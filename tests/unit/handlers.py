"""Handlers around models that tests define, loaded as `OMI_MODEL` names them."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
import orjson

from omi_runtime import Model
from omi_runtime.batch import Batch, Result
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import Lifecycle
from omi_runtime.request import RequestContext
from omi_runtime.settings import Settings

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds for what should take a moment: the machine may be busy with other tests."""


def handler_of(model: type[Model], **settings: Any) -> ModelHandler:
    """A handler whose OMI_MODEL names a class of a test, also one defined inside a function."""
    setattr(sys.modules[model.__module__], model.__name__, model)
    source = f"{model.__module__}:{model.__name__}"
    return ModelHandler(Settings(model=source, **settings), Lifecycle())


@asynccontextmanager
async def loaded(model: type[Model], **settings: Any) -> AsyncIterator[ModelHandler]:
    """The same, loaded; closed in the end, which has to succeed. What hangs is given up."""
    async with asyncio.timeout(2 * PATIENCE):
        handler = handler_of(model, **settings)
        await handler.load()
        yield handler
        assert await handler.close(PATIENCE)


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario on a loop of its own, for tests that Hypothesis drives."""

    async def limited() -> T:
        async with asyncio.timeout(PATIENCE):
            return await scenario

    return asyncio.run(limited())


async def until(condition: Callable[[], Any], what: str) -> None:
    """Ask again and again until the answer is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what it is about lives on other threads
            await asyncio.sleep(0.001)
    assert condition(), what


async def reached(event: threading.Event, what: str) -> None:
    """Wait until a model's thread says that it is there."""
    await until(event.is_set, what)


def hold(gate: threading.Event) -> None:
    """Called by a model: wait until the test opens the gate."""
    assert gate.wait(PATIENCE), "the test never opened the gate"


def tensor(*values: Any, dtype: str = "<f4", name: str = "x") -> Batch:
    """A batch of one input: the values as one column."""
    column = np.array(values, dtype=dtype)
    return Batch({name: column}, len(column))


def within(handler: ModelHandler, seconds: float | None) -> RequestContext:
    """A request that has just come, whose caller waits so long at most."""
    request = handler.begin()
    request.allow(seconds)
    return request


def told(result: Result, output: str = "output") -> list[Any]:
    """What each item was answered with: its value, or its error as `CODE: message`."""
    return [
        f"{result.errors[row].code}: {result.errors[row].message}"
        if row in result.errors
        else plain(result.columns[output][row])
        for row in range(result.n)
    ]


def plain(value: Any) -> Any:
    """Arrays and JSON fragments as Python values."""
    if isinstance(value, orjson.Fragment):
        return orjson.loads(orjson.dumps(value))
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
