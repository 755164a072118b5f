"""How long each stage of a prediction took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class Timings:
    """Seconds that the model's thread spent, stage by stage.

    Requests that were merged share the times of their batch, and this object: read it, add to it
    with `+`, but do not change it. Waiting in the queue, and what an adapter does, are not in it.

    Attributes:
        preprocess: validation of Json inputs, and the author's `preprocess`, of all items.
        predict: the author's `predict`; of a batch that failed, also the calls item by item.
        postprocess: the author's `postprocess`, of all items.
        explain: the author's `explain` and `drift`.
        formatting: checking what the author answered with, and encoding its JSON.
    """

    STAGES: ClassVar = ("preprocess", "predict", "postprocess", "explain", "formatting")

    preprocess: float = 0.0
    predict: float = 0.0
    postprocess: float = 0.0
    explain: float = 0.0
    formatting: float = 0.0

    def __add__(self, other: Timings) -> Timings:
        """The times of two batches that one request was cut into."""
        return Timings(
            self.preprocess + other.preprocess,
            self.predict + other.predict,
            self.postprocess + other.postprocess,
            self.explain + other.explain,
            self.formatting + other.formatting,
        )

    def take(self) -> Timings:
        """What has been measured so far; this object begins again."""
        taken = self + Timings()
        self.preprocess = self.predict = self.postprocess = self.explain = self.formatting = 0.0
        return taken
