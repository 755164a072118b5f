"""What goes to one client: frames, as fast as it takes them (RFC 9113, section 5.2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from omi_runtime.transport.http2 import wire
from omi_runtime.transport.http2.stream import Stream

logger = logging.getLogger(__name__)

_MOST_UNREAD: Final = 4 * 1024 * 1024
"""Bytes of a client that sends, and does not read what it gets. Bodies of answers wait for it (64
KiB); this is for what does not: headers, refusals, and answers to pings."""


class FrameWriter(asyncio.Protocol):
    """The half of a connection that writes.

    Attributes:
        send_window: bytes that the client takes at present, on all streams together.
        table_update: has to be put before the next block of fields.
    """

    def __init__(self) -> None:
        self.send_window = wire.DEFAULT_WINDOW
        self.table_update = b""
        self._transport: asyncio.Transport | None = None
        self._max_frame = wire.DEFAULT_FRAME_SIZE
        self._waiting: dict[int, Stream] = {}
        self._paused = False
        self._closing = False

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has read most of it."""
        self._paused = False
        self._flush_waiting()

    def write(self, data: bytes) -> None:
        """Send what is a whole number of frames."""
        if self._transport is not None and not (self._closing or self._transport.is_closing()):
            self._transport.write(data)
            if self._paused:
                self._check_that_it_reads()

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send what is a whole number of frames together, without putting it together."""
        if self._transport is not None and not (self._closing or self._transport.is_closing()):
            self._transport.writelines(parts)
            if self._paused:
                self._check_that_it_reads()

    def _check_that_it_reads(self) -> None:
        assert self._transport is not None, "something was written"
        if self._transport.get_write_buffer_size() > _MOST_UNREAD:
            logger.info("a gRPC client is cut off: it sends, and reads nothing")
            self._transport.abort()

    def headers(self, stream_id: int, block: bytes, *, ends: bool = False) -> bytes:
        """The frames of a block of fields."""
        if self.table_update:
            block = self.table_update + block
            self.table_update = b""
        flags = wire.END_STREAM if ends else 0
        if len(block) <= self._max_frame:
            return wire.frame(wire.HEADERS, flags | wire.END_HEADERS, stream_id, block)
        size = self._max_frame
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        frames = [wire.frame(wire.HEADERS, flags, stream_id, parts[0])]
        frames += [wire.frame(wire.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
        frames.append(wire.frame(wire.CONTINUATION, wire.END_HEADERS, stream_id, parts[-1]))
        return b"".join(frames)

    def room(self) -> tuple[int, int]:
        """Bytes that may be sent now, and how many of them in one frame."""
        return 0 if self._paused else self.send_window, self._max_frame

    def takes(self, size: int) -> bool:
        """Whether this many bytes may be sent now in one frame, before which none wait."""
        return size <= self._max_frame and size <= self.send_window and not self._paused

    def wait_for_room(self, stream: Stream) -> None:
        """Have the stream flushed when there is `room`; those that wait take turns."""
        self._waiting[stream.id] = stream

    def _flush_waiting(self) -> None:
        while self._waiting and self.room()[0] > 0:
            self._waiting.pop(next(iter(self._waiting))).flush()
