"""What gRPC methods that take a stream of requests have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeVar

from omi_runtime.errors import ModelNotReady

A = TypeVar("A")
M = TypeVar("M")

MOST_UNDER_WAY: Final = 64
"""Requests of one stream that are answered at once; the next are read as the first are answered."""


async def until_stopped(
    messages: AsyncIterator[M], stopping: asyncio.Event
) -> AsyncGenerator[M, None]:
    """The messages; a stream that is idle when the server stops is ended, for it may be for ever.

    Raises:
        ModelNotReady: in place of the next message.
    """
    iterator = aiter(messages)
    stop = asyncio.create_task(stopping.wait())
    following: asyncio.Future[M] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(iterator))
            await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise ModelNotReady("the server is stopping: try another")
            try:
                message = following.result()
            except StopAsyncIteration:
                return
            yield message
    finally:
        stop.cancel()
        if following is not None:
            following.cancel()


async def in_order(
    messages: AsyncGenerator[M, None], answer: Callable[[M], Coroutine[Any, Any, A]]
) -> AsyncGenerator[A, None]:
    """The answer to each message, in their order, with several under way at once.

    Raises:
        Exception: what the messages end with, after the answers to those before.
    """
    tasks: asyncio.Queue[asyncio.Task[A] | None] = asyncio.Queue()
    room = asyncio.Semaphore(MOST_UNDER_WAY)

    async def read() -> None:
        try:
            async with aclosing(messages):
                async for message in messages:
                    await room.acquire()
                    tasks.put_nowait(asyncio.create_task(answer(message)))
        finally:
            tasks.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await tasks.get()) is not None:
            yield await task
            room.release()
        await reader
    finally:
        reader.cancel()
        rest = [task for task in _rest(tasks) if task is not None]
        for task in rest:
            task.cancel()
        await asyncio.gather(reader, *rest, return_exceptions=True)


def _rest(queue: asyncio.Queue[A]) -> list[A]:
    return [queue.get_nowait() for _ in range(queue.qsize())]
