"""What is counted and timed, and where each number stands. `exposition.py` has them as text.

Nothing here looks anything up by name while a request is under way: a number's place on the page is
known beforehand, and to count is one addition to a shared float. All methods are called on the
event loop, so that no number has two writers.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from omi_runtime.board import Board, Kind, Merge, Page, Series
from omi_runtime.errors import OMIError
from omi_runtime.timings import Timings

SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
ITEMS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


@dataclass(frozen=True)
class Metric:
    """One metric; beside its own labels each has `model` and `version`, KServe's `model_name`.

    Attributes:
        name: as Prometheus has it.
        kind: counter, gauge or histogram.
        text: what it measures.
        labels: the names of its own labels.
        bounds: of a histogram.
        merge: how a gauge's values of several processes become one.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"

    def series(self, *values: str) -> Series:
        """The series of some values of the labels."""
        labels = dict(zip(self.labels, values, strict=True))
        return Series(self.name, self.kind, self.text, labels, self.merge, self.bounds)


REQUESTS: Final = Metric(
    "omi_requests_total",
    "counter",
    "Requests answered, by the core's error code, or OK; CANCELLED is a caller who left.",
    ("interface", "method", "code"),
)
REQUEST_SECONDS: Final = Metric(
    "omi_request_seconds",
    "histogram",
    "From a request's headers to its answer.",
    ("interface", "method"),
    SECONDS,
)
IN_FLIGHT: Final = Metric(
    "omi_requests_in_flight", "gauge", "Requests being answered.", ("interface", "method")
)
RECEIVED: Final = Metric(
    "omi_request_bytes_total", "counter", "Bytes of requests' bodies.", ("interface", "method")
)
SENT: Final = Metric(
    "omi_response_bytes_total", "counter", "Bytes of answers' bodies.", ("interface", "method")
)
QUEUE_ITEMS: Final = Metric(
    "omi_queue_items",
    "gauge",
    "Items admitted and not yet answered, which OMI_QUEUE_SIZE bounds; "
    "a single request may have more.",
)
QUEUE_SECONDS: Final = Metric(
    "omi_queue_seconds",
    "histogram",
    "How long what a request asks for waited until the model took the first of it.",
    bounds=SECONDS,
)
BATCH_ITEMS: Final = Metric(
    "omi_batch_items",
    "histogram",
    "Items in one batch, as it goes to the model; those that run again alone are batches of one.",
    bounds=ITEMS,
)
STAGE_SECONDS: Final = Metric(
    "omi_stage_seconds",
    "histogram",
    "Time on the model's thread, once for each batch: preprocess, predict, postprocess, explain, "
    "formatting. A stage that took none is not counted.",
    ("stage",),
    SECONDS,
)
ITEM_FAILURES: Final = Metric(
    "omi_item_failures_total",
    "counter",
    "Items answered with an error of their own, by the core's error code.",
    ("code",),
)
LOAD_SECONDS: Final = Metric(
    "omi_load_seconds", "gauge", "How long the last load of the model took.", merge="max"
)
KSERVE: Final = {
    stage: Metric(
        f"request_{stage}_seconds",
        "histogram",
        f"KServe's name: {what}, once for each request, which has the time of its batch.",
        bounds=SECONDS,
    )
    for stage, what in {
        "preprocess": "checking JSON, and the model's preprocess",
        "predict": "the model's predict",
        "postprocess": "the model's postprocess",
        "explain": "the model's explain and drift, where asked for",
    }.items()
}
METRICS: Final = (
    *(REQUESTS, REQUEST_SECONDS, IN_FLIGHT, RECEIVED, SENT),
    *(QUEUE_ITEMS, QUEUE_SECONDS, BATCH_ITEMS, STAGE_SECONDS, ITEM_FAILURES, LOAD_SECONDS),
    *KSERVE.values(),
)
"""All of the runtime's own."""

_ALWAYS: Final = ("preprocess", "predict", "postprocess")
"""KServe's stages that every request has been through, in no time if the model has none."""

_all_stages: Final = attrgetter(*Timings.STAGES)
_kserve_stages: Final = attrgetter(*_ALWAYS)

_SUM_OF_SECONDS: Final = len(SECONDS) + 1
_SUM_OF_ITEMS: Final = len(ITEMS) + 1
"""Where a histogram's sum stands, from its first bucket on."""


