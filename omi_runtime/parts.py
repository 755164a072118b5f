"""Numbers of large texts, JSON and CSV, read part by part.

As Python's own objects, the numbers of a text take many times its size. Here there are only those
of one part at a time, beside the array that they end in.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import orjson

from omi_runtime import casting
from omi_runtime.datatypes import DTYPES, Array
from omi_runtime.errors import InvalidInput

PART_BYTES: Final = 1024 * 1024
"""Of JSON, that are read at once; a text of less is read as a whole."""

_PART_ROWS: Final = 1024

_Buffer = bytes | memoryview


def from_json(text: _Buffer, datatype: str) -> Array | None:
    """The array that a large JSON text holds, or None if it has to be read as a whole.

    That is where it is not long, or nothing but one list at its outermost, or not what it should
    be: reading the whole finds the words for that.
    """
    outline = _OUTLINE.match(text) if len(text) >= PART_BYTES and datatype != "BYTES" else None
    end = _END.search(text, len(text) - _TAIL_BYTES) if outline is not None else None
    if outline is None or end is None:
        return None
    # Between two members of the outermost list, and nowhere else, stand the ends of all the others.
    inner = outline[0].count(b"[") - 1
    between = re.compile(rb"\][ \t\n\r]*" * inner + b",")
    pieces = _pieces(text, outline[0].index(b"[") + 1, end.start(), between)
    arrays = (casting.from_json(orjson.loads(piece), datatype) for piece in pieces)
    try:
        return join(arrays, datatype)
    except (orjson.JSONDecodeError, InvalidInput):
        return None


_OUTLINE: Final = re.compile(rb"[ \t\n\r]*(?:\[[ \t\n\r]*){1,32}")
_END: Final = re.compile(rb"\][ \t\n\r]*\Z")
_TAIL_BYTES: Final = 64
"""In which a text's last bracket is looked for."""


def _pieces(text: _Buffer, begin: int, end: int, between: re.Pattern[bytes]) -> Iterator[bytes]:
    """The members of the outermost list, as lists of their own: if each is valid, so is it all."""
    while True:
        comma = between.search(text, begin + PART_BYTES, end)
        stop = end if comma is None else comma.end() - 1
        yield b"".join((b"[", text[begin:stop], b"]"))
        if comma is None:
            return
        begin = stop + 1


def join(parts: Iterable[Array], datatype: str) -> Array:
    """Put arrays of one shape, but for how many they are, behind one another.

    Raises:
        InvalidInput: they are not, or one is empty.
    """
    whole, shape = np.empty(0, DTYPES[datatype]), None
    for part in parts:
        if part.size == 0 or part.shape[1:] != (shape or part.shape)[1:]:
            raise InvalidInput(casting.RAGGED)
        begin, shape = whole.size, part.shape
        whole.resize(begin + part.size, refcheck=False)  # mostly in its place
        whole[begin:] = part.reshape(-1)
    return whole.reshape(-1, *(shape or (0,))[1:])


def from_csv(text: _Buffer, datatype: str) -> Array:
    """The numbers of CSV, a row of the array for each line that is not empty.

    Raises:
        InvalidInput: it is no CSV, its lines are of unequal lengths, or a cell is no such number.
        UnicodeDecodeError: it is not UTF-8.
    """
    stream = io.TextIOWrapper(io.BufferedReader(_View(text)), encoding="utf-8", newline="")
    rows = filter(None, csv.reader(stream))
    parts = iter(lambda: list(itertools.islice(rows, _PART_ROWS)), [])
    try:
        return join((_numbers(part, datatype) for part in parts), datatype)
    except csv.Error as error:
        raise InvalidInput(f"is not CSV: {error}") from None


class _View(io.RawIOBase):
    """Reads memory without a copy of it all."""

    def __init__(self, memory: _Buffer) -> None:
        self._rest = memoryview(memory)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _numbers(rows: list[list[str]], datatype: str) -> Array:
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise InvalidInput(casting.RAGGED)
    cells = list(itertools.chain.from_iterable(rows))
    try:  # mostly they are written as JSON has numbers, for which there is a fast way
        array = casting.from_json(orjson.loads(f"[{','.join(cells)}]"), datatype)
    except (orjson.JSONDecodeError, InvalidInput):
        array = None
    if array is None or array.shape != (len(cells),):
        array = casting.from_json([_number(cell, datatype) for cell in cells], datatype)
    return array.reshape(len(rows), width)


def _number(cell: str, datatype: str) -> bool | int | float:
    word = cell.strip()
    if datatype == "BOOL" and word.lower() in ("true", "false", "1", "0"):
        return word.lower() in ("true", "1")
    for kind in (int, float):
        try:
            number: int | float = kind(word.replace("_", "?"))  # to Python 1_000 is a number
        except ValueError:
            continue
        if kind is float and not math.isfinite(number):
            raise InvalidInput(f"has {cell!r}: NaN and infinity are refused")
        return number
    raise InvalidInput(f"has {cell!r} where {datatype} expects a number")
