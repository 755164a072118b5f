"""One HTTP/1.1 connection, whose requests are answered in turn; aware of callers who go.

How they are read: `http_reader`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from httptools import (
    HttpParserError,
    HttpParserUpgrade,
)

from omi_runtime.errors import ModelNotReady, OMIError
from omi_runtime.transport.http import Dispatcher
from omi_runtime.transport.http_exchange import STATUS_LINES, Exchange, ServerState, lines
from omi_runtime.transport.http_messages import Response
from omi_runtime.transport.http_reader import NOTHING, HTTPReader
from omi_runtime.transport.http_refusals import UNREADABLE, refusal

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 65.0
"""How long a connection may be silent: longer than the 60 s after which common proxies close it."""
FAREWELL_SECONDS: Final = 5.0
"""How long a client that is refused may go on sending. A connection that is closed before is reset,
and the reset may overtake the answer."""

PARTING_SECONDS: Final = 1.0
"""How long a client on whose connection nothing is asked may take to close it, when we stop."""


class HTTPProtocol(HTTPReader):
    """Has exchanges answered one after the other, and says why one is refused.

    Args:
        dispatcher: answers the exchanges; gives the settings and the form of errors.
        server: what all connections share.
    """

    def __init__(self, dispatcher: Dispatcher, server: ServerState) -> None:
        super().__init__(dispatcher.handler.settings)
        self.server = server
        self._dispatcher = dispatcher
        # The last request that was alone in its piece:
        self._usual_head = _NO_HEAD
        self._usual_size = 0
        self._usual: tuple[bytes, bytes, list[tuple[bytes, bytes]]]
        # The connection:
        self.write_paused = False  # while the client takes too little
        self._drained: asyncio.Future[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._unsent = 0  # bytes that the client had still to take, when last looked for

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
        from_the_start = self._stage == NOTHING
        if from_the_start and data.startswith(self._usual_head) and self._is_usual(data):
            return
        self._segment = len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._stay_with_http(memoryview(data)[upgrade.args[0] :])
            return
        except HttpParserError as error:
            is_first = from_the_start and self._exchange is None
            self._refuse(refusal(error, data) if is_first else UNREADABLE)
            return
        if self._stage != NOTHING:
            self._await_rest()
        elif from_the_start and self._announced == self._received:
            self._remember(data)

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

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._exchange is not None and not self._exchange.gone

    def shutdown(self) -> None:
        """The server stops: close if nothing is under way, else with the answer."""
        if self.busy:
            return
        self.transport.close()
        if self._idle is not None:
            self._idle.cancel()
        # TLS waits for the client's farewell, and an idle client does not even read ours. Who has
        # just been answered may still be reading that.
        when = max(self._loop.time() + PARTING_SECONDS, self._idle_since + FAREWELL_SECONDS)
        self._idle = self._loop.call_at(when, self.transport.abort)

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
        if unsent or self._exchange is not None or self._stage != NOTHING:
            self._rest(IDLE_SECONDS)
            return
        left = self._idle_since + IDLE_SECONDS - self._loop.time()
        if left > 0:
            self._idle = self._loop.call_later(left, self._look_for_idleness)
        else:
            self.transport.close()

    # --- the answer ---

    def _begin(self, exchange: Exchange) -> None:
        """Its turn comes after those before it."""
        if self._exchange is None:
            self._exchange = exchange
        else:
            self.pause_reading()
            self._waiting.append(exchange)

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
            if self._stage == NOTHING and not self._read_paused:
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
