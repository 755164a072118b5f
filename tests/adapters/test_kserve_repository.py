"""The model repository extension: golden/kserve_repository.http; with OMI_ADMIN, step by step."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clients import until
from golden_files import PATIENCE, Answer, Exchange, read, replay, send
from golden_servers import Gate, Serve


@pytest.mark.parametrize("exchange", read("kserve_repository.http"), ids=str)
def test_exchange(exchange: Exchange, serve: Serve) -> None:
    replay(exchange, serve(exchange.model, "kserve").address)


def ask(address: str, verb: str, model: str = "gate", body: Any = None) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    return send(address, "POST", f"/v2/repository/models/{model}/{verb}", data)


def predict(address: str, path: Path) -> Answer:
    body = json.dumps({"instances": [str(path)]}).encode()
    return send(address, "POST", "/v1/models/gate:predict", body)


def states(address: str) -> dict[str, Any]:
    """What every route says of the model."""
    index = send(address, "POST", "/v2/repository/index").json()
    ready = send(address, "POST", "/v2/repository/index", b'{"ready": true}').json()
    return {
        "state": index[0]["state"],
        "reason": index[0].get("reason"),
        "index of ready": [row["name"] for row in ready],
        "/v2/health/live": send(address, "GET", "/v2/health/live").status,
        "/v2/health/ready": send(address, "GET", "/v2/health/ready").status,
        "/v2/models/gate/ready": send(address, "GET", "/v2/models/gate/ready").status,
        "/v2/models/gate": send(address, "GET", "/v2/models/gate").status,
        "/v1/models/gate": send(address, "GET", "/v1/models/gate").status,
        "models": send(address, "GET", "/v2/models").json()["models"],
        "v1 models": send(address, "GET", "/v1/models").json()["models"],
    }


LOADED = {
    "state": "READY",
    "reason": None,
    "index of ready": ["gate"],
    "/v2/health/live": 200,
    "/v2/health/ready": 200,
    "/v2/models/gate/ready": 200,
    "/v2/models/gate": 200,
    "/v1/models/gate": 200,
    "models": ["gate"],
    "v1 models": ["gate"],
}
UNLOADING = LOADED | {
    "state": "UNLOADING",
    "index of ready": [],
    "/v2/health/ready": 503,
    "/v2/models/gate/ready": 503,
    "/v2/models/gate": 503,
    "/v1/models/gate": 503,
}
UNLOADED = UNLOADING | {
    "state": "UNAVAILABLE",
    "reason": "unloaded",
    "models": [],
    "v1 models": [],
}


def test_unloading_waits_for_what_is_in_flight_and_every_route_tells_the_truth(
    serve: Serve, gate: Gate
) -> None:
    address = serve("Gate", "kserve", OMI_ADMIN="1").address
    extensions = send(address, "GET", "/v2").json()["extensions"]
    assert "model_repository" in extensions
    assert states(address) == LOADED
    with ThreadPoolExecutor(1) as threads:
        with gate.occupied(lambda: predict(address, gate.path)) as first:
            unloading = threads.submit(ask, address, "unload")
            until(
                lambda: send(address, "GET", "/v2/health/ready").status == 503, "unloading begins"
            )
            assert states(address) == UNLOADING
            refused = predict(address, gate.path)
            assert (refused.status, refused.json()) == (503, {"error": "the model is unloaded"})
            assert not unloading.done()
        assert first.result().json() == {"predictions": ["open"]}
        assert unloading.result().json() == {"name": "gate", "unload": True}
    assert states(address) == UNLOADED
    assert ask(address, "unload").status == 200
    refused = predict(address, gate.path)
    assert (refused.status, refused.json()) == (503, {"error": "the model is unloaded"})
    assert ask(address, "load").json() == {"name": "gate", "load": True}
    assert states(address) == LOADED
    assert ask(address, "load").status == 200, "again"
    assert predict(address, gate.path).json() == {"predictions": ["open"]}


def test_unloading_goes_on_when_the_client_does_not_wait(serve: Serve, gate: Gate) -> None:
    address = serve("Gate", "kserve", OMI_ADMIN="1").address
    assert ask(address, "load").status == 200
    with gate.occupied(lambda: predict(address, gate.path)) as first:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("POST", "/v2/repository/models/gate/unload")
        until(lambda: states(address)["state"] == "UNLOADING", "unloading begins")
        connection.close()
    assert first.result().json() == {"predictions": ["open"]}
    until(lambda: states(address) == UNLOADED, "it is unloaded")
    assert ask(address, "load").status == 200
    assert states(address) == LOADED


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_what_cannot_be_asked_for(verb: str, serve: Serve) -> None:
    address = serve("Gate", "kserve", OMI_ADMIN="1").address
    assert ask(address, verb, model="other").status == 404
    for body, status, error in (
        ([], 400, "expected a JSON object"),
        ({"parameters": []}, 200, None),
        ({"parameters": [1]}, 400, "parameters: expected an object"),
        ({"parameters": {"config": "{}"}}, 501, "parameters.config: is not offered here"),
    ):
        answer = ask(address, verb, body=body)
        assert answer.status == status
        assert answer.json().get("error") == error


def test_a_load_that_fails_says_why_and_can_be_repeated(serve: Serve, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    address = serve("Fragile", "kserve", OMI_ADMIN="1", FRAGILE_KEY=str(key)).address
    assert ask(address, "unload", "fragile").status == 200
    key.unlink()
    answer = ask(address, "load", "fragile")
    assert answer.status == 503
    assert "LookupError: the key is missing" in answer.json()["error"]
    (entry,) = send(address, "POST", "/v2/repository/index").json()
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "it failed to load")
    key.touch()
    assert ask(address, "load", "fragile").status == 200
    assert send(address, "GET", "/v2/health/ready").status == 200
