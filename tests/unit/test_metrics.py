"""What is counted, how a model counts, and how Prometheus reads it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pytest
from handlers import loaded, tensor
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed
from test_documentation import rows

from omi_runtime import InvalidInput, Model, Tensor
from omi_runtime.board import Board
from omi_runtime.exposition import render, scrape
from omi_runtime.handler import ModelHandler
from omi_runtime.metrics import METRICS, Metric, Metrics
from omi_runtime.model_metrics import ModelMetrics
from omi_runtime.runner import Wanted

Number = Annotated[np.ndarray, Tensor("FP32")]


class Doubles(Model):
    """Doubles numbers in batches, and counts what it sees; refuses what is below zero."""

    version = "2.1"
    max_batch_size = 4

    def load(self) -> None:
        self.seen = self.metrics.counter("seen", "Numbers seen.", labels=["sign"])
        self.metrics.gauge("size", "Size.").set(7)

    def predict(self, x: Number) -> Number:
        for value in x:
            self.seen.inc(sign="-" if value < 0 else "+")
        if (x < 0).any():
            raise InvalidInput("below zero")
        return x * 2

    def explain(self, x) -> np.ndarray:
        return x


class Prepares(Doubles):
    def preprocess(self, x: Number) -> dict[str, np.ndarray]:
        return {"x": x}

    def postprocess(self, x: np.ndarray) -> Number:
        return x


def samples(handler: ModelHandler) -> dict[str, float]:
    """Every sample, by its name and those labels that are not the same in all."""
    found = {}
    for family in parsed(scrape(handler)[1].decode()):
        for sample in family.samples:
            labels = sample.labels
            if family.name.startswith(("python_", "process_")):
                continue
            if family.name.startswith("request_"):
                assert labels.pop("model_name") == handler.name
            else:
                assert labels.pop("model") == handler.name
                assert labels.pop("version") == "2.1"
            found[" ".join([sample.name, *(labels[key] for key in sorted(labels))])] = sample.value
    return found


# --- the runtime's own ---


async def test_a_batch_and_its_requests_are_counted_and_timed() -> None:
    async with loaded(Doubles) as handler:
        await handler.infer(tensor(*range(10)))
        await handler.infer_rows([{"x": np.array(1, "<f4")}, {"x": np.array(-1, "<f4")}, {}])
        found = samples(handler)
    assert found["omi_queue_items"] == 0
    assert found["omi_queue_seconds_count"] == 2
    # 4, 4, 2, and the pair, which fails and runs again as 1 and 1.
    assert found["omi_batch_items_count"] == 6
    assert found["omi_batch_items_sum"] == 14
    assert found["omi_batch_items_bucket 2.0"] == 4
    assert found["omi_stage_seconds_count predict"] == 6
    assert found["omi_stage_seconds_sum predict"] > 0
    assert found["omi_stage_seconds_count explain"] == 0
    assert found["omi_item_failures_total INVALID_INPUT"] == 2
    assert found["omi_load_seconds"] > 0
    assert found["request_predict_seconds_count"] == 2
    assert 0 < found["request_predict_seconds_sum"] == found["omi_stage_seconds_sum predict"]


async def test_all_stages_are_timed_under_kserves_names_too() -> None:
    async with loaded(Prepares) as handler:
        await handler.infer(tensor(1, 2), Wanted(explanation=True))
        await handler.infer(tensor(1))
        found = samples(handler)
    for stage in ("preprocess", "predict", "postprocess", "explain"):
        times = 1 if stage == "explain" else 2
        assert found[f"request_{stage}_seconds_count"] == times, stage
        assert found[f"omi_stage_seconds_count {stage}"] == times, stage
        assert found[f"request_{stage}_seconds_sum"] > 0, stage


async def test_merged_requests_each_have_the_time_of_their_batch() -> None:
    async with loaded(Doubles, batch_delay_ms=200) as handler:
        await asyncio.gather(*(handler.infer(tensor(i)) for i in range(4)))
        found = samples(handler)
    assert found["omi_batch_items_count"] == 1
    assert found["request_predict_seconds_count"] == 4
    one = found["omi_stage_seconds_sum predict"]
    assert found["request_predict_seconds_sum"] == pytest.approx(4 * one)


class Yields(Model):
    version = "2.1"

    def predict(self, n: int) -> Iterator[int]:
        for value in range(n):
            time.sleep(0.01)
            yield value


async def test_a_stream_is_one_request_that_takes_as_long_as_its_values() -> None:
    async with loaded(Yields) as handler:
        batch = tensor(3, dtype="<i8", name="n")
        assert [result.n async for result in handler.infer_stream(batch)] == [1, 1, 1]
        found = samples(handler)
    assert found["omi_queue_items"] == 0
    assert found["request_predict_seconds_count"] == 1
    assert found["request_predict_seconds_sum"] >= 0.03


async def test_the_items_that_wait_are_shown_while_they_do() -> None:
    async with loaded(Held) as handler:
        asking = asyncio.create_task(handler.infer(tensor(1, 2, 3)))
        while not Held.entered.is_set():  # noqa: ASYNC110 - it is on another thread
            await asyncio.sleep(0.001)
        assert samples(handler)["omi_queue_items"] == 3
        Held.gate.set()
        await asking
        assert samples(handler)["omi_queue_items"] == 0


class Held(Doubles):
    entered, gate = threading.Event(), threading.Event()

    def predict(self, x: Number) -> Number:
        self.entered.set()
        assert self.gate.wait(30)
        return x


# --- as text ---


async def test_a_scraper_may_ask_for_openmetrics() -> None:
    async with loaded(Doubles) as handler:
        await handler.infer(tensor(1))
        content_type, body = scrape(handler, "application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        families = {family.name: family for family in openmetrics(body.decode())}
        assert families["seen"].type == "counter"
        assert scrape(handler, "text/plain")[0].startswith("text/plain")
        # The process's own, as everybody who uses the library has them.
        assert "process" in families or "python_info" in {f.name for f in families.values()}


def test_of_several_processes_nothing_is_told_that_only_one_knows() -> None:
    board = Board(2)
    for page in board.pages:
        Metrics(page).traffic("kserve", "v2.infer").went("OK", 0.1)
    _, body = render(board, "m", "1")
    families = {family.name: family for family in parsed(body.decode())}
    assert not [name for name in families if name.startswith(("python", "process"))]
    (total,) = families["omi_requests"].samples
    assert total.value == 2
    labels = {"interface": "kserve", "method": "v2.infer", "code": "OK"}
    assert total.labels == {"model": "m", "version": "1", **labels}


# --- a model's own ---


async def test_a_model_counts_beside_the_runtime() -> None:
    async with loaded(Doubles) as handler:
        await handler.infer(tensor(1, 2, 3))
        found = samples(handler)
    assert found["seen_total +"] == 3
    assert found["size"] == 7


def test_a_model_that_nobody_serves_may_count_too() -> None:
    model = Doubles()
    model.load()
    assert model.predict(np.array([1.0])).tolist() == [2.0]


def test_many_threads_count_right() -> None:
    metrics = ModelMetrics()
    (page,) = Board().pages
    counter = metrics.counter("count", "counts")
    sizes = metrics.histogram("sizes", "sizes", buckets=[1, 2])
    level = metrics.gauge("level", "level")

    def work() -> None:
        for i in range(1000):
            counter.inc()
            sizes.observe(i % 3)
            level.inc(-1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads[:4]:
        thread.start()
    metrics.move(page)
    for thread in threads[4:]:
        thread.start()
    for thread in threads:
        thread.join()
    values = {series.name: values for series, values in page.read()}
    assert values["count_total"] == [8000]
    assert values["level"] == [-8000]
    assert values["sizes"] == [8 * 667, 8 * 333, 0, 8 * 999]


def test_the_same_name_is_the_same_metric() -> None:
    metrics = ModelMetrics()
    counter = metrics.counter("named", "Named.", labels=["species"])
    assert metrics.counter("named_total", "Named.", labels=["species"]) is counter


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: m.counter("a b", ""), "'a b_total' is no name for Prometheus"),
        (lambda m: m.gauge("1a", ""), "'1a' is no name"),
        (lambda m: m.gauge("a", "", labels=["b-c"]), "'b-c' is no name"),
        (lambda m: m.counter("omi_requests", ""), "omi_requests_total is the runtime's own"),
        (lambda m: m.histogram("request_predict_seconds", ""), "is the runtime's own"),
        (lambda m: m.gauge("a", "", labels=["model"]), "the label model is the runtime's own"),
        (lambda m: m.gauge("taken", "other"), "taken is there already, and is another"),
        (lambda m: m.histogram("taken", ""), "taken is there already"),
        (lambda m: m.histogram("a", "", buckets=[2, 1]), "ascending"),
        (lambda m: m.histogram("a", "", buckets=[]), "1 to 64"),
        (lambda m: m.histogram("a", "", buckets=range(100)), "1 to 64"),
        (lambda m: m.gauge("b", "", labels=["x"]).set(1), "has the labels \\['x'\\], not \\[\\]"),
        (lambda m: m.gauge("c", "").set(1, y="2"), "has the labels \\[\\], not \\['y'\\]"),
        (lambda m: m.counter("d", "").inc(-1), "only grows"),
    ],
)
def test_what_prometheus_does_not_take_is_refused(make, message: str) -> None:
    metrics = ModelMetrics()
    metrics.gauge("taken", "one")
    with pytest.raises(ValueError, match=message):
        make(metrics)


# --- documentation ---


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_documented(metric: Metric) -> None:
    documented = rows("metrics.md", "metric")
    assert metric.name in documented, f"docs/reference/metrics.md has no row for {metric.name}"
    kind, labels, meaning = documented[metric.name]
    assert kind == metric.kind
    assert [label.strip(" `") for label in labels.split(",") if label] == list(metric.labels)
    assert meaning == metric.text


def test_no_metric_is_documented_that_is_not_there() -> None:
    assert set(rows("metrics.md", "metric")) == {metric.name for metric in METRICS}
