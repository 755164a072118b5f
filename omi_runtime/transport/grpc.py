"""The gRPC transport: a server with health and reflection beside an adapter's services."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Sequence
from typing import Final

from omi_runtime import tls
from omi_runtime.adapter import Port
from omi_runtime.endpoint import Endpoint
from omi_runtime.errors import ErrorCode
from omi_runtime.handler import ModelHandler
from omi_runtime.request import fit_for_a_line
from omi_runtime.transport import grpc_stream, health, reflection
from omi_runtime.transport.calls import Calls, Service
from omi_runtime.transport.grpc_head import Head, percent_encoded, read_head
from omi_runtime.transport.grpc_stream import GRPCStream
from omi_runtime.transport.http2.connection import Connection
from omi_runtime.transport.http2.fields import Field, literal
from omi_runtime.transport.http2.stream import Stream
from omi_runtime.transport.http2.wire import Code
from omi_runtime.transport.listener import Listener
from omi_runtime.transport.status import Status

_CLOSING_SECONDS: Final = 0.5
"""How long clients may take, after the grace period, to read what they were sent last."""
_OTHER: Final = "other"
"""What is asked of no method, as metrics name it."""


class GRPCServer:
    """gRPC on one port, started and stopped by an adapter.

    Args:
        services: what the adapter answers.
        handler: the core.
        interface: as `INTERFACE` names it.
        host: `OMI_HOST`.
        port: what to bind.
    """

    def __init__(
        self,
        services: Sequence[Service],
        handler: ModelHandler,
        interface: str,
        host: str,
        port: Port,
    ) -> None:
        names = [service.name for service in services]
        self._handler = handler
        self._interface = interface
        self._elsewhere = Endpoint(handler, interface, _OTHER)
        self._settings = handler.settings
        self._host = host
        self._port = port
        self._stopping = asyncio.Event()
        self._listener: Listener | None = None
        self._connections: set[Connection[Head]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        own = (
            health.HealthServicer(handler.lifecycle, names).service(),
            *reflection.services([*names, health.SERVICE], stopping=self._stopping),
        )
        self._methods = {
            f"/{service.name}/{name}": Calls(service, name, handler, interface)
            for service in (*own, *services)
            for name in service.methods
        }

    async def start(self) -> int:
        """Bind and accept; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        context = tls.server_context(self._settings, "h2") if self._settings.tls_cert else None
        self._listener = Listener(self._host, self._port)
        await self._listener.accept(lambda: Connection(self), context)
        return self._listener.number

    async def stop(self, grace: float) -> None:
        """Refuse new calls, end idle streams, finish the rest for up to `grace` seconds."""
        self._stopping.set()
        if self._listener is None:
            return
        end = time.monotonic() + grace
        self._listener.close()
        for connection in list(self._connections):
            connection.drain()
        await self._wait_for_all_to_go(grace)
        for connection in list(self._connections):
            for stream in list(connection.streams.values()):
                self._cut_off(stream)
            connection.close(Code.NO_ERROR)
        await self._wait_for_all_to_go(max(end - time.monotonic(), _CLOSING_SECONDS))
        for connection in list(self._connections):
            connection.abort()

    async def _wait_for_all_to_go(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)

    def _cut_off(self, stream: Stream) -> None:
        if isinstance(stream, GRPCStream):
            self._handler.lifecycle.cut_off |= not stream.is_probe
            stream.fail(Status.UNAVAILABLE, "the server has stopped: try another")
            stream.cancel()

    # What connections tell

    def read_head(self, fields: Sequence[Field]) -> Head:
        """See `grpc_head.read_head`."""
        return read_head(fields)

    def open_stream(
        self, connection: Connection[Head], stream_id: int, head: Head, *, ended: bool
    ) -> Stream:
        """A call has come; an unknown method is told at once."""
        method = self._methods.get(head.path)
        if method is not None and head.is_grpc and not head.problem:
            stream = GRPCStream(connection, stream_id, head, method, self._settings, ended=ended)
            stream.begin()
            return stream
        contextvars.copy_context().run(self._note_other, head)
        if head.problem:
            return grpc_stream.refuse(connection, stream_id, ended=ended)
        if not head.is_grpc:
            block = grpc_stream.NO_GRPC
        else:
            block = grpc_stream.HEADERS + _unknown(head.path)
        return grpc_stream.turn_away(connection, stream_id, block, ended=ended)

    def _note_other(self, head: Head) -> None:
        """Count a call that is none of a method, and give it its line in the log."""
        request = self._handler.begin(self._interface, _OTHER, request_id=head.request_id)
        self._elsewhere.begin(request)
        request.method = fit_for_a_line(head.path.removeprefix("/"))
        well_formed = head.is_grpc and not head.problem
        request.code = ErrorCode.NOT_OFFERED if well_formed else ErrorCode.INVALID_REQUEST
        self._elsewhere.end(request)

    def connected(self, connection: Connection[Head]) -> None:
        """A client has come; it has to go before the server has stopped."""
        self._connections.add(connection)
        self._empty.clear()
        if self._stopping.is_set():
            connection.drain()

    def disconnected(self, connection: Connection[Head]) -> None:
        """It has gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()


def _unknown(path: str) -> bytes:
    text = f"there is no method {path} here: ask the server's reflection for those there are"
    return literal(b"grpc-status", b"%d" % Status.UNIMPLEMENTED) + literal(
        b"grpc-message", percent_encoded(text)
    )
