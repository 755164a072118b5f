"""The process that watches over the one that serves, and ends it when nothing else can."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import (
    MODELS,
    Answer,
    Client,
    Failure,
    KServeV1Client,
    ModzyClient,
    OMIClient,
    Server,
    Spec,
    process,
    until,
)
from clients.process import QUICK, alive

HOLD = -8.0
GRACE = 0.5

WIRES: dict[str, type[Client]] = {"omi": OMIClient, "kserve": KServeV1Client, "modzy": ModzyClient}


@pytest.fixture
def serve(servers: Any, marks: Path) -> Any:
    def start(interface: str, model: str = "Totals", **variables: str) -> Any:
        return servers(INTERFACE=interface, OMI_MODEL=f"{MODELS}:{model}", MARKS=marks, **variables)

    return start


def client_of(server: Server, interface: str, directory: Path) -> Client:
    wire = WIRES[interface]
    model = f"{MODELS}:Totals"
    return wire(
        server.port(interface),
        Spec(model, "totals", {"pair": "FP32"}, {"total": "FP32"}),
        directory,
    )


def breaks(held: Any) -> bool:
    """Whether a caller learns that the server is gone; gRPC's client has words for that."""
    try:
        (outcome,) = held()
    except (OSError, httpx.HTTPError):
        return True
    return isinstance(outcome, Failure)


@pytest.mark.parametrize("interface", WIRES)
def test_a_model_that_keeps_the_lock_does_not_outlive_the_grace(
    serve: Any, marks: Path, later: Any, tmp_path: Path, interface: str
) -> None:
    server = serve(interface, "Stubborn", OMI_GRACE=f"{GRACE}", MODEL_NAME="totals")
    with client_of(server, interface, tmp_path) as client:
        until(client.ready, "the model has loaded")
        served = server.serving
        held = later(lambda: client.infer([{"pair": [HOLD, 0.0]}]))
        until((marks / "holding").exists, "the model keeps the lock")
        began = time.monotonic()
        server.signal()
        assert server.wait(QUICK) == 1
        took = time.monotonic() - began
        assert GRACE <= took < (GRACE + 1) * process.slowness()
        assert breaks(held)
    assert not alive(served)
    line = server.lines[-1]
    assert "ERROR omi_runtime.guard: " in line
    for word in (str(served), "0.5s", "OMI_GRACE", "lock"):
        assert word in line


def test_nor_one_that_keeps_it_after_a_shutdown_over_the_wire(
    serve: Any, marks: Path, tmp_path: Path
) -> None:
    server = serve("omi", "StubbornClose", OMI_GRACE=f"{GRACE}", OMI_LOG_FORMAT="json")
    with client_of(server, "omi", tmp_path) as client:
        until(client.ready, "the model has loaded")
        began = time.monotonic()
        client.stop()
        assert server.wait(QUICK) == 1
        assert time.monotonic() - began < (GRACE + 1) * process.slowness()
    assert (marks / "closing").exists()
    told = json.loads(server.lines[-1])
    assert (told["level"], told["logger"]) == ("error", "omi_runtime.guard")


def test_a_second_signal_ends_it_at_once(
    serve: Any, marks: Path, later: Any, tmp_path: Path
) -> None:
    server = serve("kserve", "Stubborn", MODEL_NAME="totals")
    with client_of(server, "kserve", tmp_path) as client:
        until(client.ready, "the model has loaded")
        later(lambda: client.infer([{"pair": [HOLD, 0.0]}]))
        until((marks / "holding").exists, "the model keeps the lock")
        server.signal()
        server.signal(signal.SIGINT)
        assert server.wait(QUICK) == 1
    # Of two signals that wait the system hands out that with the lower number first.
    assert re.search("SIG(INT|TERM) again: stopping at once", server.lines[-1])


def test_a_signal_to_both_is_one(serve: Any, marks: Path, later: Any, tmp_path: Path) -> None:
    """As a terminal sends it, and systemd."""
    server = serve("omi")
    with client_of(server, "omi", tmp_path) as client:
        held = later(lambda: client.infer([{"pair": [HOLD, 20.0]}]))
        until((marks / "holding").exists, "a prediction runs")
        for pid in (server.serving, server.process.pid):
            os.kill(pid, signal.SIGINT)
        server.wait_for_log("stopping \\(SIGINT\\)")
        (marks / "release").touch()
        assert held() == [Answer({"total": 12.0})]
    assert server.wait(QUICK) == 0
    assert server.log.count("stopping (") == 1


def test_a_signal_to_the_one_that_serves_is_enough(serve: Any, marks: Path) -> None:
    server = serve("omi")
    server.wait_for_log("is ready")
    os.kill(server.serving, signal.SIGTERM)
    assert server.wait(QUICK) == 0
    assert (marks / "closed").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "memory was short"), (signal.SIGSEGV, "ended by SIGSEGV")],
)
def test_the_end_by_a_signal_is_told(serve: Any, number: signal.Signals, words: str) -> None:
    server = serve("modzy")
    server.wait_for_log("is ready")
    served = server.serving
    os.kill(served, number)
    assert server.wait(QUICK) == 128 + number
    assert f"process {served}, which served, ended by {number.name}" in server.lines[-1]
    assert words in server.log


