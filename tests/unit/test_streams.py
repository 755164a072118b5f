"""A stream of requests answered in order: how far it reads ahead, and how it ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from handlers import PATIENCE, until

from omi_runtime import ModelNotReady
from omi_runtime.transport.streams import Ordered


class Source:
    """Requests that a test gives one by one; notes how many have been read."""

    def __init__(self, *requests: Any, closed: bool = True) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.read = 0
        for request in requests:
            self._queue.put_nowait(request)
        if closed:
            self._queue.put_nowait(StopAsyncIteration)

    def put(self, request: Any) -> None:
        self._queue.put_nowait(request)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (request := await self._queue.get()) is not StopAsyncIteration:
            if isinstance(request, Exception):
                raise request
            self.read += 1
            yield request


async def twice(request: Any) -> AsyncIterator[Any]:
    yield request
    yield request


def ordered(source: Source, answer: Callable[[Any], AsyncIterator[Any]] = twice, **options: Any):
    defaults = {"ahead": 3, "size": len, "room": 100, "stopping": asyncio.Event()}
    return Ordered(aiter(source), answer, **defaults | options)


@pytest.mark.parametrize("ahead", [0, 1, 5])
async def test_answers_come_in_the_order_of_the_requests(ahead: int) -> None:
    async def answer(request: str) -> AsyncIterator[str]:
        await asyncio.sleep(0.01 if request == "slow" else 0)
        yield request
        yield request.upper()

    source = Source("slow", "a", "slow", "b")
    answers = [each async for each in ordered(source, answer, ahead=ahead).answers()]
    assert answers == ["slow", "SLOW", "a", "A", "slow", "SLOW", "b", "B"]


async def test_it_reads_no_further_than_it_may_be_ahead() -> None:
    source = Source(*"abcdefghijklm")
    async with aclosing(ordered(source, ahead=3).answers()) as answers:
        assert await anext(answers) == "a"
        await asyncio.sleep(0.01)
        assert source.read == 5  # one whose answers are taken, three that wait, one at the door
    assert source.read == 5


async def test_it_reads_no_more_bytes_than_it_has_room_for() -> None:
    source = Source("a" * 60, "b" * 60, "c", "d" * 500, "e", "f")
    async with aclosing(ordered(source, ahead=5).answers()) as answers:
        assert await anext(answers) == "a" * 60
        await asyncio.sleep(0.01)
        assert source.read == 2
        assert [each[:1] for each in [await anext(answers) for _ in range(4)]] == list("abbc")
        assert [each[:1] async for each in answers] == list("cddeeff")  # larger than the room


async def test_what_is_not_begun_ahead_is_begun_when_its_turn_comes() -> None:
    begun: list[str] = []

    async def answer(request: str) -> AsyncIterator[str]:
        begun.append(request)
        yield request

    async with aclosing(ordered(Source(*"abc"), answer, ahead=0).answers()) as answers:
        assert await anext(answers) == "a"
        await asyncio.sleep(0.01)
        assert begun == ["a"]


async def test_a_failure_to_read_comes_after_the_answers_to_what_was_read() -> None:
    answers = ordered(Source("a", ValueError("no message"))).answers()
    assert [await anext(answers), await anext(answers)] == ["a", "a"]
    with pytest.raises(ValueError, match="no message"):
        await anext(answers)


async def test_a_failure_to_answer_ends_it_and_the_other_failures_are_not_lost_sight_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(request: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        raise ValueError(request)
        yield

    with pytest.raises(ValueError, match="a"):
        await anext(ordered(Source(*"abc"), answer).answers())
    await asyncio.sleep(0.01)
    gc.collect()
    assert not caplog.records  # asyncio complains of an exception that nobody has looked at


async def test_leaving_it_ends_what_is_being_worked_on() -> None:
    ended: list[str] = []

    async def answer(request: str) -> AsyncIterator[str]:
        try:
            if request != "a":
                await asyncio.sleep(3600)
            yield request
        except asyncio.CancelledError:
            ended.append(request)
            raise

    async with aclosing(ordered(Source(*"abc", closed=False), answer).answers()) as answers:
        assert await anext(answers) == "a"
        await asyncio.sleep(0.01)
    assert sorted(ended) == ["b", "c"]


async def test_leaving_it_closes_the_answers_that_it_is_at() -> None:
    closed: list[str] = []

    async def answer(request: str) -> AsyncIterator[str]:
        try:
            yield request
            yield request
        finally:
            closed.append(request)

    async with aclosing(ordered(Source(*"ab"), answer, ahead=0).answers()) as answers:
        assert await anext(answers) == "a"
        assert not closed
    assert closed == ["a"]


async def test_a_stop_ends_it_when_nothing_more_comes() -> None:
    stopping = asyncio.Event()
    source = Source("a", closed=False)
    answers = ordered(source, stopping=stopping).answers()
    assert [await anext(answers), await anext(answers)] == ["a", "a"]
    stopping.set()
    source.put("b")  # what comes now is answered all the same
    assert [await anext(answers), await anext(answers)] == ["b", "b"]
    with pytest.raises(ModelNotReady, match="stopping"):
        await asyncio.wait_for(anext(answers), PATIENCE)


async def test_a_stop_waits_for_what_is_being_answered() -> None:
    stopping, gate = asyncio.Event(), asyncio.Event()

    async def answer(request: str) -> AsyncIterator[str]:
        await gate.wait()
        yield request

    answers = ordered(Source("a", closed=False), answer, stopping=stopping).answers()
    first = asyncio.create_task(anext(answers))
    stopping.set()
    await asyncio.sleep(0.3)
    assert not first.done()
    gate.set()
    await until(first.done, "it is answered")
    assert first.result() == "a"
    with pytest.raises(ModelNotReady, match="stopping"):
        await asyncio.wait_for(anext(answers), PATIENCE)
