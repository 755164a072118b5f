"""The transition table, walked at random, and the one stop event."""

import asyncio
import itertools

import pytest
from handlers import run
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime.lifecycle import TRANSITIONS, Lifecycle, State

LEGAL = {
    ("STARTING", "LOADING"),
    ("LOADING", "READY"),
    ("LOADING", "FAILED"),
    ("FAILED", "LOADING"),
    ("STARTING", "DRAINING"),
    ("LOADING", "DRAINING"),
    ("READY", "DRAINING"),
    ("FAILED", "DRAINING"),
    ("READY", "UNLOADING"),
    ("UNLOADING", "UNLOADED"),
    ("UNLOADING", "DRAINING"),
    ("UNLOADED", "LOADING"),
    ("UNLOADED", "DRAINING"),
    ("DRAINING", "STOPPED"),
}
"""ARCHITECTURE, section 5, and what OMI_ADMIN allows: unloading, and loading again."""


def test_the_table_is_the_architectures() -> None:
    assert {(a.name, b.name) for a, after in TRANSITIONS.items() for b in after} == LEGAL
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("start", "to"), list(itertools.product(State, State)))
def test_anything_that_is_not_in_the_table_is_a_bug(start: State, to: State) -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle()
        lifecycle.state = start
        if (start.name, to.name) in LEGAL:
            lifecycle.move(to)
            assert lifecycle.state is to
        else:
            with pytest.raises(RuntimeError, match=f"illegal transition {start.name} → {to.name}"):
                lifecycle.move(to)
            assert lifecycle.state is start

    run(scenario())


@given(walk=st.lists(st.sampled_from(State), max_size=30))
def test_a_random_walk_keeps_to_the_table(walk: list[State]) -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle()
        assert lifecycle.state is State.STARTING
        seen: list[State] = []
        watcher = asyncio.create_task(_watch(lifecycle, seen))
        visited = [lifecycle.state]
        await asyncio.sleep(0)
        for to in walk:
            before = lifecycle.state
            try:
                lifecycle.move(to)
            except RuntimeError:
                assert to not in TRANSITIONS[before]
                assert lifecycle.state is before
            else:
                assert to in TRANSITIONS[before]
                visited.append(to)
            assert lifecycle.ready == (lifecycle.state is State.READY)
            await asyncio.sleep(0)
        watcher.cancel()
        assert seen == visited

    run(scenario())


async def _watch(lifecycle: Lifecycle, seen: list[State]) -> None:
    """Note every state: a change between two awaits is never missed by who waits for another."""
    state = lifecycle.state
    while True:
        seen.append(state)
        last = state
        state = await lifecycle.wait_for(lambda now: now is not last)  # noqa: B023


async def test_waiting_for_a_state_that_is_there_does_not_wait() -> None:
    lifecycle = Lifecycle()
    assert await lifecycle.wait_for(lambda _: True) is State.STARTING


async def test_everybody_who_waits_is_woken() -> None:
    lifecycle = Lifecycle()
    waiting = [
        asyncio.create_task(lifecycle.wait_for(lambda state: state is State.READY))
        for _ in range(3)
    ]
    for state in (State.LOADING, State.FAILED, State.LOADING, State.READY):
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        lifecycle.move(state)
    assert await asyncio.gather(*waiting) == [State.READY] * 3


async def test_a_stop_is_asked_for_once_and_keeps_its_first_reason() -> None:
    lifecycle = Lifecycle()
    assert not lifecycle.stop_requested
    waiting = asyncio.create_task(lifecycle.wait_for_stop())
    await asyncio.sleep(0)
    assert not waiting.done()
    lifecycle.request_stop("SIGTERM")
    lifecycle.request_stop("POST /shutdown")
    await waiting
    assert lifecycle.stop_requested
    assert lifecycle.stop_reason == "SIGTERM"
    assert lifecycle.state is State.STARTING  # draining is for the process to begin
