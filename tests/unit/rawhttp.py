"""A server with a few routes and a client that says every byte: to test the HTTP transport."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from handlers import PATIENCE

from omi_runtime.adapter import Port
from omi_runtime.errors import InternalError, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import Lifecycle
from omi_runtime.settings import Settings
from omi_runtime.transport.http import (
    ASGIApp,
    Dispatcher,
    Request,
    Response,
    Route,
    StreamingResponse,
    respond,
)
from omi_runtime.transport.http_exchange import ServerState
from omi_runtime.transport.http_server import HTTPServer

LIMIT = 1000


@dataclass
class Served:
    """A server with routes that a test needs, and what has become of their requests."""

    port: int = 0
    stop: Any = None
    state: ServerState = field(default_factory=ServerState)
    cancelled: int = 0
    waiting: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def connections(self) -> int:
        """That are open."""
        return len(self.state.connections)

    async def echo(self, request: Request) -> Response:
        return Response(200, await request.body())

    async def think(self, request: Request) -> Response:
        """Whether reading and writing ran on the event loop's thread."""

        def on_loop(_: Any) -> bool:
            return threading.current_thread() is threading.main_thread()

        read = await request.read(on_loop)
        return Response(200, json.dumps([read, await request.write(on_loop, read)]).encode())

    async def pieces(self, request: Request) -> StreamingResponse:
        """As many as the body says; a negative number breaks off."""
        n = int(await request.body())

        async def parts() -> AsyncGenerator[bytes, None]:
            for i in range(abs(n)):
                yield b"%d;" % i
            if n < 0:
                raise ValueError("no more")

        return StreamingResponse(200, parts(), [(b"content-type", b"text/plain")])

    async def torn(self, _request: Request) -> Response:
        """A header that would be read as two."""
        return Response(200, b"", [(b"x", b"a\r\nset-cookie: b")])

    async def large(self, _request: Request) -> Response:
        return Response(200, bytes(LIMIT + 1))

    async def wait(self, request: Request) -> Response:
        body = await request.body()
        self.waiting += 1
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(200, body)


def on_error(error: Exception) -> Response:
    if not isinstance(error, OMIError):
        error = InternalError()
    content = {"oops": error.message, "code": error.code}
    return Response(getattr(error, "status", 499), json.dumps(content).encode())


async def fallback(scope: Any, receive: Any, send: Any) -> None:
    """As a framework's application: reads the body by itself, and leaves errors to others."""
    while (message := await receive()).get("more_body"):
        pass
    assert message["type"] == "http.request"
    await respond(send, Response(404, b"{}"))


@asynccontextmanager
async def serving(app: ASGIApp = fallback, **settings: Any) -> AsyncIterator[Served]:
    """A server with the routes, and the application for every other path."""
    served = Served()
    handler = ModelHandler(Settings(**({"max_request_bytes": LIMIT} | settings)), Lifecycle())
    routes = {
        f"/{name}": {"POST": Route(name, getattr(served, name))}
        for name in ("echo", "large", "pieces", "think", "torn", "wait")
    }
    dispatcher = Dispatcher(handler, "test", routes, app, on_error)
    server = HTTPServer(dispatcher, "127.0.0.1", Port(0, "a test"))
    async with asyncio.timeout(2 * PATIENCE):
        served.port, served.stop = await server.start(), server.stop
        served.state = server._state
        yield served
        await server.stop(1.0)
        await handler.close(1.0)


class Connection:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def refusal(self) -> tuple[int, str]:
        """The answer, in the interface's own form; after it the server closes."""
        status, headers, body = await self.answer()
        assert headers["connection"] == "close"
        assert headers["content-type"] == "application/json"
        content = json.loads(body)
        assert set(content) == {"oops", "code"}
        assert await self.reader.read() == b"", "nothing follows"
        return status, content["oops"]


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    yield Connection(reader, writer)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST /{path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


CHUNKED = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
