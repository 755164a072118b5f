"""The models of the benchmarks as this runtime's authors write them."""

from __future__ import annotations

from typing import Annotated

import functions
import numpy as np

from omi_runtime import Bytes, Model, Tensor

Row = Annotated[np.ndarray, Tensor("FP32", [4])]
Number = Annotated[np.ndarray, Tensor("FP32", name="y")]
Image = Annotated[np.ndarray, Tensor("FP32", functions.IMAGE)]


class Linear(Model):
    """Costs next to nothing."""

    name = "linear"
    max_batch_size = 256

    def predict(self, x: Row) -> Annotated[np.ndarray, Tensor("FP32", [3], name="y")]:
        return functions.linear(x)


class Identity(Model):
    """As much out as in."""

    name = "identity"
    max_batch_size = 8

    def predict(self, x: Image) -> Annotated[np.ndarray, Tensor("FP32", functions.IMAGE, name="y")]:
        return functions.identity(x)


class Accelerator(Model):
    """A fixed cost of 2 ms a call."""

    name = "accelerator"
    max_batch_size = 256

    def predict(self, x: Row) -> Number:
        return functions.accelerator(x)


class Busy(Model):
    """10 ms of a CPU for every item."""

    name = "busy"

    def predict(self, x: Row) -> Number:
        return functions.busy(x[None])[0]


class Forest(Model):
    """A random forest of 100 trees."""

    name = "forest"
    max_batch_size = 256

    def load(self) -> None:
        self.classify = functions.load("forest")

    def predict(self, x: Row) -> Annotated[np.ndarray, Tensor("INT64", name="y")]:
        return self.classify(x)


class Weigh(Model):
    """The size of a file."""

    name = "weigh"

    def predict(self, x: Annotated[bytes, Bytes()]) -> Annotated[int, Tensor("INT64", name="y")]:
        return functions.weigh(x)


class Large(Model):
    """Half a gigabyte that is read and never written, as a model's weights are."""

    name = "large"
    max_batch_size = 256

    def load(self) -> None:
        self.weights = np.ones(500 * 2**20 // 4, dtype=np.float32)

    def predict(self, x: Row) -> Number:
        return x.sum(axis=1) + self.weights[:: 2**20].sum() * 0
