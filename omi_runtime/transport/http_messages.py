"""HTTP requests and answers, as the dispatcher's routes get and give them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    AsyncGenerator,
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from omi_runtime.errors import ErrorCode, InvalidRequest, OMIError, UnsupportedMediaType
from omi_runtime.request import RequestContext
from omi_runtime.settings import Settings
from omi_runtime.transport import encodings

P = ParamSpec("P")
T = TypeVar("T")

_SECONDS: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
"""What float() reads beyond that (signs, exponents, nan) is more likely a mistake than meant."""

LARGE_BYTES: Final = 262_144
"""Of JSON: it takes a few milliseconds to parse."""

JSON_HEADER: Final = (b"content-type", b"application/json")
JSON_ONLY: Final = (JSON_HEADER,)
"""The headers of most answers; the transport knows this very object."""
RETRY_AFTER: Final = (b"retry-after", b"1")
"""For who is told OVERLOADED: in a second, the shortest that the header has a word for."""


class Refused(InvalidRequest):
    """A request that HTTP itself has a word for.

    Args:
        status: HTTP's, in place of the one that the interface's table has for the code.
        message: see `OMIError`.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: OMIError, table: Mapping[ErrorCode, int]) -> int:
    """The status of an error by an interface's table, which has no say in HTTP's own."""
    return error.status if isinstance(error, Refused) else table[error.code]


class Incoming(Protocol):
    """A request's body on its way."""

    @property
    def body(self) -> bytes | None:
        """All of it, once it is there."""

    async def whole(self) -> bytes:
        """All of it, as soon as it is there."""

    def forget(self) -> None:
        """Nobody asks for it again: it is not to take memory any longer."""


class Request:
    """One HTTP request, as the dispatcher hands it to a route.

    Args:
        headers: by name in lower case.
        incoming: the body.
        settings: the handler's.
        context: see below.

    Attributes:
        context: the request as the core knows it; it takes the caller's id, trace and limit of
            time from the headers `x-request-id`, `traceparent` and `X-Request-Timeout`.
        size: bytes of the body, once it has been read.
    """

    __slots__ = ("_incoming", "_settings", "context", "headers", "size")

    def __init__(
        self,
        headers: dict[bytes, bytes],
        incoming: Incoming,
        settings: Settings,
        context: RequestContext,
    ) -> None:
        self.headers = headers
        self._incoming = incoming
        self._settings = settings
        self.context = context
        self.size = 0

    def holding(self, incoming: Incoming) -> Request:
        """The same request with JSON in place of its body, as if that had been all."""
        headers = self.headers | {JSON_HEADER[0]: JSON_HEADER[1]}
        headers.pop(b"content-encoding", None)
        return Request(headers, incoming, self._settings, self.context)

    @property
    def media_type(self) -> str:
        """Content-Type without parameters, in lower case."""
        content_type = self.headers.get(b"content-type", b"")
        return content_type.partition(b";")[0].strip().lower().decode("latin-1")

    @property
    def timeout(self) -> float | None:
        """Seconds that the caller allows, by the header `X-Request-Timeout`; None without it.

        Raises:
            InvalidRequest: the header is no number of seconds above 0.
        """
        text = self.headers.get(b"x-request-timeout")
        if text is None:
            return None
        seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
        if not seconds:
            raise InvalidRequest(
                f"X-Request-Timeout {text.decode('latin-1')!r} is no number of seconds above 0: "
                "write for example 2.5"
            )
        return seconds

    async def body(self) -> bytes:
        """The whole body, unpacked if its client has compressed it.

        Raises:
            UnsupportedMediaType, InvalidRequest: compressed by what is not read here, or wrongly.
            TooLarge: over the limit when unpacked; the protocol has seen to what has arrived.
        """
        body = self._incoming.body
        if body is None:
            body = await self._incoming.whole()
        self.size = len(body)
        encoding = self.headers.get(b"content-encoding")
        if encoding is None:
            return body
        return await encodings.decoded(body, encoding, self._settings)

    async def read(
        self, parse: Callable[Concatenate[bytes, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What a pure function makes of the body: of a large one on a thread.

        JSON of some megabytes takes longer than a probe should have to wait.
        """
        body = self._incoming.body
        if body is None or b"content-encoding" in self.headers:
            body = await self.body()
        else:
            self.size = len(body)
        if len(body) >= LARGE_BYTES:
            self._incoming.forget()
            return await asyncio.to_thread(parse, body, *arguments, **named)
        return parse(body, *arguments, **named)

    async def write(self, encode: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What a pure function makes of the result: on a thread, if `read` had a large body."""
        if self.size >= LARGE_BYTES:
            return await asyncio.to_thread(encode, *arguments, **named)
        return encode(*arguments, **named)


@dataclass(slots=True)
class Response:
    """An answer: a status, a body and headers beside Content-Length.

    Attributes:
        tail: the rest of the body, sent from where it lies: to join what is large costs more than
            to send it apart.
    """

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = field(default=JSON_ONLY)
    tail: Sequence[bytes | memoryview] = ()

    @property
    def size(self) -> int:
        """Of the whole body, in bytes."""
        return len(self.body) + sum(map(len, self.tail)) if self.tail else len(self.body)


@dataclass(slots=True)
class StreamingResponse:
    """An answer whose parts are sent as they are made; they are asked for one by one.

    Attributes:
        parts: closed in the end, also when the client has gone or the answer is cut off.
    """

    status: int
    parts: AsyncGenerator[bytes, None]
    headers: Sequence[tuple[bytes, bytes]]


def check_json_media_type(request: Request) -> None:
    """Refuse a body that says it is something other than JSON.

    No type, and the types that HTTP clients send on their own (curl's form type, text/plain), are
    read as JSON.
    """
    if request.headers.get(b"content-type") == JSON_HEADER[1]:
        return
    media_type = request.media_type
    if media_type in _READ_AS_JSON or media_type.endswith("+json"):
        return
    raise UnsupportedMediaType(f"Content-Type {media_type!r} is not read here: send JSON")


_READ_AS_JSON: Final = {
    "",
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/json",
    "text/plain",
}
