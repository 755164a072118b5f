"""Threads for files: what functions return and raise comes back to the event loop."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from omi_runtime.threads import Steps, Threads


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
    first = threads.run(gate.wait, 30)
    second = threads.run(begun.append, 2)
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


async def test_a_thread_that_gets_on_works_alone() -> None:
    threads = Threads("omi-test", 8)
    used = await asyncio.gather(*(threads.run(threading.get_ident) for _ in range(1000)))
    assert len(set(used)) < 3, "one, and one more if the machine was busy for a while"


async def test_calls_that_hang_hold_up_nobody_while_there_are_threads_left() -> None:
    threads = Threads("omi-test", 4)
    gate = threading.Event()
    hanging = [threads.run(gate.wait, 60) for _ in range(3)]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(threads.run(int, str(n)) for n in range(100))) == [
            *range(100)
        ]
    assert not any(task.done() for task in hanging)
    gate.set()
    assert await asyncio.gather(*hanging) == [True] * 3


async def test_what_is_done_is_told_while_the_same_thread_is_at_something_long() -> None:
    threads = Threads("omi-test", 1)
    gate = threading.Event()
    done = threads.run(int, "7")
    hanging = threads.run(gate.wait, 60)
    async with asyncio.timeout(30):
        assert await done == 7
    assert not hanging.done()
    gate.set()
    assert await hanging


async def test_all_steps_are_begun_before_another_thread_waits_for_each() -> None:
    threads, order = Threads("omi-test", 1), list[str]()

    def steps(name: str) -> Steps:
        order.append(f"begin {name}")
        yield
        order.append(f"{threading.current_thread().name} waits for {name}")
        yield
        order.append(f"end {name}")

    await asyncio.gather(*(threads.run_steps(steps, name) for name in "abc"))
    begun, waited, ended = (
        [line for line in order if word in line] for word in ("begin", "waits", "end")
    )
    assert order == begun + waited + ended
    assert waited == [f"omi-test-waiting-0 waits for {name}" for name in "abc"]


async def test_a_disk_that_hangs_holds_up_no_other_steps() -> None:
    threads = Threads("omi-test", 4)
    gate = threading.Event()

    def steps(*, hang: bool) -> Steps:
        yield
        if hang:
            gate.wait(60)
        yield

    hanging = [asyncio.create_task(threads.run_steps(lambda: steps(hang=True))) for _ in range(3)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(threads.run_steps(lambda: steps(hang=False)) for _ in range(200)))
    assert not any(task.done() for task in hanging)
    gate.set()
    await asyncio.gather(*hanging)


async def test_steps_that_nobody_waits_for_any_more_are_closed() -> None:
    threads, closed = Threads("omi-test", 1), list[str]()
    gate, begun = threading.Event(), threading.Event()

    def steps(name: str) -> Steps:
        try:
            if name == "b":
                begun.set()
            yield
            gate.wait(30)
            closed.append(f"end {name}")
        except GeneratorExit:
            closed.append(f"closed {name}")
            raise

    first = asyncio.create_task(threads.run_steps(steps, "a"))
    second = asyncio.create_task(threads.run_steps(steps, "b"))
    await asyncio.to_thread(begun.wait, 30)
    second.cancel()
    gate.set()
    await first
    await threads.run(int)
    assert closed == ["end a", "closed b"]


async def test_steps_that_raise() -> None:
    def steps() -> Steps:
        yield
        raise ZeroDivisionError

    threads = Threads("omi-test", 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run_steps(steps)
    assert await threads.run(int, "7") == 7


async def test_a_thread_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, refusals = threading.Thread.start, iter([True, True, True])

    def refuse(thread: threading.Thread) -> None:
        if next(refusals, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads = Threads("omi-test", 2)
    async with asyncio.timeout(30):
        assert await threads.run(int, "7") == 7
        assert await threads.run(int, "8") == 8
    assert not next(refusals, False)


async def test_steps_whose_callers_have_gone_count_until_they_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omi_runtime.threads._MOST_IN_STEPS", 3)
    threads, gate, under_way = Threads("omi-test", 1), threading.Event(), 0

    def steps() -> Steps:
        nonlocal under_way
        under_way += 1
        assert under_way <= 3
        try:
            yield
            gate.wait(60)
            yield
        finally:
            under_way -= 1

    for _ in range(10):
        gone = asyncio.create_task(threads.run_steps(steps))
        await threads.run(int)
        gone.cancel()
    assert 0 < under_way <= 3
    gate.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*(threads.run_steps(steps) for _ in range(10)))
    assert not under_way


async def test_what_is_done_is_told_however_much_there_is_to_do() -> None:
    threads = Threads("omi-test", 1)
    first = threads.run(int)
    flood = [threads.run(time.sleep, 0.0001) for _ in range(20_000)]
    await first
    assert not flood[-1].done()
    for call in flood:
        call.cancel()


@pytest.mark.parametrize("kind", [SystemExit, StopIteration, asyncio.CancelledError])
async def test_what_a_future_does_not_take_is_told_as_an_error(kind: type[BaseException]) -> None:
    threads = Threads("omi-test", 1)

    def fail() -> None:
        raise kind

    with pytest.raises(RuntimeError, match=kind.__name__):
        await threads.run(fail)
    assert await threads.run(int, "7") == 7
