"""The life of one client's connection: whether anybody is there, the drain, and the end.

A connection that stops is told so twice (RFC 9113, section 6.8), and closed when it is empty.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from omi_runtime.transport.http2 import wire
from omi_runtime.transport.http2.keepalive import Keepalive
from omi_runtime.transport.http2.stream import Stream
from omi_runtime.transport.http2.wire import Code
from omi_runtime.transport.http2.writer import FrameWriter

_FAREWELL_SECONDS: Final = 5.0
"""How long a client may go on sending after the last that it is sent. A connection that is closed
before is reset, and the reset may overtake what was sent."""
_LAST_CALL_SECONDS: Final = 1.0
"""How long a client may take to answer the ping that a stop begins with."""
_IDLE_SECONDS: Final = _LAST_CALL_SECONDS + 0.25
"""How long a stop waits for a client to close to which nothing is on its way."""

KEEPALIVE: Final = b"are you?"
LAST_CALL: Final = b"drained?"
"""What is in the pings, by which their answers are known."""
_STOPPING: Final = "the server is stopping"


class Lifetime(FrameWriter, ABC):
    """The part of a connection that keeps it, and ends it.

    Attributes:
        streams: the requests that are open, by their number.
        draining: the client has been told to ask no more.
        refusing: what it asks now it has to ask another server.
    """

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[int, Stream] = {}
        self.draining = False
        self.refusing = False
        self._last_stream = 0
        self._idle_until = 0.0  # while it drains, if nothing is on its way to the client
        self._keepalive: Keepalive | None = None
        self._last_call: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether the client has begun as HTTP/2 does."""

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        self.write(wire.frame(wire.PING, 0, 0, KEEPALIVE))

    def drain(self) -> None:
        """Tell the client to ask no more; when what it has asked is answered, close.

        It is told twice: requests that are on their way when it hears it the first time are still
        answered (section 6.8). Those after the second time it may ask another server.
        """
        if self.draining or self._transport is None:
            return
        self.draining = True
        loop = asyncio.get_running_loop()
        if not (self.streams or self._transport.get_write_buffer_size()):
            self._idle_until = loop.time() + _IDLE_SECONDS
        if self._closing:
            self._abort_later()
            return
        if self._keepalive is not None:
            self._keepalive.heard = False
        if self.begun:
            self._announce_drain()
        self._last_call = loop.call_later(_LAST_CALL_SECONDS, self._miss_last_call)

    def _miss_last_call(self) -> None:
        """The ping is not answered: nobody is there; or what was sent is still on its way."""
        if self._keepalive is not None and self._keepalive.heard:
            self._idle_until = 0.0
        self._refuse_further()

    def _announce_drain(self) -> None:
        self.write(wire.goaway(wire.LARGEST_STREAM, Code.NO_ERROR, _STOPPING))
        self.write(wire.frame(wire.PING, 0, 0, LAST_CALL))

    def _refuse_further(self) -> None:
        if self.refusing:
            return
        self.refusing = True
        if not self.streams:
            self.close(Code.NO_ERROR, _STOPPING)
        else:
            self.write(wire.goaway(self._last_stream, Code.NO_ERROR, _STOPPING))

    def close(self, code: Code, text: str = "") -> None:
        """End the connection, with what is already written; nobody waits for what is not."""
        if self._transport is None or self._closing:
            return
        if not self.begun:
            self._closing = True
            self._transport.close()
            self._abort_later()
            return
        self.write(wire.goaway(self._last_stream, code, text))
        self._say_farewell()
        for stream in list(self.streams.values()):
            stream.abandon()

    def _say_farewell(self) -> None:
        """Close when the client has, or after a while."""
        assert self._transport is not None, "something was written"
        self._closing = True
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
            if self._keepalive is not None:
                self._keepalive.stop()
            self._abort_later()
            return
        self._transport.close()  # TLS has a farewell of its own, and more time for it
        if self._idle_until:
            self._abort_later()

    def _abort_later(self) -> None:
        """Have the client gone by itself soon, or else be cut off."""
        assert self._transport is not None, "it is closing"
        if self._farewell is not None:
            self._farewell.cancel()
        loop = asyncio.get_running_loop()
        when = self._idle_until or loop.time() + _FAREWELL_SECONDS
        self._farewell = loop.call_at(when, self._transport.abort)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _stop_timers(self) -> None:
        if self._keepalive is not None:
            self._keepalive.stop()
        for timer in (self._last_call, self._farewell):
            if timer is not None:
                timer.cancel()
