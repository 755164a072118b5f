"""The ASGI application: the routes that infer in front, everything else in FastAPI behind them.

FastAPI describes the infer routes too, in its OpenAPI document, and answers them for names that are
not served here.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from fastapi import Response as FastAPIResponse
from starlette.exceptions import HTTPException

from omi_kserve.cloudevents import CloudEvents
from omi_kserve.control import json_response
from omi_kserve.errors import error_response
from omi_kserve.repository import Repository
from omi_kserve.rest_docs import docs_router
from omi_kserve.rest_generate import GenerateRoutes
from omi_kserve.rest_repository import repository_router
from omi_kserve.rest_v1 import V1Routes, v1_router
from omi_kserve.rest_v2 import V2Routes, v2_router
from omi_kserve.served import card_of
from omi_kserve.settings import KServeSettings
from omi_runtime.errors import OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import Dispatcher, Route

Routes = dict[str, dict[str, Route]]


def make_app(
    handler: ModelHandler, interface: str, settings: KServeSettings, repository: Repository
) -> Dispatcher:
    """All routes around a loaded model, for `INTERFACE`'s name."""

    def renew() -> None:  # a model that is loaded again may have another version
        dispatcher.mount(_infer_routes(handler, settings))
        fallback.openapi_schema = None

    fallback = _fallback(handler)
    fallback.include_router(v1_router(handler))
    fallback.include_router(v2_router(handler))
    fallback.include_router(repository_router(handler, repository))
    repository.when_loaded(renew)
    fallback.include_router(docs_router())
    routes = _infer_routes(handler, settings)
    dispatcher = Dispatcher(handler, interface, routes, fallback, error_response)
    return dispatcher


def _infer_routes(handler: ModelHandler, settings: KServeSettings) -> Routes:
    name, version = handler.name, card_of(handler).version
    events = CloudEvents(name, settings)
    v1 = V1Routes(handler, bare_base64=settings.v1_base64)
    v2, text = V2Routes(handler), GenerateRoutes(handler)
    routes = {
        f"/v1/models/{name}:predict": Route("v1.predict", events.wrap(v1.predict)),
        f"/v1/models/{name}:explain": Route("v1.explain", events.wrap(v1.explain)),
    }
    of_v2 = {
        "infer": Route("v2.infer", events.wrap(v2.infer)),
        "generate": Route("v2.generate", text.generate),
        "generate_stream": Route("v2.generate_stream", text.generate_stream),
    }
    for verb, route in of_v2.items():
        routes[f"/v2/models/{name}/{verb}"] = route
        if version:
            routes[f"/v2/models/{name}/versions/{version}/{verb}"] = route
    return {path: {"POST": route} for path, route in routes.items()}


def _fallback(handler: ModelHandler) -> FastAPI:
    card = card_of(handler)
    app = _Described(
        handler,
        title=handler.name,
        version=card.version,
        description=card.summary,
        # Those pages load their scripts from another host, and a container calls nobody.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(OMIError, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    return app


class _Described(FastAPI):
    """FastAPI whose document says what this model takes and gives."""

    def __init__(self, handler: ModelHandler, **settings: Any) -> None:
        super().__init__(**settings)
        self._handler = handler

    def openapi(self) -> dict[str, Any]:
        """The document, made when it is first asked for; ModelNotReady of an unloaded model."""
        if self.openapi_schema is None:
            from omi_kserve.openapi import complete  # noqa: PLC0415 - few servers are asked for it

            signature = self._handler.signature  # or else FastAPI keeps a document of its own
            self.openapi_schema = complete(super().openapi(), self._handler, signature)
        return self.openapi_schema


async def _on_error(_request: FastAPIRequest, error: Exception) -> FastAPIResponse:
    response = error_response(error)
    headers = {key.decode(): value.decode() for key, value in response.headers}
    return FastAPIResponse(response.body, response.status, headers)


async def _on_http_error(_request: FastAPIRequest, error: Exception) -> FastAPIResponse:
    """The framework's own 404 and 405, in the interface's shape."""
    assert isinstance(error, HTTPException)
    response = json_response({"error": str(error.detail)}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response
