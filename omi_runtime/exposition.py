"""Metrics as Prometheus reads them: the pages of all processes added up.

The Prometheus library is imported by the first scrape, on the scraper's thread: it takes longer to
import than the rest of the core together, and nothing else needs it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from omi_runtime.board import Board, Merge, Series
from omi_runtime.metrics import KSERVE

if TYPE_CHECKING:
    from prometheus_client import Metric

    from omi_runtime.handler import ModelHandler

_MERGE: Final[dict[Merge, Callable[[float, float], float]]] = {
    "sum": operator.add,
    "max": max,
    "min": min,
}
_KSERVE_NAMES: Final = {metric.name for metric in KSERVE.values()}


def scrape(handler: ModelHandler, accept: str = "") -> tuple[str, bytes]:
    """The content type and body of the handler's metrics; see `render`."""
    version = handler.card.version if handler.card else ""
    return render(handler.metrics.page.board, handler.name, version, accept)


def render(board: Board, model: str, version: str, accept: str = "") -> tuple[str, bytes]:
    """A scrape's content type and body.

    Args:
        board: the numbers of all processes.
        model: the name served.
        version: the model's.
        accept: the header `Accept`, by which a scraper chooses between Prometheus's own text and
            OpenMetrics.
    """
    from prometheus_client import REGISTRY, CollectorRegistry  # noqa: PLC0415 - see above
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(board, model, version))
    if len(board.pages) == 1:
        # What the library itself tells of the process, and what the model's own libraries count
        # with it. Of several processes it would be that of whichever is asked.
        registry.register(REGISTRY)
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    """The board's metrics, in the library's words."""

    def __init__(self, board: Board, model: str, version: str) -> None:
        self._board = board
        self._model = {"model": model, "version": version}
        self._kserve = {"model_name": model}

    def collect(self) -> Iterator[Metric]:
        """All metrics, each with all its series."""
        from prometheus_client import Metric  # noqa: PLC0415

        families: dict[str, Metric] = {}
        for series, values in merged(self._board):
            # The library appends to a counter's name what the series themselves are called.
            name = series.name.removesuffix("_total") if series.kind == "counter" else series.name
            family = families.get(name)
            if family is None:
                family = families[name] = Metric(name, series.text, series.kind)
            common = self._kserve if series.name in _KSERVE_NAMES else self._model
            _add_samples(family, series, common | dict(series.labels), values)
        yield from families.values()


def merged(board: Board) -> list[tuple[Series, list[float]]]:
    """The series of all pages: counts are added up, gauges as each says."""
    found: dict[object, tuple[Series, list[float]]] = {}
    for page in board.pages:
        for series, values in page.read():
            if series.key not in found:
                found[series.key] = (series, values)
                continue
            pairs = zip(found[series.key][1], values, strict=True)
            found[series.key] = (series, [_MERGE[series.merge](*pair) for pair in pairs])
    return list(found.values())


def _add_samples(
    family: Metric, series: Series, labels: dict[str, str], values: list[float]
) -> None:
    if series.kind != "histogram":
        family.add_sample(series.name, labels, values[0])
        return
    *counts, total = values
    bounds = [*map(repr, series.bounds), "+Inf"]
    for bound, count in zip(bounds, accumulate(counts), strict=True):
        family.add_sample(f"{series.name}_bucket", labels | {"le": bound}, count)
    family.add_sample(f"{series.name}_count", labels, sum(counts))
    family.add_sample(f"{series.name}_sum", labels, total)
