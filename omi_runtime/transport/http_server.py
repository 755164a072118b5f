"""The HTTP transport's server: a port, its connections, and the end of both."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Final

from omi_runtime import tls
from omi_runtime.adapter import Port
from omi_runtime.lifecycle import State
from omi_runtime.provenance import MODEL_KEY
from omi_runtime.transport.http import Dispatcher
from omi_runtime.transport.http_exchange import ServerState, lines
from omi_runtime.transport.http_protocol import HTTPProtocol
from omi_runtime.transport.listener import Listener

LINGERING_SECONDS: Final = 0.3
"""How long a stop lets clients with open connections finish their next request."""

_POLL_SECONDS: Final = 0.02


class HTTPServer:
    """HTTP/1.1 on one port, started and stopped by an adapter.

    Args:
        app: what to serve; it has the settings.
        host: `OMI_HOST`.
        port: what to bind.
    """

    def __init__(self, app: Dispatcher, host: str, port: Port) -> None:
        self._app = app
        self._settings = app.handler.settings
        self._handler = app.handler
        self._host = host
        self._port = port
        self._state = ServerState()
        self._listener: Listener | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._signing: asyncio.Task[None] | None = None
        self._told = ""  # which model the answers are from

    async def start(self) -> int:
        """Bind and accept; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        encrypted = bool(self._settings.tls_cert)
        context = tls.server_context(self._settings, "http/1.1") if encrypted else None
        self._listener = listener = Listener(self._host, self._port)
        self._tick()
        await listener.accept(lambda: HTTPProtocol(self._app, self._state), context)
        self._signing = asyncio.create_task(self._sign())
        return listener.number

    async def stop(self, grace: float) -> None:
        """Close the listener and idle connections, finish requests for up to `grace` seconds."""
        if self._listener is None or self._signing is None:
            return
        self._signing.cancel()
        end = time.monotonic() + grace
        # Clients are told to go with their next answer; an idle connection that is closed at once
        # may have a request on its way already, which would be lost.
        self._state.stopping = True
        self._listener.close()
        if self._state.connections:
            await asyncio.sleep(min(grace, LINGERING_SECONDS))
        for connection in list(self._state.connections):
            connection.shutdown()
        if not await self._deserted(end):
            for connection in list(self._state.connections):
                self._handler.lifecycle.cut_off |= connection.busy
                connection.cut_off()
            await self._deserted(time.monotonic() + LINGERING_SECONDS)
        if self._clock is not None:
            self._clock.cancel()

    async def _deserted(self, end: float) -> bool:
        """Wait until no connection is left, as long as there is time."""
        while self._state.connections and time.monotonic() < end:  # noqa: ASYNC110 - once a life
            await asyncio.sleep(_POLL_SECONDS)
        return not self._state.connections

    async def _sign(self) -> None:
        """Have every answer say which model it is from: as soon as that is known, and ever since.

        A model that is loaded again may be another.
        """
        handler = self._handler

        def is_another(_state: State) -> bool:
            return handler.identity != self._told

        while True:
            await handler.lifecycle.wait_for(is_another)
            self._told = handler.identity
            self._write_lines()

    def _tick(self) -> None:
        """The date, once a second: it is the same for all answers of that."""
        self._clock = asyncio.get_running_loop().call_later(1.0, self._tick)
        self._write_lines()

    def _write_lines(self) -> None:
        headers = [(b"date", formatdate(usegmt=True).encode())]
        if self._told:
            headers.append((MODEL_KEY.encode(), self._told.encode()))
        self._state.lines = lines(headers)
