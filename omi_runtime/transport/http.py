"""The dispatcher, which takes HTTP requests to answers.

It is a plain ASGI application. It answers a handful of exact paths itself, the hot ones, and hands
everything else to a fallback application: a web framework's layers cost more than half of a small
request's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from omi_runtime import limits
from omi_runtime.endpoint import OK, Endpoint
from omi_runtime.errors import OMIError
from omi_runtime.exposition import scrape
from omi_runtime.handler import ModelHandler
from omi_runtime.memory import overloaded
from omi_runtime.request import RequestContext
from omi_runtime.transport import encodings
from omi_runtime.transport.http_messages import (
    JSON_HEADER,
    RETRY_AFTER,
    ASGIApp,
    ClientDisconnected,
    Message,
    Receive,
    Refused,
    Request,
    Response,
    Scope,
    Send,
    StreamingResponse,
    check_json_media_type,
    respond,
    status_of,
)

__all__ = [
    "JSON_HEADER",
    "RETRY_AFTER",
    "ASGIApp",
    "ClientDisconnected",
    "Dispatcher",
    "Message",
    "Receive",
    "Refused",
    "Request",
    "Response",
    "Route",
    "Scope",
    "Send",
    "StreamingResponse",
    "check_json_media_type",
    "respond",
    "status_of",
]


class Route(NamedTuple):
    """What answers a path and method.

    Attributes:
        name: what is asked, in the interface's own words, such as `v2.infer`.
        answer: gives the response, or raises.
        probe: it only asks how the server is, so that the log has no line of it.
    """

    name: str
    answer: Callable[[Request], Awaitable[Response | StreamingResponse]]
    probe: bool = False


class Dispatcher:
    """Answers exact paths itself, and `/metrics`; hands everything else to a fallback.

    Every answer has the request's id in `x-request-id`.

    Args:
        handler: the core.
        interface: as `INTERFACE` names it.
        routes: by path, then by method.
        fallback: an ASGI application for every other path, method and scope type.
        on_error: an exception of a route → the interface's own error answer.
    """

    def __init__(
        self,
        handler: ModelHandler,
        interface: str,
        routes: Mapping[str, Mapping[str, Route]],
        fallback: ASGIApp,
        on_error: Callable[[Exception], Response],
    ) -> None:
        self.handler = handler
        self.on_error = on_error
        self._interface = interface
        self._routes = {"/metrics": {"GET": Route("metrics", self._metrics, probe=True)}} | dict(
            routes
        )
        self._endpoints = {
            route.name: Endpoint(handler, interface, route.name, probe=route.probe)
            for methods in self._routes.values()
            for route in methods.values()
        }
        self._other = Endpoint(handler, interface, "other", probe=True)
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        route = self._routes.get(scope.get("path", ""), {}).get(scope.get("method", ""))
        if route is None:
            await self._fall_back(scope, receive, send)
            return
        request = Request(scope, receive, self.handler, self._interface, route.name)
        endpoint = self._endpoints[route.name]
        endpoint.begin(request.context)
        try:
            response = await self._answer(route, request)
            endpoint.received(request.size)
            response.headers = (*response.headers, _id_header(request.context))
            if isinstance(response, StreamingResponse):
                await _stream(send, response, endpoint)
            else:
                endpoint.sent(response.size)
                await respond(send, response)
            request.context.code = request.context.code or OK
        except ClientDisconnected:
            return
        except asyncio.CancelledError as cut:
            request.context.code = str(cut.args[0]) if cut.args else ""
            raise
        finally:
            endpoint.end(request.context)

    def refuse(self, error: OMIError) -> Response:
        """The interface's word for what the protocol itself refuses, which is counted."""
        self._other.traffic.came()
        self._other.traffic.went(error.code, 0.0)
        return self.on_error(error)

    async def _answer(self, route: Route, request: Request) -> Response | StreamingResponse:
        """The route's response, or the interface's to what it raised, whose code is noted."""
        try:
            request.context.allow(request.timeout)
            response = await route.answer(request)
            if isinstance(response, Response):
                limits.check_response(response.size, self.handler.settings)
                if response.size >= encodings.WORTH_BYTES:
                    response = await _compressed(response, request.headers)
            return response
        except ClientDisconnected:
            raise
        except Exception as raised:  # noqa: BLE001 - the interface's table maps every exception
            error = overloaded(raised)
        request.context.failed(error)
        return self.on_error(error)

    async def _fall_back(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no work for the model: metadata, probes, what is not there."""
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        context = Request(scope, receive, self.handler, self._interface, "other").context

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                context.code = OK if status < 400 else str(status)
                message["headers"] = [*message.get("headers", ()), _id_header(context)]
            await send(message)

        self._other.begin(context)
        try:
            await self._fallback(scope, receive, note)
        finally:
            self._other.end(context)

    async def _metrics(self, request: Request) -> Response:
        """What Prometheus asks for. Put together on another thread, for it takes milliseconds."""
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        content_type, body = await asyncio.to_thread(scrape, self.handler, accept)
        return Response(200, body, [(b"content-type", content_type.encode())])


def _id_header(context: RequestContext) -> tuple[bytes, bytes]:
    return b"x-request-id", context.id.encode()


async def _compressed(response: Response, asked: Mapping[bytes, bytes]) -> Response:
    """A large answer in the coding that its client asked for, if it did."""
    coding = encodings.accepted(asked.get(b"accept-encoding", b"identity"))
    if not coding:
        return response
    body = await encodings.encoded((response.body, *response.tail), coding)
    own = ((b"content-encoding", coding.encode()), (b"vary", b"accept-encoding"))
    return Response(response.status, body, (*response.headers, *own))


async def _stream(send: Send, response: StreamingResponse, endpoint: Endpoint) -> None:
    headers = list(response.headers)
    try:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for part in response.parts:
            endpoint.sent(len(part))
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await response.parts.aclose()
