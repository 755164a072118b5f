"""Infer messages with their raw contents beside them, which are large, and so are not copied.

protobuf copies a field of bytes when a message is parsed, again when it is looked at, when it is
set, and when the message is serialized: of an image of 600 kB that is more work than all else. On
the wire such a field is its number, its length and its bytes, so here they are cut out of a request
where they lie, and put beside the rest of an answer. (protobuf.dev, "Encoding")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from omi_kserve._pb import open_inference_pb2 as pb

Contents: TypeAlias = Sequence[bytes | memoryview]
"""The bytes of every tensor, in the order of the tensors."""

WORTH_BYTES: Final = 16_384
"""Smaller messages are parsed, and put together, as fast in one piece."""

_RAW_INPUT: Final = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
_RAW_OUTPUT: Final = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number
_VARINT: Final = 0
_SIZED: Final = 2
"""How a field is written: as a number, or as its size and so many bytes."""
_MOST_BITS: Final = 70
"""Of a number on the wire, seven to a byte."""


@dataclass(slots=True)
class RawRequest:
    """A request; `contents` are its `raw_input_contents`, which the message may lack."""

    message: pb.ModelInferRequest
    contents: Contents


@dataclass(slots=True)
class RawResponse:
    """An answer; `contents` are its `raw_output_contents`, which the message lacks."""

    message: pb.ModelInferResponse
    contents: Contents

    def whole(self) -> pb.ModelInferResponse:
        """The message with its contents."""
        self.message.raw_output_contents.extend(map(bytes, self.contents))
        return self.message


def read(data: bytes) -> RawRequest:
    """Parse a request.

    Raises:
        DecodeError: it is none.
    """
    if len(data) >= WORTH_BYTES:
        try:
            rest, contents = _split(data, _RAW_INPUT)
        except _UnlikeOurs:  # protobuf says what it is
            pass
        else:
            return RawRequest(pb.ModelInferRequest.FromString(rest), contents)
    message = pb.ModelInferRequest.FromString(data)
    return RawRequest(message, message.raw_input_contents)


def write(response: RawResponse) -> Contents:
    """The parts of an answer as it is sent."""
    parts: list[bytes | memoryview] = [response.message.SerializeToString()]
    size = 0
    for content in response.contents:
        size += len(content)
        parts += (_number(_RAW_OUTPUT << 3 | _SIZED) + _number(len(content)), content)
    return parts if size >= WORTH_BYTES else (b"".join(parts),)


class _UnlikeOurs(Exception):
    """Bytes that are cut off, or have what these messages do not."""


def _split(data: bytes, field: int) -> tuple[bytes, list[memoryview]]:
    """A message without one of its fields, and what that field holds each time it is there.

    Raises:
        _UnlikeOurs: it is no message, or an odd one.
    """
    view, at, end = memoryview(data), 0, len(data)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    while at < end:
        begin = at
        tag, at = _read_number(data, at)
        if tag & 7 == _VARINT:
            _, at = _read_number(data, at)
        elif tag & 7 == _SIZED:
            size, at = _read_number(data, at)
            at += size
        else:
            raise _UnlikeOurs
        if at > end:
            raise _UnlikeOurs
        if tag == field << 3 | _SIZED:
            found.append(view[at - size : at])
        else:
            rest.append(view[begin:at])
    return b"".join(rest), found


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < _MOST_BITS:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise _UnlikeOurs


def _number(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
