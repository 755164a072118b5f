"""Header fields as HTTP/2 compresses them (HPACK, RFC 7541).

The static table and Huffman's code are the `hpack` package's; what is around them is our own, for
where every call brings an id or a trace context of its own, the package took 110 µs of CPU a block,
as much as all else that a small call costs, and this takes 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from omi_runtime.transport.http2.wire import Code, ConnectionFault

H = TypeVar("H")

Field: TypeAlias = tuple[bytes, bytes]
"""Name and value."""

LARGEST_LIST: Final = 65_536
"""Bytes of a request's fields, unpacked, each counted with 32 more as HTTP/2 has it."""

EMPTY_TABLE: Final = b"\x20"
"""At the start of a block of ours: that it refers to no earlier one."""

_STATIC: Final = (*HeaderTable.STATIC_TABLE,)
_OVERHEAD: Final = 32
"""Bytes that a field counts beside its own (section 4.1)."""
_TABLE_SIZE: Final = 4_096
"""Of the table that a client's blocks refer to: the default, which we do not change."""
_MOST_KEPT: Final = 64
_LARGEST_KEPT: Final = 1_024
"""Blocks of one connection that are remembered, and their size."""
_LARGEST_NUMBER: Final = 2**28
_MOST_SIZES: Final = 16
"""New sizes of the table at the start of a block. Two are enough (section 4.2), but encoders tell
of every size that they were ever told of."""


class FieldDecoder(Generic[H]):
    """Unpacks the blocks of one connection, and remembers what they meant.

    A client that calls again and again often sends the same few bytes, which mean the same for as
    long as the table that they refer to does not change. So each is unpacked once.

    Args:
        interpret: makes what is wanted of a block's fields; whatever it gives may be used again.
    """

    def __init__(self, interpret: Callable[[Sequence[Field]], H]) -> None:
        self._interpret = interpret
        self._known: dict[bytes, H] = {}
        self._table: list[Field] = []  # the newest last
        self._table_bytes = 0
        self._table_limit = _TABLE_SIZE

    def decode(self, block: bytes) -> H:
        """What a block means. Each has to be given, in order, also if nobody needs it.

        Raises:
            ConnectionFault: it cannot be unpacked, or is too large; neither can what follows it.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            fields, same_table = self._unpack(block)
        except (IndexError, HPACKError):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "headers that make no sense") from None
        meaning = self._interpret(fields)
        if not same_table or len(self._known) >= _MOST_KEPT:
            self._known.clear()
        if same_table and len(block) <= _LARGEST_KEPT:
            self._known[block] = meaning
        return meaning

    def _unpack(self, block: bytes) -> tuple[list[Field], bool]:
        """The fields (section 6), and whether the table is what it was before.

        Raises:
            IndexError: the block is cut off, or refers to what is not there.
            ConnectionFault: it is too large.
        """
        fields: list[Field] = []
        at, end, room, same_table, sizes = 0, len(block), LARGEST_LIST, True, 0
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _number(block, at, 0x7F)
                field = self._look_up(index)
            elif first & 0x60 == 0x20:
                sizes += 1
                if fields or sizes > _MOST_SIZES:
                    raise IndexError("new sizes come first, and are few")
                size, at = _number(block, at, 0x1F)
                self._resize(size)
                same_table = False
                continue
            else:
                index, at = _number(block, at, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = self._look_up(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                field = (name, value)
                if first & 0x40:
                    self._keep(field)
                    same_table = False
            fields.append(field)
            room -= len(field[0]) + len(field[1]) + _OVERHEAD
            if room < 0:
                raise ConnectionFault(
                    Code.ENHANCE_YOUR_CALM,
                    f"a request has more than {LARGEST_LIST} bytes of headers",
                )
        return fields, same_table

    def _look_up(self, index: int) -> Field:
        if index <= len(_STATIC):
            if not index:
                raise IndexError("there is no field 0")
            return _STATIC[index - 1]
        index -= len(_STATIC)
        if index > len(self._table):
            raise IndexError("there is no such field")
        return self._table[-index]

    def _keep(self, field: Field) -> None:
        self._table.append(field)
        self._table_bytes += len(field[0]) + len(field[1]) + _OVERHEAD
        self._shrink()

    def _resize(self, size: int) -> None:
        if size > _TABLE_SIZE:
            raise IndexError("a table larger than the settings allow")
        self._table_limit = size
        self._shrink()

    def _shrink(self) -> None:
        while self._table_bytes > self._table_limit:
            name, value = self._table.pop(0)
            self._table_bytes -= len(name) + len(value) + _OVERHEAD


def literal(name: bytes, value: bytes) -> bytes:
    """One field in bytes that refer to no table (section 6.2.2), nor change one."""
    return b"\x00" + _sized(name) + _sized(value)


def _number(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """A number whose first bits are those of `prefix` (section 5.1), and where it ends."""
    number = block[at] & prefix
    at += 1
    if number < prefix:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, at
        shift += 7
        if number > _LARGEST_NUMBER or shift > 28:
            raise IndexError("a number that is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """A string (section 5.2), and where it ends."""
    is_huffman = block[at] & 0x80
    size, at = _number(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise IndexError("a string is cut off")
    text = block[at:end]
    return (bytes(decode_huffman(text)) if is_huffman else text), end


def _sized(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    rest, sized = size - 0x7F, bytearray((0x7F,))
    while rest >= 0x80:
        sized.append(rest & 0x7F | 0x80)
        rest >>= 7
    sized.append(rest)
    return bytes(sized) + text
