"""The routes of the one model in front, and everything else in FastAPI behind them."""

from __future__ import annotations

import asyncio
from typing import Any

from omi_kserve.cloudevents import CloudEvents
from omi_kserve.errors import error_response
from omi_kserve.repository import Repository
from omi_kserve.rest_generate import GenerateRoutes
from omi_kserve.rest_info import info_routes
from omi_kserve.rest_v1 import V1Routes
from omi_kserve.rest_v2 import V2Routes
from omi_kserve.served import card_of
from omi_kserve.settings import KServeSettings
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import OTHER, Dispatcher, Receive, Route, Scope, Send

Routes = dict[str, dict[str, Route]]


def make_app(
    handler: ModelHandler, interface: str, settings: KServeSettings, repository: Repository
) -> Dispatcher:
    """All routes around a loaded model, for `INTERFACE`'s name."""

    def renew() -> None:  # a model that is loaded again may have another version
        dispatcher.mount(_routes(handler, settings))
        fallback.renew()

    fallback = _Fallback(handler, repository)
    repository.when_loaded(renew)
    routes = _routes(handler, settings)
    dispatcher = Dispatcher(handler, interface, routes, fallback, error_response)
    return dispatcher


class _Fallback:
    """FastAPI's application, imported and made on a thread when it is first asked for."""

    def __init__(self, handler: ModelHandler, repository: Repository) -> None:
        self._handler = handler
        self._repository = repository
        self._app: Any = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if self._app is None:
            async with self._making:
                self._app = self._app or await asyncio.to_thread(self._make)
        await self._app(scope, receive, send)

    def renew(self) -> None:
        """Forget what is written of the model that was loaded before."""
        if self._app is not None:
            self._app.openapi_schema = None

    def _make(self) -> Any:
        from omi_kserve.fallback import make_fallback  # noqa: PLC0415 - it brings FastAPI

        return make_fallback(self._handler, self._repository)


def _routes(handler: ModelHandler, settings: KServeSettings) -> Routes:
    pages = {path: {"GET": Route(OTHER, None, probe=True)} for path in ("/docs", "/openapi.json")}
    return info_routes(handler) | _infer_routes(handler, settings) | pages


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
