"""The HTTP transport's server: uvicorn without its signal handling, with a protocol of our own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Final, cast

import uvicorn

from omi_runtime import tls
from omi_runtime.adapter import Port
from omi_runtime.lifecycle import State
from omi_runtime.provenance import MODEL_KEY
from omi_runtime.transport.http import Dispatcher
from omi_runtime.transport.http_protocol import HTTPProtocol
from omi_runtime.transport.listener import Listener

KEEP_ALIVE_SECONDS: Final = 65
"""Longer than the 60 s after which common proxies close an idle connection."""

LINGERING_SECONDS: Final = 0.3
"""How long a stop lets clients with open connections finish their next request."""


class HTTPServer:
    """uvicorn on one port, started and stopped by an adapter.

    Args:
        app: what to serve; it has the settings.
        host: `OMI_HOST`.
        port: what to bind.
    """

    def __init__(self, app: Dispatcher, host: str, port: Port) -> None:
        self._config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(HTTPProtocol, dispatcher=app)),
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # `endpoint` has a line for every request, over gRPC too
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._settings = app.handler.settings
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._handler = app.handler
        self._signing: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Bind and accept; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        if self._settings.tls_cert:
            self._config.load()
            self._config.ssl = tls.server_context(self._settings, "http/1.1")
        listener = Listener(self._host, self._port)
        self._server = _Server(self._config, listener)
        self._serving = asyncio.create_task(self._server.serve())
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            self._serving.result()
        self._signing = asyncio.create_task(self._sign())
        return listener.number

    async def stop(self, grace: float) -> None:
        """Close the listener and idle connections, finish requests for up to `grace` seconds."""
        if self._server is None or self._serving is None:
            return
        if self._signing is not None:
            self._signing.cancel()
        # Clients are told to go with their next answer; an idle connection that is closed at once
        # may have a request on its way already, which would be lost.
        self._set_header(b"connection", b"close")
        self._server.listener.close()
        lingering = min(grace, LINGERING_SECONDS) if self._server.server_state.connections else 0.0
        await asyncio.sleep(lingering)
        # uvicorn takes whole seconds in its types, and any number in its code.
        self._config.timeout_graceful_shutdown = grace - lingering  # type: ignore[assignment]
        self._server.should_exit = True
        await self._serving

    async def _sign(self) -> None:
        """Have every answer say which model it is from: as soon as that is known, and ever since.

        A model that is loaded again may be another.
        """
        handler, told = self._handler, ""

        def is_another(_state: State) -> bool:
            return handler.identity != told

        while True:
            await handler.lifecycle.wait_for(is_another)
            told = handler.identity
            self._set_header(MODEL_KEY.encode(), told.encode())

    def _set_header(self, name: bytes, value: bytes) -> None:
        """Of every answer. The lists are uvicorn's own: now, and from its next tick on."""
        assert self._server is not None, "it has started"
        for headers in (self._server.server_state.default_headers, self._config.encoded_headers):
            headers[:] = [*(header for header in headers if header[0] != name), (name, value)]


class _Server(uvicorn.Server):
    """uvicorn's server with a listener of ours, and signals left to `serve`.

    Attributes:
        listener: gives it its connections.
        has_started: it accepts.
    """

    def __init__(self, config: uvicorn.Config, listener: Listener) -> None:
        super().__init__(config)
        self.listener = listener
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: uvicorn would count one as two (it re-raises what it caught)."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Start to accept, then say so."""
        await super().startup(sockets=[])  # none of uvicorn's own
        await self.listener.accept(self._protocol, self.config.ssl)
        self.has_started.set()

    def _protocol(self) -> asyncio.Protocol:
        """For a new connection, as uvicorn makes it."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
