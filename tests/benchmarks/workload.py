"""What servers are asked in turns: one file of `workloads/` each, with its prepared bodies.

A workload's module has a constant WORKLOADS, a list; its bodies are made when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import Concurrency, Request

FOLDER = Path(__file__).parent / "workloads"
OURS = "ours"


@dataclass(frozen=True)
class Side:
    """One server in a workload.

    Attributes:
        request: makes what it is asked; may write files.
        answer: the numbers in its answer, which have to be those of all other sides; None for a
            server that answers with a constant.
        variables: of its environment.
    """

    request: Callable[[], Request]
    answer: Callable[[bytes], Any] | None
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What BENCHMARKS.md of the design asks of one comparison.

    Attributes:
        figure: `rate` or `median`, ours divided by the peer's.
        least: of a rate's ratio; `most` of a time's.
    """

    least: float | None = None
    most: float | None = None
    figure: str = "rate"

    def is_met(self, ratio: float) -> bool:
        return ratio >= self.least if self.least is not None else ratio <= (self.most or 0.0)

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True)
class Workload:
    """One row of work.

    Attributes:
        key: in file names and results.
        title: for a reader.
        model: a function of `functions.py`.
        sides: by peer; one of them is ours.
        concurrency: how much is under way at once.
        targets: by peer.
        group: whose plot it is on.
    """

    key: str
    title: str
    model: str
    sides: dict[str, Side]
    concurrency: Concurrency
    targets: dict[str, Target]
    group: str


def all_workloads() -> list[Workload]:
    """Of every file, in the order of their names."""
    modules = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem[0] != "_")
    found: list[Workload] = []
    for name in modules:
        workloads: Sequence[Workload] = importlib.import_module(f"workloads.{name}").WORKLOADS
        found += workloads
    return found
