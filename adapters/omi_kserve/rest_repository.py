"""The model repository extension: what there is, loading and unloading.

(Triton, docs/protocol/extension_model_repository.md. Its answers to load and unload have no body;
ours have that of KServe's Python server.)
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from omi_kserve.control import ModelName, json_response
from omi_kserve.convert_json import read_object
from omi_kserve.repository import UNLOAD_PARAMETERS, Repository
from omi_kserve.served import served
from omi_runtime.errors import InvalidRequest
from omi_runtime.handler import ModelHandler


def repository_router(handler: ModelHandler, repository: Repository) -> APIRouter:
    """The routes around the one model."""
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
        return json_response(repository.index(only_ready=only_ready))

    @router.post("/v2/repository/models/{model}/load")
    async def load(model: ModelName, request: Request) -> Response:
        """Load the model, again if it is loaded; with `OMI_ADMIN`."""
        repository.check_allowed(model)
        repository.check_parameters(await _read_parameters(request))
        await repository.load()
        return json_response({"name": model, "load": True})

    @router.post("/v2/repository/models/{model}/unload")
    async def unload(model: ModelName, request: Request) -> Response:
        """Unload the model when what is in flight is answered; with `OMI_ADMIN`."""
        repository.check_allowed(model)
        repository.check_parameters(await _read_parameters(request), UNLOAD_PARAMETERS)
        await repository.unload()
        return json_response({"name": model, "unload": True})

    return router


async def _read(request: Request) -> dict[str, Any]:
    body = await request.body()
    return read_object(body) if body else {}


async def _read_parameters(request: Request) -> dict[str, Any]:
    parameters = (await _read(request)).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters: expected an object")
    return parameters
