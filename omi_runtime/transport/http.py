"""The HTTP transport: uvicorn without its signal handling, and a dispatcher in front of it.

The dispatcher is a plain ASGI application. It answers a handful of exact paths itself, the hot
ones, and hands everything else to a fallback application: a web framework's layers cost more than
half of a small request's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import uvicorn

from omi_runtime.adapter import Port
from omi_runtime.errors import InvalidRequest, ModelNotReady, TooLarge, UnsupportedMediaType
from omi_runtime.handler import ModelHandler
from omi_runtime.request import RequestContext
from omi_runtime.transport.sockets import bind

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_REQUEST_BYTES: Final = 250 * 1024 * 1024
KEEP_ALIVE_SECONDS: Final = 65
"""Longer than the 60 s after which common proxies close an idle connection."""

_SECONDS: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
"""What float() reads beyond that (signs, exponents, nan) is more likely a mistake than meant."""

LINGERING_SECONDS: Final = 0.3
"""How long a stop lets clients with open connections finish their next request."""

JSON_HEADER: Final = (b"content-type", b"application/json")


class ClientDisconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class Request:
    """One HTTP request, as the dispatcher hands it to a route.

    Attributes:
        context: the request as the core knows it; it takes the caller's id, trace and limit of
            time from the headers `x-request-id`, `traceparent` and `X-Request-Timeout`.
    """

    __slots__ = ("_receive", "context", "headers")

    def __init__(
        self, scope: Scope, receive: Receive, handler: ModelHandler, interface: str, method: str
    ) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self.context: RequestContext = handler.begin(
            interface,
            method,
            request_id=self.headers.get(b"x-request-id", b"").decode("latin-1"),
            traceparent=self.headers.get(b"traceparent", b"").decode("latin-1"),
        )

    @property
    def media_type(self) -> str:
        """Content-Type without parameters, in lower case."""
        content_type = self.headers.get(b"content-type", b"")
        return content_type.partition(b";")[0].strip().lower().decode("latin-1")

    @property
    def timeout(self) -> float | None:
        """Seconds that the caller allows, by the header `X-Request-Timeout`; None without it.

        Raises:
            InvalidRequest: the header is no number of seconds above 0.
        """
        text = self.headers.get(b"x-request-timeout")
        if text is None:
            return None
        seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
        if not seconds:
            raise InvalidRequest(
                f"X-Request-Timeout {text.decode('latin-1')!r} is no number of seconds above 0: "
                "write for example 2.5"
            )
        return seconds

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            TooLarge: over the limit, from Content-Length before anything is read, or as it grows.
            ClientDisconnected: the client went away.
        """
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > MAX_REQUEST_BYTES:
            raise _too_large()
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            return bytes(message.get("body", b""))
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] != "http.request":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > MAX_REQUEST_BYTES:
                raise _too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await self._receive()


@dataclass(slots=True)
class Response:
    """An answer: a status, a body and headers beside Content-Length."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = field(default=(JSON_HEADER,))


class Route(NamedTuple):
    """What answers a path and method.

    Attributes:
        name: what is asked, in the interface's own words, such as `v2.infer`.
        answer: gives the response, or raises.
    """

    name: str
    answer: Callable[[Request], Awaitable[Response]]


class Dispatcher:
    """Answers exact paths itself and hands everything else to a fallback.

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
        self._handler = handler
        self._interface = interface
        self._routes = routes
        self._fallback = fallback
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        route = self._routes.get(scope.get("path", ""), {}).get(scope.get("method", ""))
        if route is None:
            await self._fallback(scope, receive, send)
            return
        request = Request(scope, receive, self._handler, self._interface, route.name)
        try:
            request.context.allow(request.timeout)
            response = await route.answer(request)
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            # Nothing but a stop whose grace is over cancels a request.
            response = self._on_error(ModelNotReady("the server is stopping: this was cut off"))
        except Exception as error:  # noqa: BLE001 - the interface's table maps every exception
            response = self._on_error(error)
        await respond(send, response)


async def respond(send: Send, response: Response) -> None:
    """Send a whole answer."""
    length = b"%d" % len(response.body)
    headers = [*response.headers, (b"content-length", length)]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


class HTTPServer:
    """uvicorn on one port, started and stopped by an adapter.

    Args:
        app: what to serve.
        host: `OMI_HOST`.
        port: what to bind.
        access_log: a line for every request.
    """

    def __init__(self, app: ASGIApp, host: str, port: Port, *, access_log: bool = False) -> None:
        self._config = uvicorn.Config(
            app,
            http="httptools",
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=access_log,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Bind and accept; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        sock = bind(self._host, self._port)
        self._server = _Server(self._config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[sock]))
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            self._serving.result()
        return int(sock.getsockname()[1])

    async def stop(self, grace: float) -> None:
        """Close the listener and idle connections, finish requests for up to `grace` seconds."""
        if self._server is None or self._serving is None:
            return
        state = self._server.server_state
        # Clients are told to go with their next answer; an idle connection that is closed at once
        # may have a request on its way already, which would be lost. The lists are uvicorn's own:
        # the headers of answers now, and from its next tick on.
        for headers in (state.default_headers, self._config.encoded_headers):
            headers.append((b"connection", b"close"))
        self._server.stop_accepting()
        lingering = min(grace, LINGERING_SECONDS) if state.connections else 0.0
        await asyncio.sleep(lingering)
        # uvicorn takes whole seconds in its types, and any number in its code.
        self._config.timeout_graceful_shutdown = grace - lingering  # type: ignore[assignment]
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """uvicorn's server with a start that can be awaited, and signals left to `serve`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self._listening: list[socket.socket] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: uvicorn would count one as two (it re-raises what it caught)."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets=sockets)
        self._listening = sockets or []
        self.has_started.set()

    def stop_accepting(self) -> None:
        """Refuse new connections, while those that are open go on."""
        for sock in self._listening:
            sock.close()
        for server in self.servers:
            server.close()


def check_json_media_type(request: Request) -> None:
    """Refuse a body that says it is something other than JSON.

    No type, and the types that HTTP clients send on their own (curl's form type, text/plain), are
    read as JSON.
    """
    media_type = request.media_type
    if media_type in _READ_AS_JSON or media_type.endswith("+json"):
        encoding = request.headers.get(b"content-encoding", b"identity").decode("latin-1")
        if encoding.lower() != "identity":
            raise UnsupportedMediaType(f"Content-Encoding {encoding!r} is not read here")
        return
    raise UnsupportedMediaType(f"Content-Type {media_type!r} is not read here: send JSON")


_READ_AS_JSON: Final = {
    "",
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/json",
    "text/plain",
}


def _too_large() -> TooLarge:
    return TooLarge(f"the request is larger than {MAX_REQUEST_BYTES} bytes")
