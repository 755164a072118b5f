"""The model repository extension: what there is, loading and unloading.

(Triton, docs/protocol/extension_model_repository.md. Its answers to load and unload have no body;
ours have that of KServe's Python server.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from omi_kserve.control import ModelName, json_response
from omi_kserve.served import card_of, check_model, served
from omi_runtime.errors import InvalidRequest, NotOffered
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

_UNLOAD_PARAMETERS: Final = frozenset({"unload_dependents"})


def repository_router(handler: ModelHandler, on_load: Callable[[], None]) -> APIRouter:
    """The routes around the one model.

    Args:
        handler: the core.
        on_load: called when the model has been loaded again, for it may have changed.
    """
    router = APIRouter(tags=["Model repository"])

    @router.get("/v2/models")
    async def models() -> Response:
        """The models that are served."""
        return json_response({"models": served(handler)})

    @router.post("/v2/repository/index")
    async def index(request: Request) -> Response:
        """The models that there are, with their state."""
        content = await _read(request)
        only_ready = content.get("ready", False)
        if not isinstance(only_ready, bool):
            raise InvalidRequest("ready: expected a boolean")
        return json_response([] if only_ready and not handler.ready else [_entry(handler)])

    @router.post("/v2/repository/models/{model}/load")
    async def load(model: ModelName, request: Request) -> Response:
        """Load the model, again if it is loaded; with `OMI_ADMIN`."""
        _check_allowed(handler)
        check_model(handler, model)
        await _check_parameters(request, frozenset())
        await _to_the_end(handler.load_again())
        on_load()
        return json_response({"name": model, "load": True})

    @router.post("/v2/repository/models/{model}/unload")
    async def unload(model: ModelName, request: Request) -> Response:
        """Unload the model when what is in flight is answered; with `OMI_ADMIN`."""
        _check_allowed(handler)
        check_model(handler, model)
        await _check_parameters(request, _UNLOAD_PARAMETERS)
        await _to_the_end(handler.unload())
        return json_response({"name": model, "unload": True})

    return router


def _entry(handler: ModelHandler) -> dict[str, str]:
    card, state = card_of(handler), handler.lifecycle.state
    entry = {"name": card.name}
    if card.version:
        entry["version"] = card.version
    entry["state"] = _STATES.get(state, "UNAVAILABLE")
    if state in _REASONS:
        entry["reason"] = _REASONS[state]
    return entry


def _check_allowed(handler: ModelHandler) -> None:
    if not handler.alone:
        raise NotOffered(
            f"loading and unloading are off with OMI_WORKERS={handler.settings.workers}: they "
            "would reach one worker only"
        )
    if not handler.settings.admin:
        raise NotOffered("loading and unloading are off here: OMI_ADMIN=on would offer them")


async def _read(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        content = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidRequest("expected a JSON object")
    return content


async def _check_parameters(request: Request, known: frozenset[str]) -> None:
    """Refuse what would load another model than the one that is here."""
    parameters = (await _read(request)).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters: expected an object")
    for name in parameters:
        if name not in known:
            raise NotOffered(f"parameters.{name}: is not offered here")


_under_way: set[asyncio.Task[None]] = set()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work that goes on when the client does not wait any more."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    await asyncio.shield(task)
