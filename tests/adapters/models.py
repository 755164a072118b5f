"""The models of the golden exchanges: each is the smallest that shows one shape of signature.

A server is started with `OMI_MODEL=models.py:<Class>`; the name served is the class's, in lower
case.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
from pydantic import BaseModel

from omi_runtime import Bytes, InvalidInput, Json, Model, Signature, Tensor, Text
from omi_runtime.datatypes import DTYPES
from omi_runtime.signature import Field

PATIENCE = 60.0


class Total(Model):
    """One tensor in, one tensor out, batched; with an explanation and drift."""

    version = "1.0.0"
    max_batch_size = 16

    def predict(
        self, values: Annotated[np.ndarray, Tensor("INT32", [2])]
    ) -> Annotated[np.ndarray, Tensor("INT64", name="total")]:
        if (values == 13).any():
            raise InvalidInput("thirteen is refused")
        if (values == 666).any():
            raise RuntimeError("the beast")
        return values.sum(axis=1, dtype=np.int64)

    def explain(self, values: Annotated[np.ndarray, Tensor("INT32", [2])]) -> list[Any]:
        if (values == 99).any():
            raise ArithmeticError("99 cannot be explained")
        return [{"largest": int(row.max())} for row in values]

    def drift(self, values: Annotated[np.ndarray, Tensor("INT32", [2])]) -> list[Any]:
        return [0.5] * len(values)


class Words(Model):
    """One text in, one text out, one item at a time."""

    version = "1.0.0"

    def predict(self, text: str) -> Annotated[str, Text(name="loud")]:
        if text == "refuse":
            raise InvalidInput("this word is refused")
        if text == "raise":
            raise RuntimeError("this word is too much")
        return text.upper()


class Tokens(Model):
    """Text in, its words out one by one; some words are told what to do.

    `wait=PATH` makes the file and waits for `PATH.open`; `closed=PATH` makes the file when nobody
    wants the rest; `refuse` and `raise` end it.
    """

    version = "1.0.0"

    def predict(
        self, prompt: str, times: int = 1, ending: str = " "
    ) -> Iterator[Annotated[str, Text(name="token")]]:
        closed = Path(os.devnull)
        try:
            for word in prompt.split() * times:
                verb, _, path = word.partition("=")
                if verb == "wait":
                    Path(path).touch()
                    _wait_for(Path(path + ".open"))
                elif verb == "closed":
                    closed = Path(path)
                elif verb == "refuse":
                    raise InvalidInput("this word is refused")
                elif verb == "raise":
                    raise RuntimeError("this word is too much")
                yield verb + ending
        except GeneratorExit:
            closed.touch()
            raise


class Document(Model):
    """One JSON value in and out; the input's own name may well be a key of the value."""

    version = "1.0.0"

    def predict(self, document: Annotated[dict, Json()]) -> Annotated[Any, Json()]:
        return {"keys": sorted(document), "document": document}


class Blob(Model):
    """Bytes in, the same bytes backwards out: not UTF-8 any more, if there was an accent."""

    version = "1.0.0"

    def predict(
        self, blob: Annotated[bytes, Bytes("image/png")]
    ) -> Annotated[bytes, Bytes("image/png", name="mirrored")]:
        return blob[::-1]


class Receipt(BaseModel):
    """What a pydantic model looks like on a wire."""

    lines: int
    note: str


class Bill(TypedDict):
    """Three outputs: a tensor, JSON and a file."""

    sum: Annotated[float, Tensor("FP64")]
    receipt: Receipt
    scan: Annotated[bytes, Bytes("image/png")]


class Shop(Model):
    """Several inputs, one of them optional, and several outputs."""

    version = "2.1.0"

    def predict(
        self,
        prices: Annotated[np.ndarray, Tensor("FP64", [-1])],
        customer: str,
        stamp: Annotated[bytes, Bytes()] = b"unstamped",
    ) -> Bill:
        return {
            "sum": float(prices.sum()),
            "receipt": Receipt(lines=prices.size, note=f"for {customer}"),
            "scan": stamp,
        }


class Datatypes(Model):
    """Every datatype, echoed. An input and the output of its name are called as the datatype is."""

    version = "1.0.0"
    max_batch_size = 16

    def load(self) -> None:
        marked = {name.lower(): Tensor(name) for name in DTYPES}
        self.signature = Signature(
            tuple(Field(name, marker, name, required=False) for name, marker in marked.items()),
            tuple(Field(name, marker, name) for name, marker in marked.items()),
        )

    def predict(self, **columns: np.ndarray) -> dict[str, Any]:
        n = len(next(iter(columns.values()), [None]))
        absent = {
            name.lower(): [b""] * n if name == "BYTES" else np.zeros(n, dtype)
            for name, dtype in DTYPES.items()
        }
        return absent | columns


