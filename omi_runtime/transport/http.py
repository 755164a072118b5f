"""The dispatcher, which takes HTTP requests to answers.

It answers a handful of exact paths itself, the hot ones, and hands everything else to a fallback,
an ASGI application: a web framework's layers, and ASGI's own calls, cost more than half of a small
request's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import httptools

from omi_runtime import limits
from omi_runtime.endpoint import OK, Endpoint
from omi_runtime.errors import OMIError
from omi_runtime.exposition import scrape
from omi_runtime.handler import ModelHandler
from omi_runtime.memory import overloaded
from omi_runtime.request import RequestContext, fit_for_a_line
from omi_runtime.transport import encodings
from omi_runtime.transport.asgi import (
    ASGIApp,
    ASGIRequest,
    Message,
    Receive,
    Scope,
    Send,
    respond,
)
from omi_runtime.transport.http_exchange import Exchange
from omi_runtime.transport.http_messages import (
    JSON_HEADER,
    JSON_ONLY,
    RETRY_AFTER,
    Refused,
    Request,
    Response,
    StreamingResponse,
    check_json_media_type,
    status_of,
)

__all__ = [
    "JSON_HEADER",
    "JSON_ONLY",
    "RETRY_AFTER",
    "ASGIApp",
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


logger = logging.getLogger(__name__)


Answer = Callable[[Request], Awaitable[Response | StreamingResponse]]


class Route(NamedTuple):
    """What answers a path and method.

    Attributes:
        name: what is asked, in the interface's own words, such as `v2.infer`.
        answer: gives the response, or raises; None leaves it to the fallback.
        probe: it only asks how the server is, or for a page, so that the log has no line of it.
    """

    name: str
    answer: Answer | None
    probe: bool = False


OTHER: Final = "other"
"""What is asked of the fallback, as metrics name it."""


class _Place(NamedTuple):
    """A route, with what counts its requests; without an answer, what the fallback is asked."""

    name: str
    answer: Answer | None
    endpoint: Endpoint


class Dispatcher:
    """Answers exact paths itself, and `/metrics`; hands everything else to a fallback.

    Every answer has the request's id in `x-request-id`.

    Args:
        handler: the core.
        interface: as `INTERFACE` names it.
        routes: by path, then by method.
        fallback: an ASGI application for every other path and method.
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
        self._settings = handler.settings
        self._interface = interface
        self._elsewhere = self._place(Route(OTHER, None))
        self._fallback = fallback
        self._places: dict[bytes, dict[bytes, _Place]] = {}
        self.mount(routes)

    def mount(self, routes: Mapping[str, Mapping[str, Route]]) -> None:
        """Answer these paths from now on, and no longer the ones before."""
        metrics = {"/metrics": {"GET": Route("metrics", self._metrics, probe=True)}}
        self._places = {
            path.encode(): {
                method.encode(): self._place(route) for method, route in methods.items()
            }
            for path, methods in (metrics | dict(routes)).items()
        }

    def _place(self, route: Route) -> _Place:
        endpoint = Endpoint(self.handler, self._interface, route.name, probe=route.probe)
        return _Place(route.name, route.answer, endpoint)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        # As it stands in the request, a path is mostly found at once.
        methods = self._places.get(exchange.target)
        if methods is None:
            methods = self._places.get(_path(exchange.target), _NO_METHODS)
        name, answer, endpoint = methods.get(exchange.method, self._elsewhere)
        headers = dict(exchange.headers)
        context = self.handler.begin(
            self._interface,
            name,
            request_id=headers.get(b"x-request-id", b"").decode("latin-1"),
            traceparent=headers.get(b"traceparent", b"").decode("latin-1"),
        )
        exchange.context = context
        endpoint.begin(context)
        try:
            if answer is None:
                await self._fall_back(exchange, context)
            else:
                request = Request(headers, exchange, self._settings, context)
                response = await self._response(answer, request)
                endpoint.received(request.size)
                if isinstance(response, StreamingResponse):
                    await _stream(exchange, response, context, endpoint)
                else:
                    if exchange.connection.write_paused:
                        await exchange.connection.drained()
                    endpoint.sent(exchange.respond(response, context.id))
            context.code = context.code or OK
        except asyncio.CancelledError as cut:
            context.code = str(cut.args[0]) if cut.args else ""
            exchange.connection.interrupted(exchange)
        except Exception as bug:  # noqa: BLE001 - of a framework, or ours
            if not context.code:
                context.failed(bug)
            self._break_off(exchange, context, bug)
        finally:
            endpoint.end(context)

    def refuse(self, error: OMIError) -> Response:
        """The interface's word for what the protocol itself refuses, which is counted."""
        traffic = self._elsewhere.endpoint.traffic
        traffic.came()
        traffic.went(error.code, 0.0)
        return self.on_error(error)

    async def _response(self, answer: Answer, request: Request) -> Response | StreamingResponse:
        """The route's response, or the interface's to what it raised, whose code is noted."""
        try:
            if b"x-request-timeout" in request.headers:
                request.context.allow(request.timeout)
            response = await answer(request)
            if isinstance(response, Response):
                size = response.size if response.tail else len(response.body)
                if size > self._settings.max_response_bytes:
                    limits.check_response(size, self._settings)
                if size >= encodings.WORTH_BYTES:
                    response = await _compressed(response, request.headers)
            return response
        except Exception as raised:  # noqa: BLE001 - the interface's table maps every exception
            error = overloaded(raised)
        request.context.failed(error)
        return self.on_error(error)

    async def _fall_back(self, exchange: Exchange, context: RequestContext) -> None:
        """What is no work for the model: metadata, probes, what is not there."""
        own = (b"x-request-id", context.id.encode())
        request = ASGIRequest(exchange, own, self._settings)
        asked = exchange.method + b" " + exchange.target.partition(b"?")[0]
        context.method = fit_for_a_line(asked.decode("latin-1"))
        try:
            await request.answered_by(self._fallback)
            if not exchange.answered and not exchange.gone:
                raise RuntimeError("the application ended without an answer")
        finally:
            if request.status:
                context.code = OK if request.status < 400 else str(request.status)

    def _break_off(self, exchange: Exchange, context: RequestContext, bug: Exception) -> None:
        """End a request whose answer has failed, as well as it goes."""
        if exchange.answered:  # a framework raises once more what it has answered
            return
        if not exchange.responding:
            exchange.respond(self.on_error(bug), context.id)
            return
        logger.error("an answer broke off", exc_info=bug)
        exchange.connection.transport.close()

    async def _metrics(self, request: Request) -> Response:
        """What Prometheus asks for. Put together on another thread, for it takes milliseconds."""
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        content_type, body = await asyncio.to_thread(scrape, self.handler, accept)
        return Response(200, body, [(b"content-type", content_type.encode())])


_NO_METHODS: Final[dict[bytes, _Place]] = {}


def _path(target: bytes) -> bytes:
    """The path in a request's target: without a host or a query, and unquoted."""
    try:
        return unquote_to_bytes(httptools.parse_url(target).path or b"/")
    except httptools.HttpParserInvalidURLError:
        return b""


async def _compressed(response: Response, asked: Mapping[bytes, bytes]) -> Response:
    """A large answer in the coding that its client asked for, if it did."""
    coding = encodings.accepted(asked.get(b"accept-encoding", b"identity"))
    if not coding:
        return response
    body = await encodings.encoded((response.body, *response.tail), coding)
    own = ((b"content-encoding", coding.encode()), (b"vary", b"accept-encoding"))
    return Response(response.status, body, (*response.headers, *own))


async def _stream(
    exchange: Exchange, response: StreamingResponse, context: RequestContext, endpoint: Endpoint
) -> None:
    try:
        exchange.begin(response.status, [*response.headers, (b"x-request-id", context.id.encode())])
        async for part in response.parts:
            endpoint.sent(len(part))
            await exchange.send(part)
        exchange.finish()
    finally:
        await response.parts.aclose()
