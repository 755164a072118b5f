"""Probes and metadata never wait for the model, whatever it is doing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import (
    MODELS,
    Answer,
    KServeGRPCClient,
    KServeV1Client,
    ModzyClient,
    OMIClient,
    Spec,
    until,
)

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
SECONDS = 2.0


@pytest.mark.parametrize(
    ("first", "marked"), [(-5.0, "sleeping"), (-6.0, "spinning")], ids=["sleeps", "spins"]
)
def test_probes_answer_while_a_prediction_runs(
    servers: Any, marks: Path, later: Any, first: float, marked: str
) -> None:
    server = servers(
        INTERFACE="kserve,omi,modzy", OMI_MODEL=TOTALS.source, MARKS=marks, PSC_MODEL_PORT="0"
    )
    v1, v2, omi, modzy = (
        wire(wire.port_of(server), TOTALS, marks)
        for wire in (KServeV1Client, KServeGRPCClient, OMIClient, ModzyClient)
    )
    probes: list[Callable[[], bool]] = [
        v1.live,
        v1.ready,
        lambda: v1.http.get("/v2/models/totals").status_code == 200,
        v2.live,
        v2.ready,
        lambda: v2.ask("ModelMetadata", name="totals").name == "totals",
        omi.ready,
        lambda: omi.status().status_code == 200,
        lambda: modzy.reload() is None,
    ]
    assert all(probe() for probe in probes)
    running = later(lambda: v1.infer([{"pair": [first, SECONDS]}]))
    until((marks / marked).exists, "a prediction runs")
    waits = []
    while not running.done:
        for probe in probes:
            began = time.monotonic()
            assert probe()
            waits.append(time.monotonic() - began)
    assert running() == [Answer({"total": first + SECONDS})]
    # Had one of them waited for the prediction, there would have been no second round.
    assert len(waits) >= 2 * len(probes)
    assert max(waits) < 0.75 * SECONDS
    for client in (v1, omi, modzy):
        client.close()


def test_probes_answer_while_megabytes_of_json_are_read(servers: Any, later: Any) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{MODELS}:Sums")
    port = server.port("kserve")
    pairs = ",".join(f'{{"first":{i}.25,"second":0.5}}' for i in range(80_000))
    body = f'{{"instances":[{pairs}]}}'.encode()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:

        def post() -> float:
            began = time.monotonic()
            assert client.post("/v1/models/sums:predict", content=body).status_code == 200
            return time.monotonic() - began

        running = later(post)
        waits = []
        while not running.done:
            began = time.monotonic()
            assert client.get("/v2/health/live").status_code == 200
            waits.append(time.monotonic() - began)
        assert max(waits) < 0.75 * running()
