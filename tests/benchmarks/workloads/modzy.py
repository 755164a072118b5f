"""Modzy's `/run` with one small file in and one out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from load import NUMBER, Concurrency, Request
from peer import JOBS
from workload import OURS, Side, Target, Workload

_FOLDERS: list[Path] = []
"""Of the jobs that were asked for; the last is that of the answer that is looked at."""


def _job() -> Request:
    """As platforms do it, every job has an output folder of its own, which the server makes.

    None is taken away before the end of all benchmarks: a file system can be slow for minutes after
    many deletions (ext4 without a journal is).
    """
    folder = JOBS / str(time.time_ns())
    folder.mkdir(parents=True)
    _FOLDERS.append(folder)
    (folder / "x.json").write_text("[5.1, 3.5, 1.4, 0.2]")
    job = {"type": "file", "input": str(folder), "output": f"{folder}/out-{NUMBER.decode()}"}
    return Request("/run", json.dumps(job).encode())


def _written(_body: bytes) -> Any:
    """Asked for once, so that there is one."""
    (results,) = _FOLDERS[-1].glob("out-*/results.json")
    return json.loads(results.read_text())["data"]["result"]


WORKLOADS = [
    Workload(
        "modzy-run",
        "Modzy /run, one small file, 16 connections",
        "linear",
        dict.fromkeys((OURS, "modzy_template"), Side(_job, _written, {"INTERFACE": "modzy"})),
        Concurrency(16),
        {"modzy_template": Target(3.0)},
        "Modzy",
    )
]
