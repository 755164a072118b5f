"""The gRPC transport: a grpc.aio server with health and reflection beside an adapter's services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from omi_runtime import tls
from omi_runtime.adapter import Port
from omi_runtime.handler import ModelHandler
from omi_runtime.transport import calls, health, reflection
from omi_runtime.transport.calls import Service
from omi_runtime.transport.sockets import bind, cannot_bind

_OPTIONS: Final = (
    # Clients behind load balancers ping idle connections; gRPC's default cuts them off for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Balancers forget connections that are silent for a minute or more, often without a word:
    # pings keep them, and tell when a client has vanished, whose calls then end.
    ("grpc.keepalive_time_ms", 45_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)

_LARGEST_MESSAGE: Final = 2**31 - 1
"""What gRPC itself can carry; protobuf has the same limit."""

SETTLING_SECONDS: Final = 1.0
"""How long a stop waits at most for callers to stop calling."""
QUIET_SECONDS: Final = 0.1
"""How long no call has to come for callers to count as having stopped."""


class GRPCServer:
    """grpc.aio on one port, started and stopped by an adapter.

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
        self._services = services
        self._handler = handler
        self._interface = interface
        self._host = host
        self._port = port
        self._server: grpc.aio.Server | None = None
        self._stopping = asyncio.Event()
        self._gate = _Gate()

    async def start(self) -> int:
        """Bind and accept; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        names = [service.name for service in self._services]
        settings = self._handler.settings
        sizes = (
            ("grpc.max_receive_message_length", min(settings.max_request_bytes, _LARGEST_MESSAGE)),
            # Ours says more than gRPC's own, and comes first.
            ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        )
        # gRPC's default lets a second server share a used port in silence: only workers do.
        sharing = ("grpc.so_reuseport", int(self._port.shared))
        server = grpc.aio.server(options=(*_OPTIONS, *sizes, sharing))
        of_health = health.HealthServicer(self._handler.lifecycle, names).service()
        handlers = [
            calls.generic_handler(service, self._handler, self._interface)
            for service in (*self._services, of_health)
        ]
        handlers += reflection.reflection_handlers(
            [*names, health.SERVICE], stopping=self._stopping
        )
        server.add_generic_rpc_handlers([_Gated(handler, self._gate) for handler in handlers])
        # gRPC does not say why it cannot bind, so the system is asked first.
        bind(self._host, self._port).close()
        address = f"[{self._host}]" if ":" in self._host else self._host
        try:
            number = self._add_port(server, f"{address}:{self._port.number}")
        except RuntimeError:
            raise cannot_bind(
                self._host, self._port, OSError(0, "gRPC could not bind it")
            ) from None
        await server.start()
        self._server = server
        return int(number)

    def _add_port(self, server: grpc.aio.Server, address: str) -> int:
        settings = self._handler.settings
        if not settings.tls_cert:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(tls.Certificates(settings, "h2")))

    async def stop(self, grace: float) -> None:
        """Refuse new calls, end idle streams, finish the rest for up to `grace` seconds."""
        self._stopping.set()
        if self._server is None:
            return
        begin = time.monotonic()
        await self._gate.close(min(grace, SETTLING_SECONDS))
        await self._server.stop(max(0.0, grace - (time.monotonic() - begin)))


def _credentials(certificates: tls.Certificates) -> grpc.ServerCredentials:
    """Shows every new client the certificates that the files hold then."""

    def configured(loaded: tls.Loaded) -> grpc.ServerCertificateConfiguration:
        pairs = [(loaded.key, loaded.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs, loaded.client_ca)

    shown = certificates.current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        current = certificates.current()
        if current is shown:
            return None
        shown = current
        return configured(current)

    return grpc.dynamic_ssl_server_credentials(
        configured(shown),
        changed,  # type: ignore[arg-type] # None is allowed: no change
        require_client_authentication=shown.client_ca is not None,
    )


class _Gate:
    """Lets calls in until the server stops.

    grpc.aio takes one call after the other, and a stop ends with CANCELLED those that have arrived
    and not been taken: callers do not retry that, and would lose what was sent before the stop. So
    the stop waits until no more come, and refuses those that keep coming with UNAVAILABLE, which
    says that another server may be tried.
    """

    def __init__(self) -> None:
        self._last_call = 0.0
        self._closed = False

    def lets_in(self) -> bool:
        """Whether a call that has just come may be answered."""
        self._last_call = time.monotonic()
        return not self._closed

    async def close(self, patience: float) -> None:
        """Wait until nothing has come for a moment, for `patience` seconds at most; then refuse."""
        end = time.monotonic() + patience
        while (now := time.monotonic()) < end:
            if now - self._last_call > QUIET_SECONDS:
                self._closed = True
                return
            await asyncio.sleep(QUIET_SECONDS / 5)
        self._closed = True
        await asyncio.sleep(min(patience, QUIET_SECONDS))


class _Gated(grpc.GenericRpcHandler):
    """Refuses what comes after the gate has closed."""

    def __init__(self, inner: grpc.GenericRpcHandler, gate: _Gate) -> None:
        self._inner = inner
        self._gate = gate
        self._methods: dict[str, calls.RpcMethod | None] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> calls.RpcMethod | None:
        """The method asked for, None if it is not of this service; called for every request."""
        name = handler_call_details.method
        method = self._methods.get(name)
        if method is None:
            method = self._inner.service(handler_call_details)
            if method is None:
                return None
            self._methods[name] = method
        return method if self._gate.lets_in() else _TURNED_AWAY


async def _turn_away(_request: Any, context: calls.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping: try another")


_TURNED_AWAY: Final[calls.RpcMethod] = grpc.unary_unary_rpc_method_handler(_turn_away)
