"""Threads for files: what functions return and raise comes back to the event loop."""

import asyncio
import gc
import threading
import weakref

import pytest

from omi_runtime.threads import Threads


async def test_a_function_runs_on_a_daemon_thread_of_that_name() -> None:
    thread = await Threads("omi-test", 2).run(threading.current_thread)
    assert thread.name in ("omi-test-0", "omi-test-1")
    assert thread.daemon


async def test_what_it_raises_is_raised() -> None:
    threads = Threads("omi-test", 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(int, "7") == 7


async def test_several_at_once() -> None:
    threads = Threads("omi-test", 2)
    meeting = threading.Barrier(2)
    await asyncio.gather(threads.run(meeting.wait, 30), threads.run(meeting.wait, 30))


async def test_what_nobody_waits_for_is_not_begun() -> None:
    threads = Threads("omi-test", 1)
    gate, begun = threading.Event(), []
    first = asyncio.create_task(threads.run(gate.wait, 30))
    second = asyncio.create_task(threads.run(begun.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    gate.set()
    assert await first
    await threads.run(begun.append, 3)
    assert begun == [3]


async def test_a_waiting_thread_holds_nothing() -> None:
    class Large:
        pass

    threads = Threads("omi-test", 1)
    large = await threads.run(Large)
    seen = weakref.ref(large)
    del large
    await threads.run(int)  # the thread is past the first by now
    gc.collect()
    assert seen() is None
