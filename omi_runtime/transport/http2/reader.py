"""From bytes as they come to frames: DATA in parts, every other frame whole."""

from __future__ import annotations

from typing import Final, Protocol

from omi_runtime.transport.http2 import wire
from omi_runtime.transport.http2.fields import LARGEST_LIST
from omi_runtime.transport.http2.wire import Code, ConnectionFault

MAX_FRAME_SIZE: Final = 1024 * 1024
_LARGEST_WHOLE: Final = LARGEST_LIST
"""Bytes of a frame, or of a request's packed fields, that has to be whole before it is read."""
_PRIORITY_BYTES: Final = 5
_PLAIN: Final = wire.END_HEADERS | wire.END_STREAM
"""Flags of HEADERS that are whole, have no padding or priority, and end a request or not."""
_MOST_PARTS: Final = 64
"""Frames that a request's fields may be spread over."""


class NotHTTP2(Exception):
    """The client does not begin as HTTP/2 does."""


class FrameSink(Protocol):
    """What is told of each frame."""

    def begin_connection(self) -> None:
        """The client has begun as HTTP/2 does."""

    def begin_data(self, stream_id: int, length: int, *, ends: bool) -> None:
        """A DATA frame has begun, which takes `length` bytes of the windows."""

    def take_data(self, part: bytes, *, last: bool) -> None:
        """A part of it has come."""

    def take_block(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        """All packed fields of a HEADERS frame have come."""

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Another frame has come."""


class FrameReader:
    """Takes apart what one client sends.

    Args:
        sink: what is told.
    """

    def __init__(self, sink: FrameSink) -> None:
        self.begun = False
        self._sink = sink
        self._rest = b""
        self._left = 0
        self._padding = 0
        self._block: tuple[int, int, list[bytes]] | None = None

    def feed(self, data: bytes) -> None:
        """Read all that is whole, and what there is of a DATA frame that is not.

        Raises:
            NotHTTP2: with what came instead.
            ConnectionFault: the client breaks the protocol.
        """
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        if not self.begun:
            at = self._begin(data)
        unpack, head = wire.HEAD.unpack_from, wire.HEAD.size
        while True:
            if self._left or self._padding:
                at = self._pass_on(data, at)
            if size - at < head or (not self.begun):
                break
            high, low, kind, flags, stream_id = unpack(data, at)
            length, stream_id = high << 8 | low, stream_id & wire.LARGEST_STREAM
            if length > (MAX_FRAME_SIZE if kind == wire.DATA else _LARGEST_WHOLE):
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame has {length} bytes")
            if kind == wire.DATA and not flags & wire.PADDED and self._block is None:
                self._sink.begin_data(stream_id, length, ends=bool(flags & wire.END_STREAM))
                self._left = length
                at += head
                continue
            padded = kind == wire.DATA and self._block is None
            needed = min(length, 1) if padded else length
            if size - at - head < needed:
                break
            at += head + needed
            payload = data[at - needed : at]
            if padded:
                self._begin_padded(stream_id, flags, length, payload)
            else:
                self._take(kind, flags, stream_id, payload)
        self._rest = data[at:] if at < size else b""

    def _pass_on(self, data: bytes, at: int) -> int:
        """Hand over what has come of a DATA frame; returns where that ends."""
        end = min(at + self._left, len(data))
        self._left -= end - at
        if end > at:
            part = data if end - at == len(data) else data[at:end]
            self._sink.take_data(part, last=not self._left)
        if not self._padding:
            return end
        skipped = min(self._padding, len(data) - end)
        self._padding -= skipped
        return end + skipped

    def _begin_padded(self, stream_id: int, flags: int, length: int, pad_length: bytes) -> None:
        if not length or pad_length[0] >= length:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame has more padding than payload")
        self._sink.begin_data(stream_id, length, ends=bool(flags & wire.END_STREAM))
        self._padding = pad_length[0]
        self._left = length - 1 - self._padding
        if not self._left:
            self._sink.take_data(b"", last=True)

    def _begin(self, data: bytes) -> int:
        """Read what a client of HTTP/2 sends first; returns where it ends."""
        size = len(wire.PREFACE)
        if not data.startswith(wire.PREFACE[: len(data)]):
            raise NotHTTP2(data[:80].decode("latin-1"))
        if len(data) < size + wire.HEAD.size:
            return 0
        self.begun = True
        self._sink.begin_connection()
        kind, flags = wire.HEAD.unpack_from(data, size)[2:4]
        if kind != wire.SETTINGS or flags & wire.ACK:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client begins with its SETTINGS")
        return size

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == wire.HEADERS and flags | 1 == _PLAIN and self._block is None:
            self._sink.take_block(stream_id, payload, ends=bool(flags & wire.END_STREAM))
            return
        if (self._block is not None) != (kind == wire.CONTINUATION):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION where none belongs, or none")
        if kind == wire.HEADERS:
            payload = _without_priority(wire.without_padding(payload, flags), flags)
            if flags & wire.END_HEADERS:
                ends = bool(flags & wire.END_STREAM)
                self._sink.take_block(stream_id, payload, ends=ends)
            else:
                self._block = (flags, stream_id, [payload])
        elif kind == wire.CONTINUATION:
            self._continue(flags, stream_id, payload)
        else:
            self._sink.take_frame(kind, flags, stream_id, payload)

    def _continue(self, flags: int, stream_id: int, payload: bytes) -> None:
        assert self._block is not None, "_take has seen to it"
        first_flags, first_id, parts = self._block
        if stream_id != first_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of another stream")
        parts.append(payload)
        if len(parts) > _MOST_PARTS or sum(map(len, parts)) > _LARGEST_WHOLE:
            raise ConnectionFault(
                Code.ENHANCE_YOUR_CALM, f"a request has more than {_LARGEST_WHOLE} bytes of headers"
            )
        if flags & wire.END_HEADERS:
            self._block = None
            ends = bool(first_flags & wire.END_STREAM)
            self._sink.take_block(stream_id, b"".join(parts), ends=ends)


def _without_priority(payload: bytes, flags: int) -> bytes:
    if not flags & wire.HAS_PRIORITY:
        return payload
    if len(payload) < _PRIORITY_BYTES:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS are cut off")
    return payload[_PRIORITY_BYTES:]
