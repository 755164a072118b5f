"""What comes of one gRPC call on an HTTP/2 stream: messages, which are taken apart and handed on.

How they are framed: doc/PROTOCOL-HTTP2.md of gRPC's repository.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeAlias

from omi_runtime import limits
from omi_runtime.errors import InvalidRequest, NotOffered, OMIError
from omi_runtime.settings import Settings
from omi_runtime.transport import encodings
from omi_runtime.transport.grpc_head import CODINGS, Head
from omi_runtime.transport.http2.connection import STREAM_WINDOW, Connection
from omi_runtime.transport.http2.stream import Stream
from omi_runtime.transport.request_timeout import MOST_DISCARDED, RequestTimeout

Packed: TypeAlias = tuple[int, bytes]
"""A message as it came: 1 if it is compressed, and its bytes."""

PREFIX: Final = struct.Struct(">BI")
"""What precedes a message: whether it is compressed, and its size."""
_TINY: Final = 1_024
"""Bytes: smaller parts of a message are put together as they come, for each takes memory beside."""
_LOW: Final = STREAM_WINDOW // 2
"""Of a window: then the client may send more."""
_OVERHEAD: Final = 128
"""Bytes that a message counts beside its own while it waits: of empty ones too there is an end."""
_LATE_SECONDS: Final = 0.5
"""How long after its deadline a call ends which the core has not ended."""


class Runner(Protocol):
    """What answers the calls of one method.

    Attributes:
        streams_requests: whether it takes several messages.
        streams_responses: whether it gives several.
        probe: whether it only tells how the server is.
    """

    streams_requests: bool
    streams_responses: bool
    probe: bool

    def run(self, stream: Any) -> Coroutine[Any, Any, None]:
        """Answer one call, to its end."""


class RequestStream(Stream):
    """Takes messages apart, and has the method run, as soon as it can or has to.

    Attributes:
        head: what the request's fields say.
        came: when its head did, a time of `time.monotonic`.
        is_late: the caller's deadline has passed, and nothing has ended the call.
    """

    __slots__ = (
        "_chunks",
        "_failure",
        "_flag",
        "_held",
        "_incoming",
        "_messages",
        "_refusal",
        "_runner",
        "_settings",
        "_size",
        "_task",
        "_timer",
        "_unread",
        "_waiter",
        "came",
        "head",
        "is_late",
    )

    def __init__(
        self,
        connection: Connection[Any],
        stream_id: int,
        head: Head,
        runner: Runner,
        settings: Settings,
        *,
        ended: bool,
    ) -> None:
        super().__init__(connection, stream_id, ended=ended)
        self.head = head
        self.came = time.monotonic()
        self.is_late = False
        self._runner = runner
        self._settings = settings
        self._incoming: RequestTimeout | None = None
        self._refusal: OMIError | None = None  # which is told when the request has come
        self._failure: OMIError | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        # Of the message that is coming: its flag, its size or -1 before its prefix is there.
        self._flag = 0
        self._size = -1
        self._chunks: list[bytes | bytearray] = []
        self._held = 0
        # Messages that are there, and their bytes.
        self._messages: deque[Packed] = deque()
        self._unread = 0

    @property
    def is_probe(self) -> bool:
        """Whether the method only tells how the server is."""
        return self._runner.probe

    def begin(self) -> None:
        """See whether the call can be answered; of a stream, begin to."""
        head = self.head
        if head.bad_timeout:
            self._refuse(
                InvalidRequest(
                    f"grpc-timeout {head.bad_timeout!r} is no time: expected up to eight digits "
                    "and one of H, M, S, m, u, n"
                )
            )
        elif head.coding not in CODINGS:
            self._refuse(
                NotOffered(f"grpc-encoding {head.coding!r} is not read here: {', '.join(CODINGS)}")
            )
        elif self.ended:
            self._complete()
        elif self._runner.streams_requests:
            self._run()

    def await_rest(self) -> None:
        """Have a request come within reasonable time, if it is the only message of its call."""
        if self._task is None and self._incoming is None and not self._runner.streams_requests:
            self._incoming = RequestTimeout(self.head.timeout, self._fail)

    # What comes

    def _is_broken(self) -> bool:
        return self._refusal is not None or self._failure is not None

    def receive(self, data: bytes) -> None:
        """Take a part of the messages."""
        if self._receive_only(data) if self.ended else self._receive_within(data):
            return
        if self._is_broken():
            self._discard(len(data))
            return
        if self._incoming is not None:
            self._incoming.come(len(data))
        if self._size >= 0:  # the rest of a message that may be large
            data = self._continued(data)
        elif self._chunks:
            data, self._chunks, self._held = b"".join((*self._chunks, data)), [], 0
        if data and not self._is_broken():
            self._split(data)
        self._go_on()

    def _go_on(self) -> None:
        """Do what is to be done with the messages that are there."""
        if self._is_broken():
            self._discard(0)
        elif self.ended:
            self._complete()
        else:
            self._replenish()
            self._wake()

    def _receive_only(self, data: bytes) -> bool:
        """Take what is all of the request, in one piece: the common case, in few steps."""
        size = len(data) - PREFIX.size
        if size < 0 or self._chunks or self._messages or self._task is not None:
            return False
        flag, told = PREFIX.unpack_from(data)
        if told != size or flag or size > self._settings.max_request_bytes or self._is_broken():
            return False
        self._messages.append((0, data[PREFIX.size :]))
        self._run()
        return True

    def _receive_within(self, data: bytes) -> bool:
        """Take what lies within a large message, of which most clients send 16 KiB at a time."""
        size = len(data)
        if self._size <= self._held + size or size < _TINY or self._is_broken():
            return False
        self._chunks.append(data)
        self._held += size
        if self._incoming is not None:
            self._incoming.come(size)
        if self.receive_window < _LOW:
            self._replenish()
        return True

    def _continued(self, data: bytes) -> bytes:
        """Add to the message that is coming; returns what comes after it."""
        if len(data) >= _TINY:
            self._chunks.append(data)
        elif isinstance(self._chunks[-1], bytearray):
            self._chunks[-1] += data
        else:
            self._chunks.append(bytearray(data))
        self._held += len(data)
        if self._held < self._size:
            return b""
        whole, size = b"".join(self._chunks), self._size
        self._chunks, self._held, self._size = [], 0, -1
        if len(whole) == size:
            self._add(self._flag, whole)
            return b""
        self._add(self._flag, whole[:size])
        return whole[size:]

    def _split(self, data: bytes) -> None:
        at, count = 0, len(data)
        while count - at >= PREFIX.size:
            flag, size = PREFIX.unpack_from(data, at)
            error = self._objection(flag, size)
            at += PREFIX.size
            if error is not None:
                self._size, self._held = size, count - at
                self._refuse(error)
                return
            if count - at < size:
                self._flag, self._size = flag, size
                self._chunks, self._held = [data[at:]], count - at
                return
            self._add(flag, data[at : at + size])
            at += size
        if at < count:  # a part of a prefix
            self._chunks, self._held = [data[at:]], count - at

    def _objection(self, flag: int, size: int) -> OMIError | None:
        if size > self._settings.max_request_bytes:
            return limits.request_too_large(self._settings)
        if flag > 1 or (flag and self.head.coding == "identity"):
            return InvalidRequest(
                "a message is marked as compressed, and no grpc-encoding says how"
            )
        return None

    def _add(self, flag: int, data: bytes) -> None:
        if self._messages and not self._runner.streams_requests:
            self._fail(NotOffered("the method takes one message, and several came"))
            return
        self._messages.append((flag, data))
        self._unread += len(data) + _OVERHEAD

    def _complete(self) -> None:
        """The caller has sent all."""
        if self._chunks:
            self._failure = InvalidRequest("the request ends within a message")
        elif not (self._runner.streams_requests or self._messages):
            self._failure = NotOffered("the method takes one message, and none came")
        self._run()
        self._wake()

    def _replenish(self) -> None:
        """Let the caller send the rest of a message, and some more while messages are taken."""
        needed = self._size - self._held if self._size >= 0 and not self._unread else 0
        room = max(needed, STREAM_WINDOW - self._unread)
        missing = room - self.receive_window
        if missing >= _LOW or needed > self.receive_window:
            self.allow(missing)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _refuse(self, error: OMIError) -> None:
        """Fail as soon as the caller is rid of what it is sending: see `request_timeout`."""
        self._refusal = error
        if self._is_rid():
            self._fail(error)
            return
        self._chunks.clear()
        if self._incoming is None:
            self._incoming = RequestTimeout(self.head.timeout, self._fail)
        self._incoming.discard(error)

    def _is_rid(self) -> bool:
        """Whether nothing of the request that is refused is waited for."""
        if self.ended or max(self._size, self._held) > MOST_DISCARDED:
            return True
        return self._runner.streams_requests and self._held >= self._size

    def _discard(self, size: int) -> None:
        if self._refusal is None or self._failure is not None:
            return
        self._held += size
        if self._is_rid():
            self._fail(self._refusal)
        elif self.receive_window < STREAM_WINDOW // 2:
            self.allow(STREAM_WINDOW - self.receive_window)

    def _fail(self, error: OMIError) -> None:
        self._failure = error
        self._run()

    def _run(self) -> None:
        if self._incoming is not None:
            self._incoming.over()
        if self._task is not None:
            self._wake()
            return
        timeout = self.head.timeout
        if timeout is not None and self._incoming is not None:
            timeout = max(0.0, timeout - self._incoming.took())
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._runner.run(self))
        if timeout is not None:
            streams = self._runner.streams_requests or self._runner.streams_responses
            late = timeout if streams else timeout + _LATE_SECONDS
            self._timer = loop.call_later(late, self._be_late)

    def _be_late(self) -> None:
        self.is_late = True
        self.cancel()

    def cancel(self) -> None:
        """Have the method stop, or not begin."""
        if self._incoming is not None:
            self._incoming.over()
        if self._task is not None:
            self._task.cancel()

    def abandoned(self) -> None:
        """Nobody waits for the answer."""
        self._messages.clear()
        self._chunks.clear()
        self._stop_timer()  # for a task that has not begun ends without a word
        self.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._incoming is not None:
            self._incoming.over()

    # What the method takes

    def only(self) -> Packed:
        """The one message of a method that takes one.

        Raises:
            OMIError: there is none, or more, or it is too large.
        """
        if self._failure is not None:
            raise self._failure
        return self._messages.popleft()

    async def next(self) -> Packed | None:
        """The next message; None after the last.

        Raises:
            OMIError: it is too large, or is cut off.
        """
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self.ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        packed = self._messages.popleft()
        self._unread -= len(packed[1]) + _OVERHEAD
        if not (self.ended or self._is_broken()):
            self._replenish()
        return packed

    async def unpacked(self, packed: Packed) -> bytes:
        """A message's bytes as they were before the caller compressed them.

        Raises:
            InvalidRequest: they are not what they should be.
            TooLarge: they exceed `OMI_MAX_REQUEST_BYTES`, of which no more is ever unpacked.
        """
        flag, data = packed
        if not flag:
            return data
        return await encodings.decoded(data, self.head.coding.encode(), self._settings)
