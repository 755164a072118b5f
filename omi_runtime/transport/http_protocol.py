"""One HTTP/1.1 connection: read by httptools, bounded in bytes and time, aware of callers who go.

What comes in is cut into exchanges, which are answered one after the other. A request that is
complete when it arrives costs little here: nothing is waited for, and there is no timer for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Final

from httptools import (
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from omi_runtime import limits
from omi_runtime.errors import InvalidRequest, ModelNotReady, OMIError
from omi_runtime.limits import BODY_SECONDS, SLOWEST_BODY
from omi_runtime.transport.http import Dispatcher
from omi_runtime.transport.http_exchange import STATUS_LINES, Exchange, ServerState, lines
from omi_runtime.transport.http_messages import Refused, Response

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 128
HEAD_SECONDS: Final = 20.0
"""From the first byte of a head to its last."""
HIGH_WATER: Final = 65_536
"""Bytes of a body that nobody asks for, after which no more is read from its client."""
IDLE_SECONDS: Final = 65.0
"""How long a connection may be silent: longer than the 60 s after which common proxies close it."""
FAREWELL_SECONDS: Final = 5.0
"""How long a client that is refused may go on sending. A connection that is closed before is reset,
and the reset may overtake the answer."""


# What of a request has arrived: plain numbers, for every header asks, and an Enum's members cost.
_NOTHING, _HEAD, _BODY = range(3)


class HTTPProtocol(asyncio.Protocol):
    """Cuts a connection into exchanges, and refuses what is too large or too slow.

    Args:
        dispatcher: answers the exchanges; gives the settings and the form of errors.
        server: what all connections share.
    """

    def __init__(self, dispatcher: Dispatcher, server: ServerState) -> None:
        self.server = server
        self.transport: asyncio.Transport
        self._dispatcher = dispatcher
        self._settings = dispatcher.handler.settings
        self._loop = asyncio.get_running_loop()
        self._parser = self._new_parser()
        self._exchange: Exchange | None = None  # which is answered
        self._waiting: deque[Exchange] = deque()  # for that
        # What arrives:
        self._stage = _NOTHING
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
        # The last request that was alone in its piece:
        self._usual_head = _NO_HEAD
        self._usual_size = 0
        self._usual: tuple[bytes, bytes, list[tuple[bytes, bytes]]]
        # The connection:
        self._refused = False
        self._read_paused = False
        self.write_paused = False  # while the client takes too little
        self._drained: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._unsent = 0  # bytes that the client had still to take, when last looked for

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        # Or else the answer to the last request of a connection could not be given while its
        # client, who has said so, goes on sending.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected (asyncio)."""
        self.transport = transport
        self.server.connections.add(self)
        self._rest(IDLE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """The client has gone, or was sent away (asyncio): nobody waits for the answer."""
        self.server.connections.discard(self)
        self._unwatch()
        if self._idle is not None:
            self._idle.cancel()
        self._waiting.clear()
        if self._exchange is not None:
            self._give_up(self._exchange)

    def data_received(self, data: bytes) -> None:
        """Something has arrived (asyncio)."""
        if self._refused:
            return
        from_the_start = self._stage == _NOTHING
        if from_the_start and data.startswith(self._usual_head) and self._is_usual(data):
            return
        self._segment = len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._stay_with_http(memoryview(data)[upgrade.args[0] :])
            return
        except HttpParserError:
            self._refuse(_UNREADABLE)
            return
        if self._stage != _NOTHING:
            self._await_rest()
        elif from_the_start and self._announced == self._received:
            self._remember(data)

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
                self._refuse(_UNREADABLE)
            else:
                if self._stage != _NOTHING:
                    self._await_rest()
            return
        self._refuse(InvalidRequest("this is a server, no proxy"))  # CONNECT asks for a tunnel

    def pause_writing(self) -> None:
        """The client takes too little of what is sent (asyncio)."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """It has taken enough (asyncio)."""
        self.write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent, if writing is paused."""
        while self.write_paused:
            self._drained = self._loop.create_future()
            await self._drained

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

    def shutdown(self) -> None:
        """The server stops: close if nothing is under way, else with the answer."""
        if self._exchange is None or self._exchange.gone:
            self.transport.close()

    def cut_off(self) -> None:
        """The time to stop is over: end what is under way."""
        if self._exchange is not None and self._exchange.task is not None:
            self._exchange.task.cancel()
        else:
            self.transport.close()

    # --- a request with the head of the one before ---

    def _remember(self, data: bytes) -> None:
        """Take note of the head of a request that has come in one piece, if it is a plain one.

        Most clients send the same head again and again, and to parse it costs more than all else
        here. What is the same to the byte means the same.
        """
        exchange, end = self._arriving, len(data) - self._received
        if (
            exchange is not None
            and exchange.keep_alive
            and not self._expects_continue
            and end <= _LONGEST_USUAL_HEAD
            and data.find(b"\r\n\r\n") == end - 4
        ):
            self._usual_head, self._usual_size = data[:end], len(data)
            self._usual = (exchange.method, exchange.target, exchange.headers)

    def _is_usual(self, data: bytes) -> bool:
        """Answer a request that is not to be parsed, or say that it is none."""
        if len(data) != self._usual_size or self._exchange is not None:
            return False
        self._exchange = self._arriving = exchange = Exchange(
            self, *self._usual, keep_alive=True, expects_continue=False, http_1_0=False
        )
        exchange.body = data[len(self._usual_head) :]
        self._start()
        return True

    # --- time ---

    def _rest(self, seconds: float) -> None:
        """Nothing is under way. One timer looks from time to time, and costs a request nothing."""
        self._idle_since = self._loop.time()
        self._idle = self._loop.call_later(seconds, self._look_for_idleness)

    def _look_for_idleness(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent and (self.write_paused or self._exchange is None):
            self.transport.abort()  # the client has taken nothing since the last look
            return
        self._unsent = unsent
        if unsent or self._exchange is not None or self._stage != _NOTHING:
            self._rest(IDLE_SECONDS)
            return
        left = self._idle_since + IDLE_SECONDS - self._loop.time()
        if left > 0:
            self._idle = self._loop.call_later(left, self._look_for_idleness)
        else:
            self.transport.close()

    def _await_rest(self) -> None:
        """A request has arrived in part."""
        if self._refused:
            return
        if self._stage == _HEAD or self._counted == self._received:
            self._head += self._segment
            if self._head > MAX_HEAD_BYTES:
                self._refuse(_HEAD_TOO_LARGE if self._stage == _HEAD else _TRAILERS_TOO_LARGE)
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
            self._refuse(_HEAD_TOO_SLOW)
        else:
            self._refuse(_BODY_TOO_SLOW)

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
                self._fault = _OTHER_CODING

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
            self._refuse(_HEAD_TOO_LARGE)
        elif self._hosts != 1 and (is_1_1 or self._hosts):
            self._refuse(_NOT_ONE_HOST)
        elif self._fault is not None:
            self._refuse(self._fault)
        elif self._announced > self._settings.max_request_bytes:
            self._refuse(limits.request_too_large(self._settings))
        elif not (self._wishes_upgrade and parser.should_upgrade()):
            self._begin(
                Exchange(
                    self,
                    parser.get_method(),
                    self._target,
                    self._headers,
                    keep_alive=parser.should_keep_alive(),
                    expects_continue=self._expects_continue and is_1_1,
                    http_1_0=not is_1_1,
                )
            )

    def _begin(self, exchange: Exchange) -> None:
        """The head of a request is there: its turn comes after those before it."""
        self._arriving = exchange
        if self._exchange is None:
            self._exchange = exchange
        else:
            self.pause_reading()
            self._waiting.append(exchange)

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
        self._stage = _NOTHING
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

    # --- the answer ---

    def _start(self) -> None:
        """Begin with the answer, unless that has been done."""
        exchange = self._exchange
        if exchange is not None and exchange.task is None:
            exchange.task = self._loop.create_task(self._dispatcher.answer(exchange))

    def answered(self, exchange: Exchange) -> None:
        """The answer to what was under way is complete: on to the next request."""
        self._exchange = None
        exchange.forget()  # an idle connection knows its last request until the next one comes
        if not exchange.keep_alive:
            self._refused = True  # whatever else has come, or comes
            self._waiting.clear()
            if self._stage == _NOTHING and not self._read_paused:
                self.transport.close()
            else:
                self._unwatch()
                self._part()
            return
        self._idle_since = self._loop.time()
        if self._waiting:
            self._exchange = self._waiting.popleft()
            self._start()
        if not self._waiting:
            self.resume_reading()

    def interrupted(self, exchange: Exchange) -> None:
        """The answer was cut off: its caller has gone or is refused, or a stop does not wait."""
        if exchange.gone or self.transport.is_closing():
            return
        if not exchange.responding:
            stopping = ModelNotReady("the server is stopping: this was cut off")
            self._write(self._dispatcher.on_error(stopping), exchange)
        exchange.gone = True
        self.transport.close()

    def _give_up(self, exchange: Exchange, reason: str = "") -> None:
        """Nobody waits for this answer any more."""
        exchange.gone = True
        if exchange.task is not None:
            exchange.task.cancel(reason)

    def _refuse(self, error: OMIError) -> None:
        """Answer that this request goes no further, and let the connection end."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._unwatch()
        logger.info("a request is refused: %s", error)
        refused, exchange = self._arriving, self._exchange
        if exchange is not None and exchange is not refused:
            # Earlier requests are being answered: the connection ends with that.
            exchange.keep_alive = False
            self._waiting.clear()
            return
        if refused is None:
            self._write(self._dispatcher.refuse(error), None)
        elif not refused.responding:
            begun = refused.task is not None
            self._give_up(refused, error.code)  # which the request is counted under
            answer = self._dispatcher.on_error if begun else self._dispatcher.refuse
            self._write(answer(error), refused)
        elif not refused.answered:  # no other answer can be given any more
            self.transport.close()
            return
        self._part()

    def _part(self) -> None:
        """Close, but not before the client, which is still sending, had time to read the answer."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.resume_reading()
        self._watch = self._loop.call_later(FAREWELL_SECONDS, self.transport.close)

    def _head_size(self) -> int:
        """Of the head that has arrived, in bytes, however it was cut on its way."""
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _write(self, response: Response, exchange: Exchange | None) -> None:
        """A whole answer, and word that it is the last one."""
        context = None if exchange is None else exchange.context
        if context is None:  # no route has begun with it
            request_id = dict(self._headers).get(b"x-request-id", b"").decode("latin-1")
            context = self._dispatcher.handler.begin(request_id=request_id)
        head = (
            STATUS_LINES[response.status],
            self.server.lines,
            lines(response.headers),
            context.id.encode(),
            len(response.body),
        )
        body = b"" if exchange is not None and exchange.method == b"HEAD" else response.body
        self.transport.write(
            b"%b%b%bx-request-id: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (*head, body)
        )


_NO_HEAD: Final = b"\0"
"""With which no request begins."""
_LONGEST_USUAL_HEAD: Final = 4_096
_NOTED: Final = frozenset({b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"})
_UNREADABLE: Final = InvalidRequest("the request is no HTTP/1.1 that can be read")
_NOT_ONE_HOST: Final = InvalidRequest("a request of HTTP/1.1 has one header Host")
"""RFC 9112, section 3.2."""
_OTHER_CODING: Final = Refused(
    HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding: nothing but chunked is read here"
)
_HEAD_TOO_LARGE: Final = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the head of the request is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers",
)
_TRAILERS_TOO_LARGE: Final = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"what is no body in the chunks of the request is larger than {MAX_HEAD_BYTES} bytes",
)
_HEAD_TOO_SLOW: Final = Refused(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the head of the request did not arrive within {HEAD_SECONDS:g} s",
)
_BODY_TOO_SLOW: Final = Refused(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the body of the request stalled: {BODY_SECONDS:g} s brought less than {SLOWEST_BODY} bytes",
)
