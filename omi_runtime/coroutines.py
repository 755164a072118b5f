"""What an author's `async` methods come to. They run on the event loop, and a thread waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any


def result_of(answer: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """An author's answer; of a coroutine, what it comes to on the event loop."""
    if not hasattr(answer, "__await__"):
        return answer

    async def finish() -> Any:
        try:
            return await answer
        except (SystemExit, KeyboardInterrupt) as error:  # which would end the event loop
            raise RuntimeError(f"the model raised {error!r}") from error

    return asyncio.run_coroutine_threadsafe(finish(), loop).result()


def values_of(answer: Any, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """The values of a generator, or of an asynchronous one, whose steps run on the loop."""
    answer = result_of(answer, loop)
    if not hasattr(answer, "__aiter__"):
        yield from answer
        return
    values, end = aiter(answer), object()
    try:
        while (value := result_of(anext(values, end), loop)) is not end:
            yield value
    finally:
        if hasattr(values, "aclose"):
            result_of(values.aclose(), loop)
