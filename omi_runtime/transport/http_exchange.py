"""One HTTP request and its answer: the body as it comes, the answer as it goes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

from omi_runtime.errors import InternalError
from omi_runtime.request import RequestContext
from omi_runtime.transport.http_messages import JSON_ONLY, Response

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class ServerState:
    """What the connections of one server share.

    Attributes:
        lines: header lines of every answer, such as the date.
        stopping: every answer is the last one of its connection.
        connections: that are open.
    """

    lines: bytes = b""
    stopping: bool = False
    connections: set[Any] = field(default_factory=set)


class Connection(Protocol):
    """What an exchange needs of the connection that it is on."""

    transport: asyncio.Transport
    server: ServerState
    write_paused: bool

    def pause_reading(self) -> None:
        """Take no more from the client for now."""

    def resume_reading(self) -> None:
        """Go on with it."""

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent, if writing is paused."""

    def answered(self, exchange: Exchange) -> None:
        """The answer is complete."""

    def interrupted(self, exchange: Exchange) -> None:
        """The answer was cut off."""


class Exchange:
    """One request on a connection.

    Args:
        connection: on which it came.
        method, target: as they stand in the request line.
        headers: names in lower case.
        keep_alive: the client does not ask to close the connection.
        expects_continue: the client waits for word before it sends the body.
        http_1_0: the client does not know of chunks.

    Attributes:
        body: all of it, once it is there.
        parts: of the body, as they come.
        task: which answers it, once it has begun.
        context: the request as the core knows it, once it has begun.
        wanted: the body is waited for.
        responding: the answer is on its way, so that there can be no other.
        answered: the answer is complete.
        gone: nobody waits for an answer any more, or there has been another.
    """

    __slots__ = (
        "_arrival",
        "_chunked",
        "answered",
        "body",
        "connection",
        "context",
        "expects_continue",
        "gone",
        "headers",
        "http_1_0",
        "keep_alive",
        "method",
        "parts",
        "responding",
        "target",
        "task",
        "wanted",
    )

    def __init__(
        self,
        connection: Connection,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        keep_alive: bool,
        expects_continue: bool,
        http_1_0: bool,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive and not http_1_0
        self.expects_continue = expects_continue
        self.http_1_0 = http_1_0
        self.task: asyncio.Task[None] | None = None
        self.context: RequestContext | None = None
        self.wanted = self.responding = self.answered = self.gone = self._chunked = False
        self.parts: list[bytes] = []
        self._arrival: asyncio.Future[None] | None = None
        self.body: bytes | None = None

    # --- the body ---

    def end(self) -> None:
        """The whole body has arrived."""
        parts = self.parts
        self.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.parts = []
        self.expects_continue = False
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def whole(self) -> bytes:
        """The whole body, as soon as it is there."""
        if self.body is None:
            self.wanted = True
            if self.expects_continue:
                self.expects_continue = False
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.connection.resume_reading()
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        assert self.body is not None, "it has arrived"
        return self.body

    def forget(self) -> None:
        """Nobody asks for the body again: it is not to take memory any longer."""
        self.body, self.parts = b"", []

    # --- the answer ---

    def respond(self, response: Response, request_id: str = "") -> int:
        """Send a whole answer; returns the bytes of its body."""
        connection, headers, body = self.connection, response.headers, response.body
        size = response.size if response.tail else len(body)
        if self.gone:
            return size
        head = (
            STATUS_LINES[response.status],
            connection.server.lines,
            _JSON_LINE if headers is JSON_ONLY else lines(headers),
            b"x-request-id: %b\r\n" % request_id.encode() if request_id else b"",
            size,
            b"" if self._stays() else _CLOSE,
        )
        if self.method == b"HEAD":
            body, response = b"", Response(response.status, b"")
        self.responding = True
        connection.transport.write(b"%b%b%b%bcontent-length: %d\r\n%b\r\n%b" % (*head, body))
        for part in response.tail:
            connection.transport.write(part)
        self.answered = True
        connection.answered(self)
        return size

    def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send the head of an answer that comes in parts, of a size known beforehand or not."""
        if self.gone:
            return
        has_body = self.method != b"HEAD" and status not in _WITHOUT_BODY
        self._chunked = length is None and has_body
        if self._chunked and self.http_1_0:
            self._chunked = self.keep_alive = False  # the end of the connection is that of the body
        head = [STATUS_LINES[status], self.connection.server.lines, lines(headers)]
        if self._chunked:
            head.append(b"transfer-encoding: chunked\r\n")
        if length is not None:
            head.append(b"content-length: %d\r\n" % length)
        if not self._stays():
            head.append(_CLOSE)
        self.responding = True
        self.connection.transport.write(b"".join([*head, b"\r\n"]))

    async def send(self, part: bytes | memoryview) -> None:
        """Send a part of an answer that has begun, when the client has taken enough of it."""
        await self.connection.drained()
        if self.gone or not len(part) or self.method == b"HEAD":
            return
        framed = b"%x\r\n%b\r\n" % (len(part), bytes(part)) if self._chunked else part
        self.connection.transport.write(framed)

    def finish(self) -> None:
        """The last part has been sent."""
        if self.gone:
            return
        if self._chunked:
            self.connection.transport.write(b"0\r\n\r\n")
        self.answered = True
        self.connection.answered(self)

    def _stays(self) -> bool:
        """Whether the connection does, when this is answered."""
        # Who waits for word to send the body, and gets an answer, sends it or does not: what comes
        # next could be either, the body or a request.
        if self.connection.server.stopping or self.expects_continue:
            self.keep_alive = False
        return self.keep_alive


def lines(headers: Headers) -> bytes:
    """Headers as they stand in a message.

    Raises:
        InternalError: one of them would not be read as it is meant.
    """
    text = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise InternalError
        text.append(b"%b: %b\r\n" % (name, value))
    return b"".join(text)


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())


STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}

_CLOSE: Final = b"connection: close\r\n"
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_WITHOUT_BODY: Final = frozenset({*range(100, 200), 204, 304})
_JSON_LINE: Final = lines(JSON_ONLY)
