"""What only tells of the server and its model: alive, ready, metadata, of V1 and V2.

Each function gives a status and what is answered in JSON, or raises one of the core's errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import orjson

from omi_kserve.convert_v2 import model_metadata
from omi_kserve.served import SERVER_NAME, card_of, extensions, served
from omi_runtime import __version__
from omi_runtime.errors import ModelNotReady
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import Request, Response, Route

Told: TypeAlias = tuple[int, Any]
"""A status, and the content of the answer."""


def alive(_handler: ModelHandler) -> Told:
    """The process answers."""
    return 200, {"status": "alive"}


def models(handler: ModelHandler) -> Told:
    """The models that are served."""
    return 200, {"models": served(handler)}


def v1_ready(handler: ModelHandler) -> Told:
    """Whether the model can predict."""
    if not handler.ready:
        raise ModelNotReady(f"model {handler.name} is not ready")
    return 200, {"name": handler.name, "ready": True}


def server_metadata(handler: ModelHandler) -> Told:
    """The server's name, version and extensions."""
    names = extensions(handler)
    return 200, {"name": SERVER_NAME, "version": __version__, "extensions": names}


def live(handler: ModelHandler) -> Told:
    """The process answers."""
    return 200, {"live": handler.live}


def ready(handler: ModelHandler) -> Told:
    """Whether the model can infer."""
    return 200 if handler.ready else 503, {"ready": handler.ready}


def metadata(handler: ModelHandler) -> Told:
    """What the model takes and gives."""
    return 200, model_metadata(card_of(handler), handler.signature)


def model_ready(handler: ModelHandler) -> Told:
    """Whether the model can infer."""
    return 200 if handler.ready else 503, {"name": handler.name, "ready": handler.ready}


def info_routes(handler: ModelHandler) -> dict[str, dict[str, Route]]:
    """The routes of the one model, with and without its version in the path."""
    model, version = f"/v2/models/{handler.name}", card_of(handler).version
    health = {
        "/": ("alive", alive),
        f"/v1/models/{handler.name}": ("v1.ready", v1_ready),
        "/v2/health/live": ("v2.live", live),
        "/v2/health/ready": ("v2.ready", ready),
    }
    about = {
        "/v1/models": ("v1.models", models),
        "/v2": ("v2.server", server_metadata),
        "/v2/": ("v2.server", server_metadata),
        "/v2/models": ("v2.models", models),
    }
    for path in (model, f"{model}/versions/{version}") if version else (model,):
        about[path] = ("v2.metadata", metadata)
        health[f"{path}/ready"] = ("v2.model_ready", model_ready)
    return {
        path: {"GET": Route(name, _answer(tell, handler), probe=told is health)}
        for told in (health, about)
        for path, (name, tell) in told.items()
    }


def _answer(tell: Callable[[ModelHandler], Told], handler: ModelHandler) -> Any:
    async def answer(_request: Request) -> Response:
        status, content = tell(handler)
        return Response(status, orjson.dumps(content))

    return answer
