"""One HTTP connection: uvicorn's protocol, bounded in bytes and time, that knows when callers go.

uvicorn reads heads and bodies of any size, waits for them for ever, and tells nobody that a client
has gone. A request that is complete when it arrives costs nothing here: there is no timer for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from omi_runtime import limits
from omi_runtime.errors import InvalidRequest, ModelNotReady, OMIError
from omi_runtime.transport.http import Dispatcher, Receive, Refused, Response, Scope, Send

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 128
HEAD_SECONDS: Final = 20.0
"""From the first byte of a head to its last."""
BODY_SECONDS: Final = 20.0
SLOWEST_BODY: Final = 10_000
"""Bytes that a body brings within BODY_SECONDS, if it does not end: 500 a second."""
FIRST_REQUEST_SECONDS: Final = 65.0
"""How long a new connection may stay silent: no longer than a used one (KEEP_ALIVE_SECONDS)."""
FAREWELL_SECONDS: Final = 5.0
"""How long a client that is refused may go on sending. A connection that is closed before is reset,
and the reset may overtake the answer."""


# What of a request has arrived: plain numbers, for every header asks, and an Enum's members cost.
_NOTHING, _HEAD, _BODY = range(3)


class HTTPProtocol(HttpToolsProtocol):
    """Refuses what is too large or too slow in the interface's own words, and ends its requests.

    Args:
        config: uvicorn's own, as the next three.
        server_state: the connections and tasks of the server.
        app_state: of uvicorn's lifespan.
        dispatcher: the application; gives the settings and the form of errors.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        dispatcher: Dispatcher,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = dispatcher.handler.settings
        self._on_error: Callable[[Exception], Response] = dispatcher.on_error
        self._on_refusal = dispatcher.refuse
        self._application = self.app
        self.app = self._answer
        self._running: RequestResponseCycle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stage = _NOTHING
        self._begun = False  # the request that arrives has a cycle of its own
        self._refused = False
        self._segment = 0  # bytes that have come in one piece
        self._head = 0  # bytes of an incomplete head
        self._announced = 0  # Content-Length
        self._received = 0  # bytes of the body
        self._seen = 0  # of those, when last looked at
        self._watch: asyncio.TimerHandle | None = None

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected (asyncio)."""
        super().connection_made(transport)
        self._watch_for(FIRST_REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away (asyncio): nobody waits for the answer."""
        super().connection_lost(exc)
        self._unwatch()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Something has arrived (asyncio)."""
        if self._refused:
            return
        self._segment = len(data)
        super().data_received(data)
        if self._stage != _NOTHING:
            self._await_rest()

    def _await_rest(self) -> None:
        """A request has arrived in part."""
        if self._stage == _HEAD:
            self._head += self._segment
            if self._head > MAX_HEAD_BYTES:
                self._refuse(_HEAD_TOO_LARGE)
        if self._watch is None and not self._refused:
            self._watch_for(HEAD_SECONDS if self._stage == _HEAD else BODY_SECONDS)

    def _too_slow(self) -> None:
        """What was waited for is not there, or not enough of it."""
        self._watch = None
        if self._stage == _NOTHING:
            self.transport.close()
        elif self._stage == _HEAD:
            self._refuse(_HEAD_TOO_SLOW)
        elif self._is_held_back() or self._received - self._seen >= SLOWEST_BODY:
            self._seen = self._received
            self._watch_for(BODY_SECONDS)
        else:
            self._refuse(_BODY_TOO_SLOW)

    def _is_held_back(self) -> bool:
        """Whether it is the server that keeps the body waiting."""
        return bool(self.flow.read_paused or self.cycle.waiting_for_100_continue)

    def _watch_for(self, seconds: float) -> None:
        self._watch = self.loop.call_later(seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def send_400_response(self, _msg: str) -> None:
        """What uvicorn calls for bytes that are no HTTP."""
        self._refuse(InvalidRequest("the request is no HTTP/1.1 that can be read"))

    # --- what the parser has found ---

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._stage = _HEAD
        self._begun = False
        self._head = self._announced = self._received = self._seen = 0
        if self._watch is not None:
            self._unwatch()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody here asks for."""
        if self._stage != _HEAD:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name in _NOTED:
            if name == b"content-length":
                self._announced = int(value)
            elif value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """The whole head: it is answered from here on, while the body arrives."""
        self._stage = _BODY
        if self._watch is not None:
            self._unwatch()
        if self._refused:
            return
        if len(self.headers) > MAX_HEADERS or (
            self._head + self._segment > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES
        ):
            self._refuse(_HEAD_TOO_LARGE)
        elif self._announced > self._settings.max_request_bytes:
            self._refuse(limits.request_too_large(self._settings))
        else:
            super().on_headers_complete()
            self._begun = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._refused:
            return
        self._received += len(body)
        if self._received > self._settings.max_request_bytes:
            self._refuse(limits.request_too_large(self._settings))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request."""
        self._stage = _NOTHING
        if self._refused:
            return
        if self._watch is not None:
            self._unwatch()
        super().on_message_complete()
        if self.flow.read_paused and not self.pipeline:
            self.flow.resume_reading()  # or nobody would notice that the client has gone

    # --- the answer ---

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, as uvicorn's request and response cycle calls it."""
        # The cycle is known here as the owner of what it hands over, and as nothing else.
        cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]
        if cycle.disconnected:
            return
        self._running, self._task = cycle, asyncio.current_task()
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            self._cut_off(cycle)
        finally:
            self._running = self._task = None

    def _cut_off(self, cycle: RequestResponseCycle) -> None:
        """The caller has gone or is refused; or else the grace of a stop is over."""
        if not cycle.disconnected and not self.transport.is_closing():
            if not cycle.response_started:
                stopping = ModelNotReady("the server is stopping: this was cut off")
                self._write(self._on_error(stopping))
            self.transport.close()
        cycle.disconnected = True  # so that uvicorn adds nothing

    def _refuse(self, error: OMIError) -> None:
        """Answer that this request goes no further, and let the connection end."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._unwatch()
        logger.info("a request is refused: %s", error)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or not self._begun:
                # Earlier requests are being answered: the connection ends with that.
                (self._running or cycle).keep_alive = False
                self.pipeline.clear()
                return
            if cycle.response_started:  # no other answer can be given any more
                self.transport.close()
                return
            cycle.disconnected = cycle.response_complete = True
            if self._task is not None:
                self._task.cancel(error.code)  # which the request is counted under
        if not (self._begun and cycle is not None and cycle.response_started):
            self._write(self._on_error(error) if self._begun else self._on_refusal(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._watch = self.loop.call_later(FAREWELL_SECONDS, self.transport.close)

    def _head_size(self) -> int:
        """Of the head that has arrived, in bytes, however it was cut on its way."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _write(self, response: Response) -> None:
        """A whole answer, and word that it is the last one."""
        head = [STATUS_LINE[response.status]]
        for name, value in (
            *self.server_state.default_headers,
            *response.headers,
            (b"content-length", b"%d" % len(response.body)),
            (b"connection", b"close"),
        ):
            head += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*head, b"\r\n", response.body]))


_NOTED: Final = frozenset({b"content-length", b"expect"})
_HEAD_TOO_LARGE: Final = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the head of the request is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers",
)
_HEAD_TOO_SLOW: Final = Refused(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the head of the request did not arrive within {HEAD_SECONDS:g} s",
)
_BODY_TOO_SLOW: Final = Refused(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the body of the request stalled: {BODY_SECONDS:g} s brought less than {SLOWEST_BODY} bytes",
)
