"""What an adapter says of a gRPC service, and what its methods get: a message and a `Call`.

A method raises the core's errors, which become a gRPC status by its service's own table; so does
the interface's HTTP dispatcher with its routes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from omi_runtime import limits
from omi_runtime.endpoint import OK, Endpoint
from omi_runtime.errors import DeadlineExceeded, ErrorCode, InternalError, InvalidRequest, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.memory import overloaded
from omi_runtime.provenance import MODEL_KEY
from omi_runtime.request import RequestContext
from omi_runtime.transport.grpc_head import Metadata
from omi_runtime.transport.grpc_stream import GRPCStream, Parts
from omi_runtime.transport.http2.fields import literal
from omi_runtime.transport.status import Status

logger = logging.getLogger(__name__)


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
        read: makes of a request's bytes what `answer` takes, if that is not the message; raises
            DecodeError.
        write: the bytes, in parts, of what `answer` gives, if that is not a message.
    """

    answer: Callable[[Any, Call], Any]
    request: type[Message]
    streams_requests: bool = False
    streams_responses: bool = False
    probe: bool = False
    read: Callable[[bytes], Any] | None = None
    write: Callable[[Any], Parts] | None = None


@dataclass(frozen=True)
class Service:
    """A gRPC service: its full name, its methods by name, and the status of every error."""

    name: str
    methods: Mapping[str, Method]
    statuses: Mapping[ErrorCode, Status]


class Call:
    """One call, as the transport hands it to an adapter's method beside the message.

    Attributes:
        context: the request as the core knows it, with the call's deadline. In a stream, whose
            messages are requests of their own, `begin` makes one for each.
    """

    __slots__ = ("_handler", "_head", "_interface", "_method", "context")

    def __init__(
        self, handler: ModelHandler, interface: str, method: str, stream: GRPCStream
    ) -> None:
        head = stream.head
        self._handler = handler
        self._interface = interface
        self._method = method
        self._head = head
        self.context = handler.begin(
            interface,
            method,
            request_id=head.request_id,
            traceparent=head.traceparent,
            started=stream.came,
        )
        self.context.allow(head.timeout)

    @property
    def metadata(self) -> Metadata:
        """What the caller has sent beside its messages."""
        return self._head.metadata

    def begin(self) -> RequestContext:
        """A request that has just come with this call, and has its deadline."""
        head = self._head
        request = self._handler.begin(
            self._interface, self._method, request_id=head.request_id, traceparent=head.traceparent
        )
        request.allow(self.remaining())
        return request

    def remaining(self) -> float | None:
        """Seconds that the caller still waits; None if it has not said."""
        timeout = self._head.timeout
        if timeout is None:
            return None
        return max(0.0, self.context.started + timeout - time.monotonic())


class Calls:
    """Answers the calls of one method, each in a task of its own.

    Args:
        service, name: the method.
        handler: the core.
        interface: as `INTERFACE` names it.
    """

    def __init__(self, service: Service, name: str, handler: ModelHandler, interface: str) -> None:
        method = service.methods[name]
        self.streams_requests = method.streams_requests
        self.streams_responses = method.streams_responses
        self.probe = method.probe
        self._method = method
        self._statuses = service.statuses
        self._handler = handler
        self._interface = interface
        self._label = f"{service.name.split('.')[-1]}/{name}"
        self._endpoint = Endpoint(handler, interface, self._label, probe=method.probe)
        self._parse: Callable[[bytes], Any] = method.read or method.request.FromString
        self._serialize = method.write or _in_one_part
        self._signed = ("", b"")
        self.run = self._answers if method.streams_responses else self._answer

    async def _answer(self, stream: GRPCStream) -> None:
        call = Call(self._handler, self._interface, self._label, stream)
        context = call.context
        self._endpoint.begin(context)
        try:
            if self.streams_requests:
                message: Any = self._messages(stream)
            else:
                packed = stream.only()
                message = self._read(await stream.unpacked(packed) if packed[0] else packed[1])
            parts = self._write(await self._method.answer(message, call))
            stream.respond(
                await stream.packed(parts) if stream.head.answers else (0, parts),
                _WELL + self._signature(context),
            )
            context.code = context.code or OK
        except asyncio.CancelledError:
            self._end_late(stream, context)
            raise
        except Exception as error:  # noqa: BLE001 - the service's table maps every exception
            self._fail(stream, context, error)
        finally:
            self._endpoint.end(context)
            stream.done()

    async def _answers(self, stream: GRPCStream) -> None:
        call = Call(self._handler, self._interface, self._label, stream)
        context = call.context
        self._endpoint.begin(context)
        try:
            if self.streams_requests:
                message: Any = self._messages(stream)
            else:
                message = self._read(await stream.unpacked(stream.only()))
            async with aclosing(self._method.answer(message, call)) as responses:
                async for response in responses:
                    await stream.send(await stream.packed(self._write(response)))
            stream.end(_WELL + self._signature(context))
            context.code = context.code or OK
        except asyncio.CancelledError:
            self._end_late(stream, context)
            raise
        except Exception as error:  # noqa: BLE001 - the service's table maps every exception
            self._fail(stream, context, error)
        finally:
            self._endpoint.end(context)
            stream.done()

    async def _messages(self, stream: GRPCStream) -> AsyncIterator[Message]:
        while (packed := await stream.next()) is not None:
            yield self._read(await stream.unpacked(packed))

    def _read(self, data: bytes) -> Any:
        self._endpoint.received(len(data))
        try:
            return self._parse(data)
        except DecodeError:
            raise InvalidRequest(
                "the request's bytes are no message of this method's type"
            ) from None

    def _write(self, answer: Any) -> Parts:
        parts = self._serialize(answer)
        size = sum(map(len, parts))
        limits.check_response(size, self._handler.settings)
        self._endpoint.sent(size)
        return parts

    def _signature(self, context: RequestContext) -> bytes:
        """Which request is answered, and by which model once that is known."""
        identity = self._handler.identity
        if identity != self._signed[0]:
            self._signed = (identity, literal(MODEL_KEY.encode(), identity.encode()))
        request_id = context.id.encode()
        if len(request_id) > _LONGEST_SHORT:
            return literal(_ID_KEY, request_id) + self._signed[1]
        return _ID + bytes((len(request_id),)) + request_id + self._signed[1]

    def _fail(self, stream: GRPCStream, context: RequestContext, error: Exception) -> None:
        error = overloaded(error)
        if not isinstance(error, OMIError):
            logger.error("%s failed", self._label, exc_info=error)
            error = InternalError()
        context.failed(error)
        stream.fail(self._statuses[error.code], error.message, self._signature(context))

    def _end_late(self, stream: GRPCStream, context: RequestContext) -> None:
        """Tell a caller who still waits why the method was stopped."""
        if stream.is_late:
            self._fail(stream, context, DeadlineExceeded("not answered within the caller's limit"))


_ID_KEY: Final = b"x-request-id"
# As `literal` makes it, which takes three calls more, for nearly every answer.
_ID: Final = literal(_ID_KEY, b"")[:-1]
_LONGEST_SHORT: Final = 126
"""Bytes of a value whose length takes one byte to tell."""


def _in_one_part(message: Message) -> Parts:
    return (message.SerializeToString(),)


_WELL: Final = literal(b"grpc-status", b"0")
