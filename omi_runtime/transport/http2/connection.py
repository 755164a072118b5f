"""One client: what it sends, frame by frame, and what it may (RFC 9113)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar, cast

from omi_runtime.transport.http2 import wire
from omi_runtime.transport.http2.budget import FrameBudget
from omi_runtime.transport.http2.fields import EMPTY_TABLE, LARGEST_LIST, Field, FieldDecoder
from omi_runtime.transport.http2.keepalive import Keepalive
from omi_runtime.transport.http2.lifetime import KEEPALIVE, LAST_CALL, Lifetime
from omi_runtime.transport.http2.reader import MAX_FRAME_SIZE, FrameReader, NotHTTP2
from omi_runtime.transport.http2.stream import Stream
from omi_runtime.transport.http2.wire import Code, ConnectionFault

logger = logging.getLogger(__name__)

H = TypeVar("H")

STREAM_WINDOW: Final = 1024 * 1024
"""Bytes of one request that a client may send before we have taken any of them."""
CONNECTION_WINDOW: Final = wire.LARGEST_WINDOW
"""What all streams of a connection hold is bounded by each one's window, and by their number."""
MAX_STREAMS: Final = 1_000

_DRIBBLE: Final = 512
"""Bytes: a client who has answers wait for a window, and opens it by less, costs a frame each."""
_STREAMS_A_FRAME: Final = 10
"""Open requests that cost as much to adapt to a new SETTINGS frame as a frame otherwise does."""

_NO_HTTP2: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\nupgrade: h2c\r\n"
    b"content-type: text/plain\r\n\r\n"
    b"This port speaks gRPC, which needs HTTP/2 from the first byte.\n"
)


class Application(Protocol[H]):
    """What is done with requests."""

    def read_head(self, fields: Sequence[Field]) -> H:
        """What a request's fields mean; the result may serve for other requests with the same."""

    def open_stream(
        self, connection: Connection[H], stream_id: int, head: H, *, ended: bool
    ) -> Stream:
        """A request has come, of which at least the fields are there."""

    def connected(self, connection: Connection[H]) -> None:
        """A client has come."""

    def disconnected(self, connection: Connection[H]) -> None:
        """It has gone, and so have its streams."""


