"""What the models of the benchmarks compute; imported by every server, ours and the peers'.

Each takes a column of n items and returns a column of n, with numpy alone, so that what differs
between servers is the servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
IMAGE = (3, 224, 224)


def linear(rows: np.ndarray) -> np.ndarray:
    """Costs next to nothing."""
    return rows @ WEIGHTS


def identity(rows: np.ndarray) -> np.ndarray:
    """As much out as in."""
    return rows * np.float32(1)


def accelerator(rows: np.ndarray) -> np.ndarray:
    """A fixed cost of 2 ms a call, whatever the batch, as of a model on an accelerator."""
    time.sleep(0.002)
    return rows.sum(axis=1)


def busy(rows: np.ndarray) -> np.ndarray:
    """10 ms of one CPU's time for every item, in pure Python."""
    for _ in range(len(rows)):
        end = time.thread_time() + 0.010
        while time.thread_time() < end:
            pass
    return rows.sum(axis=1)


def forest() -> Callable[[np.ndarray], np.ndarray]:
    """A random forest of 100 trees, trained the same everywhere."""
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 4)).astype(np.float32)
    model = RandomForestClassifier(n_estimators=100, random_state=0, n_jobs=1)
    model.fit(rows, (rows.sum(axis=1) > 0).astype(np.int64))
    return lambda columns: model.predict(columns).astype(np.int64)


def weigh(data: bytes) -> int:
    """The size of a file, which the server has to move and the model does not."""
    return len(data)


def load(name: str) -> Callable[[Any], Any]:
    """The function of a model's name; of `forest`, after training it."""
    return forest() if name == "forest" else globals()[name]


def item_shape(name: str) -> tuple[int, ...]:
    """Of one item's input, FP32."""
    return IMAGE if name == "identity" else (4,)
