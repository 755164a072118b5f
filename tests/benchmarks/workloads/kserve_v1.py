"""KServe's V1 predict, and the JSON predict of servers with a protocol of their own."""

from __future__ import annotations

import json
from typing import Any

from load import Concurrency, Request, parse_json
from workload import OURS, Side, Target, Workload

ROW = [5.1, 3.5, 1.4, 0.2]
BODY = json.dumps({"instances": [ROW]}).encode()


def _predictions(body: bytes) -> Any:
    return parse_json(body)["predictions"]


def _side(path: str) -> Side:
    return Side(lambda: Request(path, BODY), _predictions)


WORKLOADS = [
    Workload(
        "v1-small",
        "KServe V1 JSON, 1x4, 16 connections",
        "linear",
        {
            OURS: _side("/v1/models/linear:predict"),
            "kserve": _side("/v1/models/linear:predict"),
            "litserve": _side("/predict"),
            "bentoml": _side("/predict"),
            "bare_http": Side(lambda: Request("/", BODY), None),
        },
        Concurrency(16),
        {"kserve": Target(least=5.0), "bare_http": Target(least=0.5)},
        "V1",
    )
]
