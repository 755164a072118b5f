"""What the header fields of a gRPC request say.

Source: doc/PROTOCOL-HTTP2.md of gRPC's repository.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Final, TypeAlias

from omi_runtime.transport import encodings
from omi_runtime.transport.http2.fields import Field

Metadata: TypeAlias = Mapping[str, str | bytes]
"""By name, in lower case; a name that ends with `-bin` has bytes. Of several values, the last."""

CODINGS: Final = ("identity", "gzip", "deflate")
"""How messages may be compressed, both ways."""


@dataclass(slots=True)
class Head:
    """The fields of a request: the same for every request that has the same.

    Attributes:
        fields: as they came.
        path: `/service/method`.
        problem: what is wrong with the request as HTTP/2 has it, empty if nothing is.
        is_grpc: whether it is a gRPC request at all.
        timeout: seconds that the caller waits, from when the request came; None: not said.
        bad_timeout: `grpc-timeout`, if it is no time.
        coding: by which its messages may be compressed.
        answers: the coding that answers are to have, empty for none.
        request_id: `x-request-id`.
        traceparent: W3C trace context.
    """

    fields: Sequence[Field]
    path: str
    problem: str
    is_grpc: bool
    timeout: float | None
    bad_timeout: str
    coding: str
    answers: str
    request_id: str
    traceparent: str

    @property
    def metadata(self) -> Metadata:
        """All that is not gRPC's own."""
        return {
            (key := name.decode("latin-1")): _value(key, value)
            for name, value in self.fields
            if name not in _OWN and name[:1] != b":"
        }


def read_head(fields: Sequence[Field]) -> Head:
    """What the fields of a request say; of others, such as trailers, it is of no use.

    Where every call brings an id of its own this is done for every call: with few steps.
    """
    found = dict(fields)
    get = found.get
    timeout = get(b"grpc-timeout")
    seconds = None if timeout is None else _seconds(timeout)
    return Head(
        fields,
        get(b":path", b"").decode("latin-1"),
        _problem(fields, found),
        get(b":method") == b"POST" and _is_grpc(get(b"content-type", b"")),
        seconds,
        "" if seconds is not None or timeout is None else timeout.decode("latin-1"),
        get(b"grpc-encoding", b"identity").decode("latin-1"),
        _answers(found),
        get(b"x-request-id", b"").decode("latin-1"),
        get(b"traceparent", b"").decode("latin-1"),
    )


def _problem(fields: Sequence[Field], found: Mapping[bytes, bytes]) -> str:
    """What HTTP/2 does not allow (RFC 9113, sections 8.2 and 8.3)."""
    count = 4 if b":authority" in found else 3
    if not _REQUIRED <= {name for name, _ in fields[:count]} <= _ALLOWED:
        return "pseudo header fields are missing, or not the first"
    names = b" ".join([b"", *(name for name, _ in fields[count:])])
    if b" :" in names:
        return "pseudo header fields are unknown, twice there, or late"
    if names != names.lower() or not _FORBIDDEN.isdisjoint(found):
        return "there are header fields that HTTP/2 does not have"
    return ""


def percent_encoded(text: str) -> bytes:
    """A status's text as `grpc-message` has it; cut where a client might not take all of it."""
    encoded = _percent_encoded(text)
    if len(encoded) <= _LONGEST_TEXT:
        return encoded
    characters = (_percent_encoded(character) for character in text)
    sizes = accumulate(map(len, characters))
    kept = sum(1 for _ in takewhile(lambda size: size <= _LONGEST_TEXT, sizes))
    return _percent_encoded(text[:kept] + "…")


def _percent_encoded(text: str) -> bytes:
    return b"".join(_ENCODED[byte] for byte in text.encode("utf-8", "replace"))


_LONGEST_TEXT: Final = 6_000
"""Bytes as they are sent: clients take 8 KiB of trailing metadata in all."""
_ENCODED: Final = tuple(
    bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != ord("%") else b"%%%02X" % byte
    for byte in range(256)
)
_COMPRESSED: Final = (b"gzip", b"deflate")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS: Final = 8
_OWN: Final = frozenset(
    (b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"content-type", b"te")
)
_FORBIDDEN: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_REQUIRED: Final = frozenset((b":method", b":scheme", b":path"))
_ALLOWED: Final = _REQUIRED | {b":authority"}


def _is_grpc(content_type: bytes) -> bool:
    if content_type == b"application/grpc":
        return True
    kind, _, rest = content_type.partition(b";")
    kind = kind.strip()
    return not rest.startswith(b"-") and (
        kind == b"application/grpc" or kind.startswith(b"application/grpc+")
    )


def _answers(found: Mapping[bytes, bytes]) -> str:
    """How answers are to be compressed: as the metadata ask, as HTTP's header does; or as requests.

    That a client can read gzip means nothing, for all of gRPC's say so, and nobody asks whether it
    wants to: of numbers it saves half, and takes twenty times as long as all else.
    """
    asked = found.get(b"accept-encoding")
    if asked is not None:
        return encodings.accepted(asked)
    coding = found.get(b"grpc-encoding", b"identity")
    can_read = found.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
    return coding.decode("latin-1") if coding in _COMPRESSED and coding in can_read else ""


def _seconds(timeout: bytes) -> float | None:
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    return int(digits) * unit


def _value(key: str, value: bytes) -> str | bytes:
    if not key.endswith("-bin"):
        return value.decode("latin-1")
    _, _, value = value.rpartition(b",")  # several in one field, which is allowed for these
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return value
