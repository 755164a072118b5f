"""HTTP/2's frames and fields, and gRPC's messages: the same however the bytes are cut.

The frames are built by the `hyperframe` package and the fields by `hpack`, which nobody here wrote.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import hpack
import pytest
from hyperframe import frame as frames
from hypothesis import example, given
from hypothesis import strategies as st

from omi_runtime import limits
from omi_runtime.errors import OMIError
from omi_runtime.settings import Settings
from omi_runtime.transport import request_timeout
from omi_runtime.transport.grpc_head import percent_encoded, read_head
from omi_runtime.transport.grpc_stream import GRPCStream
from omi_runtime.transport.http2 import wire
from omi_runtime.transport.http2.connection import STREAM_WINDOW, Connection
from omi_runtime.transport.http2.fields import LARGEST_LIST, FieldDecoder, literal
from omi_runtime.transport.http2.reader import FrameReader, NotHTTP2
from omi_runtime.transport.http2.wire import Code, ConnectionFault

Event = tuple[Any, ...]

ids = st.integers(0, 50).map(lambda n: 2 * n + 1)
payloads = st.binary(max_size=40)


class Events:
    """What a reader tells, with the parts of a DATA frame put together."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    def begin_connection(self) -> None:
        self.all.append(("begin",))

    def begin_data(self, stream_id: int, length: int, *, ends: bool) -> None:
        self.all.append(("data", stream_id, length, ends, b"", length == 0))

    def take_data(self, part: bytes, *, last: bool) -> None:
        *same, so_far, was_last = self.all[-1]
        assert not was_last, "nothing comes after the last part"
        self.all[-1] = (*same, so_far + part, last)

    def take_block(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        self.all.append(("block", stream_id, block, ends))

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self.all.append(("frame", kind, flags, stream_id, payload))


@st.composite
def data_frames(draw: st.DrawFn) -> tuple[bytes, Event]:
    frame = frames.DataFrame(draw(ids), draw(st.binary(max_size=300)))
    if draw(st.booleans()):
        frame.flags.add("PADDED")
        frame.pad_length = draw(st.integers(0, 255))
    ends = draw(st.booleans())
    if ends:
        frame.flags.add("END_STREAM")
    event = ("data", frame.stream_id, frame.flow_controlled_length, ends, frame.data, True)
    return frame.serialize(), event


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, Event]:
    stream_id, ends = draw(ids), draw(st.booleans())
    first, *others = draw(st.lists(payloads, min_size=1, max_size=5))
    head: Any = frames.HeadersFrame(stream_id, first)
    if ends:
        head.flags.add("END_STREAM")
    if draw(st.booleans()):
        head.flags.add("PADDED")
        head.pad_length = draw(st.integers(0, 255))
    if draw(st.booleans()):
        head.flags.add("PRIORITY")
        head.depends_on, head.stream_weight, head.exclusive = 0, 7, False
    parts = [head, *(frames.ContinuationFrame(stream_id, other) for other in others)]
    parts[-1].flags.add("END_HEADERS")
    whole = b"".join([first, *others])
    return b"".join(part.serialize() for part in parts), ("block", stream_id, whole, ends)


@st.composite
def other_frames(draw: st.DrawFn) -> tuple[bytes, Event]:
    number = draw(st.integers(1, 2**31 - 1))
    frame = draw(
        st.sampled_from(
            [
                frames.PingFrame(0, struct.pack(">Q", number)),
                frames.RstStreamFrame(draw(ids), number),
                frames.WindowUpdateFrame(0, number),
                frames.SettingsFrame(0, {4: number}),
                frames.GoAwayFrame(0, 1, 0, draw(payloads)),
                frames.ExtensionFrame(0x77, draw(ids), flag_byte=draw(st.integers(0, 255))),
            ]
        )
    )
    data = frame.serialize()
    return data, ("frame", data[3], data[4], frame.stream_id, data[9:])


def fed(pieces: Sequence[bytes]) -> list[Event]:
    events = Events()
    reader = FrameReader(events)
    for piece in pieces:
        reader.feed(piece)
    return events.all


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    ends = sorted({min(end, len(data)) for end in at} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(ends)]


cuts = st.one_of(
    st.lists(st.integers(0, 3000), max_size=12), st.integers(1, 9).map(lambda n: range(0, 9000, n))
)


@given(st.lists(st.one_of(data_frames(), blocks(), other_frames()), max_size=8), cuts)
def test_frames_are_the_same_however_they_are_cut(
    sent: list[tuple[bytes, Event]], at: Sequence[int]
) -> None:
    settings = frames.SettingsFrame(0).serialize()
    data = wire.PREFACE + settings + b"".join(frame for frame, _ in sent)
    expected = [("begin",), ("frame", wire.SETTINGS, 0, 0, b""), *(event for _, event in sent)]
    assert fed(cut(data, at)) == expected


