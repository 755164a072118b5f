"""Streams of requests that are answered in order, in bounded memory, until the server stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Final, Generic, TypeAlias, TypeVar

from omi_runtime.errors import ModelNotReady

QUIET_SECONDS: Final = 0.1
"""How long no request has to come for a stream of a stopping server to end."""

Q = TypeVar("Q")
A = TypeVar("A")

_Answers: TypeAlias = asyncio.Task[list[A]] | AsyncGenerator[A, None]
"""The answers to one request: already being worked on, or begun when they are asked for."""


class Ordered(Generic[Q, A]):
    """Reads requests no faster than their answers are taken, which holds up whoever sends them.

    Args:
        requests: as they come; the end of them is the end of the answers.
        answer: the answers to one request.
        ahead: how many requests may be worked on while an earlier one's answers are awaited or
            taken. With 0 a request is begun when the one before is answered.
        size: of a request, in bytes; no more are read while `room` bytes wait for their answers.
        room: see `size`.
        stopping: when it is set, the stream goes on for as long as requests keep coming, and then
            ends with ModelNotReady.
    """

    def __init__(
        self,
        requests: AsyncIterator[Q],
        answer: Callable[[Q], AsyncGenerator[A, None]],
        *,
        ahead: int,
        size: Callable[[Q], int],
        room: int,
        stopping: asyncio.Event,
    ) -> None:
        self._requests = requests
        self._answer = answer
        self._ahead = ahead
        self._size = size
        self._room = room
        self._stopping = stopping
        self._queue: asyncio.Queue[tuple[int, _Answers[A]] | None]
        self._queue = asyncio.Queue(max(1, ahead))
        self._tasks: set[asyncio.Task[list[A]]] = set()
        self._unanswered = 0
        self._held = 0
        self._answered = asyncio.Event()
        self._last_busy = time.monotonic()
        self._failure: Exception | None = None

    async def answers(self) -> AsyncGenerator[A, None]:
        """All answers, to be iterated over once.

        Raises:
            Exception: what reading the requests raised, after the answers to those before.
            ModelNotReady: the server is stopping.
        """
        reader = asyncio.create_task(self._read())
        watch = asyncio.create_task(self._end_when_idle(reader))
        try:
            while (entry := await self._queue.get()) is not None:
                size, answers = entry
                if isinstance(answers, asyncio.Task):
                    for answer in await answers:
                        yield answer
                else:
                    async with aclosing(answers):  # also when nobody takes the rest
                        async for answer in answers:
                            yield answer
                self._note_answered(size)
            if self._failure is not None:
                raise self._failure
        finally:
            tasks = [reader, watch, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        with suppress(asyncio.CancelledError):
            try:
                async for request in self._requests:
                    size = self._size(request)
                    self._held += size
                    self._unanswered += 1
                    self._last_busy = time.monotonic()
                    await self._queue.put((size, self._begin(request)))
                    while self._held > self._room:
                        self._answered.clear()
                        await self._answered.wait()
            except Exception as error:  # noqa: BLE001 - raised where the answers are taken
                self._failure = error
            await self._queue.put(None)

    def _begin(self, request: Q) -> _Answers[A]:
        answers = self._answer(request)
        if not self._ahead:
            return answers
        task = asyncio.create_task(_collect(answers))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[list[A]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # noted, for an earlier failure may have ended the stream

    def _note_answered(self, size: int) -> None:
        self._held -= size
        self._unanswered -= 1
        self._last_busy = time.monotonic()
        self._answered.set()

    async def _end_when_idle(self, reader: asyncio.Task[None]) -> None:
        await self._stopping.wait()
        # Asked again and again: an event for every request would cost more than all of a stop.
        while self._unanswered or time.monotonic() - self._last_busy < QUIET_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(QUIET_SECONDS / 5)
        self._failure = ModelNotReady("the server is stopping: try another")
        reader.cancel()
        await self._queue.put(None)


async def _collect(answers: AsyncIterator[A]) -> list[A]:
    return [answer async for answer in answers]
