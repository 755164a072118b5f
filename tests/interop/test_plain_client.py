"""Clients generated from our .proto files by grpcio-tools, for protobuf 4 and for its newest."""

from __future__ import annotations

import json
from typing import Any

import environments
import pytest
from clients import MODELS
from clients.process import ROOT
from environments import PEERS

REQUIREMENTS = {
    "4": ["grpcio-tools==1.62.*", "protobuf==4.25.*", "setuptools<81"],
    "7": ["grpcio-tools>=1.85", "protobuf==7.*"],
}


@pytest.mark.parametrize("protobuf", REQUIREMENTS)
def test_a_plain_client(protobuf: str, servers: Any) -> None:
    plain = environments.require(f"plain-protobuf-{protobuf}", *REQUIREMENTS[protobuf])
    server = servers(INTERFACE="omi", OMI_MODEL=f"{MODELS}:Totals")
    port = str(server.port("omi"))
    done = plain.run(str(PEERS / "plain_client.py"), str(ROOT / "protos"), port)
    assert done.code == 0, done
    said = json.loads(done.out)
    assert said.pop("protobuf").startswith(f"{protobuf}.")
    assert said == {
        "status": [200, "totals"],
        "run": [[True, ["results.json"]], [False, ["error"]]],
        "result": '{"data":{"result":3.0,"explanation":null,"drift":null}}',
        "info": "totals",
        "predict": [True, "3.0", {"asked": "[1, 2]"}],
        "stream": [[True, {"asked": "[3, 4]"}], [False, {"asked": "[]"}]],
    }
