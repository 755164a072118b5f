"""Modzy's `/run` with one small file in and one out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from load import Concurrency, Request
from workload import OURS, Side, Target, Workload

_FOLDER = Path(tempfile.gettempdir(), "omi-bench-job")


def _job() -> Request:
    """One folder for all: jobs that are under way at once write the same answer."""
    (_FOLDER / "out").mkdir(parents=True, exist_ok=True)
    (_FOLDER / "x.json").write_text("[5.1, 3.5, 1.4, 0.2]")
    job = {"type": "file", "input": str(_FOLDER), "output": str(_FOLDER / "out")}
    return Request("/run", json.dumps(job).encode())


def _written(_body: bytes) -> Any:
    return json.loads((_FOLDER / "out" / "results.json").read_text())["data"]["result"]


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
