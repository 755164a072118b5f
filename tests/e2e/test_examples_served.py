"""The examples of the documentation, served over all interfaces, give the expected answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clients import KServeV1Client, KServeV2Client, ModzyClient, OMIClient
from clients.examples import SPECS, expected
from clients.process import PATIENCE, until

WIRES = (OMIClient, KServeV1Client, KServeV2Client, ModzyClient)


@pytest.mark.parametrize("example", SPECS)
def test_expected_answers(servers: Any, tmp_path: Path, example: str) -> None:
    spec = SPECS[example]
    items, answers, explanations = expected(spec)
    server = servers(INTERFACE="kserve,omi,modzy", OMI_MODEL=spec.source, PSC_MODEL_PORT="0")
    for wire in WIRES:
        if "bytes" in spec.inputs.values() and not wire.carries_bytes:
            continue
        with wire(wire.port_of(server), spec, tmp_path) as client:
            until(client.ready, f"{example} is ready", 2 * PATIENCE)
            assert client.infer(items) == answers, wire.wire
            assert [client.infer([item]) for item in items] == [[answer] for answer in answers]
            if explanations and wire.explains:
                explained = client.infer(items, explain=True)
                for outcome, explanation in zip(explained, explanations, strict=True):
                    assert outcome.explanation == pytest.approx(explanation, abs=1e-5), wire.wire
    assert "Traceback" not in server.log
    server.signal()
    assert server.wait() == 0


def test_what_an_example_refuses(servers: Any, tmp_path: Path) -> None:
    spec = SPECS["colours"]
    server = servers(INTERFACE="kserve,omi,modzy", OMI_MODEL=spec.source, PSC_MODEL_PORT="0")
    for wire in (OMIClient, KServeV1Client, ModzyClient):
        with wire(wire.port_of(server), spec, tmp_path) as client:
            until(client.ready, "colours is ready")
            (outcome,) = client.infer([{"image": b"no picture"}])
            assert "neither a JPEG nor a PNG" in outcome.message, wire.wire
