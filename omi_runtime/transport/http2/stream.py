"""One request and its answer, sent and received within flow control (RFC 9113, section 5)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from omi_runtime.transport.http2 import wire
from omi_runtime.transport.http2.wire import Code

if TYPE_CHECKING:
    from omi_runtime.transport.http2.connection import Connection


class Stream(ABC):
    """What a server does with one request is a subclass's.

    Attributes:
        connection: on which it came.
        id: its number there.
        send_window: bytes that the client takes at present.
        receive_window: bytes that the client may send at present.
        ended: the client has sent all of its request.
        answering: the answer's first fields are sent.
        closed: nothing is sent any more: it is answered, or one side has given it up.
    """

    __slots__ = (
        "_drained",
        "_last",
        "_unsent",
        "answering",
        "closed",
        "connection",
        "ended",
        "id",
        "receive_window",
        "send_window",
    )

    def __init__(self, connection: Connection[Any], stream_id: int, *, ended: bool) -> None:
        self.connection = connection
        self.id = stream_id
        self.send_window = connection.initial_window
        self.receive_window = connection.stream_window
        self.ended = ended
        self.answering = False
        self.closed = False
        self._unsent: deque[bytes | memoryview] = deque()
        self._last: bytes | None = None
        self._drained: asyncio.Future[None] | None = None

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take what the client has sent; `ended` says whether it was the last."""

    @abstractmethod
    def abandoned(self) -> None:
        """The client has given the request up, or has gone; the stream is closed."""

    @abstractmethod
    def await_rest(self) -> None:
        """The request has begun, and is not complete with what has come together."""

    def send_headers(self, block: bytes) -> None:
        """Send the answer's first fields, as `fields.literal` makes them."""
        if not self.closed:
            self.answering = True
            self.connection.write(self.connection.headers(self.id, block))

    def send_data(self, *parts: bytes | memoryview) -> None:
        """Send some of the answer's body, as soon as the client takes it."""
        if not self.closed:
            self.connection.budget.left += GRATITUDE
            self._unsent.extend(parts)
            self.flush()

    def send_trailers(self, block: bytes) -> None:
        """End the answer with its last fields, or with its first if none were sent."""
        if not self.closed:
            self.connection.budget.left += GRATITUDE
            self._last = block
            self.flush()

    def send_whole(self, headers: bytes, body: bytes, trailers: bytes) -> None:
        """Send an answer that is all there. A small one goes as one piece."""
        connection, size = self.connection, len(body)
        if self.closed or not connection.takes(size) or size > self.send_window:
            self.send_headers(headers)
            self.send_data(body)
            self.send_trailers(trailers)
            return
        connection.send_window -= size
        connection.budget.left += GRATITUDE
        stream_id, pack = self.id, wire.HEAD.pack
        if connection.table_update:
            headers = connection.table_update + headers
            connection.table_update = b""
        count, last = len(headers), len(trailers)
        connection.write(
            pack(count >> 8, count & 0xFF, wire.HEADERS, wire.END_HEADERS, stream_id)
            + headers
            + pack(size >> 8, size & 0xFF, wire.DATA, 0, stream_id)
            + body
            + pack(last >> 8, last & 0xFF, wire.HEADERS, _LAST_FLAGS, stream_id)
            + trailers
        )
        self._close()

    async def drain(self) -> None:
        """Wait until the client has taken what was sent."""
        if self._unsent and not self.closed:
            self._drained = self._drained or asyncio.get_running_loop().create_future()
            await self._drained

    def flush(self) -> None:
        """Send what may be sent; the connection calls it when the client takes more."""
        connection = self.connection
        while True:
            out = self._frames()
            ends = not self._unsent and self._last is not None
            if ends:
                out.append(connection.headers(self.id, self._last or b"", ends=True))
            if out:
                connection.write_all(out)
            if not self._unsent:
                break
            if not out:
                return
        self._tell_drained()
        if ends:
            self._close()

    def _frames(self) -> list[bytes | memoryview]:
        """Some of what may be sent: no more than what other streams may wait for."""
        connection, out, left = self.connection, list[bytes | memoryview](), _AT_ONCE
        while self._unsent and left > 0:
            room, largest = connection.room()
            if room <= 0:
                connection.wait_for_room(self)
                break
            room = min(room, self.send_window, left)
            if room <= 0:  # till the client takes more of this stream
                break
            part = self._unsent.popleft()
            if len(part) > room:
                part = memoryview(part)
                self._unsent.appendleft(part[room:])
                part = part[:room]
            size = len(part)
            if size <= largest:
                out += (wire.head(wire.DATA, 0, self.id, size), part)
            else:
                view, whole = memoryview(part), wire.head(wire.DATA, 0, self.id, largest)
                for at in range(0, size - largest, largest):
                    out += (whole, view[at : at + largest])
                at += largest
                out += (wire.head(wire.DATA, 0, self.id, size - at), view[at:])
            connection.send_window -= size
            self.send_window -= size
            left -= size
        return out

    def allow(self, size: int) -> None:
        """Let the client send this much more."""
        self.receive_window += size
        self.connection.write(wire.window_update(self.id, size))

    def reset(self, code: Code) -> None:
        """Give the request up."""
        if not self.closed:
            self.connection.write(wire.reset(self.id, code))
            self.ended = True
            self._close()

    def abandon(self) -> None:
        """The client has given the request up, or has gone."""
        if not self.closed:
            self.ended = True
            self._close()
            self.abandoned()

    def refuse(self, code: Code) -> None:
        """The client breaks the protocol in this stream alone, which ends it."""
        if not self.closed:
            self.reset(code)
            self.abandoned()

    def _close(self) -> None:
        self.closed = True
        self._unsent.clear()
        self._tell_drained()
        if not self.ended:  # the rest of the request is of no use to anybody
            self.connection.write(wire.reset(self.id, Code.NO_ERROR))
        self.connection.forget(self)

    def _tell_drained(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None


GRATITUDE: Final = 2
"""Idle frames that a client has for every message of an answer: some ping as each one comes, to
measure how far away the server is."""
_AT_ONCE: Final = 256 * 1024
"""Bytes of one stream that are written before it is asked whether the client takes more."""
_LAST_FLAGS: Final = wire.END_HEADERS | wire.END_STREAM
