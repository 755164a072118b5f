"""What RFC 9110 and 9112 ask of a server, on real sockets; and h11 as a second opinion."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from contextlib import suppress
from typing import Any

import h11
import pytest
from handlers import until
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rawhttp import CHUNKED, LIMIT, chunk, connected, post, serving

from omi_runtime.transport import http_protocol, http_reader

START = b"POST /echo HTTP/1.1\r\nhost: x\r\n"

FRAMINGS = {
    "a length and chunks": START + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunks and a length": START + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
    "two lengths": START + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "a list of lengths": START + b"content-length: 1, 1\r\n\r\nx",
    "a sign": START + b"content-length: +1\r\n\r\nx",
    "an underscore": START + b"content-length: 1_0\r\n\r\n0123456789",
    "digits of another script": START + "content-length: \u0661\r\n\r\nx".encode(),
    "no digit": START + b"content-length: \r\n\r\n",
    "digits without end": START + b"content-length: " + b"0" * 5000 + b"1\r\n\r\nx",
    "a folded line": START + b"x: 1\r\n 2\r\n\r\n",
    "a folded line after a space": START + b"x: 1 \r\n\t2\r\n\r\n",
    "a folded coding": START + b"transfer-encoding: chunked \r\n gzip\r\n\r\n",
    "a length and padded chunks": START
    + b"content-length: 3\r\ntransfer-encoding: chunked \r\n\r\n",
    "chunks padded by what is no space": START + b"transfer-encoding: chunked\x0b\r\n\r\n",
    "a folded length": START + b"content-length:\r\n 1\r\n\r\nx",
    "a space before the colon": START + b"content-length : 1\r\n\r\nx",
    "a bare line feed": START + b"content-length: 1\n\r\nx",
    "a bare carriage return": START + b"x: a\rcontent-length: 1\r\n\r\nx",
    "a null": START + b"x: a\0b\r\n\r\n",
    "chunks that are not last": START + b"transfer-encoding: chunked, gzip\r\n\r\n",
    "chunks twice": START + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "a length of a chunk in C": CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    "a chunk without its end": CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
    "a length among trailers": CHUNKED + b"0\r\ncontent-length: 5\r\n\r\nabcde",
    "no host": b"POST /echo HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    "two hosts": START + b"host: y\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"BREW /echo HTTP/1.1\r\n", 501),
        (b"\r\nBREW /echo HTTP/1.1\r\n", 501),
        (b"BREW /echo HTTP/1.0\r\n", 501),
        (b"BREW /echo HTTP/2.0\r\n", 499),
        (b"BREW /echo\r\n", 499),
        (b"BREW\r\n", 499),
        (b"{BREW} /echo HTTP/1.1\r\n", 499),
        (b"cats and dogs\r\n", 499),
        (b"\x16\x03\x01\x02\0\x01\0", 499),
        (b"GET /echo HTTP/1.1\r\nno header\r\n", 499),
        (b"GET /echo HTTP/1.1\r\nmethod: 1\n 2\r\n", 499),
    ],
)
@pytest.mark.parametrize("known", [False, True])
async def test_a_method_that_is_not_known_is_told_from_what_is_no_http(
    begin: bytes, status: int, known: bool
) -> None:
    """RFC 9110, section 9.1."""
    async with serving() as served, connected(served) as client:
        if known:
            await client.say(post("echo", b"x"))
            assert (await client.answer())[0] == 200
        await client.say(begin + b"host: x\r\n\r\n")
        assert (await client.refusal())[0] == status


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("what", FRAMINGS)
async def test_a_head_that_others_may_read_differently_is_refused(what: str, known: bool) -> None:
    """On a new connection, and on one that has seen a usual request."""
    async with serving() as served, connected(served) as client:
        if known:
            await client.say(post("echo", b"x"))
            assert (await client.answer())[0] == 200
        await client.say(FRAMINGS[what] + post("echo", b"smuggled"))
        assert (await client.refusal())[0] == 499


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked"])
async def test_a_coding_that_is_not_read_is_refused(coding: str) -> None:
    async with serving() as served, connected(served) as client:
        await client.say(CHUNKED.replace(b"chunked", coding.encode()), chunk(b"x"), chunk(b""))
        status, message = await client.refusal()
        assert (status, "Transfer-Encoding" in message) == (501, True)


@pytest.mark.parametrize("padding", [" ", "   ", "\t", " \t "])
async def test_whitespace_after_a_value_is_no_part_of_it(padding: str) -> None:
    """RFC 9110, section 5.5."""
    async with serving() as served, connected(served) as client:
        packed = gzip.compress(b"x")
        for header, body in {
            "x-request-timeout: 5": b"x",
            "content-encoding: gzip": packed,
            "x-request-id: order-66": b"x",
        }.items():
            await client.say(post("echo", body, header + padding))
            status, headers, answer = await client.answer()
            assert (status, answer) == (200, b"x"), header
        assert headers["x-request-id"] == "order-66"
        length, word = f"content-length: 1{padding}", f"expect: 100-continue{padding}"
        head = START.decode() + f"{length}\r\n{word}\r\n\r\n"
        await client.say(head.encode())
        told = await client.reader.readuntil(b"\r\n\r\n")
        assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"x", post("echo", b"y", f"connection: close{padding}"))
        assert [(await client.answer())[2] for _ in range(2)] == [b"x", b"y"]
        assert await client.reader.read() == b"", "it closes"


async def test_chunks_are_read_by_a_coding_that_is_padded() -> None:
    async with serving() as served, connected(served) as client:
        head = CHUNKED.replace(b"chunked", b"chunked  ")
        await client.say(head, chunk(b"x"), chunk(b""), post("echo", b"y"))
        assert [(await client.answer())[::2] for _ in range(2)] == [(200, b"x"), (200, b"y")]


async def test_two_requests_with_wishes_are_two_and_a_thousand_no_harm() -> None:
    """All in one piece, which is read again after each of them."""
    wish = ("connection: upgrade", "upgrade: h2c")
    async with serving() as served, connected(served) as client:
        n = 1_500
        await client.say(b"".join(post("echo", b"%d" % i, *wish) for i in range(n)))
        for i in range(n):
            assert (await client.answer())[::2] == (200, b"%d" % i)


async def test_a_wish_of_http_1_0_changes_nothing_of_its_answer() -> None:
    wish = ("connection: upgrade, keep-alive", "upgrade: h2c")
    async with serving() as served, connected(served) as client:
        await client.say(post("pieces", b"2", *wish).replace(b"1.1", b"1.0", 1))
        head, body = (await client.reader.read()).split(b"\r\n\r\n")
        assert (b"transfer-encoding" in head, body) == (False, b"0;1;")


@pytest.mark.parametrize("version", [b"0.9", b"1.0", b"2.0"])
async def test_another_version_gets_no_chunks_and_no_second_answer(version: bytes) -> None:
    async with serving() as served, connected(served) as client:
        request = post("pieces", b"2").replace(b"1.1", version, 1)
        await client.say(request + request)
        head, body = (await client.reader.read()).split(b"\r\n\r\n")
        assert (b"transfer-encoding" in head, body) == (False, b"0;1;")


async def test_http_1_0_is_not_told_to_continue() -> None:
    async with serving() as served, connected(served) as client:
        request = post("echo", b"body", "expect: 100-continue").replace(b"1.1", b"1.0", 1)
        await client.say(request[:-4])
        await asyncio.sleep(0.05)
        await client.say(request[-4:])
        assert (await client.answer())[::2] == (200, b"body")


async def deaf(_scope: Any, _receive: Any, send: Any) -> None:
    """An application that answers without a look at the body."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
    """An application that does not answer."""