@pytest.mark.parametrize("size", range(1, 30))
def test_what_is_no_http_2_is_found_at_its_first_wrong_byte(size: int) -> None:
    reader = FrameReader(Events())
    right, wrong = wire.PREFACE[: size - 1], b"\x00"
    if size <= len(wire.PREFACE):
        reader.feed(right)
        with pytest.raises(NotHTTP2):
            reader.feed(wrong)
        return
    with pytest.raises(ConnectionFault) as fault:
        reader.feed(wire.PREFACE + frames.PingFrame(0, bytes(8)).serialize())
    assert fault.value.code is Code.PROTOCOL_ERROR


# Fields


@given(st.binary(max_size=400), st.binary(max_size=400))
@example(b"n" * 126, b"v" * 127)
@example(b"n" * 128, b"v" * 20_000)
def test_a_literal_is_read_back(name: bytes, value: bytes) -> None:
    decoder = hpack.Decoder()
    assert decoder.decode(literal(name, value), raw=True) == [(name, value)]
    assert not decoder.header_table.dynamic_entries


names = st.sampled_from([b":path", b":method", b"x-request-id", b"grpc-timeout", b"user-agent"])
values = st.one_of(st.sampled_from([b"POST", b"/a/b", b"1S", b""]), st.binary(max_size=60))
field_lists = st.lists(st.tuples(names, values), max_size=6)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Blocks, some again and again, and new sizes of the table, as an encoder is told of them."""
    some = draw(st.lists(field_lists, min_size=1, max_size=4))
    block = st.tuples(st.just("block"), st.sampled_from(some), st.booleans(), st.booleans())
    size = st.tuples(st.just("size"), st.sampled_from([0, 40, 100, 4096]))
    return draw(st.lists(st.one_of(block, block, block, size), max_size=16))


@given(steps())
def test_fields_are_those_of_hpacks_decoder(sequence: list[Any]) -> None:
    encoder, plain = hpack.Encoder(), hpack.Decoder(LARGEST_LIST)
    ours = FieldDecoder(list)
    for kind, what, *how in sequence:
        if kind == "size":
            if what != encoder.header_table_size:  # which it forgets to tell, told of it twice
                encoder.header_table_size = what
            continue
        huffman, secret = how
        fields = [(name, value, secret) for name, value in what]
        block = encoder.encode(fields, huffman=huffman)
        assert ours.decode(block) == [tuple(field) for field in plain.decode(block, raw=True)]


@given(st.lists(st.binary(max_size=14), max_size=5))
def test_no_bytes_are_read_otherwise_than_hpack_reads_them(some: list[bytes]) -> None:
    plain, ours = hpack.Decoder(LARGEST_LIST), FieldDecoder(list)
    for block in some:
        try:
            expected: Any = [tuple(field) for field in plain.decode(block, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(ConnectionFault):
                ours.decode(block)
            return
        assert ours.decode(block) == expected


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\x00\x01",
        b"\x00\x81\xff\x00",
        b"\x7f" + b"\xff" * 60_000,
        b"\x82\x20",
        b"\x20" * 60_000 + b"\x82",
        b"\x3f\xe2\x1f",
    ],
)
def test_fields_that_make_no_sense_end_the_connection(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as fault:
        FieldDecoder(list).decode(block)
    assert fault.value.code is Code.COMPRESSION_ERROR


def test_a_few_bytes_that_unpack_to_many_are_refused() -> None:
    decoder = FieldDecoder(list)
    decoder.decode(b"\x40\x01a" + literal(b"", b"v" * 4000)[2:])
    with pytest.raises(ConnectionFault) as fault:
        decoder.decode(b"\xbe" * 60)
    assert fault.value.code is Code.ENHANCE_YOUR_CALM


@given(st.text(max_size=300))
@example("é" * 9_000)
@example("%" * 5_999 + "ab")
def test_a_statuss_text_is_read_back_and_leaves_room_in_a_clients_8_kib(text: str) -> None:
    encoded = percent_encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert len(encoded) < 6_100
    clean = text.encode("utf-8", "replace").decode()
    read = unquote(encoded.decode("ascii"), errors="strict")
    assert read == clean or (clean.startswith(read.removesuffix("…")) and len(read) > 600)


def test_of_several_binary_values_in_one_field_the_last_is_taken() -> None:
    assert read_head([(b"some-bin", b"AAE,AQI")]).metadata == {"some-bin": b"\x01\x02"}


# Messages


class Wire:
    """The other end of a connection that nobody reads: what was written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return False


