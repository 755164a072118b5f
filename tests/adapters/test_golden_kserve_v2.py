"""The Open Inference Protocol V2 over REST, byte for byte: golden/kserve_v2.http, and more."""

import json

import numpy as np
import pytest
from golden_files import Answer, Exchange, announce, read, replay, send
from golden_servers import Gate, Serve, Server


@pytest.mark.parametrize("exchange", read("kserve_v2.http"), ids=str)
def test_exchange(exchange: Exchange, serve: Serve) -> None:
    replay(exchange, serve(exchange.model, "kserve").address)


# How a float is spelt (3.4e38 or 3.4e+38) is the JSON writer's own business: these by value.
FLOATS = {
    "FP16": (np.float16, [-65504.0, 65504.0, 2**-14, 2**-24, 0.1]),
    "FP32": (np.float32, [-3.4028234663852886e38, 3.4028234663852886e38, 2**-126, 2**-149, 0.1]),
    "FP64": (np.float64, [-1.7976931348623157e308, 1.7976931348623157e308, 2**-1022, 5e-324, 0.1]),
    "BF16": (np.float32, [-3.3895313892515355e38, 3.3895313892515355e38, 2**-126, 2**-133, 0.125]),
}


@pytest.mark.parametrize("datatype", FLOATS)
def test_floats_at_their_extremes(datatype: str, serve: Serve) -> None:
    dtype, values = FLOATS[datatype]
    name = datatype.lower()
    tensor = {"name": name, "datatype": datatype, "shape": [len(values)]}
    asked = {"inputs": [tensor | {"data": values}], "outputs": [{"name": name}]}
    answer = infer(serve("Datatypes", "kserve"), "datatypes", asked)
    (output,) = answer.json()["outputs"]
    data = output.pop("data")
    assert output == tensor
    assert np.array(data, dtype).tobytes() == np.array(values, dtype).tobytes()


def test_every_datatype_is_in_the_metadata(serve: Serve) -> None:
    answer = send(serve("Datatypes", "kserve").address, "GET", "/v2/models/datatypes")
    expected = [
        {"name": datatype.lower(), "datatype": datatype, "shape": [-1]}
        for datatype in (
            *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
            *("FP16", "FP32", "FP64", "BF16", "BYTES"),
        )
    ]
    assert answer.json()["inputs"] == expected
    assert answer.json()["outputs"] == expected


def test_a_full_queue_is_told_with_a_time_to_come_back(serve: Serve, gate: Gate) -> None:
    server = serve("Gate", "kserve", OMI_QUEUE_SIZE="1")
    path = {"name": "path", "shape": [1], "datatype": "BYTES", "data": [str(gate.path)]}
    with gate.occupied(lambda: infer(server, "gate", {"inputs": [path]})) as first:
        refused = infer(server, "gate", {"inputs": [path]})
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert list(refused.json()) == ["error"]
    assert first.result().json()["outputs"][0]["data"] == ["open"]


def test_a_body_over_the_limit_is_refused_before_it_is_sent(serve: Serve) -> None:
    answer = announce(serve("Total", "kserve").address, "/v2/models/total/infer", 2**40)
    assert answer.status == 413
    assert answer.json() == {
        "error": "the request is larger than 262144000 bytes, which OMI_MAX_REQUEST_BYTES allows"
    }


def test_the_name_served_may_be_another(serve: Serve) -> None:
    address = serve("Total", "kserve", MODEL_NAME="Été 2").address
    path = "/v2/models/%C3%89t%C3%A9%202"
    assert send(address, "GET", path + "/ready").json() == {"name": "Été 2", "ready": True}
    assert send(address, "GET", "/v2/models/total").status == 404
    body = b'{"inputs":[{"name":"values","shape":[2],"datatype":"INT32","data":[1,2]}]}'
    answer = send(address, "POST", path + "/versions/1.0.0/infer", body)
    assert answer.json()["model_name"] == "Été 2"


def test_the_routes_are_described(serve: Serve) -> None:
    answer = send(serve("Total", "kserve").address, "GET", "/openapi.json")
    assert set(answer.json()["paths"]) >= {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/versions/{version}/infer",
    }


def infer(server: Server, model: str, request: dict) -> Answer:
    return send(server.address, "POST", f"/v2/models/{model}/infer", json.dumps(request).encode())
