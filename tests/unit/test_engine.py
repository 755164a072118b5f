"""The engine: whatever is merged, split, cancelled or refused, each caller gets its own answer."""

import asyncio
import gc
import math
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from handlers import PATIENCE, hold, loaded, reached, run, tensor, told, until, within
from hypothesis import given, settings
from hypothesis import strategies as st

from omi_runtime import (
    DeadlineExceeded,
    InvalidInput,
    Model,
    Overloaded,
    Tensor,
    current_request,
)
from omi_runtime.batch import Batch
from omi_runtime.engine import Engine
from omi_runtime.errors import InferenceFailed
from omi_runtime.handler import ModelHandler
from omi_runtime.jobs import Job
from omi_runtime.request import RequestContext
from omi_runtime.runner import NOTHING_MORE, Wanted

Number = Annotated[np.ndarray, Tensor("FP32")]
RAISE, SHORT, REFUSE, QUIT = -1, -2, -3, -4
SLOW, BUSY = 0.5, 80


class Sums(Model):
    """Adds up lists of any length; marked numbers spoil the batch that they are in."""

    max_batch_size = 5

    def load(self) -> None:
        self.calls: list[list[Any]] = []
        type(self).last = self

    def predict(
        self, x: Annotated[np.ndarray, Tensor("FP32", [-1])], scale: Number = 1
    ) -> Annotated[np.ndarray, Tensor("FP32", name="output")]:
        assert len(x) <= self.max_batch_size
        self.calls.append(x.tolist())
        if RAISE in x:
            raise ZeroDivisionError("marked")
        if REFUSE in x:
            raise InvalidInput("marked")
        if QUIT in x:
            raise SystemExit(7)
        total = x.sum(axis=1) * scale
        return total[1:] if SHORT in x else total

    def explain(self, x, scale=1) -> np.ndarray:
        return x.max(axis=1, initial=0)


class SumsOne(Sums):
    max_batch_size = 1

    def predict(self, x: Annotated[np.ndarray, Tensor("FP32", [-1])], scale: Number = 1) -> Number:
        if RAISE in x or SHORT in x:
            raise ZeroDivisionError("marked")
        if REFUSE in x:
            raise InvalidInput("marked")
        return x.sum() * scale

    def explain(self, x, scale=1) -> float:
        return float(x.max(initial=0))


class SumsOnThreads(Sums):
    thread_safe = True


class SumsOneOnThreads(SumsOne):
    thread_safe = True


class SumsOnTheLoop(Sums):
    async def predict(
        self, x: Annotated[np.ndarray, Tensor("FP32", [-1])], scale: Number = 1
    ) -> Annotated[np.ndarray, Tensor("FP32", name="output")]:
        await asyncio.sleep(0)
        return super().predict(x, scale)


numbers = st.sampled_from([1, 2, 3, 4, 5, 6, RAISE, SHORT, REFUSE])
rows = st.fixed_dictionaries(
    {"x": st.lists(numbers, max_size=3)}, optional={"scale": st.integers(1, 3)}
)
requests = st.lists(st.tuples(st.lists(rows, max_size=12), st.booleans()), min_size=1, max_size=12)


@pytest.mark.parametrize("model", [Sums, SumsOne, SumsOnThreads, SumsOneOnThreads, SumsOnTheLoop])
def test_any_mix_of_requests_is_answered_as_if_item_by_item(model: type[Model]) -> None:
    @given(mix=requests)
    @settings(max_examples=15)
    def mixed(mix: list[tuple[list[dict[str, Any]], bool]]) -> None:
        async def scenario() -> None:
            async with loaded(model, threads=3) as handler:
                together = await asyncio.gather(
                    *(ask(handler, rows, explain) for rows, explain in mix)
                )
                alone = [
                    [answer for row in rows for answer in await ask(handler, [row], explain)]
                    for rows, explain in mix
                ]
                assert together == alone
                assert handler._engine.items == 0

        run(scenario())

    mixed()


async def ask(handler: ModelHandler, rows: list[dict[str, Any]], explain: bool) -> list[Any]:
    arrays = [{name: np.array(value, "<f4") for name, value in row.items()} for row in rows]
    result = await handler.infer_rows(arrays, Wanted(explanation=explain))
    assert result.n == len(rows)
    why = result.explanation or [None] * len(rows)
    return [
        (answer, None if row in result.errors else str(why[row] is not None))
        for row, answer in enumerate(told(result))
    ]


class Gated(Model):
    """Notes what it sees, and waits for a gate before the answer to a number below zero."""

    max_batch_size = 4

    def load(self) -> None:
        type(self).last = self
        self.calls: list[list[float]] = []
        self.threads: set[str] = {threading.current_thread().name}
        self.entered, self.gate = threading.Event(), threading.Event()

    def predict(self, x: Number) -> Number:
        self.calls.append(x.tolist())
        self.threads.add(threading.current_thread().name)
        if (x < 0).any():
            self.entered.set()
            hold(self.gate)
        return x * 2

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)