def test_without_its_guard_it_stops_by_itself(
    serve: Any, marks: Path, later: Any, tmp_path: Path
) -> None:
    server = serve("omi")
    with client_of(server, "omi", tmp_path) as client:
        held = later(lambda: client.infer([{"pair": [HOLD, 20.0]}]))
        until((marks / "holding").exists, "a prediction runs")
        served = server.serving
        server.process.kill()
        until(lambda: "its parent process is gone" in server.log, "it notices")
        (marks / "release").touch()
        assert held() == [Answer({"total": 12.0})]
        until(lambda: not alive(served), "it has ended")
    assert (marks / "closed").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_anything_serves_a_signal_ends_both_at_once(
    servers: Any, marks: Path, number: signal.Signals
) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{MODELS}:Totals", MARKS=marks)
    served = until(lambda: process.children(server.process.pid), "there are two processes")[0]
    server.signal(number)
    assert server.wait(QUICK) == 0
    assert not alive(served)
    assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_grace_of_a_month(serve: Any, workers: str) -> None:
    """Longer than selectors wait."""
    server = serve("omi", OMI_GRACE="2592000", OMI_WORKERS=workers)
    server.wait_for_log("is ready: 2" if workers == "2" else "is ready")
    server.signal()
    assert server.wait(QUICK) == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", ">&- 2>&- <&-"])
def test_closed_standard_streams(servers: Any, marks: Path, closed: str, workers: str) -> None:
    with process.reserved_port() as port:
        server = servers(
            *("sh", "-c", f"exec {process.OMI} serve {closed}"),
            INTERFACE="modzy",
            HTTP_PORT=port,
            OMI_MODEL=f"{MODELS}:Totals",
            OMI_WORKERS=workers,
            MARKS=marks,
        )

        def ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/status").status_code == 200
            except httpx.HTTPError:
                return False

        until(ready, "it answers")
    server.signal()
    assert server.wait(QUICK) == 0


@pytest.mark.parametrize(
    ("workers", "words"),
    [("1", "had stopped, but did not exit"), ("2", "workers that have not stopped in time")],
)
def test_an_exit_that_hangs_after_a_stop(serve: Any, workers: str, words: str) -> None:
    server = serve("omi", "SlowToExit", OMI_GRACE=f"{GRACE}", OMI_WORKERS=workers)
    server.wait_for_log("is ready: 2" if workers == "2" else "is ready")
    began = time.monotonic()
    server.signal()
    assert server.wait(QUICK) == 0, "nothing was cut off but the interpreter's exit"
    assert time.monotonic() - began < (GRACE + 1) * process.slowness()
    assert words in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_exit_that_hangs_after_a_failed_load(serve: Any, marks: Path, workers: str) -> None:
    (marks / "broken").touch()
    server = serve("kserve", "SlowToExit", OMI_WORKERS=workers)
    assert server.wait() == 3
    assert "did not load" in server.log
    assert "had stopped, but did not exit" in server.lines[-1]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_when_all_is_over(serve: Any, workers: str) -> None:
    server = serve("omi", "SignalledAtTheEnd", OMI_WORKERS=workers)
    server.wait_for_log("is ready: 2" if workers == "2" else "is ready")
    server.signal()
    assert server.wait(QUICK) == 0
    assert "ERROR" not in server.log


def test_a_log_that_nobody_reads(marks: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):  # when it is full
        while os.write(writing, bytes(4096)):
            pass
    os.set_blocking(writing, True)
    with process.reserved_port() as port:
        variables = {
            "INTERFACE": "modzy",
            "HTTP_PORT": str(port),
            "OMI_MODEL": f"{MODELS}:Totals",
            "MARKS": str(marks),
        }
        server = subprocess.Popen(
            (process.OMI, "serve"), stderr=writing, env=process.environment(**variables)
        )
        try:
            (served,) = until(lambda: process.children(server.pid), "there are two processes")
            os.kill(served, signal.SIGKILL)
            assert server.wait(QUICK) == 128 + signal.SIGKILL
        finally:
            server.kill()
            server.wait()
            os.close(reading)
            os.close(writing)


def test_the_guard_itself_imports_next_to_nothing(serve: Any) -> None:
    server = serve("kserve")
    server.wait_for_log("is ready")

    def mapped(pid: int) -> set[str]:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {Path(line.split()[-1]).name.partition(".")[0] for line in lines if ".so" in line}

    heavy = {"_multiarray_umath", "loop", "orjson", "_asyncio", "_ssl"}
    assert heavy <= mapped(server.serving)
    assert not heavy & mapped(server.process.pid)


def test_workers_have_a_supervisor_and_no_guard(crew: Any) -> None:
    crew = crew()
    pids = crew.wait_until_ready(2)
    assert len(pids) == 2
    assert all(not process.children(pid) for pid in pids)
