"""The model repository extension, for REST and gRPC alike: the index, loading and unloading.

(Triton, docs/protocol/extension_model_repository.md.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Final

from omi_kserve.served import card_of, check_model
from omi_runtime.errors import NotOffered
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import State

_STATES: Final = {
    State.READY: "READY",
    State.LOADING: "LOADING",
    State.UNLOADING: "UNLOADING",
}
"""In Triton's words; in any other state a model is UNAVAILABLE."""

_REASONS: Final = {
    State.FAILED: "it failed to load",
    State.UNLOADED: "unloaded",
    State.DRAINING: "the server is stopping",
}

UNLOAD_PARAMETERS: Final = frozenset({"unload_dependents"})
"""What `unload` may be asked: nothing depends on the model."""


class Repository:
    """A repository of the one model that is here."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler
        self._on_load: list[Callable[[], None]] = []

    def when_loaded(self, callback: Callable[[], None]) -> None:
        """Call this when the model has been loaded again, for it may have changed."""
        self._on_load.append(callback)

    def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """The models that there are, with their state."""
        handler = self._handler
        if only_ready and not handler.ready:
            return []
        card, state = card_of(handler), handler.lifecycle.state
        entry = {"name": card.name}
        if card.version:
            entry["version"] = card.version
        entry["state"] = _STATES.get(state, "UNAVAILABLE")
        if state in _REASONS:
            entry["reason"] = _REASONS[state]
        return [entry]

    def check_allowed(self, model: str) -> None:
        """Refuse to load or unload another model, or any.

        Raises:
            NotOffered: `OMI_ADMIN` is off, or there are several workers.
            ModelNotFound: it is another model.
        """
        if not self._handler.alone:
            raise NotOffered(
                f"loading and unloading are off with OMI_WORKERS={self._handler.settings.workers}: "
                "they would reach one worker only"
            )
        if not self._handler.settings.admin:
            raise NotOffered("loading and unloading are off here: OMI_ADMIN=on would offer them")
        check_model(self._handler, model)

    @staticmethod
    def check_parameters(names: Iterable[str], known: Collection[str] = ()) -> None:
        """Refuse what would load another model than the one that is here.

        Args:
            names: of the request's parameters.
            known: those that may be there, and change nothing.

        Raises:
            NotOffered: names the parameter.
        """
        for name in names:
            if name not in known:
                raise NotOffered(f"parameters.{name}: is not offered here")

    async def load(self) -> None:
        """Load the model, again if it is loaded.

        Raises:
            ModelNotReady: it did not load, or the process is stopping.
        """
        await _to_the_end(self._handler.load_again())
        for callback in self._on_load:
            callback()

    async def unload(self) -> None:
        """Unload the model when what is in flight is answered."""
        await _to_the_end(self._handler.unload())


_under_way: set[asyncio.Task[None]] = set()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work that goes on when the client does not wait any more."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    await asyncio.shield(task)
