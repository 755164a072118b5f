"""Requests for an ASGI application: what a dispatcher does not answer itself.

ASGI 3.0, HTTP only: a web framework serves what is no work for the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

import httptools

from omi_runtime.errors import InvalidRequest
from omi_runtime.settings import Settings
from omi_runtime.transport import encodings
from omi_runtime.transport.http_exchange import Exchange
from omi_runtime.transport.http_messages import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ASGIRequest:
    """One request as an ASGI application has it.

    Args:
        exchange: the request.
        own: a header to add to the answer.
        settings: with the limits of a body that is compressed.

    Attributes:
        status: of the answer; 0 as long as there is none.
    """

    def __init__(self, exchange: Exchange, own: tuple[bytes, bytes], settings: Settings) -> None:
        self._exchange = exchange
        self._own = own
        self._settings = settings
        self._received = False
        self.status = 0

    async def answered_by(self, app: ASGIApp) -> None:
        """Let the application answer."""
        await app(_scope(self._exchange), self._receive, self._send)

    async def _receive(self) -> Message:
        """The request, whole; then nothing, for a client that goes takes its task with it.

        Raises:
            OMIError: it is compressed, and not as it says, or too large; see `encodings.decoded`.
        """
        if self._exchange.answered:
            return {"type": "http.disconnect"}
        if self._received:
            await asyncio.get_running_loop().create_future()
        self._received = True
        body = await self._exchange.whole()
        coding = dict(self._exchange.headers).get(b"content-encoding")
        if coding is not None:
            body = await encodings.decoded(body, coding, self._settings)
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        exchange = self._exchange
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers, length = _read_headers(message.get("headers", ()), exchange)
            exchange.begin(self.status, [*headers, self._own], length)
            return
        await exchange.send(message.get("body", b""))
        if not message.get("more_body", False):
            exchange.finish()


async def respond(send: Send, response: Response) -> None:
    """Send a whole answer from within an ASGI application."""
    length = b"%d" % response.size
    headers = [*response.headers, (b"content-length", length)]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body: bytes | memoryview = response.body
    for part in response.tail:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = part
    await send({"type": "http.response.body", "body": body})


def _scope(exchange: Exchange) -> Scope:
    try:
        url = httptools.parse_url(exchange.target)
    except httptools.HttpParserInvalidURLError:
        raise InvalidRequest("the target of the request is no path") from None
    path = url.path or b"/"
    transport = exchange.connection.transport
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.0" if exchange.http_1_0 else "1.1",
        "server": _address(transport, "sockname"),
        "client": _address(transport, "peername"),
        "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        "method": exchange.method.decode("ascii"),
        "root_path": "",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": url.query or b"",
        "headers": list(exchange.headers),
    }


def _address(transport: asyncio.Transport, which: str) -> tuple[str, int] | None:
    address = transport.get_extra_info(which)
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None


def _read_headers(headers: Any, exchange: Exchange) -> tuple[list[tuple[bytes, bytes]], int | None]:
    """Those of the application's own, and the length of the body, if it says so."""
    kept: list[tuple[bytes, bytes]] = []
    length: int | None = None
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-length":
            length = int(value)
        elif lowered == b"connection":
            exchange.keep_alive = exchange.keep_alive and value.lower() != b"close"
        elif lowered not in _OURS:
            kept.append((lowered, value))
    return kept, length


_OURS: Final = frozenset({b"transfer-encoding"})
"""Headers that the transport writes."""