class Method:
    """Takes down what comes."""

    streams_responses = True
    probe = False

    def __init__(self, *, streams_requests: bool) -> None:
        self.streams_requests = streams_requests
        self.taken: list[tuple[int, bytes]] = []
        self.refused: OMIError | None = None
        self.may_go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.begun = 0

    async def run(self, stream: GRPCStream) -> None:
        self.begun += 1
        await self.may_go_on.wait()
        try:
            if not self.streams_requests:
                self.taken.append(stream.only())
                return
            while (packed := await stream.next()) is not None:
                self.taken.append(packed)
        except OMIError as error:
            self.refused = error
        finally:
            self.ended.set()


class Called:
    """One call, whose client sends what it may."""

    def __init__(self, *, streams_requests: bool, timeout: bytes = b"", limit: int = 10**9) -> None:
        self.connection: Connection[Any] = Connection(self)  # type: ignore[arg-type]
        self.wire = Wire()
        self.connection._transport = self.wire  # type: ignore[assignment]
        self.method = Method(streams_requests=streams_requests)
        fields = [(b":path", b"/s/m"), (b"grpc-encoding", b"gzip")]
        head = read_head([*fields, (b"grpc-timeout", timeout)] if timeout else fields)
        settings = Settings(max_request_bytes=limit)
        self.stream = GRPCStream(self.connection, 1, head, self.method, settings, ended=False)
        self.connection.streams[1] = self.stream
        self.connection._last_stream = 1
        self.stream.begin()

    def read_head(self, fields: Any) -> Any:
        return fields

    def disconnected(self, connection: Any) -> None:
        """Nobody asks."""

    @property
    def window(self) -> int:
        return self.stream.receive_window

    def send(self, data: bytes, *, ends: bool = False, length: int | None = None) -> None:
        self.connection.begin_data(1, len(data) if length is None else length, ends=ends)
        self.connection.take_data(data, last=True)

    async def settle(self) -> None:
        self.method.may_go_on.set()
        for _ in range(5):
            await asyncio.sleep(0)


def framed(flag: int, data: bytes) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


messages = st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=3000)), max_size=6)


@given(messages, cuts, st.booleans(), st.booleans())
def test_messages_are_the_same_however_they_are_cut(
    sent: list[tuple[int, bytes]], at: Sequence[int], waits: bool, trailers: bool
) -> None:
    async def main() -> None:
        call = Called(streams_requests=True)
        pieces = cut(b"".join(framed(*message) for message in sent), at)
        for index, piece in enumerate(pieces):
            call.send(piece, ends=not trailers and index == len(pieces) - 1)
            if waits:
                await call.settle()
        if trailers or not pieces:
            call.send(b"", ends=True)
        await call.settle()
        assert call.method.refused is None
        assert call.method.taken == sent

    asyncio.run(main())


@given(st.binary(max_size=2000), cuts)
def test_the_one_message_of_a_method_that_takes_one(message: bytes, at: Sequence[int]) -> None:
    async def main() -> None:
        call = Called(streams_requests=False)
        pieces = cut(framed(0, message), at)
        for index, piece in enumerate(pieces):
            call.send(piece, ends=index == len(pieces) - 1)
        await call.settle()
        assert (call.method.taken, call.method.begun) == ([(0, message)], 1)

    asyncio.run(main())


@given(st.integers(1, 60), st.integers(0, 200))
def test_a_request_that_ends_within_a_message_is_refused(missing: int, size: int) -> None:
    async def main() -> None:
        call = Called(streams_requests=True)
        whole = framed(0, bytes(size))
        call.send(framed(0, b"whole") + whole[: max(1, len(whole) - missing)], ends=True)
        await call.settle()
        assert call.method.taken == [(0, b"whole")]
        assert "ends within a message" in str(call.method.refused)

    asyncio.run(main())


def test_a_message_larger_than_the_window_is_let_in_while_nobody_takes_it() -> None:
    async def main() -> None:
        call = Called(streams_requests=True)
        message = bytes(5 * STREAM_WINDOW)
        data = framed(0, message) * 2
        sent = 0
        while sent < len(data) and call.window:
            part = data[sent : sent + min(call.window, 100_000)]
            call.send(part)
            sent += len(part)
        assert len(message) < sent < len(data), "the next waits until this one is taken"
        await call.settle()
        while sent < len(data):
            part = data[sent : sent + min(call.window, 100_000)]
            assert part, "a caller who waits for ever"
            call.send(part)
            sent += len(part)
            await call.settle()
        assert call.method.taken == [(0, message)] * 2

    asyncio.run(main())