class GatedByLength(Gated):
    def predict(self, x: Annotated[np.ndarray, Tensor("FP32", [-1])]) -> Number:
        return super().predict(x[:, 0]) if x.shape[1] else x.sum(axis=1)


async def blocked(handler: ModelHandler) -> "asyncio.Task[Any]":
    """A request that holds up the model until its gate opens."""
    task = asyncio.create_task(handler.infer(tensor(-1)))
    await reached(Gated.last.entered, "the model is busy")
    return task


async def test_what_waits_is_merged_up_to_the_largest_batch() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        waiting = [asyncio.create_task(handler.infer(tensor(i))) for i in range(10)]
        await until(lambda: handler._engine.items == 11, "all are queued")
        Gated.last.gate.set()
        answers = [told(await task) for task in [first, *waiting]]
    assert answers == [[-2], *([i * 2] for i in range(10))]
    assert Gated.last.calls == [[-1], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_nothing_waits_for_company_unless_told() -> None:
    async with loaded(Gated) as handler:
        for i in range(3):
            assert told(await handler.infer(tensor(i))) == [i * 2]
    assert Gated.last.calls == [[0], [1], [2]]


@pytest.mark.parametrize(("own", "largest"), [(2, 2), (3, 3), (99, 4), (None, 4)])
async def test_the_operator_can_only_lower_the_batch_size(own: int | None, largest: int) -> None:
    async with loaded(Gated, max_batch_size=own) as handler:
        await handler.infer(tensor(*range(9)))
    assert max(map(len, Gated.last.calls)) == largest
    assert [x for call in Gated.last.calls for x in call] == list(range(9))


async def test_a_request_that_was_cancelled_never_reaches_the_model() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        gone = asyncio.create_task(handler.infer(tensor(10, 11, 12, 13, 14, 15)))
        stays = asyncio.create_task(handler.infer(tensor(20)))
        at_once = asyncio.create_task(handler.infer(tensor(30)))
        await until(lambda: handler._engine.items == 9, "all are queued")
        gone.cancel()
        at_once.cancel()
        await until(lambda: handler._engine.items == 2, "the room is free again")
        Gated.last.gate.set()
        assert told(await stays) == [40]
        await first
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert Gated.last.calls == [[-1], [20]]


async def test_of_a_cancelled_request_of_several_parts_none_reaches_the_model() -> None:
    rows = [{"x": np.array([20] * n, "<f4")} for n in (1, 2, 3, 1)]
    async with loaded(GatedByLength) as handler:
        first = asyncio.create_task(handler.infer(tensor([-1])))
        await reached(GatedByLength.last.entered, "the model is busy")
        gone = asyncio.create_task(handler.infer_rows(rows))
        await until(lambda: handler._engine.items == 5, "all are queued")
        gone.cancel()
        await until(lambda: handler._engine.items == 1, "the room is free again")
        GatedByLength.last.gate.set()
        await first
    assert GatedByLength.last.calls == [[-1]]


async def test_a_request_of_several_parts_is_taken_whole_or_not_at_all() -> None:
    rows = [{"x": np.array([20] * n, "<f4")} for n in (1, 2, 3)]
    async with loaded(GatedByLength, queue_size=3) as handler:
        first = asyncio.create_task(handler.infer(tensor([-1])))
        await reached(GatedByLength.last.entered, "the model is busy")
        with pytest.raises(Overloaded):
            await handler.infer_rows(rows)
        GatedByLength.last.gate.set()
        await first
        assert told(await handler.infer_rows(rows)) == [40, 40, 40]
    assert GatedByLength.last.calls == [[-1], [20], [20], [20]]


async def test_the_rest_of_a_large_request_is_dropped_when_its_caller_leaves() -> None:
    async with loaded(Gated) as handler:
        large = asyncio.create_task(handler.infer(tensor(1, 2, 3, -4, 5, 6, 7, 8, 9)))
        await reached(Gated.last.entered, "the first chunk is running")
        large.cancel()
        after = asyncio.create_task(handler.infer(tensor(50)))
        await until(lambda: handler._engine.items == 1, "the caller has left")
        Gated.last.gate.set()
        assert told(await after) == [100]
    assert Gated.last.calls == [[1, 2, 3, -4], [50]]


# --- a batch that fails, and is run again item by item ---


class Fragile(Gated):
    """Batches with a zero fail; it stops at an item below zero that is alone."""

    def predict(self, x: Number) -> Number:
        if len(x) > 1 and (x == 0).any():
            self.calls.append(x.tolist())
            raise ZeroDivisionError("zero")
        return super().predict(x)


async def test_others_have_their_turns_between_the_items_of_a_batch_that_failed() -> None:
    async with loaded(Fragile) as handler:
        failing = asyncio.create_task(handler.infer(tensor(-1, 0, 1, 2)))
        await reached(Fragile.last.entered, "the first item is run by itself")
        other = asyncio.create_task(handler.infer(tensor(9)))
        await until(lambda: handler._engine.items == 5, "another waits")
        Fragile.last.gate.set()
        assert told(await other) == [18]
        assert told(await failing) == [-2, 0, 2, 4]
    calls = Fragile.last.calls
    assert [call for call in calls if call != [9]] == [[-1, 0, 1, 2], [-1], [0], [1], [2]]
    assert calls[-1] != [9]


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "expires"])
async def test_a_batch_that_failed_is_not_run_again_for_nobody(leaves: bool) -> None:
    async with loaded(Fragile) as handler:
        request = within(handler, None if leaves else 0.2)
        failing = asyncio.create_task(handler.infer(tensor(-1, 0, 1, 2), request=request))
        await reached(Fragile.last.entered, "the first item is run by itself")
        if leaves:
            failing.cancel()
        with pytest.raises(asyncio.CancelledError if leaves else DeadlineExceeded):
            await failing
        Fragile.last.gate.set()
        assert told(await handler.infer(tensor(9))) == [18]
    assert Fragile.last.calls == [[-1, 0, 1, 2], [-1], [9]]


