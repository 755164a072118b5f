"""Models that tell which process answers, for the tests of workers.

Like those of models.py they are told what to do by their input and by files in MARKS.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omi_runtime import Model, Tensor

WHO, HOLD, CRASH, ORPHAN = 0.0, 1.0, 2.0, 3.0
"""What the input asks for."""

Order = Annotated[float, Tensor("FP64")]
Process = Annotated[int, Tensor("INT64", name="process")]


def mark(name: str) -> Path:
    """A file by which a model and its test tell one another something."""
    return Path(os.environ["MARKS"], name)


class Who(Model):
    """Answers with the number of its process; loads for as long as the file `shut` is there."""

    version = "1.0.0"

    def load(self) -> None:
        with mark("loads").open("a") as loads:
            loads.write(f"{os.getpid()}\n")
        while mark("shut").exists():
            time.sleep(0.01)
        if mark("cursed").exists():
            sys.stderr.write("out of luck\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def predict(self, order: Order) -> Process:
        if order == HOLD:
            mark(f"holding-{os.getpid()}").touch()
            while not mark("release").exists():
                time.sleep(0.01)
        elif order == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif order == ORPHAN:
            # A grandchild whose parent is gone; whoever inherits it has to see that it has ended.
            subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)
        return os.getpid()

    def close(self) -> None:
        mark(f"closed-{os.getpid()}").touch()


class Unlucky(Who):
    """Fails to load for as long as the file `mended` is missing."""

    def load(self) -> None:
        super().load()
        if not mark("mended").exists():
            raise RuntimeError("the weights are missing")


class Large(Who):
    """Holds 64 MiB that are never written to."""

    def load(self) -> None:
        super().load()
        self.weights = np.ones(1 << 23)

    def predict(self, order: Order) -> Process:
        assert self.weights.sum() == 1 << 23
        return super().predict(order)


class Parallel(Who):
    """Gradient boosting of scikit-learn, which runs OpenMP when it learns and when it predicts."""

    def load(self) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

        super().load()
        samples = np.random.default_rng(0).normal(size=(2000, 4))
        labels = samples[:, 0] > 0
        self.classifier = HistGradientBoostingClassifier(max_iter=3).fit(samples, labels)

    def predict(self, order: Order) -> Process:
        assert self.classifier.predict(np.full((1000, 4), 2.0)).all()
        return super().predict(order)


class ParallelAsync(Parallel):
    """The same on the event loop's thread, which is the one that loaded the model and forked."""

    async def predict(self, order: Order) -> Process:
        return super().predict(order)


class Threaded(Who):
    """Asks a thread that was started in load(), as some libraries do."""

    def load(self) -> None:
        super().load()
        self.asked, self.answered = threading.Event(), threading.Event()
        threading.Thread(target=self._work, daemon=True).start()

    def predict(self, order: Order) -> Process:
        self.asked.set()
        self.answered.wait()
        return super().predict(order)

    def _work(self) -> Any:
        self.asked.wait()
        self.answered.set()
