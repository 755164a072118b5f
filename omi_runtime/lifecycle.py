"""The states of the process, the table of what may follow what, and the one stop event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final


class State(Enum):
    """Where the process stands. Only READY is ready; every state but STOPPED is live."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"
    UNLOADED = "unloaded"
    DRAINING = "draining"
    STOPPED = "stopped"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.STARTING: frozenset({State.LOADING, State.DRAINING}),
    State.LOADING: frozenset({State.READY, State.FAILED, State.DRAINING}),
    State.READY: frozenset({State.UNLOADING, State.DRAINING}),
    State.FAILED: frozenset({State.LOADING, State.DRAINING}),
    State.UNLOADING: frozenset({State.UNLOADED, State.DRAINING}),
    State.UNLOADED: frozenset({State.LOADING, State.DRAINING}),
    State.DRAINING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
}
"""All legal moves; anything else is a bug of ours."""


class Lifecycle:
    """One process's state. Lives on the event loop; nothing here is called from other threads.

    Attributes:
        state: where the process stands.
        stop_reason: who asked it to stop, once somebody has.
        cut_off: a stop did not wait for the end of some work; the servers tell.
    """

    def __init__(self) -> None:
        self.state = State.STARTING
        self.stop_reason = ""
        self.cut_off = False
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the model can infer."""
        return self.state is State.READY

    def move(self, to: State) -> None:
        """Enter the next state.

        Raises:
            RuntimeError: the table does not allow it.
        """
        if to not in TRANSITIONS[self.state]:
            raise RuntimeError(f"illegal transition {self.state.name} → {to.name}")
        self.state = to
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, condition: Callable[[State], bool]) -> State:
        """Wait until the state satisfies `condition`; returns the state that did."""
        while not condition(self.state):
            await self._changed.wait()
        return self.state

    def request_stop(self, reason: str) -> None:
        """Ask the process to stop. Signals, shutdown routes and calls all come here."""
        if not self._stop.is_set():
            self.stop_reason = reason
            self._stop.set()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked the process to stop."""
        return self._stop.is_set()

    async def wait_for_stop(self) -> None:
        """Wait until somebody asks the process to stop."""
        await self._stop.wait()