class Everything(Model):
    """Every kind of input, all optional: whatever is valid is answered with its names."""

    version = "1.0.0"

    def predict(
        self,
        *,
        prices: Annotated[np.ndarray | None, Tensor("FP64", [-1])] = None,
        pair: Annotated[np.ndarray | None, Tensor("FP16", [2])] = None,
        count: Annotated[np.ndarray | None, Tensor("UINT64")] = None,
        flag: Annotated[np.ndarray | None, Tensor("BOOL")] = None,
        names: Annotated[np.ndarray | None, Tensor("BYTES", [-1])] = None,
        customer: str | None = None,
        document: Annotated[dict | None, Json()] = None,
        stamp: Annotated[bytes | None, Bytes()] = None,
    ) -> Annotated[list, Json(name="given")]:
        inputs = (prices, pair, count, flag, names, customer, document, stamp)
        return [type(value).__name__ for value in inputs if value is not None]


class Grid(Model):
    """Two variable dimensions, so that a shape has to be believed before anything is known."""

    version = "1.0.0"
    max_batch_size = 16

    def predict(
        self, grid: Annotated[np.ndarray, Tensor("FP32", [-1, -1])]
    ) -> Annotated[np.ndarray, Tensor("INT64", [2], name="size")]:
        return np.array([item.shape for item in grid], dtype=np.int64).reshape(-1, 2)


class Halves(TypedDict):
    """Two outputs as long as the input."""

    half: Annotated[np.ndarray, Tensor("FP32", [-1])]
    negative: Annotated[np.ndarray, Tensor("BOOL", [-1])]


class Signal(Model):
    """One tensor of any length in, two out: for what is large."""

    version = "1.0.0"

    def predict(self, signal: Annotated[np.ndarray, Tensor("FP32", [-1])]) -> Halves:
        return {"half": signal / 2, "negative": signal < 0}


class Names(Model):
    """Strings as a tensor, turned round: of "né" that is no UTF-8."""

    version = "1.0.0"

    def predict(
        self, names: Annotated[np.ndarray, Tensor("BYTES", [-1])]
    ) -> Annotated[list, Tensor("BYTES", [-1], name="reversed")]:
        return [name[::-1] for name in names]


class Ragged(Model):
    """As many elements as the number says: items of a batch may differ in shape."""

    version = "1.0.0"

    def predict(self, count: int) -> Annotated[np.ndarray, Tensor("INT64", [-1], name="range")]:
        return np.arange(count)


class Decimals(Model):
    """A float that may be none: NaN and infinity come out for the words."""

    version = "1.0.0"

    def predict(self, word: str) -> Annotated[float, Tensor("FP64", name="number")]:
        return float(word)


class Census(Model):
    """Looks at every byte of its input, and at the most memory that the process has had."""

    version = "1.0.0"

    def predict(
        self, values: Annotated[np.ndarray, Tensor("UINT8", [-1])]
    ) -> Annotated[dict, Json(name="seen")]:
        total = int(values.sum(dtype=np.int64))
        status = Path("/proc/self/status").read_text()
        return {"total": total, "peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024}


class Counting(Model):
    """Yields the numbers from 1, of 14 not the 13th; makes the file `mark` when it is closed."""

    version = "1.0.0"

    def predict(
        self, to: int, mark: str = ""
    ) -> Iterator[Annotated[int, Tensor("INT64", name="number")]]:
        try:
            for number in range(1, to + 1):
                if (number, to) == (13, 14):
                    raise RuntimeError("thirteen is too much")
                yield number
        finally:
            if mark:
                Path(mark).touch()


class Gate(Model):
    """Makes the file `path`, to say that it has begun, and waits for `path.open` beside it."""

    version = "1.0.0"

    def predict(self, path: str) -> Annotated[str, Text(name="state")]:
        Path(path).touch()
        _wait_for(Path(path + ".open"))
        return "open"


class Fragile(Model):
    """Loads only once the file that `FRAGILE_KEY` names is there."""

    version = "1.0.0"

    def load(self) -> None:
        if not Path(os.environ["FRAGILE_KEY"]).exists():
            raise LookupError("the key is missing")

    def predict(self, text: str) -> str:
        return text


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        threading.Event().wait(0.01)