# --- the bound of the queue ---


@pytest.mark.parametrize("n", [8, 9, 100])
async def test_a_request_of_many_items_leaves_room_for_others(n: int) -> None:
    async with loaded(Gated, queue_size=8) as handler:
        large = asyncio.create_task(handler.infer(tensor(-1, *range(1, n))))
        await reached(Gated.last.entered, "the model is at the first of them")
        others = [asyncio.create_task(handler.infer(tensor(1000 + i))) for i in range(4)]
        await until(lambda: handler._engine.items == n + 4, "others are taken too")
        with pytest.raises(Overloaded, match=f"{n + 4} items wait and OMI_QUEUE_SIZE is 8"):
            await handler.infer(tensor(5))
        Gated.last.gate.set()
        assert [told(await other) for other in others] == [[2000 + 2 * i] for i in range(4)]
        assert (await large).n == n
        assert handler._engine.items == handler._engine._counted == 0


async def test_a_full_queue_refuses_and_recovers() -> None:
    async with loaded(Gated, queue_size=4) as handler:
        first = await blocked(handler)
        waiting = [asyncio.create_task(handler.infer(tensor(i))) for i in range(3)]
        await until(lambda: handler._engine.items == 4, "the queue is full")
        with pytest.raises(Overloaded, match="the queue is full: 4 items wait and OMI_QUEUE_SIZE"):
            await handler.infer(tensor(9))
        with pytest.raises(Overloaded):
            await handler.infer_rows([{"x": np.array(9, "<f4")}])
        Gated.last.gate.set()
        assert [told(await task) for task in [first, *waiting]] == [[-2], [0], [2], [4]]
        assert told(await handler.infer(tensor(5))) == [10]
    assert 9 not in [x for call in Gated.last.calls for x in call]


async def test_a_cancelled_request_leaves_room() -> None:
    async with loaded(Gated, queue_size=2) as handler:
        first = await blocked(handler)
        gone = asyncio.create_task(handler.infer(tensor(1)))
        await until(lambda: handler._engine.items == 2, "the queue is full")
        gone.cancel()
        await until(lambda: handler._engine.items == 1, "it has gone")
        other = asyncio.create_task(handler.infer(tensor(2)))
        await until(lambda: handler._engine.items == 2, "another took its place")
        Gated.last.gate.set()
        assert [told(await task) for task in (first, other)] == [[-2], [4]]


async def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async with loaded(Gated, queue_size=3) as handler:
        result = await handler.infer(tensor(*range(10)))
        assert told(result) == [i * 2 for i in range(10)]
        first = await blocked(handler)
        with pytest.raises(Overloaded):
            await handler.infer(tensor(1, 2, 3))
        Gated.last.gate.set()
        await first


# --- fairness ---


async def test_a_huge_request_does_not_starve_the_small() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        huge = asyncio.create_task(handler.infer(tensor(*range(100, 500))))
        small = [asyncio.create_task(handler.infer(tensor(i))) for i in range(3)]
        await until(lambda: handler._engine.items == 404, "all are queued")
        Gated.last.gate.set()
        assert [told(await task) for task in small] == [[0], [2], [4]]
        assert told(await huge) == [i * 2 for i in range(100, 500)]
        await first
    order = [x for call in Gated.last.calls for x in call]
    assert max(order.index(i) for i in range(3)) <= 12


