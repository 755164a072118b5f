"""The ASGI application: the infer routes in front, everything else in FastAPI behind them.

FastAPI describes the infer routes too, in its OpenAPI document, and answers them for names that are
not served here.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi import Path as PathParameter
from fastapi import Request as FastAPIRequest
from fastapi import Response as FastAPIResponse
from starlette.exceptions import HTTPException

from omi_kserve.cloudevents import CloudEvents
from omi_kserve.convert_v2 import model_metadata
from omi_kserve.errors import error_response
from omi_kserve.rest_v1 import V1Routes
from omi_kserve.rest_v2 import V2Routes
from omi_kserve.settings import KServeSettings
from omi_runtime import __version__
from omi_runtime.card import ModelCard
from omi_runtime.errors import ModelNotFound, ModelNotReady, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import (
    Dispatcher,
    Response,
    Route,
)

SERVER_NAME = "omi-runtime"

ModelName = Annotated[str, PathParameter(description="The served name.")]
Version = Annotated[str, PathParameter(description="The model's version.")]


def make_app(handler: ModelHandler, interface: str, settings: KServeSettings) -> Dispatcher:
    """All routes around a loaded model, for `INTERFACE`'s name."""
    v1 = V1Routes(handler, bare_base64=settings.v1_base64)
    v2 = V2Routes(handler)
    name = handler.name
    version = _card(handler).version
    events = CloudEvents(name, settings)
    infer = Route("v2.infer", events.wrap(v2.infer))
    hot: dict[str, dict[str, Route]] = {
        f"/v1/models/{name}:predict": {"POST": Route("v1.predict", events.wrap(v1.predict))},
        f"/v1/models/{name}:explain": {"POST": Route("v1.explain", events.wrap(v1.explain))},
        f"/v2/models/{name}/infer": {"POST": infer},
        f"/v2/models/{name}/versions/{version}/infer": {"POST": infer},
    }
    return Dispatcher(handler, interface, hot, _fallback(handler), error_response)


def _fallback(handler: ModelHandler) -> FastAPI:
    app = FastAPI(
        title=handler.name,
        version=_card(handler).version,
        description=_card(handler).summary,
        # The pages would load their scripts from another host, and a container calls nobody.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(OMIError, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.include_router(_v1_router(handler))
    app.include_router(_v2_router(handler))
    return app


def _v1_router(handler: ModelHandler) -> APIRouter:
    router = APIRouter(tags=["V1"])

    @router.get("/")
    async def alive() -> FastAPIResponse:
        return _json({"status": "alive"})

    @router.get("/v1/models")
    async def models() -> FastAPIResponse:
        return _json({"models": [handler.name]})

    @router.post("/v1/models/{model}:predict")
    async def predict(model: ModelName) -> FastAPIResponse:
        raise _not_served(handler, model)

    @router.post("/v1/models/{model}:explain")
    async def explain(model: ModelName) -> FastAPIResponse:
        raise _not_served(handler, model)

    @router.get("/v1/models/{model}")
    async def model_ready(model: ModelName) -> FastAPIResponse:
        if model.endswith((":predict", ":explain")):  # a verb, which this route's pattern takes too
            raise HTTPException(405, headers={"Allow": "POST"})
        _check_model(handler, model)
        if not handler.ready:
            raise ModelNotReady(f"model {model} is not ready")
        return _json({"name": model, "ready": True})

    return router


def _v2_router(handler: ModelHandler) -> APIRouter:
    router = APIRouter(tags=["Open Inference Protocol V2"])

    @router.get("/v2")
    @router.get("/v2/", include_in_schema=False)
    async def server_metadata() -> FastAPIResponse:
        return _json({"name": SERVER_NAME, "version": __version__, "extensions": []})

    @router.get("/v2/health/live")
    async def live() -> FastAPIResponse:
        return _json({"live": handler.live})

    @router.get("/v2/health/ready")
    async def ready() -> FastAPIResponse:
        return _json({"ready": handler.ready}, status=200 if handler.ready else 503)

    @router.get("/v2/models/{model}")
    @router.get("/v2/models/{model}/versions/{version}")
    async def metadata(model: ModelName, version: Version | None = None) -> FastAPIResponse:
        _check_model(handler, model, version)
        return _json(model_metadata(_card(handler), handler.signature))

    @router.get("/v2/models/{model}/ready")
    @router.get("/v2/models/{model}/versions/{version}/ready")
    async def model_ready(model: ModelName, version: Version | None = None) -> FastAPIResponse:
        _check_model(handler, model, version)
        answer = {"name": model, "ready": handler.ready}
        return _json(answer, status=200 if handler.ready else 503)

    @router.post("/v2/models/{model}/infer")
    @router.post("/v2/models/{model}/versions/{version}/infer")
    async def infer(model: ModelName, version: Version | None = None) -> FastAPIResponse:
        raise _not_served(handler, model, version)

    return router


def _check_model(handler: ModelHandler, model: str, version: str | None = None) -> None:
    if model != handler.name or version not in (None, _card(handler).version):
        raise _not_served(handler, model, version)


def _not_served(handler: ModelHandler, model: str, version: str | None = None) -> ModelNotFound:
    """The answer to a name or version of another model; the dispatcher has answered for ours."""
    if model != handler.name:
        return ModelNotFound(f"no model {model!r} here, only {handler.name!r}")
    served = _card(handler).version
    return ModelNotFound(f"no version {version!r} of {model!r} here, only {served!r}")


def _card(handler: ModelHandler) -> ModelCard:
    assert handler.card is not None, "the port opens after the load"
    return handler.card


def _json(content: Any, status: int = 200) -> FastAPIResponse:
    return FastAPIResponse(orjson.dumps(content), status, media_type="application/json")


def _framed(response: Response) -> FastAPIResponse:
    headers = {key.decode(): value.decode() for key, value in response.headers}
    return FastAPIResponse(response.body, response.status, headers)


async def _on_error(_request: FastAPIRequest, error: Exception) -> FastAPIResponse:
    return _framed(error_response(error))


async def _on_http_error(_request: FastAPIRequest, error: Exception) -> FastAPIResponse:
    """The framework's own 404 and 405, in the interface's shape."""
    assert isinstance(error, HTTPException)
    response = _json({"error": str(error.detail)}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response
