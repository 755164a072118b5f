"""Reflection and health with the clients that gRPC itself publishes."""

from __future__ import annotations

import json
from typing import Any

import environments
import pytest
from clients import MODELS
from environments import PEERS, Environment


@pytest.fixture(scope="module")
def grpc_clients() -> Environment:
    return environments.require("grpc", "grpcio-reflection>=1.85", "grpcio-health-checking>=1.85")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_client_without_proto_files(
    version: str, grpc_clients: Environment, servers: Any
) -> None:
    server = servers(INTERFACE="omi", OMI_MODEL=f"{MODELS}:Totals")
    script = str(PEERS / "discovering_client.py")
    done = grpc_clients.run(script, str(server.port("omi")), version)
    assert done.code == 0, done
    said = json.loads(done.out)
    ours = ["ModzyModel", "openmodel.v2.InferenceService"]
    reflection = [f"grpc.reflection.{name}.ServerReflection" for name in ("v1", "v1alpha")]
    assert said["services"] == sorted([*ours, "grpc.health.v1.Health", *reflection])
    (output,) = said["run"]["outputs"]
    assert output["success"]
    (answer,) = said["stream"]
    for response in (said["predict"], answer):
        assert response["success"]
        data = {"data": "My4w", "contentType": "application/json"}  # 3.0
        assert response["outputs"] == [{"key": "total", "data": data}]
        assert response["timings"]["total"].endswith("s")
    names = ["", *ours]
    assert said["health"] == {
        "checked": {name: ["SERVING", "SERVING"] for name in names},
        "listed": dict.fromkeys(names, "SERVING"),
    }