@pytest.mark.parametrize("huge_first", [True, False])
async def test_requests_of_another_shape_get_their_turn(huge_first: bool) -> None:
    async with loaded(GatedByLength) as handler:
        first = asyncio.create_task(handler.infer(tensor([-1])))
        await reached(GatedByLength.last.entered, "the model is busy")
        batches = [tensor(*([i] for i in range(100, 500))), tensor([7, 7])]
        asking = [
            asyncio.create_task(handler.infer(batch))
            for batch in (batches if huge_first else batches[::-1])
        ]
        await until(lambda: handler._engine.items == 402, "all are queued")
        GatedByLength.last.gate.set()
        await asyncio.gather(first, *asking)
    assert [7] in GatedByLength.last.calls[:4]


# --- deadlines ---


async def test_a_request_that_expires_in_the_queue_never_reaches_the_model() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        stays = asyncio.create_task(handler.infer(tensor(20)))
        for seconds in (0.05, 0.01, 0.03, 0):
            with pytest.raises(DeadlineExceeded, match="the limit that the caller set"):
                await handler.infer(tensor(10, 11), request=within(handler, seconds))
        assert handler._engine.items == 2, "the room is free again"
        Gated.last.gate.set()
        assert told(await stays) == [40]
        await first
    assert Gated.last.calls == [[-1], [20]]


async def test_a_request_that_came_too_late_never_reaches_an_idle_model() -> None:
    async with loaded(Gated) as handler:
        late = within(handler, 0.001)
        await until(lambda: time.monotonic() > late.deadline, "it is over")
        for _ in range(20):
            with pytest.raises(DeadlineExceeded):
                await handler.infer(tensor(1), request=late)
    assert Gated.last.calls == []


async def test_a_request_that_is_being_predicted_expires_while_the_model_goes_on() -> None:
    async with loaded(Gated, timeout=0.05) as handler:
        with pytest.raises(
            DeadlineExceeded, match=r"^not answered within 0.05 s, the limit of OMI"
        ):
            await handler.infer(tensor(-1))
        assert Gated.last.calls == [[-1]]
        assert handler._engine.running
        assert handler._engine.items == 0, "what nobody waits for takes no room"
        Gated.last.gate.set()
        await until(lambda: not handler._engine.running, "the model has finished")
        assert told(await handler.infer(tensor(2), request=within(handler, PATIENCE))) == [4]
        assert handler._engine.items == 0


async def test_many_requests_expire_each_at_its_own_time() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        late = []

        async def expire(seconds: float) -> None:
            limit = within(handler, seconds)
            with pytest.raises(DeadlineExceeded):
                await handler.infer(tensor(5), request=limit)
            late.append(time.monotonic() - limit.deadline)

        await asyncio.gather(*(expire(0.02 + i % 7 / 50) for i in range(50)))
        assert min(late) >= 0
        assert sorted(late)[25] < 1, "the machine may be busy, but not always"
        assert handler._engine.items == 1
        Gated.last.gate.set()
        await first
    assert Gated.last.calls == [[-1]]


async def test_the_rest_of_a_large_request_is_dropped_when_it_expires() -> None:
    async with loaded(Gated) as handler:
        large = asyncio.create_task(
            handler.infer(tensor(1, 2, 3, -4, 5, 6, 7), request=within(handler, 0.3))
        )
        await reached(Gated.last.entered, "the first chunk is running")
        with pytest.raises(DeadlineExceeded):
            await large
        after = asyncio.create_task(handler.infer(tensor(50)))
        Gated.last.gate.set()
        assert told(await after) == [100]
        assert handler._engine.items == 0
    assert Gated.last.calls == [[1, 2, 3, -4], [50]]


async def test_a_request_of_several_parts_expires_whole() -> None:
    rows = [{"x": np.array([20] * n, "<f4")} for n in (1, 2, 3, 1)]
    async with loaded(GatedByLength) as handler:
        first = asyncio.create_task(handler.infer(tensor([-1])))
        await reached(GatedByLength.last.entered, "the model is busy")
        with pytest.raises(DeadlineExceeded):
            await handler.infer_rows(rows, request=within(handler, 0.05))
        assert handler._engine.items == 1
        GatedByLength.last.gate.set()
        await first
        assert told(await handler.infer_rows(rows, request=within(handler, PATIENCE))) == [
            40,
            40,
            40,
            40,
        ]
    assert GatedByLength.last.calls[0] == [-1]


async def test_what_expired_holds_no_memory_while_the_model_is_busy() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        batch = tensor(1, 2, 3)
        data = weakref.ref(batch.columns["x"])
        with pytest.raises(DeadlineExceeded):
            await handler.infer(batch, request=within(handler, 0.01))
        del batch
        gc.collect()
        assert data() is None
        Gated.last.gate.set()
        await first


# --- what a model knows of its requests ---


