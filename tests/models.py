"""Models that tests serve, by `OMI_MODEL=tests/models.py:Class`.

What a model should do when is told by its input, or by files in the directory that the environment
variable MARKS names, so that no test has to guess how long something takes.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from omi_runtime import Bytes, InvalidInput, Json, Model, Tensor, Text

REFUSE, FAIL, NAN, WRITE, SLEEP, SPIN, QUIT, HOLD = -1, -2, -3, -4, -5, -6, -7, -8
"""First numbers of a pair that ask `Totals` for something else than the sum."""

Pair = Annotated[np.ndarray, Tensor("FP32", [2])]
Totals_ = Annotated[np.ndarray, Tensor("FP32", name="total")]


def mark(name: str) -> Path:
    """A file by which a model and its test tell one another something."""
    return Path(os.environ["MARKS"], name)


class Totals(Model):
    """Add two numbers; batched. Some first numbers ask for trouble."""

    version = "1.2.0"
    max_batch_size = 8

    def predict(self, pair: Pair) -> Totals_:
        for first, second in pair:
            self._obey(first, second, pair)
        return np.where(pair[:, 0] == NAN, np.float32("nan"), pair.sum(axis=1, dtype="f4"))

    def explain(self, pair: Pair) -> list[Any]:
        return [{"first": float(first), "second": float(second)} for first, second in pair]

    def close(self) -> None:
        if "MARKS" in os.environ:
            mark("closed").touch()

    def _obey(self, first: float, second: float, pair: np.ndarray) -> None:
        match first:
            case -1:  # REFUSE
                raise InvalidInput(f"pair: {second:g} is refused")
            case -2:  # FAIL
                raise RuntimeError(f"the model broke on {second:g}")
            case -4:  # WRITE
                pair[:] = 0
            case -5:  # SLEEP
                mark("sleeping").touch()
                time.sleep(float(second))
            case -6:  # SPIN: pure Python, which gives up the interpreter only when asked
                mark("spinning").touch()
                end = time.monotonic() + second
                while time.monotonic() < end:
                    pass
            case -7:  # QUIT
                raise SystemExit(int(second))
            case -8:  # HOLD until the test lets go
                mark("holding").touch()
                _wait_for(mark("release"))


class Words(TypedDict):
    text: Annotated[str, Text()]
    facts: Annotated[dict[str, Any], Json()]
    seal: Annotated[bytes, Bytes()]


class Greeting(Model):
    """Optional inputs, several outputs of all kinds; one item at a time; no explanation."""

    version = "0.1.0"

    def predict(self, name: str, times: int = 1, seal: bytes = b"-") -> Words:
        facts = {"length": len(name), "times": times}
        return {"text": " ".join([name] * times), "facts": facts, "seal": seal * 2}


class Gated(Totals):
    """Loads for as long as the file `open` is missing."""

    def load(self) -> None:
        mark("loading").touch()
        _wait_for(mark("open"))


class Failing(Totals):
    """Fails to load for as long as the file `mended` is missing."""

    def load(self) -> None:
        with mark("attempts").open("a") as attempts:
            attempts.write("!")
        if not mark("mended").exists():
            raise RuntimeError("the weights are missing")


class Diary(Totals):
    """Writes the second number of every pair that it sees into the file `seen`."""

    def predict(self, pair: Pair) -> Totals_:
        with mark("seen").open("a") as seen:
            seen.writelines(f"{second:g}\n" for _, second in pair)
        return super().predict(pair)


class Ledger(Model):
    """Add two numbers, one pair at a time; writes the second of each that it sees into `calls`."""

    def predict(self, pair: Pair) -> Totals_:
        with mark("calls").open("a") as calls:
            calls.write(f"{pair[1]:g}\n")
        if pair[0] == HOLD:
            mark("holding").touch()
            _wait_for(mark("release"))
        return pair.sum(dtype="f4")


class Patient(Model):
    """Takes as many seconds as the second number says; several at once."""

    thread_safe = True

    def predict(self, pair: Pair) -> Totals_:
        mark(f"begun-{pair[0]:g}").touch()
        time.sleep(float(pair[1]))
        return pair.sum(dtype="f4")


class Sums(Model):
    """Add two inputs; takes no time, so that reading and writing are all there is."""

    max_batch_size = 4096

    def predict(
        self,
        first: Annotated[np.ndarray, Tensor("FP32")],
        second: Annotated[np.ndarray, Tensor("FP32")],
    ) -> Totals_:
        return first + second


class Echo(Model):
    """Gives back the bytes that it gets."""

    def predict(self, data: bytes) -> Annotated[bytes, Bytes(name="echo")]:
        return data


class Stubborn(Totals):
    """Keeps the interpreter's lock for ever when it is told to HOLD: nobody else runs then."""

    def predict(self, pair: Pair) -> Totals_:
        if pair[0][0] == HOLD:
            mark("holding").touch()
            _keep_the_lock()
        return super().predict(pair)


class StubbornClose(Totals):
    """Keeps the interpreter's lock for ever when it is to close."""

    def close(self) -> None:
        mark("closing").touch()
        _keep_the_lock()


class SlowToExit(Totals):
    """Has the interpreter's exit wait for an hour; fails to load if `broken` is there."""

    def load(self) -> None:
        atexit.register(time.sleep, 3600)
        if mark("broken").exists():
            raise RuntimeError("the weights are missing")


class SignalledAtTheEnd(Totals):
    """A signal comes when all is over, and the handlers are gone with the event loop."""

    def load(self) -> None:
        atexit.register(os.kill, os.getpid(), signal.SIGTERM)


class HangingClose(Totals):
    """Never gives back what it took."""

    def close(self) -> None:
        mark("closing").touch()
        time.sleep(3600)


def _keep_the_lock() -> None:
    re.match("(a+)+$", "a" * 99 + "b")


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
