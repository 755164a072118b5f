"""Taking a model out of service, and loading it again, while the process goes on."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
from handlers import PATIENCE, handler_of, hold, loaded, reached, tensor, told, until

from omi_runtime import Model, ModelNotReady, Tensor
from omi_runtime.batch import Row
from omi_runtime.errors import OMIError
from omi_runtime.handler import MANY_ROWS
from omi_runtime.lifecycle import State
from omi_runtime.request_checker import RequestChecker

Number = Annotated[np.ndarray, Tensor("FP32")]


class Leaves(Model):
    """Says what becomes of it; answers 1 only when the test lets it."""

    seen: ClassVar[list[str]] = []
    held = False

    def load(self) -> None:
        self.seen.append("load")

    def predict(self, x: Number) -> Number:
        if x.item() == 1 and self.held:
            type(self).began.set()
            hold(self.gate)
        self.seen.append("predict")
        return x

    def close(self) -> None:
        self.seen.append("close")


async def test_unloading_waits_for_what_is_in_flight_and_takes_no_more() -> None:
    Leaves.seen, Leaves.held = [], True
    Leaves.began, Leaves.gate = threading.Event(), threading.Event()
    async with loaded(Leaves) as handler:
        asked = asyncio.create_task(handler.infer(tensor(1)))
        await reached(Leaves.began, "a prediction is under way")
        waiting = asyncio.create_task(handler.infer(tensor(2)))
        unloading = asyncio.create_task(handler.unload())
        await until(lambda: not handler.ready, "not ready at once")
        assert handler.lifecycle.state is State.UNLOADING
        with pytest.raises(ModelNotReady, match="the model is unloaded"):
            await handler.infer(tensor(3))
        assert not unloading.done()
        Leaves.gate.set()
        assert told(await asked) == [1]
        assert told(await waiting) == [2]
        await unloading
        assert handler.lifecycle.state is State.UNLOADED
        assert Leaves.seen == ["load", "predict", "predict", "close"]
        assert handler.live
        assert handler.card is not None
        with pytest.raises(ModelNotReady, match="the model is unloaded"):
            await handler.infer(tensor(3))
        await handler.unload()
        assert Leaves.seen == ["load", "predict", "predict", "close"]
    assert Leaves.seen[-2:] == ["predict", "close"], "it is closed once"


@pytest.mark.parametrize("again", [False, True])
async def test_a_large_request_that_is_looked_at_meanwhile_asks_the_next_model(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Leaves.seen, Leaves.held = [], False
    looking, go_on, look = threading.Event(), threading.Event(), RequestChecker.rows

    def look_long(self: RequestChecker, rows: Sequence[Row | OMIError]) -> Any:
        looking.set()
        hold(go_on)
        return look(self, rows)

    monkeypatch.setattr(RequestChecker, "rows", look_long)
    async with loaded(Leaves, queue_size=MANY_ROWS) as handler:
        rows = [{"x": np.array(2, "<f4")}] * MANY_ROWS
        asked = asyncio.create_task(handler.infer_rows(rows))
        await reached(looking, "its rows are looked at, on another thread")
        await (handler.load_again() if again else handler.unload())
        go_on.set()
        if again:
            assert told(await asked) == [2] * MANY_ROWS
            assert Leaves.seen[:3] == ["load", "close", "load"]
        else:
            with pytest.raises(ModelNotReady, match="the model is unloaded"):
                await asked
            await handler.load_again()
        assert told(await handler.infer(tensor(3))) == [3], "the model's thread lives"


async def test_an_unloaded_model_is_forgotten_and_can_be_loaded_again() -> None:
    Leaves.seen, Leaves.held = [], False
    async with loaded(Leaves) as handler:
        first = weakref.ref(handler._model)
        await handler.unload()
        gc.collect()
        assert first() is None
        await handler.load_again()
        assert handler.ready
        assert told(await handler.infer(tensor(1))) == [1]
        await handler.load_again()
        assert told(await handler.infer(tensor(1))) == [1]
        assert Leaves.seen == ["load", "close", "load", "predict", "close", "load", "predict"]


async def test_loading_and_unloading_take_turns() -> None:
    Leaves.seen, Leaves.held = [], False
    async with loaded(Leaves) as handler:
        await asyncio.gather(handler.unload(), handler.load_again(), handler.load_again())
        assert handler.ready
        assert Leaves.seen == ["load", "close", "load", "close", "load"]


class Mends(Model):
    """Fails to load until it is mended."""

    broken = True
    loads = 0

    def load(self) -> None:
        type(self).loads += 1
        if self.broken:
            raise FileNotFoundError("the weights are missing")

    def predict(self, x: Number) -> Number:
        return x


async def test_a_model_that_does_not_load_again_says_why() -> None:
    Mends.broken, Mends.loads = False, 0
    async with loaded(Mends) as handler:
        Mends.broken = True
        for _ in range(2):
            with pytest.raises(ModelNotReady, match="the weights are missing"):
                await handler.load_again()
            assert handler.lifecycle.state is State.FAILED
        await handler.unload()
        assert handler.lifecycle.state is State.FAILED
        Mends.broken = False
        await handler.load_again()
        assert handler.ready
        assert Mends.loads == 4


async def test_a_stop_while_a_model_is_unloaded() -> None:
    Leaves.seen, Leaves.held = [], True
    Leaves.began, Leaves.gate = threading.Event(), threading.Event()
    handler = handler_of(Leaves)
    await handler.load()
    asked = asyncio.create_task(handler.infer(tensor(1)))
    await reached(Leaves.began, "a prediction is under way")
    unloading = asyncio.create_task(handler.unload())
    await until(lambda: not handler.ready, "not ready at once")
    handler.lifecycle.move(State.DRAINING)
    closing = asyncio.create_task(handler.close(PATIENCE))
    Leaves.gate.set()
    assert told(await asked) == [1]
    assert await closing
    with suppress(ModelNotReady):
        await unloading
    assert Leaves.seen == ["load", "predict", "close"]
    assert handler.lifecycle.state is State.DRAINING
    with pytest.raises(ModelNotReady, match="the server is stopping"):
        await handler.unload()