class Asks(Model):
    """Says for whom it is being called."""

    max_batch_size = 4
    last: Any = None

    def load(self) -> None:
        type(self).last = self
        self.entered, self.gate, self.seen = threading.Event(), threading.Event(), []
        self.outside = current_request()

    def predict(self, x: Number) -> Number:
        request = current_request()
        if x.min() < 0:
            assert not request.cancelled
            self.entered.set()
            hold(self.gate)
        self.seen.append((request.ids, request.deadline, request.cancelled))
        return x


class AsksOnTheLoop(Asks):
    async def predict(self, x: Number) -> Number:
        await asyncio.sleep(0)
        request = current_request()
        self.seen.append((request.ids, request.deadline, request.cancelled))
        return x


async def test_a_model_knows_for_whom_it_is_called() -> None:
    async with loaded(Asks) as handler:
        first = handler.begin(request_id="first")
        busy = asyncio.create_task(handler.infer(tensor(-1), request=first))
        await reached(Asks.last.entered, "the model is busy")
        merged = [handler.begin(request_id=name) for name in ("a", "b")]
        merged[1].allow(PATIENCE)
        waiting = [asyncio.create_task(handler.infer(tensor(1), request=r)) for r in merged]
        await asyncio.sleep(0)
        Asks.last.gate.set()
        await asyncio.gather(busy, *waiting)
    assert Asks.last.seen == [
        (("first",), first.deadline, False),
        (("a", "b"), merged[0].deadline, False),
    ]


async def test_a_model_knows_when_nobody_waits_any_more() -> None:
    for leave in (0.05, None):
        async with loaded(Asks) as handler:
            request = within(handler, leave)
            busy = asyncio.create_task(handler.infer(tensor(-1), request=request))
            await reached(Asks.last.entered, "the model is busy")
            if leave is None:
                busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
            Asks.last.gate.set()
            await until(lambda: bool(Asks.last.seen), "the model has finished")
        ((_, _, cancelled),) = Asks.last.seen
        assert cancelled


async def test_an_async_model_knows_for_whom_it_is_called() -> None:
    async with loaded(AsksOnTheLoop) as handler:
        requests = [handler.begin(request_id=str(i)) for i in range(20)]
        await asyncio.gather(*(handler.infer(tensor(1), request=r) for r in requests))
    seen = [name for ids, _, _ in AsksOnTheLoop.last.seen for name in ids]
    assert sorted(seen) == sorted(r.id for r in requests)


async def test_outside_of_a_request_there_is_one_that_never_ends() -> None:
    async with loaded(Asks):
        outside = Asks.last.outside
    assert (outside.id, outside.deadline, outside.cancelled) == ("", math.inf, False)


def test_ids_that_are_made_are_all_different() -> None:
    assert len({RequestContext().id for _ in range(1000)}) == 1000


@pytest.mark.parametrize("model", [Sums, SumsOnThreads, SumsOnTheLoop])
def test_any_mix_of_limits_is_answered_right_or_not_at_all(model: type[Model]) -> None:
    limits = st.sampled_from([None, 0.0, 0.0005, 0.002, PATIENCE])

    @given(mix=st.lists(st.tuples(st.integers(1, 12), limits), min_size=1, max_size=20))
    @settings(max_examples=15)
    def mixed(mix: list[tuple[int, float | None]]) -> None:
        async def scenario() -> None:
            async with loaded(model, threads=3) as handler:
                answers = await asyncio.gather(
                    *(
                        handler.infer(
                            tensor(*([i, 1] for i in range(n))), request=within(handler, seconds)
                        )
                        for n, seconds in mix
                    ),
                    return_exceptions=True,
                )
                for (n, seconds), answer in zip(mix, answers, strict=True):
                    if isinstance(answer, DeadlineExceeded):
                        assert seconds is not None
                        assert seconds < PATIENCE
                    else:
                        assert seconds != 0
                        assert told(answer) == [i + 1 for i in range(n)]
                assert handler._engine.items == 0

        run(scenario())

    mixed()


# --- OMI_BATCH_DELAY_MS ---


async def test_a_delay_gathers_requests_until_the_batch_is_full() -> None:
    async with loaded(Gated, batch_delay_ms=PATIENCE * 1000) as handler:
        began = time.monotonic()
        waiting = []
        for i in range(4):
            waiting.append(asyncio.create_task(handler.infer(tensor(i))))
            for _ in range(5):
                await asyncio.sleep(0.001)  # turns of the loop, so that each comes by itself
        assert [told(await task) for task in waiting] == [[0], [2], [4], [6]]
        assert time.monotonic() - began < PATIENCE / 2
    assert Gated.last.calls == [[0, 1, 2, 3]]


async def test_a_delay_ends_although_nobody_comes() -> None:
    async with loaded(Gated, batch_delay_ms=20) as handler:
        began = time.monotonic()
        assert told(await handler.infer(tensor(1))) == [2]
        assert time.monotonic() - began >= 0.02


# --- threads ---