def test_messages_without_a_byte_fill_the_window_too() -> None:
    async def main() -> None:
        call = Called(streams_requests=True)
        some = framed(0, b"") * 1000
        sent = 0
        while len(some) <= call.window:
            call.send(some)
            sent += 1000
            assert sent < 1_000_000, "nothing bounds them"
        await call.settle()
        assert len(call.method.taken) == sent
        assert call.window > STREAM_WINDOW // 2

    asyncio.run(main())


def test_padding_alone_does_not_close_the_window() -> None:
    async def main() -> None:
        call = Called(streams_requests=True)
        for _ in range(5000):
            call.send(b"", length=256)
        assert call.window > 0

    asyncio.run(main())


def test_a_second_message_is_refused_before_the_request_ends() -> None:
    async def main() -> None:
        call = Called(streams_requests=False)
        call.send(framed(0, b"one"))
        assert call.method.begun < 1
        call.send(framed(0, b"two"))
        await call.settle()
        assert call.method.begun == 1
        with pytest.raises(OMIError, match="takes one message"):
            call.stream.only()

    asyncio.run(main())


def test_a_message_in_tiny_parts_takes_no_more_memory_than_its_bytes() -> None:
    async def main() -> None:
        call = Called(streams_requests=False)
        message = bytes(range(256)) * 256
        data = framed(0, message)
        for at in range(0, len(data), 2):
            call.send(data[at : at + 2])
            assert len(call.stream._chunks) <= 2
        call.send(b"", ends=True)
        await call.settle()
        assert call.method.taken == [(0, message)]

    asyncio.run(main())


def test_a_call_that_is_given_up_at_once_leaves_no_timer() -> None:
    async def main() -> None:
        call = Called(streams_requests=False, timeout=b"99999999H")
        call.send(framed(0, b""), ends=True)
        timer = call.stream._timer
        assert timer is not None
        assert not timer.cancelled()
        call.stream.abandon()
        await call.settle()
        assert not call.method.begun
        assert timer.cancelled()

    asyncio.run(main())


def test_a_request_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)

    async def main() -> None:
        call, conversation = Called(streams_requests=False), Called(streams_requests=True)
        for one in (call, conversation):
            one.method.may_go_on.set()
            one.stream.await_rest()
        call.send(framed(0, bytes(100_000))[:5_000])
        await asyncio.wait_for(call.method.ended.wait(), 10.0)
        assert "0.05 s brought less than 10000 bytes" in str(call.method.refused)
        conversation.send(framed(0, b"late"), ends=True)
        await conversation.settle()
        assert conversation.method.taken == [(0, b"late")]

    asyncio.run(main())


def test_a_request_that_makes_its_way_is_not_given_up() -> None:
    async def main() -> None:
        call = Called(streams_requests=False)
        call.stream.await_rest()
        waited = call.stream._incoming
        assert waited is not None
        data = framed(0, bytes(100_000))
        for at in range(0, 90_000, 10_000):
            call.send(data[at : at + 10_000])
            waited._look()
        call.send(data[90_000:], ends=True)
        await call.settle()
        assert call.method.taken == [(0, data[5:])]
        assert waited._timer.cancelled()

    asyncio.run(main())


def test_the_time_that_a_request_took_to_arrive_is_the_callers() -> None:
    async def main() -> None:
        call = Called(streams_requests=False, timeout=b"50S")
        call.stream.await_rest()
        await asyncio.sleep(0.02)
        call.send(framed(0, b"late"), ends=True)
        assert call.stream._timer is not None
        assert 0 < call.stream._timer.when() - asyncio.get_running_loop().time() <= 49.98
        assert call.stream.came <= time.monotonic() - 0.02
        call.stream.abandon()

    asyncio.run(main())


def test_a_refused_request_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_timeout, "DISCARD_SECONDS", 0.05)

    async def main() -> None:
        for streams_requests in (False, True):
            call = Called(streams_requests=streams_requests, limit=10)
            call.method.may_go_on.set()
            call.send(framed(0, bytes(1000))[:50])
            await asyncio.wait_for(call.method.ended.wait(), 10.0)
            assert "OMI_MAX_REQUEST_BYTES" in str(call.method.refused)

    asyncio.run(main())


def test_a_method_that_ends_without_a_word_is_answered() -> None:
    async def main() -> None:
        call = Called(streams_requests=False)
        call.stream.done()
        assert call.stream.closed
        assert b"grpc-status\x0213" in call.wire.written

    asyncio.run(main())
