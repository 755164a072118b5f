"""Open Inference Protocol V2: JSON, binary tensors over REST, and raw tensors over gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import functions
import numpy as np
from load import Concurrency, Request, parse_json
from workload import OURS, Side, Target, Workload

LENGTH = "Inference-Header-Content-Length"


def _array(model: str) -> np.ndarray:
    shape = (1, *functions.item_shape(model))
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def _tensor(model: str) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": list(_array(model).shape)}


def _json(model: str) -> Callable[[], Request]:
    def make() -> Request:
        tensor = _tensor(model) | {"data": _array(model).ravel().tolist()}
        return Request(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode())

    return make


def _binary(model: str) -> Callable[[], Request]:
    def make() -> Request:
        data = _array(model).tobytes()
        tensor = _tensor(model) | {"parameters": {"binary_data_size": len(data)}}
        content = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        head = json.dumps(content).encode()
        headers = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return Request(f"/v2/models/{model}/infer", head + data, headers)

    return make


def _raw(model: str) -> Callable[[], Request]:
    def make() -> Request:
        from omi_kserve._pb import open_inference_pb2 as pb

        tensor = pb.ModelInferRequest.InferInputTensor(
            name="x", datatype="FP32", shape=_array(model).shape
        )
        message = pb.ModelInferRequest(
            model_name=model, inputs=[tensor], raw_input_contents=[_array(model).tobytes()]
        )
        path = "/inference.GRPCInferenceService/ModelInfer"
        return Request(path, message.SerializeToString(), grpc=True)

    return make


def _from_json(body: bytes) -> Any:
    content: Any = parse_json(body)
    return np.ravel(content["outputs"][0]["data"])


def _from_binary(body: bytes) -> Any:
    size = int(np.prod(functions.item_shape("identity"))) * 4
    return np.frombuffer(body[-size:], "<f4")


def _from_raw(message: bytes) -> Any:
    from omi_kserve._pb import open_inference_pb2 as pb

    answer = pb.ModelInferResponse.FromString(message)
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[0], "<f4")
    return np.array(answer.outputs[0].contents.fp32_contents, np.float32)


def _json_sides(model: str, *peers: str) -> dict[str, Side]:
    return dict.fromkeys((OURS, *peers), Side(_json(model), _from_json))


_CONSTANT = Side(lambda: Request("/", _json("linear")().body), None)

WORKLOADS = [
    Workload(
        "v2-small",
        "V2 JSON, 1x4, 16 connections",
        "linear",
        _json_sides("linear", "kserve", "mlserver") | {"bare_http": _CONSTANT},
        Concurrency(16),
        {"kserve": Target(7.0), "mlserver": Target(6.0), "bare_http": Target(0.5)},
        "V2",
    ),
    Workload(
        "v2-image-json",
        "V2 JSON, 1x3x224x224 FP32 both ways, 2 connections",
        "identity",
        _json_sides("identity", "kserve", "mlserver"),
        Concurrency(2),
        {"kserve": Target(12.0), "mlserver": Target(1.15)},
        "V2 large",
    ),
    Workload(
        "v2-image-binary",
        "V2 REST binary, 1x3x224x224 FP32 both ways, 2 connections (MLServer: its JSON)",
        "identity",
        {
            OURS: Side(_binary("identity"), _from_binary),
            "kserve": Side(_binary("identity"), _from_binary),
            "mlserver": Side(_json("identity"), _from_json),
        },
        Concurrency(2),
        {"kserve": Target(2.0), "mlserver": Target(5.0)},
        "V2 large",
    ),
    Workload(
        "v2-grpc-small",
        "V2 gRPC raw, 1x4, 4x4 streams",
        "linear",
        dict.fromkeys((OURS, "kserve", "mlserver"), Side(_raw("linear"), _from_raw)),
        Concurrency(4, 4),
        {"kserve": Target(2.0)},
        "V2",
    ),
    Workload(
        "v2-grpc-image",
        "V2 gRPC raw, 1x3x224x224 FP32 both ways, 4 connections",
        "identity",
        dict.fromkeys((OURS, "kserve", "mlserver"), Side(_raw("identity"), _from_raw)),
        Concurrency(4, 1),
        {"kserve": Target(1.1)},
        "V2 large",
    ),
    Workload(
        "v2-accelerator",
        "V2 JSON, a model with a fixed cost of 2 ms a call, 64 connections",
        "accelerator",
        _json_sides("accelerator", "kserve", "mlserver"),
        Concurrency(64),
        {"kserve": Target(10.0), "mlserver": Target(2.0)},
        "Models",
    ),
    Workload(
        "v2-forest",
        "V2 JSON, random forest of 100 trees, single rows, 32 connections",
        "forest",
        _json_sides("forest", "kserve", "mlserver"),
        Concurrency(32),
        {"kserve": Target(5.0), "mlserver": Target(1.5)},
        "Models",
    ),
]