async def test_load_predict_and_close_share_a_thread_unless_the_model_is_thread_safe() -> None:
    async with loaded(Gated, threads=4) as handler:
        await asyncio.gather(*(handler.infer(tensor(i)) for i in range(50)))
    assert len(Gated.last.threads) == 1
    assert threading.current_thread().name not in Gated.last.threads


class Meets(Model):
    """Answers only when as many callers are there as the test wants."""

    thread_safe = True
    parties = 3

    def load(self) -> None:
        self.barrier = threading.Barrier(self.parties)

    def predict(self, x: Number) -> Number:
        self.barrier.wait(PATIENCE)
        return x


async def test_a_thread_safe_model_is_called_by_several_threads_at_once() -> None:
    async with loaded(Meets, threads=3) as handler:
        results = await asyncio.gather(*(handler.infer(tensor(i)) for i in range(6)))
    assert [told(result) for result in results] == [[i] for i in range(6)]


class Counter(Model):
    """Not thread-safe: it loses counts if two threads are in it at once."""

    max_batch_size = 3

    def load(self) -> None:
        self.count = self.inside = 0

    def predict(self, x: Number) -> Number:
        self.inside += 1
        assert self.inside == 1
        count = self.count
        time.sleep(0)  # lets any other thread in
        self.count = count + len(x)
        self.inside -= 1
        return np.full(len(x), self.count, "<f4")


async def test_calls_of_a_model_that_is_not_thread_safe_are_serialised() -> None:
    async with loaded(Counter, threads=8) as handler:
        results = await asyncio.gather(*(handler.infer(tensor(i)) for i in range(200)))
        assert not any(result.errors for result in results)
        assert max(told(result)[0] for result in results) == 200


async def test_the_loop_is_free_while_the_model_is_busy() -> None:
    async with loaded(Gated) as handler:
        first = await blocked(handler)
        assert handler.running
        assert handler.live
        assert handler.ready
        assert handler.card is not None
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not first.done()
        Gated.last.gate.set()
        await first
        assert not handler.running


async def test_no_thread_of_the_engine_holds_up_the_exit() -> None:
    async with loaded(Meets, threads=3):
        mine = [t for t in threading.enumerate() if t.name.startswith("omi-engine")]
        assert len(mine) >= 3
        assert all(thread.daemon for thread in mine)


async def test_the_threads_end_with_the_engine() -> None:
    before = set(threading.enumerate())
    async with loaded(Meets, threads=3):
        assert set(threading.enumerate()) - before
    await until(lambda: not set(threading.enumerate()) - before, "the threads have ended")


# --- what no exception handler of an author's code expects ---


async def test_a_model_that_quits_is_answered_for_and_the_thread_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with loaded(Sums) as handler:
        quits = "INFERENCE_FAILED: sums: SystemExit: 7"
        assert told(await handler.infer(tensor([1, QUIT], [2, 3]))) == [quits, 5]
        assert told(await handler.infer(tensor([1, 2]))) == [3]
    assert "SystemExit" in caplog.text


@pytest.mark.parametrize("error", [StopIteration("end"), SystemExit(3), KeyboardInterrupt()])
async def test_a_call_tells_what_no_future_can_carry(error: BaseException) -> None:
    engine = Engine()

    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=f"the model raised {type(error).__name__}") as raised:
        async with asyncio.timeout(PATIENCE):
            await engine.call(fail)
    assert raised.value.__cause__ is error
    assert await engine.call(lambda: 5) == 5
    engine.close()


class ClosesBadly(Model):
    error: BaseException

    def predict(self, x: Number) -> Number:
        return x

    def close(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), SystemExit(1)])
