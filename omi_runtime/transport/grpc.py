"""The gRPC transport: a grpc.aio server with health and reflection beside an adapter's services."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio

from omi_runtime.adapter import Port
from omi_runtime.lifecycle import Lifecycle
from omi_runtime.transport import health, reflection
from omi_runtime.transport.sockets import bind, cannot_bind

MAX_MESSAGE_BYTES: Final = 250 * 1024 * 1024
"""Both ways, as Modzy's gRPC template and Chassis have it; gRPC's own default is 4 MiB."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # gRPC's default lets a second server share a used port in silence.
    ("grpc.so_reuseport", 0),
    # Clients behind load balancers ping idle connections; gRPC's default cuts them off for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class GRPCServer:
    """grpc.aio on one port, started and stopped by an adapter.

    Args:
        services: full service names and their handlers.
        lifecycle: what health tells of.
        host: `OMI_HOST`.
        port: what to bind.
    """

    def __init__(
        self,
        services: Sequence[tuple[str, grpc.GenericRpcHandler]],
        lifecycle: Lifecycle,
        host: str,
        port: Port,
    ) -> None:
        self._services = services
        self._lifecycle = lifecycle
        self._host = host
        self._port = port
        self._server: grpc.aio.Server | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> int:
        """Bind and accept; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        names = [name for name, _ in self._services]
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(tuple(handler for _, handler in self._services))
        server.add_generic_rpc_handlers((health.HealthServicer(self._lifecycle, names).handlers(),))
        server.add_generic_rpc_handlers(
            tuple(reflection.reflection_handlers([*names, health.SERVICE], stopping=self._stopping))
        )
        # gRPC does not say why it cannot bind, so the system is asked first.
        bind(self._host, self._port).close()
        address = f"[{self._host}]" if ":" in self._host else self._host
        try:
            number = server.add_insecure_port(f"{address}:{self._port.number}")
        except RuntimeError:
            raise cannot_bind(
                self._host, self._port, OSError(0, "gRPC could not bind it")
            ) from None
        await server.start()
        self._server = server
        return int(number)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, end idle streams, finish the rest for up to `grace` seconds."""
        self._stopping.set()
        if self._server is not None:
            await self._server.stop(grace)