async def test_who_waits_for_word_and_gets_an_answer_is_not_taken_at_its_word() -> None:
    """What it sends next could be the body or a request: the answer is the connection's last."""
    async with serving(deaf) as served, connected(served) as client:
        await client.say(post("nowhere", bytes(9), "expect: 100-continue")[:-9])
        assert b"connection: close" in await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.reader.read()).endswith(b"2\r\nno\r\n0\r\n\r\n")
    async with serving(deaf) as served, connected(served) as client:
        for _ in range(2):  # it has not waited
            await client.say(post("nowhere", bytes(9), "expect: 100-continue"))
            assert b"connection: close" not in await client.reader.readuntil(b"0\r\n\r\n")


async def test_an_answer_is_not_lost_with_a_body_that_nobody_reads() -> None:
    """A reset, because of what is still on its way, could overtake the answer."""
    size = 20_000_000
    async with serving(deaf, max_request_bytes=size) as served, connected(served) as client:
        request = post("nowhere", bytes(size), "connection: close")
        sending = asyncio.create_task(client.say(request))
        await asyncio.sleep(0.3)  # it is not read while the client is busy
        answer = await client.reader.read()
        assert answer.endswith(b"2\r\nno\r\n0\r\n\r\n")
        await asyncio.wait([sending])
        sending.exception()


