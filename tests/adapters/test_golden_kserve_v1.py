"""KServe V1, byte for byte: golden/kserve_v1.http, and what a text file cannot show."""

import json
from pathlib import Path

import pytest
from golden_files import Exchange, announce, read, replay, send
from golden_servers import Gate, Serve


@pytest.mark.parametrize("exchange", read("kserve_v1.http") + read("kserve_events.http"), ids=str)
def test_exchange(exchange: Exchange, serve: Serve) -> None:
    replay(exchange, serve(exchange.model, "kserve").address)


def test_bytes_that_are_no_utf8(serve: Serve) -> None:
    address = serve("Words", "kserve").address
    answer = send(address, "POST", "/v1/models/words:predict", b'{"instances": ["\xff"]}')
    assert answer.status == 400
    assert list(answer.json()) == ["error"]


def test_a_full_queue_is_told_with_a_time_to_come_back(serve: Serve, gate: Gate) -> None:
    address = serve("Gate", "kserve", OMI_QUEUE_SIZE="1").address
    path = "/v1/models/gate:predict"
    with gate.occupied(lambda: send(address, "POST", path, _instances(gate.path))) as first:
        refused = send(address, "POST", path, _instances(gate.path))
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert list(refused.json()) == ["error"]
        assert "OMI_QUEUE_SIZE is 1" in refused.json()["error"]
    assert first.result().body == b'{"predictions":["open"]}'


@pytest.mark.parametrize("path", ["/v1/models/total:predict", "/v1/models/total:explain"])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(serve: Serve, path: str) -> None:
    answer = announce(serve("Total", "kserve").address, path, 2**40)
    assert answer.status == 413
    assert answer.json() == {
        "error": "the request is larger than 262144000 bytes, which OMI_MAX_REQUEST_BYTES allows"
    }


@pytest.mark.parametrize(
    ("policy", "predictions"),
    [("null", b"[1.5,null,null]"), ("string", b'[1.5,"NaN","-Infinity"]')],
)
def test_what_json_has_no_word_for(policy: str, predictions: bytes, serve: Serve) -> None:
    address = serve("Decimals", "kserve", OMI_NAN=policy).address
    body = b'{"instances": ["1.5", "nan", "-inf"]}'
    answer = send(address, "POST", "/v1/models/decimals:predict", body)
    assert answer.status == 200
    assert answer.body == b'{"predictions":%b}' % predictions


@pytest.mark.parametrize(
    ("model", "instances", "predictions"),
    [
        ("Blob", ["AAECgP8=", ""], [{"b64": "/4ACAQA="}, {"b64": ""}]),
        ("Blob", [{"b64": "AAECgP8="}], [{"b64": "/4ACAQA="}]),
        ("Words", ["bmHDr3Zl"], ["NAÏVE"]),
        ("Total", ["WzEsIDJd", [3, 4]], [3, 7]),
    ],
)
def test_bare_base64_as_chassis_had_it(
    model: str, instances: list, predictions: list, serve: Serve
) -> None:
    address = serve(model, "kserve", OMI_V1_BASE64="1").address
    body = json.dumps({"instances": instances}).encode()
    answer = send(address, "POST", f"/v1/models/{model.lower()}:predict", body)
    assert answer.json() == {"predictions": predictions}


@pytest.mark.parametrize(
    ("model", "instance", "error"),
    [
        ("Blob", "a*b=", "blob: expected base64, as OMI_V1_BASE64 is on"),
        ("Words", "/w==", "text: is not UTF-8: invalid start byte at byte 0"),
    ],
)
def test_what_is_no_bare_base64(model: str, instance: str, error: str, serve: Serve) -> None:
    address = serve(model, "kserve", OMI_V1_BASE64="1").address
    body = json.dumps({"instances": [instance]}).encode()
    answer = send(address, "POST", f"/v1/models/{model.lower()}:predict", body)
    assert (answer.status, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize(
    "body", [{"instances": [{"text": "bmHDr3Zl"}]}, {"inputs": {"text": ["bmHDr3Zl"]}}]
)
def test_values_with_a_name_are_no_bare_base64(body: dict, serve: Serve) -> None:
    address = serve("Words", "kserve", OMI_V1_BASE64="1").address
    answer = send(address, "POST", "/v1/models/words:predict", json.dumps(body).encode())
    assert answer.json() == {"predictions": ["BMHDR3ZL"]}


def test_nor_are_columns_of_json(serve: Serve) -> None:
    address = serve("Document", "kserve", OMI_V1_BASE64="1").address
    body = json.dumps({"inputs": {"document": ["e30="]}}).encode()
    answer = send(address, "POST", "/v1/models/document:predict", body)
    assert (answer.status, answer.json()) == (400, {"error": "document: expected an object"})


def test_the_attributes_of_an_answering_event_can_be_chosen(serve: Serve) -> None:
    settings = {"CE_TYPE": "org.example.answered", "CE_SOURCE": "here", "CE_MERGE": "true"}
    address = serve("Total", "kserve", **settings).address
    event = {"specversion": "1.0", "id": "42", "source": "there", "type": "asked", "subject": "s"}
    event["data"] = {"instances": [[1, 2]]}
    headers = {"content-type": "application/cloudevents+json"}
    body = json.dumps(event).encode()
    answer = send(address, "POST", "/v1/models/total:predict", body, headers).json()
    assert answer["id"] != "42"
    assert {name: answer[name] for name in ("type", "source", "subject", "data")} == {
        "type": "org.example.answered",
        "source": "here",
        "subject": "s",
        "data": {"predictions": [3]},
    }


def test_the_routes_are_described(serve: Serve) -> None:
    answer = send(serve("Total", "kserve").address, "GET", "/openapi.json")
    assert answer.status == 200
    assert set(answer.json()["paths"]) >= {
        "/v1/models",
        "/v1/models/{model}",
        "/v1/models/{model}:predict",
        "/v1/models/{model}:explain",
    }


def _instances(*values: Path) -> bytes:
    return json.dumps({"instances": [str(value) for value in values]}).encode()


@pytest.mark.parametrize(
    "limit", ["0", "0.0", "-1", "+1", "1e3", "nan", "inf", "1_0", "1,5", ".5", "1.", "9" * 400, ""]
)
def test_what_is_no_limit_of_time(limit: str, serve: Serve) -> None:
    address = serve("Total", "kserve").address
    for path in ("/v1/models/total:predict", "/v2/models/total/infer"):
        answer = send(address, "POST", path, b"{}", {"x-request-timeout": limit})
        assert answer.status == 400
        assert answer.json()["error"].startswith(f"X-Request-Timeout '{limit}' is no number")
