"""`ModzyModel/Run` over gRPC: a small item, and a file of 600 kB."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from load import Concurrency, Request
from workload import OURS, Side, Target, Workload

ROW = [5.1, 3.5, 1.4, 0.2]
RUN = "/ModzyModel/Run"


def _run(data: bytes) -> Callable[[], Request]:
    def make() -> Request:
        from omi_grpc._pb import model_pb2 as pb

        message = pb.RunRequest(inputs=[pb.InputItem(input={"x": data})])
        return Request(RUN, message.SerializeToString(), grpc=True)

    return make


def _result(message: bytes) -> Any:
    from omi_grpc._pb import model_pb2 as pb

    (item,) = pb.RunResponse.FromString(message).outputs
    assert item.success, item
    return json.loads(item.output["results.json"])["data"]["result"]


def _workload(
    key: str, title: str, model: str, data: bytes, at: Concurrency, **targets: Target
) -> Workload:
    side = Side(_run(data), _result, {"INTERFACE": "omi"})
    sides = {OURS: side, "chassis": side, "bare_grpc": side}
    if model == "linear":
        sides["bare_grpc_thread"] = side
    return Workload(key, title, model, sides, at, targets, "OMI")


_SMALL = json.dumps(ROW).encode()
_FILE = bytes(range(256)) * 2400

WORKLOADS = [
    _workload(
        "omi-small",
        "OMI Run, small item, 32 streams",
        "linear",
        _SMALL,
        Concurrency(4, 8),
        chassis=Target(least=3.5),
        bare_grpc=Target(least=0.8),
    ),
    _workload(
        "omi-small-1",
        "OMI Run, small item, 1 stream: time to answer",
        "linear",
        _SMALL,
        Concurrency(1, 1),
        chassis=Target(most=0.5, figure="median"),
    ),
    _workload(
        "omi-file",
        "OMI Run, item of 600 kB, 2x2 streams",
        "weigh",
        _FILE,
        Concurrency(2, 2),
        chassis=Target(least=2.0),
    ),
]
