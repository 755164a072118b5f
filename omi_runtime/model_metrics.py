"""Metrics that a model adds to the runtime's own: `Model.metrics`.

They stand on the same pages, so they are right with several workers. Any thread may use them: a
number is written under a lock, which one writer after the other takes for less than a microsecond.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, TypeVar

from omi_runtime.board import MAX_BOUNDS, Board, Merge, Page
from omi_runtime.metrics import METRICS, SECONDS, Metric

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED: Final = frozenset({"model", "version", "le"})
_OURS: Final = frozenset(metric.name for metric in METRICS)


class _OfModel:
    """One metric of a model: where the numbers of each set of labels stand."""

    def __init__(self, declared: Metric, page: Page, lock: threading.Lock) -> None:
        self.declared = declared
        self._page = page
        self._lock = lock
        self._slots: dict[tuple[str, ...], int] = {}

    def move(self, page: Page, *, counts: bool = True) -> None:
        """Go on on another page; with the counts so far, or without."""
        with self._lock:
            before, old = self._slots, self._page
            self._page, self._slots = page, {}
            for values, slot in before.items():
                series = self.declared.series(*values)
                new = self._slots[values] = page.slot(series)
                if not counts and series.kind != "gauge":
                    continue
                for i in range(series.size):
                    page.values[new + i] += old.values[slot + i]

    def _slot(self, labels: dict[str, str]) -> int:
        """Where they stand; called under the lock."""
        if labels.keys() != set(self.declared.labels):
            raise ValueError(
                f"metric {self.declared.name} has the labels {list(self.declared.labels)}, not "
                f"{list(labels)}"
            )
        values = tuple(str(labels[name]) for name in self.declared.labels)
        slot = self._slots.get(values)
        if slot is None:
            slot = self._slots[values] = self._page.slot(self.declared.series(*values))
        return slot


class Counter(_OfModel):
    """A number that only grows."""

    def inc(self, amount: float = 1.0, /, **labels: str) -> None:
        """Add to it.

        Raises:
            ValueError: the amount is below 0, or the labels are not the metric's.
        """
        if amount < 0:
            raise ValueError(f"counter {self.declared.name} only grows, so not by {amount}")
        with self._lock:
            slot = self._slot(labels)
            self._page.values[slot] += amount


class Gauge(_OfModel):
    """A number that is set."""

    def set(self, value: float, /, **labels: str) -> None:
        """Set it. Raises ValueError if the labels are not the metric's."""
        with self._lock:
            slot = self._slot(labels)
            self._page.values[slot] = value

    def inc(self, amount: float = 1.0, /, **labels: str) -> None:
        """Add to it; a number below 0 takes away."""
        with self._lock:
            slot = self._slot(labels)
            self._page.values[slot] += amount


class Histogram(_OfModel):
    """How often values of different sizes come."""

    def observe(self, value: float, /, **labels: str) -> None:
        """Count a value. Raises ValueError if the labels are not the metric's."""
        with self._lock:
            slot = self._slot(labels)
            bounds = self.declared.bounds
            self._page.values[slot + bisect_left(bounds, value)] += 1
            self._page.values[slot + len(bounds) + 1] += value


M = TypeVar("M", bound=_OfModel)


class ModelMetrics:
    """Makes a model's metrics. Asked again for a name, it gives the same metric.

    Raises:
        ValueError: of every method: a name or a label that Prometheus does not take, or that is
            the runtime's own; or the name stands for another metric already.
    """

    def __init__(self) -> None:
        # A page of its own, for a model that nobody serves; a server's handler gives it another.
        self._page = Board().pages[0]
        self._lock = threading.Lock()
        self._metrics: dict[str, _OfModel] = {}

    def counter(self, name: str, text: str, *, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows; its name gets `_total`."""
        full_name = name.removesuffix("_total") + "_total"
        return self._make(Counter, Metric(full_name, "counter", text, tuple(labels)))

    def gauge(
        self, name: str, text: str, *, labels: Sequence[str] = (), merge: Merge = "sum"
    ) -> Gauge:
        """A number that is set; `merge` says how the values of several workers become one."""
        return self._make(Gauge, Metric(name, "gauge", text, tuple(labels), merge=merge))

    def histogram(
        self,
        name: str,
        text: str,
        *,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = SECONDS,
    ) -> Histogram:
        """How often values of different sizes come; the buckets' upper bounds are ascending."""
        bounds = tuple(map(float, buckets))
        if list(bounds) != sorted(set(bounds)) or not 0 < len(bounds) <= MAX_BOUNDS:
            raise ValueError(f"buckets of {name}: 1 to {MAX_BOUNDS} ascending numbers are needed")
        return self._make(Histogram, Metric(name, "histogram", text, tuple(labels), bounds))

    def move(self, page: Page, *, counts: bool = True) -> None:
        """Go on on the page of the process that serves; with the counts so far, or without."""
        with self._lock:
            self._page = page
            metrics = list(self._metrics.values())
        for metric in metrics:
            metric.move(page, counts=counts)

    def _make(self, kind: type[M], declared: Metric) -> M:
        _check(declared)
        with self._lock:
            metric = self._metrics.get(declared.name)
            if metric is None:
                metric = self._metrics[declared.name] = kind(declared, self._page, threading.Lock())
        if metric.declared != declared or not isinstance(metric, kind):
            raise ValueError(f"metric {declared.name} is there already, and is another")
        return metric


def _check(declared: Metric) -> None:
    for name in (declared.name, *declared.labels):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for Prometheus: letters, digits and _ only")
    if declared.name.startswith("omi_") or declared.name in _OURS:
        raise ValueError(f"the name {declared.name} is the runtime's own")
    if taken := _RESERVED & set(declared.labels):
        raise ValueError(f"metric {declared.name}: the label {min(taken)} is the runtime's own")
