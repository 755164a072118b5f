"""What comes on one HTTP/1.1 connection: read by httptools, bounded in bytes and time.

It is cut into exchanges. A request that is complete when it arrives costs little here: nothing is
waited for, and there is no timer for it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from omi_runtime import limits
from omi_runtime.errors import OMIError
from omi_runtime.limits import BODY_SECONDS, SLOWEST_BODY
from omi_runtime.settings import Settings
from omi_runtime.transport.http_exchange import Connection, Exchange, lines
from omi_runtime.transport.http_refusals import (
    BODY_TOO_SLOW,
    HEAD_SECONDS,
    HEAD_TOO_LARGE,
    HEAD_TOO_SLOW,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    NO_PROXY,
    NOT_ONE_HOST,
    OTHER_CODING,
    TRAILERS_TOO_LARGE,
    UNREADABLE,
)

HIGH_WATER: Final = 65_536
"""Bytes of a body that nobody asks for, after which no more is read from its client."""

# What of a request has arrived: plain numbers, for every header asks, and an Enum's members cost.
NOTHING, _HEAD, _BODY = range(3)


class HTTPReader(asyncio.Protocol, Connection, ABC):
    """Cuts what comes into exchanges, and refuses what is too large, too slow or no HTTP/1.1.

    Args:
        settings: with the limit of a body.
    """

    def __init__(self, settings: Settings) -> None:
        self.transport: asyncio.Transport
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._parser = self._new_parser()
        self._exchange: Exchange | None = None  # which is answered
        self._waiting: deque[Exchange] = deque()  # for that
        self._refused = False
        self._read_paused = False
        self._watch: asyncio.TimerHandle | None = None
        # What arrives:
        self._stage = NOTHING
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._announced = 0  # Content-Length
        self._expects_continue = False
        self._wishes_upgrade = False
        self._hosts = 0
        self._fault: OMIError | None = None  # for which it is refused, once its head is there
        self._arriving: Exchange | None = None  # once its head is there
        self._segment = 0  # bytes that have come in one piece
        self._head = 0  # bytes of an incomplete head; then since there was any of the body
        self._received = 0  # bytes of the body
        self._counted = 0  # of those, when there was last any
        self._seen = 0  # of those, when last looked at

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        # Or else the answer to the last request of a connection could not be given while its
        # client, who has said so, goes on sending.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # --- what is done with it ---

    @abstractmethod
    def _begin(self, exchange: Exchange) -> None:
        """The head of a request is there."""

    @abstractmethod
    def _start(self) -> None:
        """Begin with the answer, unless that has been done."""

    @abstractmethod
    def _refuse(self, error: OMIError) -> None:
        """Answer that this request goes no further, and let the connection end."""

    # --- reading ---

    def _stay_with_http(self, rest: memoryview) -> None:
        """Read a head again, without the wish for another protocol, which nobody has to grant.

        The parser takes what follows such a head for that protocol, be it the request's own body;
        or further requests, any number of which may have that wish too.
        """
        while self._wishes_upgrade and not self._refused:
            line = (self._parser.get_method(), self._target, self._parser.get_http_version())
            headers = lines(header for header in self._headers if header[0] != b"upgrade")
            head = b"%b %b HTTP/%b\r\n%b\r\n" % (*line[:2], line[2].encode(), headers)
            self._segment = len(head) + len(rest)
            self._parser = self._new_parser()
            try:
                self._parser.feed_data(head)
                self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                continue
            except HttpParserError:
                self._refuse(UNREADABLE)
            else:
                if self._stage != NOTHING:
                    self._await_rest()
            return
        self._refuse(NO_PROXY)  # CONNECT asks for a tunnel

    def pause_reading(self) -> None:
        """Take no more from the client for now."""
        if not self._read_paused and not self.transport.is_closing():
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on with it."""
        if self._read_paused and not self.transport.is_closing():
            self._read_paused = False
            self.transport.resume_reading()

    # --- time ---

    def _await_rest(self) -> None:
        """A request has arrived in part."""
        if self._refused:
            return
        if self._stage == _HEAD or self._counted == self._received:
            self._head += self._segment
            if self._head > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE if self._stage == _HEAD else TRAILERS_TOO_LARGE)
                return
        else:
            self._head, self._counted = 0, self._received
        if self._stage == _BODY and self._arriving is self._exchange:
            self._start()
        if self._watch is None:
            self._watch_for(HEAD_SECONDS if self._stage == _HEAD else BODY_SECONDS)

    def _too_slow(self) -> None:
        """What was waited for is not there, or not enough of it."""
        self._watch = None
        if self._is_held_back() or self._received - self._seen >= SLOWEST_BODY:
            self._seen = self._received
            self._watch_for(BODY_SECONDS)
        elif self._stage == _HEAD:
            self._refuse(HEAD_TOO_SLOW)
        else:
            self._refuse(BODY_TOO_SLOW)

    def _is_held_back(self) -> bool:
        """Whether it is the server that keeps the rest waiting."""
        arriving = self._arriving
        return self._read_paused or (arriving is not None and arriving.expects_continue)

    def _watch_for(self, seconds: float) -> None:
        self._watch = self._loop.call_later(seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # --- what the parser has found (httptools) ---

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._stage = _HEAD
        self._target, self._headers, self._arriving = b"", [], None
        self._expects_continue = self._wishes_upgrade = False
        self._fault = None
        self._head = self._announced = self._received = self._counted = self._seen = self._hosts = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target, mostly all of it."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody here asks for."""
        if self._stage != _HEAD:
            return
        name = name.lower()
        value = value.rstrip(_PADDING)  # that before it the parser has dropped
        self._headers.append((name, value))
        if name in _NOTED:
            if name == b"host":
                self._hosts += 1
            elif name == b"content-length":
                self._announced = int(value)
            elif name == b"upgrade":
                self._wishes_upgrade = True
            elif name == b"expect":
                self._expects_continue = value.lower() == b"100-continue"
            elif value.lower() != b"chunked":
                self._fault = OTHER_CODING

    def on_headers_complete(self) -> None:
        """The whole head."""
        self._stage = _BODY
        if self._watch is not None:
            self._unwatch()
        if self._refused:
            return
        parser = self._parser
        is_1_1 = parser.get_http_version() == "1.1"  # others are answered like 1.0
        if len(self._headers) > MAX_HEADERS or (
            self._head + self._segment > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES
        ):
            self._refuse(HEAD_TOO_LARGE)
        elif self._hosts != 1 and (is_1_1 or self._hosts):
            self._refuse(NOT_ONE_HOST)
        elif self._fault is not None:
            self._refuse(self._fault)
        elif self._announced > self._settings.max_request_bytes:
            self._refuse(limits.request_too_large(self._settings))
        elif not (self._wishes_upgrade and parser.should_upgrade()):
            self._arriving = Exchange(
                self,
                parser.get_method(),
                self._target,
                self._headers,
                keep_alive=parser.should_keep_alive(),
                expects_continue=self._expects_continue and is_1_1,
                http_1_0=not is_1_1,
            )
            self._begin(self._arriving)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._refused:
            return
        self._received += len(body)
        if self._received > self._settings.max_request_bytes:
            self._refuse(limits.request_too_large(self._settings))
            return
        arriving = self._arriving
        if arriving is not None and not arriving.answered:
            arriving.parts.append(body)
            if self._received > HIGH_WATER and not arriving.wanted:
                self.pause_reading()

    def on_message_complete(self) -> None:
        """The whole request."""
        self._stage = NOTHING
        if self._refused:
            return
        if self._watch is not None:
            self._unwatch()
        exchange = self._arriving
        if exchange is None:  # it wishes for another protocol: see _stay_with_http
            return
        exchange.end()
        if exchange is self._exchange:
            self._start()
        if self._read_paused and not self._waiting:
            self.resume_reading()  # or nobody would notice that the client has gone

    def _head_size(self) -> int:
        """Of the head that has arrived, in bytes, however it was cut on its way."""
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)


_PADDING: Final = b" \t"
"""Optional whitespace, which is no part of a value (RFC 9110, section 5.5)."""
_NOTED: Final = frozenset({b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"})
