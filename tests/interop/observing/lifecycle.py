"""Rows about what a server says while a prediction runs, without its model, and while it stops."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from clients import until

from observing.rows import row
from observing.sides import Running, Side
from observing.words import chosen

READY = "/v2/health/ready"
SOON = 3.0
"""Seconds: a probe that has no answer by then waits for the prediction, which nothing else ends."""


@contextmanager
def predicting(server: Running, directory: Path) -> Iterator[ThreadPoolExecutor]:
    """While the model runs a prediction; it ends with the block. Brings threads to ask by."""
    path = Path(tempfile.mkdtemp(dir=directory)) / "gate"
    opened = path.with_name("gate.open")
    with ThreadPoolExecutor() as threads:
        try:
            held = threads.submit(
                server.post, f"/v1/models/{server.model}:predict", {"instances": [str(path)]}
            )
            until(path.exists, "a prediction runs")
            yield threads
        finally:
            opened.touch()
        assert held.result().json() == {"predictions": ["open"]}


def probed(side: Side, model: str) -> bool:
    """Whether probes of both ports are answered while the model predicts."""
    server = side.ask(model)
    with predicting(server, side.directory) as threads:
        probes = [
            threads.submit(server.get, "/v2/health/live"),
            threads.submit(server.call, "ServerLive"),
        ]
        answered = wait(probes, SOON).done
    assert probes[0].result().status_code == 200
    assert probes[1].result().live
    assert len(answered) in (0, len(probes)), "only one of the two was answered"
    return bool(answered)


@row("a probe while `predict` runs")
def probe(side: Side) -> str:
    if not side.kserve:
        return chosen(probed(side, "gate"), {True: "is answered"})
    words = {
        (False, True): "waits for it, unless that is a coroutine",
        (False, False): "waits for it",
    }
    return chosen((probed(side, "gate"), probed(side, "door")), words)


@row("`/v2/health/ready`")
def readiness(side: Side) -> str:
    words = {
        (200, 200, True): "always true, also with no model left, and after SIGTERM",
        (200, 503, False): "true only if the model can infer and the process does not stop",
    }
    return chosen((*without_model(side), while_stopping(side)), words)


def without_model(side: Side) -> tuple[int, int]:
    """What readiness is told with all models and with none."""
    with side.fresh("total", OMI_ADMIN="on") as server:
        before = server.get(READY).status_code
        for name in server.get("/v2/models").json()["models"]:
            assert server.post(f"/v2/repository/models/{name}/unload").is_success
        assert server.get("/v2/models").json()["models"] == []
        return before, server.get(READY).status_code


def while_stopping(side: Side) -> bool:
    """What ServerReady says between SIGTERM and the end, which waits for a prediction."""
    model = "door" if side.kserve else "gate"
    with (
        side.fresh(model, OMI_DRAIN_DELAY="60") as server,
        predicting(server, side.directory),
    ):
        assert server.call("ServerReady").ready
        server.server.signal()
        until(partial(_stopping, server), "it has taken the signal")
        ready: bool = server.call("ServerReady").ready
        return ready


def _stopping(server: Running) -> bool:
    """Whether the process has begun to stop: it says so, or its port is closed."""
    try:
        return server.get(READY).status_code == 503
    except httpx.TransportError:
        return True
