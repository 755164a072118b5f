"""Modzy's `/run` with one small file in and one out."""

from __future__ import annotations

import json
import shutil
from typing import Any

from load import NUMBER, Concurrency, Request
from peer import ENVIRONMENTS
from workload import OURS, Side, Target, Workload

_FOLDER = ENVIRONMENTS / "jobs"


def _job() -> Request:
    """As platforms do it, every job has an output folder of its own, which the server makes.

    They are taken away only here, before a run: a file system can be slow for a minute after many
    deletions (ext4 without a journal is).
    """
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir()
    (_FOLDER / "x.json").write_text("[5.1, 3.5, 1.4, 0.2]")
    job = {"type": "file", "input": str(_FOLDER), "output": f"{_FOLDER}/out-{NUMBER.decode()}"}
    return Request("/run", json.dumps(job).encode())


def _written(_body: bytes) -> Any:
    """Asked for once, so that there is one."""
    (results,) = _FOLDER.glob("out-*/results.json")
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