async def test_an_application_that_does_not_answer_is_answered_for() -> None:
    async with serving(silent) as served, connected(served) as client:
        await client.say(post("nowhere"))
        status, headers, body = await client.answer()
        assert (status, json.loads(body)["code"]) == (499, "INTERNAL")
        assert headers["x-request-id"]


async def test_an_error_of_head_has_no_body() -> None:
    async with serving(silent) as served, connected(served) as client:
        await client.say(post("nowhere").replace(b"POST", b"HEAD") + post("echo", b"next"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 0" not in head
        assert (await client.answer())[::2] == (200, b"next")


async def test_every_answer_has_the_id_of_its_request() -> None:
    own = "x-request-id: mine"
    async with serving(silent) as served:
        for request in (
            post("torn", b"", own),
            post("nowhere", b"", own),
            post("echo", bytes(LIMIT + 1), own),
            CHUNKED.replace(b"host", own.encode() + b"\r\nhost") + chunk(bytes(LIMIT + 1)),
            post("echo", b"", own, "host: y"),
            post("echo", b"", own, "y: 1", " folded"),
        ):
            async with connected(served) as client:
                await client.say(request)
                assert (await client.answer())[1]["x-request-id"] == "mine", request[:99]
    async with serving() as served, connected(served) as client:
        await client.say(post("wait", b"x", own))
        await until(lambda: served.waiting, "the request is being answered")
        await served.stop(0.1)
        assert (await client.answer())[1]["x-request-id"] == "mine"


@pytest.mark.parametrize("start", [b"0\r\nx: ", b"1;x="])
async def test_what_is_no_body_among_chunks_is_bounded(start: bytes) -> None:
    async with serving() as served, connected(served) as client:
        await client.say(CHUNKED, start)
        sending = asyncio.create_task(client.say(*[b"a" * 10_000] * 500))
        assert (await client.refusal())[0] == 431
        await asyncio.wait([sending])
        sending.exception()


async def test_a_body_of_many_chunks_is_not_taken_for_something_else() -> None:
    """What is said of each comes apart from it, and is more than the bound in all."""
    async with serving() as served, connected(served) as client:
        await client.say(CHUNKED)
        for _ in range(12):
            await client.say(b"1;x=" + b"a" * 7_000 + b"\r\n")
            await asyncio.sleep(0.01)
            await client.say(b"b\r\n")
            await asyncio.sleep(0.01)
        await client.say(b"0\r\n\r\n")
        assert (await client.answer())[::2] == (200, b"b" * 12)


async def test_a_head_behind_an_answer_that_takes_long_is_not_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server does not read on before: it has a request to answer already."""
    monkeypatch.setattr(http_reader, "HEAD_SECONDS", 0.1)
    async with serving() as served, connected(served) as client:
        third = post("echo", b"3")
        await client.say(post("wait", b"1") + post("echo", b"2") + third[:20])
        await asyncio.sleep(0.3)
        await client.say(third[20:])
        served.released.set()
        assert [(await client.answer())[2] for _ in range(3)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("path", ["echo", "pieces"])
async def test_who_never_reads_is_left(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one large answer, and in the midst of one of many pieces."""
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.3)
    size = 30_000_000
    body = bytes(size) if path == "echo" else b"100000000"
    async with serving(max_request_bytes=size, max_response_bytes=size) as served:
        client = socket.create_connection(("127.0.0.1", served.port))
        await asyncio.to_thread(client.sendall, post(path, body))
        await until(lambda: served.connections, "it is connected")
        await until(lambda: not served.connections, "the server has left")
        client.close()


async def test_who_reads_slowly_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.3)
    size = 30_000_000
    async with serving(max_request_bytes=size, max_response_bytes=size) as served:
        client = socket.create_connection(("127.0.0.1", served.port))
        await asyncio.to_thread(client.sendall, post("echo", bytes(size)))
        client.settimeout(30.0)
        got = 0
        while got < size:
            got += len(await asyncio.to_thread(client.recv, 2_000_000))
            await asyncio.sleep(0.03)
        client.close()


