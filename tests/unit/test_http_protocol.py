"""The HTTP transport's bounds, on real sockets: sizes, time, and callers that go."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from contextlib import suppress

import pytest
from handlers import PATIENCE, until
from rawhttp import CHUNKED, LIMIT, chunk, connected, post, serving

from omi_runtime.transport import http_protocol, http_reader
from omi_runtime.transport.http_exchange import Exchange
from omi_runtime.transport.http_messages import LARGE_BYTES

LARGER = b"larger than 1000 bytes, which OMI_MAX_REQUEST_BYTES allows"


@pytest.mark.parametrize("path", ["echo", "nowhere"])
async def test_a_body_of_the_limit_is_read(path: str) -> None:
    async with serving() as served, connected(served) as client:
        for _ in range(2):
            await client.say(post(path, bytes(LIMIT)))
            assert (await client.answer())[0] == (200 if path == "echo" else 404)
        chunks = CHUNKED.replace(b"echo", path.encode())
        await client.say(chunks, chunk(bytes(LIMIT - 1)), chunk(b"1"), chunk(b""))
        assert (await client.answer())[0] == (200 if path == "echo" else 404)


@pytest.mark.parametrize("path", ["echo", "nowhere"])
async def test_a_body_over_the_limit_is_refused_before_it_is_sent(path: str) -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post(path, bytes(LIMIT + 1))[: -LIMIT - 1])
        status, message = await client.refusal()
        assert (status, LARGER.decode() in message) == (499, True), message


async def test_who_sends_it_all_the_same_gets_the_answer() -> None:
    """A reset, because of what is still on its way, could overtake the answer."""
    async with serving() as served, connected(served) as client:
        sending = asyncio.create_task(client.say(post("echo", bytes(3_000_000))))
        assert (await client.refusal())[0] == 499
        with suppress(ConnectionError):
            await sending


async def test_nobody_is_asked_to_continue_with_too_much() -> None:
    async with serving() as served, connected(served) as client:
        head = post("echo", bytes(LIMIT + 1), "expect: 100-continue")[: -LIMIT - 1]
        await client.say(head)
        assert (await client.refusal())[0] == 499
    async with serving() as served, connected(served) as client:
        await client.say(post("echo", bytes(LIMIT), "expect: 100-continue")[:-LIMIT])
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(bytes(LIMIT))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("path", ["echo", "nowhere"])
@pytest.mark.parametrize("pieces", ["one", "many"])
async def test_chunks_over_the_limit_are_refused_as_they_come(path: str, pieces: str) -> None:
    async with serving() as served, connected(served) as client:
        parts = [CHUNKED.replace(b"echo", path.encode()), *[chunk(bytes(100))] * 11]
        await client.say(*(parts if pieces == "many" else [b"".join(parts)]))
        status, message = await client.refusal()
        assert (status, LARGER.decode() in message) == (499, True), message


async def test_an_answer_over_the_limit_is_told_so() -> None:
    async with serving(max_response_bytes=LIMIT) as served, connected(served) as client:
        await client.say(post("large"))
        _, _, body = await client.answer()
        message = json.loads(body)["oops"]
        assert "1001 bytes" in message
        assert "OMI_MAX_RESPONSE_BYTES allows 1000" in message


@pytest.mark.parametrize("size", [10, LARGE_BYTES])
async def test_only_a_large_body_is_read_and_answered_on_a_thread(size: int) -> None:
    async with serving(max_request_bytes=size) as served, connected(served) as client:
        await client.say(post("think", bytes(size)))
        on_loop = json.loads((await client.answer())[2])
        assert on_loop == [size < LARGE_BYTES] * 2


HEADS = {
    "one long header": ["x: " + "a" * http_reader.MAX_HEAD_BYTES],
    "many headers": [f"x-{i}: a" for i in range(http_reader.MAX_HEADERS)],
    "headers without end": [f"x-{i}: {'a' * 100}" for i in range(3_000)],
}


@pytest.mark.parametrize("what", HEADS)
async def test_a_head_over_the_limit_is_refused(what: str) -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post("echo", b"", *HEADS[what]))
        status, message = await client.refusal()
        assert status == 431
        assert str(http_reader.MAX_HEAD_BYTES) in message


async def test_a_long_path_is_refused_before_it_ends() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(b"GET /", *[b"a" * 1000] * 66)
        assert (await client.refusal())[0] == 431


async def test_a_head_within_the_limit_is_read_however_it_is_cut() -> None:
    request = post("echo", b"body", *(f"x-{i}: {'a' * 500}" for i in range(100)))
    async with serving() as served, connected(served) as client:
        await client.say(request)
        assert (await client.answer())[::2] == (200, b"body")
        await client.say(*(request[i : i + 700] for i in range(0, len(request), 700)))
        assert (await client.answer())[::2] == (200, b"body")


async def test_trailers_are_not_kept() -> None:
    async with serving() as served, connected(served) as client:
        trailers = b"".join(b"x-%d: a\r\n" % i for i in range(1_000))
        await client.say(CHUNKED, chunk(b"body"), b"0\r\n", trailers, b"\r\n")
        assert (await client.answer())[::2] == (200, b"body")


async def test_bytes_that_are_no_http() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert (await client.refusal())[0] == 499
    async with serving() as served, connected(served) as client:
        await client.say(CHUNKED, b"no length\r\n")
        assert (await client.refusal())[0] == 499


async def test_a_slow_head_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_reader, "HEAD_SECONDS", 0.2)
    async with serving() as served, connected(served) as client:
        await client.say(post("echo", b"first"))
        assert (await client.answer())[0] == 200
        await client.say(post("echo", b"second")[:30])
        assert (await client.refusal())[0] == 408


async def test_a_stalled_body_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_reader, "BODY_SECONDS", 0.2)
    async with serving() as served:
        async with connected(served) as client:
            await client.say(post("echo", b"a body")[:-3])
            assert (await client.refusal())[0] == 408
        async with connected(served) as client:
            await client.say(CHUNKED, chunk(b"a body"))
            assert (await client.refusal())[0] == 408


async def test_a_body_that_makes_its_way_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_reader, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(http_reader, "SLOWEST_BODY", 1)
    async with serving() as served, connected(served) as client:
        request = post("echo", b"bit by bit")
        await client.say(request[:-9])
        for i in range(9):
            await asyncio.sleep(0.1)
            await client.say(request[len(request) - 9 + i :][:1])
        assert (await client.answer())[::2] == (200, b"bit by bit")


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.2)
    async with serving() as served, connected(served) as client:
        assert await client.reader.read() == b""


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_client_that_goes_takes_its_request_with_it(size: int) -> None:
    """Of a large body, reading stops in between, and has to go on to notice."""
    async with serving(max_request_bytes=size) as served:
        async with connected(served) as client:
            await client.say(post("wait", bytes(size)))
            await until(lambda: served.waiting, "the request is being answered")
        await until(lambda: served.cancelled, "nobody waits for the answer")


async def test_requests_that_follow_one_another_are_answered_in_order() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(b"".join(post("echo", b"%d" % i) for i in range(5)))
        assert [(await client.answer())[2] for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_who_was_let_in_is_answered_before_the_connection_ends() -> None:
    """The second request is too large; the first, which is under way, is not to suffer."""
    async with serving() as served, connected(served) as client:
        await client.say(post("wait", b"first") + post("echo", bytes(LIMIT + 1)))
        await until(lambda: served.waiting, "the first is being answered")
        served.released.set()
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"first")
        assert await client.reader.read() == b""


async def test_a_stop_tells_those_it_cuts_off() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post("wait", b"x"))
        await until(lambda: served.waiting, "the request is being answered")
        await served.stop(0.1)
        status, message = await client.refusal()
        assert (status, "cut off" in message) == (499, True), message


async def test_a_stop_does_not_wait_for_who_was_refused() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post("echo", bytes(LIMIT + 1))[: -LIMIT - 1])
        assert (await client.answer())[0] == 499
        began = time.monotonic()
        await served.stop(PATIENCE)
        assert time.monotonic() - began < http_protocol.FAREWELL_SECONDS


async def test_a_used_connection_that_is_silent_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.3)
    async with serving() as served, connected(served) as client:
        began = time.monotonic()
        for i in range(8):  # longer than such a silence, in all
            await asyncio.sleep(0.1)
            await client.say(post("echo", b"%d" % i))
            assert (await client.answer())[2] == b"%d" % i
        assert await client.reader.read() == b""
        assert time.monotonic() - began >= 0.8 + 0.3


async def test_a_slow_answer_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.1)
    async with serving() as served, connected(served) as client:
        await client.say(post("wait", b"x"))
        await until(lambda: served.waiting, "the request is being answered")
        await asyncio.sleep(0.5)
        served.released.set()
        assert (await client.answer())[2] == b"x"


BODIES = {
    "alike": [b"aa", b"bb", b"cc"],
    "of many lengths": [b"a", b"bb", b"", b"c", b"\r\n\r\n", b"dddd"],
    "like requests": [post("echo", b"x"), post("wait", b"y"), post("echo", b"x")],
}


@pytest.mark.parametrize("cut", [1, 3, 50, 10_000])
@pytest.mark.parametrize("what", BODIES)
async def test_a_head_that_comes_again_is_read_as_before(what: str, cut: int) -> None:
    """However requests are cut and joined on their way: one by one, and several in a piece."""
    async with serving() as served, connected(served) as client:
        bodies = BODIES[what] * 3
        for body in bodies:
            await client.say(post("echo", body))
            assert (await client.answer())[::2] == (200, body)
        stream = b"".join(post("echo", body) for body in bodies)
        for start in range(0, len(stream), cut):
            client.writer.write(stream[start : start + cut])
            await asyncio.sleep(0)
        for body in bodies:
            assert (await client.answer())[::2] == (200, body)


async def test_a_known_head_does_not_hide_what_is_different() -> None:
    async with serving() as served, connected(served) as client:
        for _ in range(2):
            await client.say(post("echo", b"0123456789"))
            assert (await client.answer())[2] == b"0123456789"
        await client.say(post("echo", b"0123456789")[:-3])  # the same head, its body in two pieces
        await asyncio.sleep(0.05)
        await client.say(b"abc" + post("echo", b"0123456789") + post("nowhere", b"0123456789"))
        assert [(await client.answer())[::2] for _ in range(3)] == [
            (200, b"0123456abc"),
            (200, b"0123456789"),
            (404, b"{}"),
        ]
        await client.say(post("echo", b"0123456789", "connection: close"))
        _, headers, body = await client.answer()
        assert (headers["connection"], body) == ("close", b"0123456789")
        assert await client.reader.read() == b""


async def test_an_upgrade_that_is_not_offered_is_not_needed() -> None:
    """As clients that would like HTTP/2 ask for it: the answer comes in HTTP/1.1, and the next."""
    wish = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    async with serving() as served, connected(served) as client:
        await client.say(post("echo", b"first", *wish) + post("echo", b"second"))
        assert (await client.answer())[::2] == (200, b"first")
        assert (await client.answer())[::2] == (200, b"second")
        await client.say(post("echo", b"third", *wish))
        assert (await client.answer())[::2] == (200, b"third")


async def test_http_1_0_gets_one_answer_and_no_chunks() -> None:
    async with serving() as served:
        for keep in ("keep-alive", "close"):
            async with connected(served) as client:
                request = post("echo", b"x", f"connection: {keep}").replace(b"1.1", b"1.0", 1)
                await client.say(request)
                assert (await client.answer())[::2] == (200, b"x")
                assert await client.reader.read() == b""
        async with connected(served) as client:
            await client.say(post("pieces", b"3").replace(b"1.1", b"1.0", 1))
            head, body = (await client.reader.read()).split(b"\r\n\r\n")
            assert b"transfer-encoding" not in head
            assert body == b"0;1;2;"


async def test_an_answer_in_pieces() -> None:
    async with serving() as served, connected(served) as client:
        for _ in range(2):
            await client.say(post("pieces", b"2"))
            answer = await client.reader.readuntil(b"0\r\n\r\n")
            assert answer.endswith(b"\r\n\r\n2\r\n0;\r\n2\r\n1;\r\n0\r\n\r\n")
            assert b"transfer-encoding: chunked\r\n" in answer
            assert b"x-request-id: " in answer


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post("pieces", b"-2"))
        answer = await client.reader.read()
        assert answer.endswith(b"2\r\n1;\r\n"), "no last chunk, and the end of the connection"


async def test_a_header_that_would_be_two_is_not_sent() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post("torn"))
        status, headers, body = await client.answer()
        assert (status, "set-cookie" in headers) == (499, False)
        assert json.loads(body)["code"] == "INTERNAL"


async def test_who_does_not_read_is_not_answered_without_end() -> None:
    async with serving(max_request_bytes=2**20) as served, connected(served) as client:
        client.writer.transport.pause_reading()
        body = bytes(2**20)
        sending = asyncio.create_task(client.say(*[post("echo", body)] * 40))
        done, _ = await asyncio.wait([sending], timeout=1.0)
        assert not done, "the server reads no more than it can answer"
        client.writer.transport.resume_reading()
        for _ in range(40):
            assert (await client.answer())[2] == body
        await sending


async def test_a_path_is_found_however_it_is_written() -> None:
    async with serving() as served, connected(served) as client:
        for target in (b"/echo?a=b", b"/%65cho", b"http://x/echo", b"/echo#a"):
            await client.say(post("echo", b"x").replace(b"/echo", target, 1))
            assert (await client.answer())[::2] == (200, b"x"), target
        await client.say(post("echo", b"x").replace(b"/echo", b"//:a/@", 1))
        assert (await client.answer())[0] in (404, 499)


async def test_a_stop_closes_with_the_next_answer() -> None:
    async with serving() as served, connected(served) as client:
        await client.say(post("wait", b"x"))
        await until(lambda: served.waiting, "the request is being answered")
        stopping = asyncio.create_task(served.stop(PATIENCE))
        await asyncio.sleep(0.05)
        served.released.set()
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"x")
        assert await client.reader.read() == b""
        await stopping


async def test_an_idle_connection_holds_no_body() -> None:
    async with serving(max_request_bytes=2**20) as served, connected(served) as client:
        body = b"x" * 2**20
        await client.say(post("echo", body))
        assert (await client.answer())[2] == body
        gc.collect()
        (exchange,) = [one for one in gc.get_objects() if isinstance(one, Exchange)]
        assert not exchange.body
        assert not exchange.parts
