"""Our messages in one process with the generated code of others that has the same names."""

from __future__ import annotations

import environments
import pytest
from clients.process import ROOT
from environments import PEERS, Environment


@pytest.fixture(scope="module")
def others() -> Environment:
    """With protobuf 6, which is the one that all of them run on."""
    return environments.require(
        "beside",
        "protobuf==6.*",
        "tritonclient[grpc]",
        project=True,
        # Of these only the generated files are used.
        alone=[
            "kserve==0.21.0",
            "chassisml==1.5.0",
            "chassisml-protobuf",
            "grpcio-health-checking==1.76.*",
        ],
    )


SAME = {
    "kserve": "ModelInferRequest",
    "tritonclient": "ModelInferRequest",
    "chassis": "RunRequest",
    "grpc_health": "HealthCheckRequest",
}
"""A message that is in theirs, and perhaps in ours."""


@pytest.mark.parametrize("order", ["ours", "theirs"])
@pytest.mark.parametrize("other", SAME)
def test_beside(other: str, order: str, others: Environment) -> None:
    done = others.run(str(PEERS / "beside.py"), other, order)
    assert done.code == 0, done
    modules, same = map(int, done.out.split())
    protos = [path.read_text() for path in (ROOT / "protos").rglob("*.proto")]
    defined = sum(f"message {SAME[other]} {{" in text for text in protos)
    assert (modules, same) == (len(protos), defined)
