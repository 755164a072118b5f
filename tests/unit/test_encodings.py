"""gzip and deflate, both ways: what is read, what is refused, and what a bomb comes to."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime.errors import InvalidRequest, OMIError, TooLarge, UnsupportedMediaType
from omi_runtime.settings import Settings
from omi_runtime.transport import encodings
from omi_runtime.transport.encodings import accepted, decoded, encoded

TEXT = b"numbers, numbers, numbers " * 10_000


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZIP ": gzip.compress(TEXT),
    "gzip in members": gzip.compress(TEXT[:100_000]) + gzip.compress(TEXT[100_000:]),
    "deflate": zlib.compress(TEXT),
    "deflate without a frame": raw_deflate(TEXT),
    "identity": TEXT,
}


def coding_of(what: str) -> bytes:
    return what.partition(" ")[0].encode()


@pytest.mark.parametrize("what", PACKED)
async def test_a_body_is_unpacked(what: str) -> None:
    assert await decoded(PACKED[what], coding_of(what), Settings()) == TEXT


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", ""])
async def test_other_codings_are_refused_with_those_that_are_read(coding: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="send gzip, deflate or identity"):
        await decoded(b"", coding.encode(), Settings())


BROKEN = {
    "gzip that is none": b"numbers",
    "gzip cut off": PACKED["gzip"][:-5],
    "gzip with more behind it": PACKED["gzip"] + b"\0\0",
    "gzip with a wrong checksum": PACKED["gzip"][:-8] + bytes(8),
    "deflate that is none": b"\xff\xff\xff",
    "deflate cut off": PACKED["deflate"][:-5],
    "deflate with more behind it": PACKED["deflate"] + b"\0",
    "deflate of nothing": b"",
}


@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_not_what_it_says(what: str) -> None:
    coding = coding_of(what)
    with pytest.raises(InvalidRequest, match=coding.decode()):
        await decoded(BROKEN[what], coding, Settings())


@pytest.mark.parametrize("what", [what for what in PACKED if what != "identity"])
async def test_the_limit_holds_for_what_comes_out(what: str) -> None:
    body, coding = PACKED[what], coding_of(what)
    assert await decoded(body, coding, Settings(max_request_bytes=len(TEXT))) == TEXT
    with pytest.raises(TooLarge, match="OMI_MAX_REQUEST_BYTES"):
        await decoded(body, coding, Settings(max_request_bytes=len(TEXT) - 1))


async def test_of_a_bomb_no_more_than_the_limit_is_unpacked() -> None:
    bomb, limit = gzip.compress(bytes(50_000_000)), 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await decoded(bomb, b"gzip", Settings(max_request_bytes=limit))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * limit


async def test_members_are_bounded_for_each_costs_more_to_read_than_to_send() -> None:
    members = gzip.compress(b"") * (encodings._MOST_MEMBERS + 1)
    with pytest.raises(InvalidRequest):
        await decoded(members, b"gzip", Settings())


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
async def test_any_bytes_are_unpacked_or_refused(body: bytes, coding: bytes) -> None:
    with suppress(OMIError):
        assert len(await decoded(body, coding, Settings(max_request_bytes=1000))) <= 1000


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 100, len(TEXT)])
async def test_what_is_packed_is_unpacked_again(coding: str, size: int) -> None:
    packed = await encoded([TEXT[: size // 2], memoryview(TEXT)[size // 2 : size]], coding)
    assert (gzip.decompress if coding == "gzip" else zlib.decompress)(packed) == TEXT[:size]


@pytest.mark.parametrize(
    ("asked", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip;q=0.5", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("GZIP;Q=1.0", "gzip"),
        ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"),
        ("identity;q=0.5, gzip", "gzip"),
        ("gzip;q=0.3, identity;q=0.8", ""),
        ("identity", ""),
        ("br", ""),
        ("gzip;q=0", ""),
        ("gzip;q=0, *;q=0", ""),
        ("gzip;q=much", ""),
        ("", ""),
        (";,;=,", ""),
    ],
)
def test_the_best_coding_that_is_asked_for(asked: str, coding: str) -> None:
    assert accepted(asked.encode()) == coding
