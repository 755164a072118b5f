"""What an author subclasses."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omi_runtime.signature import Signature

if TYPE_CHECKING:
    from omi_runtime.model_metrics import ModelMetrics


class Model:
    """A trained model: one class with `load` and `predict`.

    The inputs and outputs are read from `predict`'s type hints; see `Tensor`, `Bytes`, `Text` and
    `Json`. With `max_batch_size` 1 `predict` is called once per item, without a batch dimension.
    Above 1 every argument is a column of n items (an array of shape `(n, *shape)`, or a list of
    n), and so is the answer. Arrays are read-only.

    Optional methods: `preprocess` and `postprocess`, per item; `explain` and `drift`, with
    `predict`'s inputs; `close`. `predict` may be `async def`, or yield its answers.

    Attributes:
        name: what is served; by default the class's name in kebab case.
        version: of the model, such as "1.0.0".
        max_batch_size: the most items that one call of `predict` takes.
        thread_safe: several threads may call `predict` at once.
        directory: where the model's files lie.
        metrics: makes metrics of the model's own.
        signature: set it in `load()` if inputs are known only then; `predict(self, **columns)`.
    """

    name: ClassVar[str]
    version: ClassVar[str] = ""
    max_batch_size: ClassVar[int] = 1
    thread_safe: ClassVar[bool] = False

    directory: Path = Path()
    signature: Signature

    if TYPE_CHECKING:
        # Every model's own parameters differ, which an abstract method could not allow.
        predict: Callable[..., Any]

    @functools.cached_property
    def metrics(self) -> ModelMetrics:
        """Makes metrics of the model's own, which are served beside the runtime's."""
        from omi_runtime.model_metrics import ModelMetrics  # noqa: PLC0415 - few models have any

        return ModelMetrics()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = kebab_case(cls.__name__)

    def load(self) -> None:
        """Read the model's files. Runs once, on the thread that later calls `predict`."""

    def close(self) -> None:
        """Give back what `load` took. Runs once, after the last answer."""


def kebab_case(name: str) -> str:
    """`IrisClassifier` → `iris-classifier`, `HTTPModel` → `http-model`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return words.replace("_", "-").lower()
