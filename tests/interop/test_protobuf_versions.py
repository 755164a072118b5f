"""Our own generated messages, and the server around them, with every protobuf that is supported."""

from __future__ import annotations

from typing import Any

import environments
import pytest
from clients import MODELS
from environments import PATIENCE
from omi_grpc._pb import inference_pb2 as pb
from omi_grpc.client import Client


@pytest.mark.parametrize(
    ("protobuf", "implementation"),
    [("5.29", "upb"), ("6", "upb"), ("7", "upb"), ("5.29", "python"), ("7", "python")],
)
def test_the_server_with_protobuf(protobuf: str, implementation: str, servers: Any) -> None:
    environment = environments.require(
        f"protobuf-{protobuf}", f"protobuf=={protobuf}.*", project=True
    )
    variables = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    used = "import google.protobuf as p; from google.protobuf.internal import api_implementation"
    told = environment.run(
        "-c", f"{used}; print(p.__version__, api_implementation.Type())", **variables
    )
    assert told.out.startswith(f"{protobuf}."), told
    assert told.out.split()[1] == implementation

    server = servers(
        environment.python,
        "-m",
        "omi_runtime",
        INTERFACE="omi",
        OMI_MODEL=f"{MODELS}:Totals",
        **variables,
    )
    with Client(f"127.0.0.1:{server.port('omi')}", patience=PATIENCE) as client:
        assert client.status().features.batch_size == 8
        good, bad = client.run([{"pair": [1, 2]}, {"pair": [-1, 5]}], explain=True)
        assert good.data["data"] == {
            "result": 3.0,
            "explanation": {"first": 1.0, "second": 2.0},
            "drift": None,
        }
        assert "5 is refused" in bad.error
        response = client.predict({"pair": [1, 2]}, {"a": "b"})
        assert (response.success, dict(response.tags)) == (True, {"a": "b"})
        assert response.timings.total.nanos > 0
        asked = pb.PredictRequest(inputs=[pb.Input(key="pair", text="[3, 4]")])
        assert [each.success for each in client.stream([asked, {"pair": []}])] == [True, False]
        client.shutdown()
    assert server.wait() == 0
