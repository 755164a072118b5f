"""A model that costs next to nothing, so that a figure is the server's own."""

from typing import Annotated

import numpy as np

from omi_runtime import Model, Tensor


class Linear(Model):
    """Multiply four numbers by a fixed matrix."""

    max_batch_size = 256

    def load(self) -> None:
        self.weights = np.arange(12, dtype=np.float32).reshape(4, 3)

    def predict(
        self, x: Annotated[np.ndarray, Tensor("FP32", [4])]
    ) -> Annotated[np.ndarray, Tensor("FP32", [3], name="y")]:
        return x @ self.weights
