"""Models that notice how they are called, for the tests of concurrency through the front door."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Annotated

import numpy as np

from omi_runtime import Model, Tensor

Pair = Annotated[np.ndarray, Tensor("FP32", [2])]
Total = Annotated[float, Tensor("FP32", name="total")]
Totals = Annotated[np.ndarray, Tensor("FP32", name="total")]


class Counts(Model):
    """Not thread-safe: it loses counts if two threads are in it at once."""

    def load(self) -> None:
        self.count = 0

    def predict(self, pair: Pair) -> Total:
        count = self.count
        time.sleep(0.0005)  # lets any other thread in
        self.count = count + 1
        return self.count


class Together(Model):
    """Answers with the most calls that were in it at once; waits for company, if told so."""

    thread_safe = True

    def load(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> float:
        with self.lock:
            self.inside -= 1
            return self.most

    def predict(self, pair: Pair) -> Total:
        self.enter()
        end = time.monotonic() + 10
        while self.most < pair[0] and time.monotonic() < end:
            time.sleep(0.001)
        return self.leave()


class TogetherAsync(Together):
    """The same on the event loop."""

    async def predict(self, pair: Pair) -> Total:
        self.enter()
        end = time.monotonic() + 10
        while self.most < pair[0] and time.monotonic() < end:  # noqa: ASYNC110 - see Together
            await asyncio.sleep(0.001)
        return self.leave()


class SameThread(Model):
    """Answers 1 if it is called on the thread that loaded it, else 0."""

    def load(self) -> None:
        self.thread = threading.get_ident()

    def predict(self, pair: Pair) -> Total:
        return float(threading.get_ident() == self.thread)


class Slow(Model):
    """Adds pairs, a millisecond for each; batched."""

    max_batch_size = 8

    def predict(self, pair: Pair) -> Totals:
        time.sleep(0.001 * len(pair))
        return pair.sum(axis=1, dtype="f4")
