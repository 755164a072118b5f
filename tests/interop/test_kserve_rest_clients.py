"""The REST clients of others, against our server: tritonclient's, and the one of KServe's SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import environments
import pytest
from environments import PEERS, Environment

MODELS = Path(__file__).parents[1] / "adapters" / "models.py"


@pytest.fixture(scope="module")
def triton() -> Environment:
    return environments.require("triton-http", "tritonclient[http]==2.73.0")


@pytest.fixture(scope="module")
def sdk() -> Environment:
    return environments.kserve_sdk()


def said(peer: Environment, script: str, *arguments: str) -> Any:
    """What a peer's script prints."""
    done = peer.run(str(PEERS / script), *arguments, seconds=120)
    assert done.code == 0, done
    return json.loads(done.out)


ENTRY = {"version": "1.0.0", "state": "READY"}
UNLOADED = {"version": "1.0.0", "state": "UNAVAILABLE", "reason": "unloaded"}


def check_what_is_not_inferred(answers: Any, model: str) -> None:
    """Health, index, loading and unloading."""
    about = answers["about"]
    truths = [about[key] for key in ("live", "ready", "model", "version", "other")]
    assert truths == [True, True, True, True, False]
    assert about["index"] == [ENTRY | {"name": model}]
    assert "model_repository" in about["server"]["extensions"]
    assert answers["repository"] == {
        "unloaded": [UNLOADED | {"name": model}],
        "ready": False,
        "loaded": True,
    }


def test_tritonclient_tensors(triton: Environment, servers: Any) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{MODELS}:Total", OMI_ADMIN="on")
    address = f"127.0.0.1:{server.port('kserve')}"
    answers = said(triton, "triton_http.py", address, "total")
    check_what_is_not_inferred(answers, "total")
    assert answers["about"]["metadata"]["inputs"] == [
        {"name": "values", "datatype": "INT32", "shape": [-1, 2]}
    ]
    inferred = answers["answers"]
    for sent in (True, False):
        for wanted in (True, False):
            assert inferred[f"{sent} {wanted}"] == ["int64", [3, 70]]
    assert inferred["all"] == inferred["version"] == [3, 70]
    assert inferred["id"] == "7"
    assert inferred["explained"] == ['{"largest":2}', '{"largest":40}']
    assert inferred["async"] == [[3, 70]] * 8
    assert inferred["refused"] == ["404", "no model 'other' here, only 'total'"]
    assert inferred["wrong"] == ["400", "input 'values': has datatype 'INT64', expected INT32"]


def test_tritonclient_bytes(triton: Environment, servers: Any) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{MODELS}:Words", OMI_ADMIN="on")
    address = f"127.0.0.1:{server.port('kserve')}"
    answers = said(triton, "triton_http.py", address, "words")
    check_what_is_not_inferred(answers, "words")
    assert answers["answers"] == {"True": ["NAÏVE", "PLAIN"], "False": ["NAÏVE", "PLAIN"]}


def test_the_client_of_kserves_sdk(sdk: Environment, servers: Any) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{MODELS}:Total")
    answers = said(sdk, "kserve_rest.py", f"http://127.0.0.1:{server.port('kserve')}")
    assert answers["v1"] == {
        "live": True,
        "ready": True,
        "predict": {"predictions": [3, 70]},
        "explain": {"predictions": [3, 70], "explanations": [{"largest": 2}, {"largest": 40}]},
        "other": [404, "no model 'other' here"],
        "wrong": [400, "values: has shape [1]"],
    }
    v2 = answers["v2"]
    assert [v2[key] for key in ("live", "ready", "model", "other")] == [True, True, True, False]
    for binary in (True, False):
        assert v2[str(binary)] == ["7", "total", "INT64", [2], [3, 70]]