class Connection(Lifetime, Generic[H]):
    """Reads frames as they come and hands requests to the application.

    Attributes:
        initial_window: bytes that the client takes at first on a new stream.
        stream_window: bytes that it may send at first on a new stream.
        budget: of frames that bring nothing, which the client may still send.
    """

    def __init__(self, application: Application[H]) -> None:
        super().__init__()
        self.initial_window = wire.DEFAULT_WINDOW
        self.stream_window = STREAM_WINDOW
        self.budget = FrameBudget()
        self._application = application
        self._reader = FrameReader(self)
        self._fields = FieldDecoder(application.read_head)
        self._receive_window = CONNECTION_WINDOW
        # Of the DATA frame that is coming:
        self._data_stream: Stream | None = None
        self._data_ends = False
        self._begun: list[Stream] = []

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come, who speaks first."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._keepalive = Keepalive(self)
        self._application.connected(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client has gone, and nobody waits for its answers."""
        self._stop_timers()
        for stream in list(self.streams.values()):
            stream.abandon()
        self._application.disconnected(self)

    def data_received(self, data: bytes) -> None:
        """Read all frames that are whole, and of the others what can be read."""
        if self._closing:
            return
        if self._keepalive is not None:
            self._keepalive.heard = True
        try:
            self._reader.feed(data)
            if self._begun:
                self._await_rest()
        except NotHTTP2:
            self._turn_away()
        except ConnectionFault as fault:
            logger.info("a gRPC client is cut off: %s", fault)
            self.close(fault.code, str(fault))
        except Exception:
            logger.exception("a gRPC connection failed")
            self.close(Code.INTERNAL_ERROR, "the server made a mistake")

    def _turn_away(self) -> None:
        """What is no HTTP/2 is most likely a person, or a probe that was pointed at this port."""
        self.write(_NO_HTTP2)
        self._say_farewell()

    def _await_rest(self) -> None:
        """Of the requests that have just begun, most are complete and cost nothing more here."""
        for stream in self._begun:
            if not (stream.ended or stream.closed):
                stream.await_rest()
        self._begun.clear()

    # What streams and the application do

    @property
    def begun(self) -> bool:
        """Whether the client has begun as HTTP/2 does."""
        return self._reader.begun

    def forget(self, stream: Stream) -> None:
        """The stream is closed."""
        self.streams.pop(stream.id, None)
        self._waiting.pop(stream.id, None)
        if self.refusing and not self.streams:
            self.close(Code.NO_ERROR)

    # What the reader tells

    def begin_connection(self) -> None:
        """Say what this server takes: not before, for a client of HTTP/1 could not read it."""
        self.write(
            wire.settings(
                {
                    wire.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                    wire.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    wire.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
                    wire.MAX_HEADER_LIST_SIZE: LARGEST_LIST,
                }
            )
            + wire.window_update(0, CONNECTION_WINDOW - wire.DEFAULT_WINDOW)
        )
        if self.draining:
            self._announce_drain()

    def begin_data(self, stream_id: int, length: int, *, ends: bool) -> None:
        """See that the DATA belong to a request and keep to the windows."""
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id)
        elif stream.ended:
            stream.refuse(Code.STREAM_CLOSED)
            stream = None
        self._receive_window -= length
        if self._receive_window < CONNECTION_WINDOW // 2:
            self.write(wire.window_update(0, CONNECTION_WINDOW - self._receive_window))
            self._receive_window = CONNECTION_WINDOW
        self._data_stream, self._data_ends = stream, ends
        if stream is not None:
            stream.receive_window -= length
            if stream.receive_window < 0:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more DATA than the window allows")
        if not length:
            self.take_data(b"", last=True)

    def take_data(self, part: bytes, *, last: bool) -> None:
        """Hand over a part of the DATA."""
        ends = last and self._data_ends
        if not (part or ends):
            self.budget.spend()
        stream = self._data_stream
        if stream is not None and not stream.closed:
            stream.ended = ends
            stream.receive(part)

    def take_block(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        """A request begins; or ends with fields, in which gRPC has nothing to say."""
        head = self._fields.decode(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            if stream.ended:
                stream.refuse(Code.STREAM_CLOSED)
            elif not ends:
                stream.refuse(Code.PROTOCOL_ERROR)
            else:
                stream.ended = True
                stream.receive(b"")
            return
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if stream_id <= self._last_stream:  # closed
            self.budget.spend()
            return
        self._last_stream = stream_id
        self._idle_until = 0.0
        if self.refusing or len(self.streams) >= MAX_STREAMS:
            self.write(wire.reset(stream_id, Code.REFUSED_STREAM))
            self.budget.spend()
            return
        opened = self._application.open_stream(self, stream_id, head, ended=ends)
        if not opened.closed:
            self.streams[stream_id] = opened
            if not ends:
                self._begun.append(opened)

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """All that is not a request's own."""
        if kind == wire.WINDOW_UPDATE:
            self._take_window(stream_id, wire.read_number(payload, "WINDOW_UPDATE"))
        elif kind == wire.RST_STREAM:
            self._take_reset(stream_id, payload)
        elif kind == wire.SETTINGS:
            self._take_settings(flags, stream_id, payload)
        elif kind == wire.PING:
            self._take_ping(flags, stream_id, payload)
        elif kind == wire.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "clients push nothing")
        else:  # PRIORITY, GOAWAY, and what is not known, say nothing that matters here
            if (kind == wire.GOAWAY and stream_id) or (kind == wire.PRIORITY and not stream_id):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream, PRIORITY of none")
            self.budget.spend()

    def _take_reset(self, stream_id: int, payload: bytes) -> None:
        wire.read_number(payload, "RST_STREAM")
        self._check_known(stream_id)
        self.budget.spend()
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.abandon()

    def _take_window(self, stream_id: int, size: int) -> None:
        size &= wire.LARGEST_WINDOW
        if stream_id:
            self._check_known(stream_id)
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._take_window_of(stream, size)
            return
        if not size:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
        if self._waiting and size < _DRIBBLE:
            self.budget.spend()
        self.send_window += size
        if self.send_window > wire.LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window out of range")
        self._flush_waiting()

    def _take_window_of(self, stream: Stream, size: int) -> None:
        if stream.send_window <= 0 and size < _DRIBBLE:
            self.budget.spend()
        stream.send_window += size
        if not size:
            stream.refuse(Code.PROTOCOL_ERROR)
        elif stream.send_window > wire.LARGEST_WINDOW:
            stream.refuse(Code.FLOW_CONTROL_ERROR)
        else:
            stream.flush()

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        self.budget.spend(1 + len(self.streams) // _STREAMS_A_FRAME)
        if flags & wire.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS in an acknowledgement")
            return
        for key, value in dict(wire.read_settings(payload)).items():  # the last of each
            self._apply(key, value)
        self.write(wire.frame(wire.SETTINGS, wire.ACK, 0))
        for stream in list(self.streams.values()):  # not before it knows that we know
            stream.flush()

    def _apply(self, key: int, value: int) -> None:
        if key == wire.INITIAL_WINDOW_SIZE:
            self._set_initial_window(value)
        elif key == wire.MAX_FRAME_SIZE:
            if not wire.DEFAULT_FRAME_SIZE <= value <= wire.LARGEST_FRAME_SIZE:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
            self._max_frame = value
        elif key == wire.HEADER_TABLE_SIZE:
            self.table_update = EMPTY_TABLE
        elif key == wire.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")

    def _set_initial_window(self, size: int) -> None:
        if size > wire.LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window out of range")
        for stream in self.streams.values():  # the open ones too (section 6.9.2)
            stream.send_window += size - self.initial_window
        self.initial_window = size

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != len(KEEPALIVE):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PING has 8 bytes")
        self.budget.spend()
        if not flags & wire.ACK:
            self.write(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif payload == LAST_CALL and self.draining:
            self._refuse_further()

    def _check_known(self, stream_id: int) -> None:
        if stream_id > self._last_stream or not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "about a request that was not begun")
