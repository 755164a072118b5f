"""A model that is loaded once, before the workers are forked."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from clients import KServeV1Client, OMIClient, until


@pytest.fixture
def preloaded(crew: Any) -> Any:
    """Starts a server with workers that share a model."""

    def start(interface: str = "omi", model: str = "Who", **settings: Any) -> Any:
        return crew(interface, model, OMI_PRELOAD="on", **settings)

    return start


def test_it_is_loaded_once_and_its_memory_is_shared(preloaded: Any, marks: Path) -> None:
    crew = preloaded("kserve,omi", "Large", OMI_WORKERS="3", PSC_MODEL_PORT="0")
    pids = crew.wait_until_ready(3)
    for wire in (OMIClient, KServeV1Client):
        with crew.one_client_each(wire, 3) as clients:
            assert set(clients) == pids
    assert (marks / "loads").read_text().split() == [str(crew.server.process.pid)]
    assert "Threads:\t1\n" in Path(f"/proc/{crew.server.process.pid}/status").read_text()
    for pid in pids:
        assert _own_memory(pid) < 64 * 2**20, "the model's 64 MiB are not among it"
    victim = pids.pop()
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in crew.pids and len(crew.pids) == 3, "another takes its place")
    with crew.one_client_each(OMIClient, 3) as clients:
        assert set(clients) == crew.pids
    assert len((marks / "loads").read_text().split()) == 1
    crew.server.signal()
    assert crew.server.wait() == 0


@pytest.mark.parametrize("model", ["Parallel", "ParallelAsync"])
def test_a_model_that_runs_openmp_survives_the_fork(preloaded: Any, model: str) -> None:
    pytest.importorskip("sklearn")
    crew = preloaded(model=model)
    pids = crew.wait_until_ready(2)
    with crew.one_client_each(OMIClient) as clients:
        assert set(clients) == pids


def test_a_child_in_which_openmp_hangs_is_told_what_to_do(preloaded: Any) -> None:
    pytest.importorskip("sklearn")
    # libgomp's threads belong to the thread that made them: here the one that forks.
    crew = preloaded(model="ParallelAsync", OMP_NUM_THREADS="2", OMI_TIMEOUT="5")
    _is_given_up(crew)
    assert "leave OMP_NUM_THREADS and the like unset" in crew.server.lines[-1]


def test_a_child_that_waits_for_a_thread_of_the_parent(preloaded: Any) -> None:
    crew = preloaded(model="Threaded", OMI_TIMEOUT="2")
    _is_given_up(crew)
    assert "start no threads in load(), or set OMI_PRELOAD=off" in crew.server.lines[-1]


def _is_given_up(crew: Any) -> None:
    assert crew.server.wait() == 3
    assert "listens on" not in crew.server.log, "no port opens for a model that hangs"
    last = crew.server.lines[-1]
    assert last.startswith("omi: worker 1 did not answer a first prediction within ")


def test_a_model_that_does_not_load(preloaded: Any) -> None:
    crew = preloaded(model="Unlucky")
    assert crew.server.wait() == 3
    assert crew.server.log.count("Traceback") == 1
    assert crew.server.lines[-1].startswith("omi: model unlucky did not load: RuntimeError")


def test_a_signal_ends_the_load(preloaded: Any, marks: Path) -> None:
    (marks / "shut").touch()
    crew = preloaded()
    until((marks / "loads").exists, "it loads")
    crew.server.signal()
    assert crew.server.wait(10.0) == 0


def _own_memory(pid: int) -> int:
    """Bytes that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
