"""What an adapter says of a gRPC service, and what its methods get: a message and a `Call`.

A method raises the core's errors, which become a gRPC status by its service's own table; so does
the interface's HTTP dispatcher with its routes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from omi_runtime import limits
from omi_runtime.endpoint import OK, Endpoint
from omi_runtime.errors import ErrorCode, InternalError, InvalidRequest, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.memory import overloaded
from omi_runtime.provenance import MODEL_KEY
from omi_runtime.request import RequestContext
from omi_runtime.transport import encodings

logger = logging.getLogger(__name__)

ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
RpcMethod: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

MALFORMED: Final = InvalidRequest("the request's bytes are no message of this method's type")


@dataclass(frozen=True)
class Method:
    """One method of a service.

    Attributes:
        answer: takes the request's message, or an asynchronous iterator of them, and a `Call`;
            a coroutine function, or an asynchronous generator if it streams its answers.
        request: the message's class.
        streams_requests: whether it takes several messages.
        streams_responses: whether it gives several.
        probe: it only asks how the server is, so that the log has no line of it.
    """

    answer: Callable[[Any, Call], Any]
    request: type[Message]
    streams_requests: bool = False
    streams_responses: bool = False
    probe: bool = False


@dataclass(frozen=True)
class Service:
    """A gRPC service: its full name, its methods by name, and the status of every error."""

    name: str
    methods: Mapping[str, Method]
    statuses: Mapping[ErrorCode, grpc.StatusCode]


class Call:
    """One call, as the transport hands it to an adapter's method beside the message.

    Attributes:
        context: the request as the core knows it, with the call's deadline. In a stream, whose
            messages are requests of their own, `begin` makes one for each.
        servicer_context: gRPC's own.
    """

    __slots__ = ("_handler", "_interface", "_method", "context", "servicer_context")

    def __init__(
        self,
        handler: ModelHandler,
        interface: str,
        method: str,
        servicer_context: ServicerContext,
    ) -> None:
        self._handler = handler
        self._interface = interface
        self._method = method
        self.servicer_context = servicer_context
        self.context = self.begin()

    def begin(self) -> RequestContext:
        """A request that has just come with this call, and has its deadline."""
        request_id = traceparent = ""
        for key, value in self.servicer_context.invocation_metadata() or ():
            if key == "x-request-id":
                request_id = str(value)
            elif key == "traceparent":
                traceparent = str(value)
        request = self._handler.begin(
            self._interface, self._method, request_id=request_id, traceparent=traceparent
        )
        request.allow(self.servicer_context.time_remaining())
        return request


def generic_handler(
    service: Service, handler: ModelHandler, interface: str
) -> grpc.GenericRpcHandler:
    """What a server is given to offer a service."""
    methods: dict[str, RpcMethod] = {}
    for name, method in service.methods.items():
        label = f"{service.name.split('.')[-1]}/{name}"
        endpoint = Endpoint(handler, interface, label, probe=method.probe)
        methods[name] = _rpc_method(method, _Calls(service, handler, interface, label, endpoint))
    return grpc.method_handlers_generic_handler(service.name, methods)


@dataclass(frozen=True)
class _Calls:
    """Makes the calls of one method, and ends those that failed."""

    service: Service
    handler: ModelHandler
    interface: str
    method: str
    endpoint: Endpoint

    def begin(self, context: ServicerContext) -> Call:
        call = Call(self.handler, self.interface, self.method, context)
        self.endpoint.begin(call.context)
        return call

    def end(self, call: Call) -> None:
        self.endpoint.end(call.context)

    async def serialize(self, message: Message, context: ServicerContext) -> bytes:
        """An answer's bytes, made here: gRPC has no words for one that is too large."""
        data = message.SerializeToString()
        limits.check_response(len(data), self.handler.settings)
        self.endpoint.sent(len(data))
        if len(data) >= encodings.WORTH_BYTES:
            await _compress(context)
        return data

    def sign(self, context: ServicerContext, call: Call) -> None:
        """Say which request is answered, and by which model once that is known."""
        told = (("x-request-id", call.context.id),)
        identity = self.handler.identity
        context.set_trailing_metadata((*told, (MODEL_KEY, identity)) if identity else told)

    async def fail(self, context: ServicerContext, call: Call, error: Exception) -> NoReturn:
        error = overloaded(error)
        if not isinstance(error, OMIError):
            logger.error("%s failed", self.method, exc_info=error)
            error = InternalError()
        call.context.failed(error)
        self.sign(context, call)
        await context.abort(self.service.statuses[error.code], error.message)
        raise error  # never: abort raises


async def _compress(context: ServicerContext) -> None:
    """Have gRPC compress the call's answers, if its metadata ask for it as HTTP's header does.

    Every gRPC client says that it can read gzip, and none is asked whether it wants to: of
    numbers it saves half, and takes twenty times as long as all else.
    """
    for key, value in context.invocation_metadata() or ():
        if key != "accept-encoding":
            continue
        coding = encodings.accepted(str(value).encode("latin-1", "replace"))
        if coding:
            with suppress(RuntimeError):  # the first answer of a stream was small, and has gone
                context.set_compression(_COMPRESSIONS[coding])
                # grpc.aio forgets it unless these are sent by name.
                await context.send_initial_metadata(())


_COMPRESSIONS: Final = {
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


def _rpc_method(method: Method, calls: _Calls) -> RpcMethod:
    """The method as gRPC calls it. A request that is nonsense is None, so that nobody logs it.

    grpc.aio lets the parser's exception through: UNKNOWN for the caller, and a traceback in the
    log for whoever cares to send nonsense.
    """

    def parse(data: bytes) -> Message | None:
        calls.endpoint.received(len(data))
        try:
            return method.request.FromString(data)
        except DecodeError:
            return None

    async def answer(message: Any, context: ServicerContext) -> Any:
        call = calls.begin(context)
        try:
            response = await method.answer(_checked(message), call)
            data = await calls.serialize(response, context)
            calls.sign(context, call)
            call.context.code = call.context.code or OK
            return data
        except Exception as error:  # noqa: BLE001 - the service's table maps every exception
            await calls.fail(context, call, error)
        finally:
            calls.end(call)

    async def answers(message: Any, context: ServicerContext) -> AsyncIterator[Any]:
        call = calls.begin(context)
        try:
            async for response in method.answer(_checked(message), call):
                yield await calls.serialize(response, context)
            calls.sign(context, call)
            call.context.code = call.context.code or OK
        except Exception as error:  # noqa: BLE001 - the service's table maps every exception
            await calls.fail(context, call, error)
        finally:
            calls.end(call)

    kind = (method.streams_requests, method.streams_responses)
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[kind]
    behaviour: Any = answers if method.streams_responses else answer
    return make(behaviour, parse, None)


def _checked(message: Any) -> Any:
    """The message, or each of a stream's.

    Raises:
        InvalidRequest: its bytes were no message.
    """
    if message is None:
        raise MALFORMED
    return message if isinstance(message, Message) else _checked_each(message)


async def _checked_each(messages: AsyncIterator[Message | None]) -> AsyncIterator[Message]:
    async for message in messages:
        yield _checked(message)