SIZES = st.lists(st.integers(0, 300), max_size=4)
REQUESTS = st.lists(st.tuples(st.booleans(), SIZES, st.booleans()), min_size=1, max_size=4)
DAMAGES = st.none() | st.tuples(st.floats(0, 1), st.sampled_from(b"\r\n \t:;,0x\0G"), st.booleans())
CUTS = st.lists(st.floats(0, 1), max_size=8)


def written(requests: list[tuple[bool, list[int], bool]]) -> bytes:
    """Requests one after the other, with a length or in chunks, some with extras of chunks."""
    stream = []
    for chunked, sizes, extras in requests:
        parts = [b"%c" % (97 + i) * size for i, size in enumerate(sizes) if size]
        if not chunked:
            stream.append(post("echo", b"".join(parts)))
            continue
        extra, trailers = (b";a=b", b"x: y\r\n") if extras else (b"", b"")
        chunks = [b"%x%b\r\n%b\r\n" % (len(part), extra, part) for part in parts]
        stream.append(b"".join([CHUNKED, *chunks, b"0\r\n", trailers, b"\r\n"]))
    return b"".join(stream)


def bodies_by_h11(stream: bytes) -> list[bytes]:
    """Of the requests that h11 reads before it finds a fault, or the end."""
    bodies: list[bytes] = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream)
    with suppress(h11.RemoteProtocolError):
        while True:
            body = b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event in (h11.NEED_DATA, h11.PAUSED):
                    return bodies
                body += event.data if isinstance(event, h11.Data) else b""
            bodies.append(body)
            length = [("content-length", "0")]
            connection.send(h11.Response(status_code=200, headers=length))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return bodies
            connection.start_next_cycle()
    return bodies


async def bodies_by_us(stream: bytes, cuts: list[float], most: int) -> list[bytes]:
    """Of the requests that are answered: up to as many, and one more if there is one."""
    bodies: list[bytes] = []
    at = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    async with serving(max_request_bytes=10_000) as served, connected(served) as client:
        for i in range(len(at) - 1):
            client.writer.write(stream[at[i] : at[i + 1]])
            await asyncio.sleep(0.001)
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while len(bodies) <= most:
                async with asyncio.timeout(0.02 if len(bodies) == most else 20):
                    status, _, body = await client.answer()
                if status != 200:
                    break
                bodies.append(body)
    return bodies


@settings(max_examples=40, deadline=None)
@given(REQUESTS, DAMAGES, CUTS)
@example([(False, [], False)], (0.0, 13, True), [])
def test_requests_are_read_as_h11_reads_them(
    requests: list[tuple[bool, list[int], bool]],
    damage: tuple[float, int, bool] | None,
    cuts: list[float],
) -> None:
    """However they are cut. What is damaged is read alike, or refused.

    But for a CR before a request line: h11 refuses it, and we pass over it as over an empty line
    (RFC 9112, section 2.2), so that all requests are read as if it were not there.
    """
    stream, expected = written(requests), None
    if damage is not None:
        place, byte, inserted = int(damage[0] * (len(stream) - 1)), damage[1], damage[2]
        if inserted and byte == ord("\r") and stream.startswith(b"POST", place):
            expected, damage = bodies_by_h11(stream), None
        stream = stream[:place] + bytes([byte]) + stream[place + (not inserted) :]
    if expected is None:
        expected = bodies_by_h11(stream)
    bodies = asyncio.run(bodies_by_us(stream, cuts, len(expected)))
    assert bodies == (expected if damage is None else expected[: len(bodies)])
