"""gzip and deflate of HTTP bodies, both ways, within the limits (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from typing import Final

from omi_runtime import limits
from omi_runtime.errors import InvalidRequest, UnsupportedMediaType
from omi_runtime.settings import Settings

WORTH_BYTES: Final = 16_384
"""Smaller answers go as they are: they would fit into as many packets."""

_LEVEL: Final = 1
"""The fastest: the higher ones cost several times as much, and save little of what numbers take."""
_QUICK_BYTES: Final = 65_536
"""What takes the event loop about a millisecond at most; more is compressed on a thread."""
_SMALL_BYTES: Final = 4_096
"""Of a packed request: what it unpacks to at most takes the event loop a few milliseconds."""
_STEP: Final = 65_536
_MOST_MEMBERS: Final = 10_000
"""Parts of a gzip body: each costs the reader far more than its sender."""

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""zlib's `wbits`: deflate in gzip's frame, in zlib's, and in none."""
_CODINGS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


async def decoded(body: bytes, content_encoding: bytes, settings: Settings) -> bytes:
    """A request's body as it was before its client compressed it.

    Raises:
        UnsupportedMediaType: by something that is not read here.
        InvalidRequest: it is not what its header says.
        TooLarge: it exceeds `OMI_MAX_REQUEST_BYTES`, of which no more is ever unpacked.
    """
    coding = content_encoding.decode("latin-1").strip().lower()
    if coding == "identity":
        return body
    if coding not in _CODINGS:
        raise UnsupportedMediaType(
            f"Content-Encoding {coding!r} is not read here: send gzip, deflate or identity"
        )
    if len(body) <= _SMALL_BYTES:
        return _inflate(body, coding, settings)
    return await asyncio.to_thread(_inflate, body, coding, settings)


async def encoded(parts: Sequence[bytes | memoryview], coding: str) -> bytes:
    """An answer's body, given in parts, compressed by one of those that `accepted` gives."""
    if sum(len(part) for part in parts) <= _QUICK_BYTES:
        return _deflate(parts, coding)
    return await asyncio.to_thread(_deflate, parts, coding)


def accepted(accept_encoding: bytes) -> str:
    """The coding that a client likes best of those that are offered; empty for none."""
    weights: dict[str, float] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
        coding, _, parameter = part.partition(";")
        weights[coding.strip()] = _weight(parameter)
    anything = weights.get("*", 0.0)
    weight, best = max((weights.get(coding, anything), coding) for coding in ("deflate", "gzip"))
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _deflate(parts: Sequence[bytes | memoryview], coding: str) -> bytes:
    compressor = zlib.compressobj(_LEVEL, wbits=_CODINGS[coding])
    return b"".join([*(compressor.compress(part) for part in parts), compressor.flush()])


def _inflate(body: bytes, coding: str, settings: Settings) -> bytes:
    wbits = _CODINGS[coding]
    if wbits == _ZLIB and not _has_zlib_header(body):
        wbits = _RAW  # which many clients take "deflate" for
    view, at, parts = memoryview(body), 0, list[bytes]()
    room = settings.max_request_bytes + 1
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(wbits)
        while not member.eof:
            if at >= len(view):
                raise InvalidRequest(f"the body is cut off: its {coding} does not end")
            try:
                part = member.decompress(view[at : at + _STEP], room)
            except zlib.error as error:
                raise InvalidRequest(f"the body is not {coding}: {error}") from None
            at = min(at + _STEP, len(view))
            parts.append(part)
            room -= len(part)
            if room <= 0:
                raise limits.request_too_large(settings)
        at -= len(member.unused_data)
        if at == len(view):
            return b"".join(parts)
        if wbits != _GZIP:
            break
    raise InvalidRequest(f"the body goes on after the end of its {coding}")


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
