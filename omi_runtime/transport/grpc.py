"""The gRPC transport: a grpc.aio server with health and reflection beside an adapter's services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

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

_Context = grpc.aio.ServicerContext[Any, Any]
_Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


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
        handlers = [handler for _, handler in self._services]
        handlers += [health.HealthServicer(self._lifecycle, names).handlers()]
        handlers += reflection.reflection_handlers(
            [*names, health.SERVICE], stopping=self._stopping
        )
        server.add_generic_rpc_handlers([_Parsing(handler) for handler in handlers])
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


class _Parsing(grpc.GenericRpcHandler):
    """Refuses bytes that are no message of a method's type as the caller's mistake.

    grpc.aio lets the parser's exception through: UNKNOWN for the caller, and a traceback in the
    log for whoever cares to send nonsense.
    """

    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner
        self._methods: dict[str, _Method] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Method | None:
        """The method asked for, None if it is not of this service; called for every request."""
        name = handler_call_details.method
        if name not in self._methods:
            method = self._inner.service(handler_call_details)
            if method is None:
                return None
            self._methods[name] = _parsing(method)
        return self._methods[name]


def _parsing(method: _Method) -> _Method:
    """The same method, for a request that may turn out to be nonsense; of one message only."""
    parse: Callable[[bytes], Any] | None = method.request_deserializer
    if parse is None or method.request_streaming:
        return method

    def parse_or_none(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return None

    async def answer(request: Any, context: _Context) -> Any:
        if request is None:
            await _refuse(context)
        return await behaviour(request, context)

    async def answers(request: Any, context: _Context) -> AsyncIterator[Any]:
        if request is None:
            await _refuse(context)
        async for message in behaviour(request, context):
            yield message

    behaviour: Any
    if method.response_streaming:
        behaviour = method.unary_stream
        return grpc.unary_stream_rpc_method_handler(
            answers, parse_or_none, method.response_serializer
        )
    behaviour = method.unary_unary
    return grpc.unary_unary_rpc_method_handler(answer, parse_or_none, method.response_serializer)


async def _refuse(context: _Context) -> None:
    await context.abort(
        grpc.StatusCode.INVALID_ARGUMENT, "the request's bytes are no message of this method's type"
    )
