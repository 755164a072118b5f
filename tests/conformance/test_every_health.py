"""Live and ready, from the start of the process to its end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from clients import Answer, Failure, is_failure, per_interface, until

from omi_runtime.errors import ErrorCode

pytestmark = per_interface

ITEM = {"pair": [1.0, 2.0]}
GOOD = Answer({"total": 3.0})


def test_ready_means_that_the_model_has_loaded(start: Any, marks: Path) -> None:
    server, client = start("Gated")
    assert not client.ready()  # the process has hardly begun
    until((marks / "loading").exists, "the model is loading")
    if client.opens_early:
        until(client.live, "the port opens while the model loads")
    else:
        assert not client.live(), "an open port has to mean a model that is ready"
    assert not client.ready()
    (marks / "open").touch()
    until(client.ready, "the model has loaded")
    assert client.live()
    assert client.infer([ITEM]) == [GOOD]
    assert server.running


def test_what_comes_while_the_model_loads_waits_for_it(start: Any, marks: Path, later: Any) -> None:
    _, client = start("Gated")
    if not client.opens_early:
        return  # nobody can come: the test above asserts that the port is closed
    until(client.live, "the port is open")
    answers = later(lambda: client.infer([ITEM]))
    until((marks / "loading").exists, "the model is loading")
    (marks / "open").touch()
    assert answers() == [GOOD]


def test_a_failed_load_is_told_and_a_second_attempt_can_mend_it(start: Any, marks: Path) -> None:
    server, client = start("Failing", OMI_LOAD_GRACE="60")
    if not client.opens_early:
        assert server.wait() == 3
        assert "listens on" not in server.log
        return
    server.wait_for_log("did not load")
    until(client.live, "the port is open after a failed load")
    assert not client.ready()
    (outcome,) = client.infer([ITEM])
    assert is_failure(outcome, ErrorCode.MODEL_NOT_READY), outcome
    refused = client.reload()
    assert isinstance(refused, Failure)
    assert ErrorCode.MODEL_NOT_READY in refused.codes
    (marks / "mended").touch()
    assert client.reload() is None
    until(client.ready, "a later attempt loads the model")
    assert client.infer([ITEM]) == [GOOD]
    server.signal()
    assert server.wait() == 0


def test_a_model_that_never_loads_ends_the_process_with_3(start: Any) -> None:
    server, client = start("Failing", OMI_LOAD_GRACE="0.5")
    assert server.wait() == 3
    assert "RuntimeError: the weights are missing" in server.log
    assert not client.live()


def test_while_draining_it_is_live_not_ready_and_still_answers(start: Any) -> None:
    server, client = start(OMI_DRAIN_DELAY="600")
    until(client.ready, "the model has loaded")
    server.signal()
    until(lambda: not client.ready(), "it says that it is stopping", seconds=10)
    assert client.live()
    assert client.infer([ITEM]) == [GOOD]
    server.signal(signal.SIGINT)
    assert server.wait() == 1, "a second signal cuts the delay off"


def test_once_it_has_stopped_accepting_nobody_is_told_that_it_is_live(
    start: Any, marks: Path, later: Any
) -> None:
    server, client = start()
    until(client.ready, "the model has loaded")
    held = later(lambda: client.infer([{"pair": [-8.0, 20.0]}]))
    until((marks / "holding").exists, "a prediction runs")
    with type(client)(client.port, client.spec, client.directory) as newcomer:
        server.signal()
        until(lambda: not newcomer.live(), "new connections are refused")
        assert not newcomer.ready()
    (marks / "release").touch()
    assert held() == [Answer({"total": 12.0})]
    assert server.wait() == 0
