"""What is no load: start-up, memory, installed size, workers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from load import BadAnswers, Concurrency, Request, ask, put_under
from peer import Peer, Server
from workload import OURS, Side, Workload, all_workloads

STATUS = Request("/ModzyModel/Status", b"", grpc=True)


def start_up(turns: int) -> dict[str, list[float]]:
    """Seconds from exec to the first answer, with an empty model, in turns."""
    rows: dict[str, list[float]] = {}
    for _ in range(turns):
        for label, name, side in _empty():
            with Peer(name).serving("linear", **side.variables) as server:
                _ask_until_answered(server, side)
                rows.setdefault(label, []).append(time.monotonic() - server.begun)
    return rows


def idle_memory() -> dict[str, float]:
    """MiB of resident memory of all processes, after one answer, with an empty model."""
    rows: dict[str, float] = {}
    for label, name, side in _empty():
        with Peer(name).serving("linear", **side.variables) as server:
            _ask_until_answered(server, side)
            rows[label] = server.resident()
    return rows


def installed_size(python: str, folder: Path) -> dict[str, float]:
    """MB of what serving needs: ours in an environment of its own, and the peers' as they are."""
    environment = folder / "ours"
    if not (environment / "complete").exists():
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
        project = Path(__file__).parents[2]
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", str(project)]
        subprocess.run(pip, check=True)
        (environment / "complete").touch()
    rows = {}
    for name in ("ours", "kserve", "mlserver", "chassis"):
        if (folder / name).is_dir():
            done = subprocess.run(
                ["du", "-sm", "--exclude=pip", "--exclude=setuptools", folder / name],
                capture_output=True,
                text=True,
                check=True,
            )
            rows[name] = float(done.stdout.split()[0])
    return rows


def workers(turns: int, seconds: int) -> dict[str, list[float]]:
    """Answers per second of a model that needs 10 ms of a CPU, with one worker and with two."""
    side = _side("busy")
    rows: dict[str, list[float]] = {}
    with ExitStack() as stack:
        servers = {
            count: stack.enter_context(Peer(OURS).serving("busy", OMI_WORKERS=count))
            for count in ("1", "2")
        }
        for _ in range(turns):
            for count, server in servers.items():
                rate = put_under(server, side.request(), Concurrency(16), seconds).rate
                rows.setdefault(count, []).append(rate)
    return rows


def preload() -> dict[str, float]:
    """MiB of four workers with a model of 500 MB, shared and not, and of one."""
    side = _side("large")
    rows: dict[str, float] = {}
    for label, variables in (
        ("one worker", {"OMI_WORKERS": "1"}),
        ("four workers, OMI_PRELOAD=1", {"OMI_WORKERS": "4", "OMI_PRELOAD": "1"}),
    ):
        with Peer(OURS).serving("large", **variables) as server:
            for _ in range(16):
                _ask_once(server, side)
            rows[label] = server.proportional()
    return rows


def _empty() -> Iterator[tuple[str, str, Side]]:
    """Every server with a model that costs nothing: what it is called, its peer, what it is asked.

    A peer that is not installed is left out; the workloads have said why.
    """
    for label, workload, name in (
        ("ours, kserve", "v1-small", OURS),
        ("ours, omi", "omi-small", OURS),
        ("ours, modzy", "modzy-run", OURS),
        ("kserve", "v1-small", "kserve"),
        ("mlserver", "v2-small", "mlserver"),
        ("chassis", "omi-small", "chassis"),
    ):
        if Path(Peer(name).python).exists():
            yield label, name, _workload(workload).sides[name]


def _workload(key: str) -> Workload:
    return next(workload for workload in all_workloads() if workload.key == key)


def _side(model: str) -> Side:
    side = _workload("v1-small").sides[OURS]
    body = side.request().body
    return Side(lambda: Request(f"/v1/models/{model}:predict", body), side.answer)


def _ask_until_answered(server: Server, side: Side) -> None:
    while True:
        try:
            _ask_once(server, side)
        except BadAnswers:
            time.sleep(0.005)
        else:
            return


def _ask_once(server: Server, side: Side) -> Any:
    if side.variables.get("INTERFACE") == "omi":
        ask(server, STATUS)
    return ask(server, side.request())
