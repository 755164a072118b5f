"""chassis's own client, `OMIClient` of chassisml 1.5.0, against our server."""

from __future__ import annotations

import json
from typing import Any

import environments
import pytest
from clients import MODELS
from environments import PEERS, Environment


@pytest.fixture(scope="module")
def chassis() -> Environment:
    return environments.require("chassis", "chassisml==1.5.0")


def total(value: float, explanation: str = "null") -> list[Any]:
    text = '{"data":{"result":%s,"explanation":%s,"drift":null}}'
    return [True, {"results.json": text % (value, explanation)}]


def failed(reason: str) -> list[Any]:
    prefix = "Failed to process model input. Exception Encountered: "
    return [False, {"error": prefix + reason}]


def test_status_run_batch_errors_and_shutdown(chassis: Environment, servers: Any) -> None:
    server = servers(INTERFACE="omi", OMI_MODEL=f"{MODELS}:Totals")
    done = chassis.run(str(PEERS / "chassis_client.py"), str(server.port("omi")))
    assert done.code == 0, done
    said = json.loads(done.out)

    status = said["status"]
    assert (status["status_code"], status["status"]) == (200, "OK")
    assert status["message"] == "Model Already Initialized."  # the first had come on entering
    assert status["model_info"]["model_name"] == "totals"
    assert [file["filename"] for file in status["inputs"]] == ["pair"]
    assert status["features"]["batch_size"] == 8

    assert said["run"] == [200, "OK", "Inference executed", [total(3.0)]]
    assert said["batch"] == [total(i + 1.0) for i in range(20)]
    accepted = "pair, pair.json, pair.npy, pair.csv, pair.bin"
    assert said["mixed"] == [
        total(2.0),
        failed("pair: 5 is refused"),
        failed(f"input 'pair' is missing: send one of {accepted}"),
        total(4.0),
    ]
    assert said["explained"] == [total(3.0, '{"first":1.0,"second":2.0}')]
    assert said["large"] == [total(3.0)]
    assert said["shutdown"] == [200, "OK", "Model Shutdown Successfully."]
    assert server.wait() == 0