class Traffic:
    """The numbers of one method of one interface.

    Args:
        page: where they stand.
        interface: as `INTERFACE` names it.
        method: in the interface's own words.
    """

    __slots__ = ("_codes", "_in_flight", "_page", "_received", "_seconds", "_sent", "_where")

    def __init__(self, page: Page, interface: str, method: str) -> None:
        self._page = page
        self._where = (interface, method)
        self._in_flight = page.slot(IN_FLIGHT.series(interface, method))
        self._received = page.slot(RECEIVED.series(interface, method))
        self._sent = page.slot(SENT.series(interface, method))
        self._seconds = page.slot(REQUEST_SECONDS.series(interface, method))
        self._codes: dict[str, int] = {}

    def came(self) -> None:
        """A request begins."""
        self._page.values[self._in_flight] += 1

    def received(self, size: int) -> None:
        """Bytes of a request's body, or of one of its messages."""
        self._page.values[self._received] += size

    def sent(self, size: int) -> None:
        """Bytes of an answer's body, or of one of its messages."""
        self._page.values[self._sent] += size

    def went(self, code: str, seconds: float) -> None:
        """A request has been answered, or its caller has gone."""
        slot = self._codes.get(code)
        if slot is None:
            slot = self._codes[code] = self._page.slot(REQUESTS.series(*self._where, code))
        values = self._page.values
        values[self._in_flight] -= 1
        values[slot] += 1
        values[self._seconds + bisect_left(SECONDS, seconds)] += 1
        values[self._seconds + _SUM_OF_SECONDS] += seconds


class Metrics:
    """The numbers of one process.

    Args:
        page: where they stand; by default on a board of this process alone.
    """

    def __init__(self, page: Page | None = None) -> None:
        self.page = page or Board().pages[0]
        self._queue_items = self.page.slot(QUEUE_ITEMS.series())
        self._queue_seconds = self.page.slot(QUEUE_SECONDS.series())
        self._batch_items = self.page.slot(BATCH_ITEMS.series())
        self._stages = [self.page.slot(STAGE_SECONDS.series(stage)) for stage in Timings.STAGES]
        self._kserve = [self.page.slot(KSERVE[stage].series()) for stage in _ALWAYS]
        self._explain = self.page.slot(KSERVE["explain"].series())
        self._traffic: dict[tuple[str, str], Traffic] = {}

    def traffic(self, interface: str, method: str) -> Traffic:
        """The numbers of one method of one interface."""
        key = (interface, method)
        if key not in self._traffic:
            self._traffic[key] = Traffic(self.page, interface, method)
        return self._traffic[key]

    def queue(self, items: int) -> None:
        """So many items are admitted and not yet answered."""
        self.page.values[self._queue_items] = items

    def batch(self, items: int, timings: Timings, waits: Sequence[float]) -> None:
        """A batch has been through the model.

        Args:
            items: how many were in it.
            timings: its own.
            waits: how long each request waited, in seconds, whose first item was in it.
        """
        values = self.page.values
        values[self._batch_items + bisect_left(ITEMS, items)] += 1
        values[self._batch_items + _SUM_OF_ITEMS] += items
        for seconds, slot in zip(_all_stages(timings), self._stages, strict=True):
            if seconds:
                values[slot + bisect_left(SECONDS, seconds)] += 1
                values[slot + _SUM_OF_SECONDS] += seconds
        slot = self._queue_seconds
        for seconds in waits:
            values[slot + bisect_left(SECONDS, seconds)] += 1
            values[slot + _SUM_OF_SECONDS] += seconds

    def answered(self, timings: Timings, requests: int = 1) -> None:
        """Requests have got all that they asked the model for, in these times."""
        values = self.page.values
        for seconds, slot in zip(_kserve_stages(timings), self._kserve, strict=True):
            if not seconds:  # a stage that the model does not have; all bounds are above
                values[slot] += requests
                continue
            values[slot + bisect_left(SECONDS, seconds)] += requests
            values[slot + _SUM_OF_SECONDS] += seconds * requests
        if timings.explain:
            values[self._explain + bisect_left(SECONDS, timings.explain)] += requests
            values[self._explain + _SUM_OF_SECONDS] += timings.explain * requests

    def failed(self, errors: Iterable[OMIError]) -> None:
        """Items are answered with errors of their own."""
        for error in errors:
            self.page.values[self.page.slot(ITEM_FAILURES.series(error.code))] += 1

    def loaded(self, begin: float) -> None:
        """The model has loaded; it began at this time of `time.monotonic`."""
        self.page.values[self.page.slot(LOAD_SECONDS.series())] = time.monotonic() - begin
