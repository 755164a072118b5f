"""One gRPC call on an HTTP/2 stream: messages in, messages and a status out.

What a status looks like: doc/PROTOCOL-HTTP2.md of gRPC's repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from omi_runtime.transport import encodings
from omi_runtime.transport.grpc_head import CODINGS, percent_encoded
from omi_runtime.transport.grpc_request import PREFIX, RequestStream
from omi_runtime.transport.http2.connection import Connection
from omi_runtime.transport.http2.fields import literal
from omi_runtime.transport.http2.stream import Stream
from omi_runtime.transport.http2.wire import Code
from omi_runtime.transport.status import Status

Parts: TypeAlias = Sequence[bytes | memoryview]
"""An answer's bytes, one after the other."""
PackedParts: TypeAlias = tuple[int, Parts]
"""An answer as it goes: 1 if it is compressed, and its bytes."""

HEADERS: Final = b"\x88" + literal(b"content-type", b"application/grpc")
"""The first fields of an answer: status 200 of HTTP, whatever gRPC's own will be."""
NO_GRPC: Final = literal(b":status", b"415") + literal(b"content-length", b"0")
"""All of the answer to what is no gRPC request."""

_SMALL: Final = 16_384
"""Bytes of an answer that is put together before it is sent."""


class GRPCStream(RequestStream):
    """Gives what the method answers."""

    __slots__ = ()

    def done(self) -> None:
        """The method has come to its end."""
        self._stop_timer()
        if self._last is None and not self.closed:  # something within it was cancelled
            self.fail(Status.INTERNAL, "the call was given up within the server")

    def respond(self, packed: PackedParts, trailers: bytes) -> None:
        """Give the one answer of a method that gives one, and end the call well."""
        framed = _framed(packed)
        if isinstance(framed, bytes):
            self.send_whole(self._headers(), framed, trailers)
            return
        self.send_headers(self._headers())
        self.send_data(*framed)
        self.send_trailers(trailers)

    async def send(self, packed: PackedParts) -> None:
        """Give one of several answers; returns when the caller takes more."""
        self._begin_answer()
        framed = _framed(packed)
        self.send_data(*((framed,) if isinstance(framed, bytes) else framed))
        await self.drain()

    def end(self, trailers: bytes) -> None:
        """End well, after any number of answers."""
        self._begin_answer()
        self.send_trailers(trailers)

    def fail(self, status: Status, message: str, trailers: bytes = b"") -> None:
        """End the call with a status that is not OK, unless it has ended."""
        if self._last is not None:
            return
        if self._unsent:  # which the caller does not take: a status would only wait behind it
            self.reset(Code.CANCEL)
            return
        block = literal(b"grpc-status", b"%d" % status)
        if message:
            block += literal(b"grpc-message", percent_encoded(message))
        if status is Status.UNIMPLEMENTED:
            block += _ACCEPTED
        self.send_trailers((b"" if self.answering else HEADERS) + block + trailers)

    def _begin_answer(self) -> None:
        if not self.answering:
            self.send_headers(self._headers())

    def _headers(self) -> bytes:
        coding = self.head.answers
        return HEADERS + literal(b"grpc-encoding", coding.encode()) if coding else HEADERS

    async def packed(self, parts: Parts) -> PackedParts:
        """An answer's bytes as they are sent: compressed if that is wanted, and they are many."""
        coding = self.head.answers
        if not coding or sum(map(len, parts)) < encodings.WORTH_BYTES:
            return 0, parts
        return 1, (await encodings.encoded(parts, coding),)


def _framed(packed: PackedParts) -> bytes | Parts:
    """An answer as gRPC frames it; a small one in one piece."""
    flag, parts = packed
    size = sum(map(len, parts))
    prefix = PREFIX.pack(flag, size)
    return b"".join((prefix, *parts)) if size <= _SMALL else (prefix, *parts)


def turn_away(connection: Connection[Any], stream_id: int, block: bytes, *, ended: bool) -> Stream:
    """Answer a request that no method is for with fields alone."""
    stream = _TurnedAway(connection, stream_id, ended=ended)
    stream.send_trailers(block)
    return stream


def refuse(connection: Connection[Any], stream_id: int, *, ended: bool) -> Stream:
    """Give up a request that HTTP/2 does not allow."""
    stream = _TurnedAway(connection, stream_id, ended=ended)
    stream.reset(Code.PROTOCOL_ERROR)
    return stream


class _TurnedAway(Stream):
    __slots__ = ()

    def await_rest(self) -> None:
        """It is not waited for."""

    def receive(self, data: bytes) -> None:
        """Take no note of it."""

    def abandoned(self) -> None:
        """It has its answer already."""


_ACCEPTED: Final = literal(b"grpc-accept-encoding", ",".join(CODINGS).encode())