async def test_a_close_that_raises_is_logged_and_over(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    ClosesBadly.error = error
    async with loaded(ClosesBadly):
        pass
    assert "closes-badly.close raised" in caplog.text
    assert type(error).__name__ in caplog.text


async def test_a_bug_of_ours_fails_its_callers_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine()

    def broken(batch: Batch, wanted: Wanted) -> Any:
        raise AssertionError("a bug")

    engine.configure(broken, max_batch_size=4, threads=1)
    job = Job(tensor(1, 2), NOTHING_MORE, RequestContext())
    engine.admit([job])
    result = await job.future
    assert result is not None
    assert [error.code.value for error in result.errors.values()] == ["INTERNAL", "INTERNAL"]
    assert "a bug" not in result.errors[0].message
    assert "a bug" in caplog.text
    engine.close()


# --- streams ---


class Counts(Model):
    """Yields numbers, with a note of all that happened, by thread."""

    def load(self) -> None:
        type(self).last = self
        self.notes: list[str] = []
        self.threads: set[str] = {threading.current_thread().name}
        self.entered, self.gate = threading.Event(), threading.Event()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.threads.add(threading.current_thread().name)

    def predict(self, x: Number) -> Iterator[Annotated[int, Tensor("INT64", name="output")]]:
        self.note(f"begin {x.item():g}")
        if x == SLOW:
            time.sleep(0.001)
        try:
            for number in range(math.ceil(abs(x))):
                if x < 0 and number == 1:
                    self.entered.set()
                    hold(self.gate)
                if x == BUSY:
                    time.sleep(0.0005)  # long enough that other readers ask meanwhile
                self.note(f"yield {x.item():g}.{number}")
                yield number
            if x == 3:
                raise ZeroDivisionError("three")
        finally:
            self.note(f"end {x.item():g}")


class CountsOnThreads(Counts):
    thread_safe = True


async def test_a_unary_caller_gets_all_that_was_yielded() -> None:
    async with loaded(Counts) as handler:
        result = await handler.infer(tensor(2, 0, 3, 1))
    assert told(result) == [
        [0, 1],
        [],
        "INFERENCE_FAILED: counts: ZeroDivisionError: three",
        [0],
    ]


@pytest.mark.parametrize("model", [Counts, CountsOnThreads])
async def test_a_stream_gives_each_value_as_it_is_asked_for(model: type[Counts]) -> None:
    async with loaded(model, threads=3) as handler:
        values = handler.infer_stream(tensor(2))
        assert told(await anext(values)) == [0]
        assert model.last.notes == ["begin 2", "yield 2.0"]
        assert told(await anext(values)) == [1]
        assert model.last.notes == ["begin 2", "yield 2.0", "yield 2.1"]
        with pytest.raises(StopAsyncIteration):
            await anext(values)
        assert model.last.notes[-1] == "end 2"


async def test_a_stream_fails_where_the_model_fails() -> None:
    async with loaded(Counts) as handler:
        values = handler.infer_stream(tensor(3))
        assert [told(await anext(values)) for _ in range(3)] == [[0], [1], [2]]
        with pytest.raises(Exception, match="counts: ZeroDivisionError: three") as failure:
            await anext(values)
        assert getattr(failure.value, "code", None) == "INFERENCE_FAILED"
        assert handler._engine.items == 0


@pytest.mark.parametrize("model", [Counts, CountsOnThreads])
async def test_a_reader_that_leaves_ends_the_generator_on_a_thread_of_the_model(
    model: type[Counts],
) -> None:
    async with loaded(model, threads=3) as handler:
        values = handler.infer_stream(tensor(100))
        await anext(values)
        await values.aclose()
        assert model.last.notes == ["begin 100", "yield 100.0", "end 100"]
        assert handler._engine.items == 0
    assert threading.current_thread().name not in model.last.threads
    assert model is CountsOnThreads or len(model.last.threads) == 1


@pytest.mark.parametrize("times", [1, 2])  # a deadline is often told by both clocks at once
@pytest.mark.parametrize("model", [Counts, CountsOnThreads])
async def test_a_reader_that_leaves_while_a_value_is_computed_ends_it_afterwards(
    model: type[Counts], times: int
) -> None:
    async with loaded(model, threads=3) as handler:
        values = handler.infer_stream(tensor(-5))
        await anext(values)
        asking = asyncio.create_task(anext(values))
        await reached(model.last.entered, "the second value is being computed")
        for _ in range(times):
            asking.cancel()
            await asyncio.sleep(0)
        model.last.gate.set()
        with pytest.raises(asyncio.CancelledError) as left:  # which holds on to the generator
            await asking
        await values.aclose()
        await until(lambda: "end -5" in model.last.notes, "the generator has ended")
        assert model.last.notes == ["begin -5", "yield -5.0", "yield -5.1", "end -5"]
        del left
        assert handler._engine.items == 0
    assert threading.current_thread().name not in model.last.threads


async def test_a_reader_that_left_before_the_first_value_never_reaches_the_model() -> None:
    async with loaded(Counts) as handler:
        busy = asyncio.create_task(handler.infer(tensor(-2)))
        await reached(Counts.last.entered, "the model is busy")
        asking = asyncio.create_task(anext(handler.infer_stream(tensor(7))))
        await until(lambda: handler._engine.items == 2, "the stream is queued")
        asking.cancel()
        await asyncio.sleep(0)
        Counts.last.gate.set()
        assert told(await busy) == [[0, 1]]
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert "begin 7" not in Counts.last.notes


async def test_a_stream_whose_time_is_over_ends_at_once_and_its_generator_afterwards() -> None:
    async with loaded(Counts) as handler:
        request = RequestContext(seconds=1, source="limit of the test")
        values = handler.infer_stream(tensor(-5), request)
        assert told(await anext(values)) == [0]
        with pytest.raises(
            DeadlineExceeded, match="not answered within 1 s, the limit of the test"
        ):
            await anext(values)  # while the model is at it
        assert handler._engine.items == 0
        assert request.cancelled
        assert Counts.last.notes == ["begin -5", "yield -5.0"]
        Counts.last.gate.set()
        assert told(await handler.infer(tensor(1))) == [[0]]
        assert Counts.last.notes[:4] == ["begin -5", "yield -5.0", "yield -5.1", "end -5"]


async def test_a_reader_that_is_too_late_for_the_next_value_does_not_get_it() -> None:
    async with loaded(Counts) as handler:
        request = RequestContext()
        values = handler.infer_stream(tensor(2), request)
        assert told(await anext(values)) == [0]
        request.allow(0)
        with pytest.raises(DeadlineExceeded):
            await anext(values)
        await until(lambda: Counts.last.notes[-1] == "end 2", "the generator has ended")


async def test_a_stream_whose_time_is_over_in_the_queue_never_reaches_the_model() -> None:
    async with loaded(Counts) as handler:
        busy = asyncio.create_task(handler.infer(tensor(-2)))
        await reached(Counts.last.entered, "the model is busy")
        with pytest.raises(DeadlineExceeded):
            await anext(handler.infer_stream(tensor(7), RequestContext(seconds=0.05)))
        Counts.last.gate.set()
        assert told(await busy) == [[0, 1]]
    assert "begin 7" not in Counts.last.notes


async def test_other_work_goes_on_between_two_values() -> None:
    async with loaded(Counts) as handler:
        slow = handler.infer_stream(tensor(4))
        await anext(slow)
        assert told(await handler.infer(tensor(1))) == [[0]]  # the slow reader holds up nobody
        other = handler.infer_stream(tensor(2))
        assert [told(value) async for value in other] == [[0], [1]]
        assert [told(value) async for value in slow] == [[1], [2], [3]]


async def test_a_stream_and_a_long_queue_take_turns() -> None:
    async with loaded(Counts, queue_size=5000) as handler:
        values = handler.infer_stream(tensor(20))
        await anext(values)
        queue = asyncio.create_task(handler.infer(tensor(*[SLOW] * 3000)))
        assert len([told(value) async for value in values]) == 19
        assert not queue.done()  # the stream did not wait for the end of the queue
        queue.cancel()
    notes = [note for note in Counts.last.notes if note.startswith("yield")]
    assert f"yield {SLOW}.0" in notes[: notes.index("yield 20.19")]  # nor the queue for the stream


async def test_greedy_streams_do_not_starve_the_queue() -> None:
    async def read(handler: ModelHandler, began: asyncio.Event) -> None:
        async for _ in handler.infer_stream(tensor(BUSY)):
            began.set()

    async with loaded(Counts) as handler:
        began = [asyncio.Event() for _ in range(5)]
        streams = [asyncio.create_task(read(handler, event)) for event in began]
        for event in began:
            await event.wait()
        assert told(await handler.infer(tensor(1))) == [[0]]
        await asyncio.gather(*streams)
    notes = Counts.last.notes
    after = [note for note in notes[notes.index("yield 1.0") :] if "yield" in note]
    assert len(after) > BUSY  # the five have more than that left, and did not go first


async def test_streams_count_in_the_queue() -> None:
    async with loaded(Counts, queue_size=1) as handler:
        values = handler.infer_stream(tensor(2))
        await anext(values)
        with pytest.raises(Overloaded):
            await handler.infer(tensor(1))
        with pytest.raises(Overloaded):
            await anext(handler.infer_stream(tensor(1)))
        await values.aclose()
        assert told(await handler.infer(tensor(1))) == [[0]]


class Panic(BaseException):
    """What libraries in other languages raise when their code is broken."""


class Panics(Model):
    max_batch_size = 8

    async def predict(self, x: Number) -> Number:
        if (x == 1).any():
            raise Panic("one")
        if (x == 2).any():
            raise KeyboardInterrupt("two")
        return x


async def test_what_is_no_exception_fails_its_own_item_alone() -> None:
    async with loaded(Panics) as handler:
        assert told(await handler.infer(tensor(0, 1, 2, 3))) == [
            0,
            "INFERENCE_FAILED: panics: Panic: one",
            "INFERENCE_FAILED: panics: RuntimeError: the model raised KeyboardInterrupt('two')",
            3,
        ]


class Quits(Model):
    def predict(self, x: Number) -> Iterator[Number]:
        yield x
        raise SystemExit(3)


async def test_a_stream_that_quits_does_not_end_the_process() -> None:
    async with loaded(Quits) as handler:
        values = handler.infer_stream(tensor(1))
        await anext(values)
        with pytest.raises(InferenceFailed, match="quits: SystemExit: 3"):
            await anext(values)


async def test_a_model_that_does_not_yield_streams_one_answer() -> None:
    async with loaded(SumsOne) as handler:
        assert [told(value) async for value in handler.infer_stream(tensor([1, 2]))] == [[3]]
        with pytest.raises(InvalidInput, match="marked"):
            await anext(handler.infer_stream(tensor([REFUSE])))
