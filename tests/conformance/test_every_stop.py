"""How a server ends: what is in flight is answered, the model is closed, the exit code is right."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients import (
    WIRES,
    Answer,
    Client,
    Server,
    is_failure,
    only,
    per_interface,
    process,
    until,
)

from omi_runtime.errors import ErrorCode

stopping = only(*(wire for wire in WIRES if wire.stops))

SLEEP = -5.0


@per_interface
def test_a_signal_lets_what_is_in_flight_be_answered(start: Any, marks: Path, later: Any) -> None:
    _stop_with_five_in_flight(start, marks, later, lambda server, _: server.signal())


@stopping
def test_a_request_to_stop_lets_what_is_in_flight_be_answered(
    start: Any, marks: Path, later: Any
) -> None:
    _stop_with_five_in_flight(start, marks, later, lambda _, client: _ask(client))


@stopping
def test_a_signal_after_a_request_to_stop_takes_nothing_back(
    start: Any, marks: Path, later: Any
) -> None:
    def both(server: Server, client: Client) -> None:
        _ask(client)
        server.signal()

    _stop_with_five_in_flight(start, marks, later, both)


def _ask(client: Client) -> None:
    assert client.stop() is None, "the answer to the request itself arrives"


def _stop_with_five_in_flight(
    start: Any, marks: Path, later: Any, stop: Callable[[Server, Client], None]
) -> None:
    # The delay is for those of the five that have not reached the server when it is told to stop.
    server, client = start(OMI_DRAIN_DELAY="0.5")
    until(client.ready, "the model has loaded")
    # One runs; the rest wait, and are merged into the next batch.
    waiting = [
        later(lambda i=i: client.infer([{"pair": [SLEEP, 0.25 + i / 64]}])) for i in range(5)
    ]
    until((marks / "sleeping").exists, "a prediction runs")
    stop(server, client)
    answers = [answer() for answer in waiting]
    assert answers == [[Answer({"total": SLEEP + 0.25 + i / 64})] for i in range(5)]
    assert server.wait() == 0
    assert (marks / "closed").exists(), "the model gives back what it took"
    assert "Traceback" not in server.log


@per_interface
def test_twenty_at_once_lose_nothing_and_readiness_goes_first(
    start: Any, marks: Path, later: Any
) -> None:
    server, client = start("Patient", OMI_THREADS="20", OMI_DRAIN_DELAY="0.5")
    until(client.ready, "the model has loaded")
    waiting = [later(lambda i=i: client.infer([{"pair": [float(i), 2.0]}])) for i in range(20)]
    until(lambda: len(list(marks.glob("begun-*"))) == 20, "all twenty run")
    server.signal()
    signalled = time.monotonic()
    last_ready = signalled
    while True:
        asked = time.monotonic()
        if not client.ready():
            break
        last_ready = asked
    assert last_ready - signalled < 0.1, "whoever asks later is told that it stops"
    assert not any(answer.done for answer in waiting), "while all of them still run"
    answers = [answer() for answer in waiting]
    assert answers == [[Answer({"total": i + 2.0})] for i in range(20)]
    assert server.wait() == 0
    assert "Traceback" not in server.log


@stopping
def test_a_refused_stop_stops_nothing(start: Any) -> None:
    server, client = start(OMI_ALLOW_SHUTDOWN="off")
    until(client.ready, "the model has loaded")
    refused = client.stop()
    assert refused
    assert refused.codes == {ErrorCode.NOT_OFFERED}
    assert "OMI_ALLOW_SHUTDOWN" in refused.message
    assert client.ready()
    server.signal(signal.SIGINT)
    assert server.wait() == 0


@per_interface
def test_a_hung_model_does_not_outlive_the_grace(start: Any, marks: Path, later: Any) -> None:
    server, client = start(OMI_GRACE="1")
    until(client.ready, "the model has loaded")
    hung = later(lambda: client.infer([{"pair": [SLEEP, 3600.0]}]))
    until((marks / "sleeping").exists, "a prediction runs")
    began = time.monotonic()
    server.signal()
    assert server.wait() == 1
    assert time.monotonic() - began < (1 + 1) * process.slowness()
    (outcome,) = hung()
    assert is_failure(outcome, ErrorCode.MODEL_NOT_READY), "who was cut off is told so"
