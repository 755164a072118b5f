"""How figures grow: with connections, with the size of a body, with the batch, with workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from load import Concurrency, Request
from turns import sweep
from workload import OURS, Workload, all_workloads

CONNECTIONS = (1, 4, 16, 64, 256)
ITEMS = (1, 8, 64, 256)
SIZES = (100, 10_000, 1_000_000, 10_000_000)
WORKERS = ("1", "2")
LIMITS = ("1", "4", "16", "64")


def measure(seconds: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of {peer, at, rate, median, p99, cpu}, by what is on the axis."""
    return {
        "connections": _connections(seconds),
        "body": _body(seconds),
        "batch": _batch(seconds),
        "workers": _with("OMI_WORKERS", WORKERS, "v2-small", Concurrency(64), seconds),
        "limit": _with("OMI_MAX_BATCH_SIZE", LIMITS, "v2-accelerator", Concurrency(64), seconds),
    }


def _connections(seconds: int) -> list[dict[str, Any]]:
    workload = _workload("v2-small")
    points = [(float(n), Concurrency(n), _same(workload)) for n in CONNECTIONS]
    return sweep(workload, points, seconds, [OURS, "kserve", "mlserver", "bare_http"])


def _batch(seconds: int) -> list[dict[str, Any]]:
    """Items in one request; the rate is of requests."""
    workload = _workload("v2-small")
    points = [(float(n), Concurrency(4), _always(_rows(n))) for n in ITEMS]
    return sweep(workload, points, seconds, [OURS, "kserve", "mlserver"])


def _body(seconds: int) -> list[dict[str, Any]]:
    """Bytes of one file in a Run."""
    from omi_grpc._pb import model_pb2 as pb

    workload = _workload("omi-file")

    def request(size: int) -> Request:
        item = pb.InputItem(input={"x": bytes(size)})
        return Request(
            "/ModzyModel/Run", pb.RunRequest(inputs=[item]).SerializeToString(), grpc=True
        )

    points = [(float(size), Concurrency(2, 2), _always(request(size))) for size in SIZES]
    return sweep(workload, points, seconds, [OURS, "chassis"])


def _with(
    variable: str, values: Sequence[str], key: str, at: Concurrency, seconds: int
) -> list[dict[str, Any]]:
    """Ours alone, started anew with each value of a setting."""
    workload = _workload(key)
    rows: list[dict[str, Any]] = []
    for value in values:
        points = [(float(value), at, _same(workload))]
        rows += sweep(workload, points, seconds, [OURS], **{variable: value})
    return rows


def _rows(n: int) -> Request:
    data = np.linspace(0, 1, n * 4, dtype=np.float32).tolist()
    tensor = {"name": "x", "datatype": "FP32", "shape": [n, 4], "data": data}
    return Request("/v2/models/linear/infer", json.dumps({"inputs": [tensor]}).encode())


def _same(workload: Workload) -> Callable[[str], Request]:
    return lambda name: workload.sides[name].request()


def _always(request: Request) -> Callable[[str], Request]:
    return lambda _name: request


def _workload(key: str) -> Workload:
    return next(workload for workload in all_workloads() if workload.key == key)
