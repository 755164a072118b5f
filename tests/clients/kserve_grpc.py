"""The KServe wire over gRPC: the Open Inference Protocol V2, with typed contents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import grpc
import numpy as np
from omi_kserve._pb import open_inference_pb2 as pb

from clients.base import Answer, Client, Failure, Item, Outcome
from clients.omi import LIMIT, channel_to, id_over, lose
from clients.process import Server
from omi_runtime.errors import ErrorCode
from omi_runtime.transport._pb import health_pb2

SERVICE: Final = "inference.GRPCInferenceService"
_CODES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_INPUT,
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    },
    grpc.StatusCode.NOT_FOUND: {ErrorCode.MODEL_NOT_FOUND},
    grpc.StatusCode.UNAVAILABLE: {ErrorCode.MODEL_NOT_READY},
    grpc.StatusCode.UNIMPLEMENTED: {ErrorCode.NOT_OFFERED},
    grpc.StatusCode.INTERNAL: {ErrorCode.INFERENCE_FAILED, ErrorCode.INTERNAL},
    grpc.StatusCode.DEADLINE_EXCEEDED: {ErrorCode.DEADLINE_EXCEEDED},
}
_FIELDS: Final = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "BYTES": "bytes_contents",
}


class KServeGRPCClient(Client):
    wire: ClassVar = "kserve-grpc"
    interface: ClassVar = "kserve"
    port_variable: ClassVar = "OMI_GRPC_PORT"
    opens_early: ClassVar = False
    item_errors: ClassVar = False
    explains: ClassVar = True
    stops: ClassVar = False
    names_models: ClassVar = True
    mixes: ClassVar = False
    carries_nan: ClassVar = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.channel = channel_to(self.port)

    @classmethod
    def port_of(cls, server: Server) -> int:
        return int(server.wait_for_log(r"gRPC V2 on port (\d+)")[1])

    def call(self, method: str, request: Any, response: Any, seconds: float = 30.0) -> Any:
        """One unary call; bytes are sent as they are."""
        serialize = None if isinstance(request, bytes) else type(request).SerializeToString
        stub = self.channel.unary_unary(f"/{method}", serialize, response.FromString)
        return stub(request, timeout=seconds)

    def ask(self, method: str, seconds: float = 5.0, **fields: Any) -> Any:
        """One call of the service, by its name."""
        request = getattr(pb, f"{method}Request")(**fields)
        return self.call(f"{SERVICE}/{method}", request, getattr(pb, f"{method}Response"), seconds)

    def id_of(self, request_id: str | None, *, good: bool = True) -> str:
        method = "ServerLive" if good else "ModelInfer"
        return id_over(self.channel, f"{SERVICE}/{method}", b"", request_id)

    def live(self) -> bool:
        try:
            return bool(self.ask("ServerLive").live)
        except grpc.RpcError:
            return False

    def ready(self) -> bool:
        try:
            words = {
                self.ask("ServerReady").ready,
                self.ask("ModelReady", name=self.spec.name).ready,
                *(self._serves(service) for service in ("", SERVICE)),
            }
        except grpc.RpcError:
            return False
        return words == {True}

    def infer(self, items: Sequence[Item], *, explain: bool = False) -> list[Outcome]:
        request = pb.ModelInferRequest(model_name=self.spec.name, id="same")
        if explain:
            request.parameters["explain"].bool_param = True
        for name in dict.fromkeys(name for item in items for name in item):
            request.inputs.append(self._tensor(name, [item[name] for item in items]))
        if not items:
            for tensor in self.ask("ModelMetadata", name=self.spec.name).inputs:
                shape = [max(0, size) for size in tensor.shape]
                request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        try:
            answer = self._infer(request)
        except grpc.RpcError as error:
            return [failure(error)] * len(items)
        assert answer.id == "same", answer
        columns = {tensor.name: self._column(tensor) for tensor in answer.outputs}
        assert set(columns) == {*self.spec.outputs, *(["explain"] if explain else [])}, answer
        assert {len(column) for column in columns.values()} == {len(items)}, answer
        explanations = columns.pop("explain", [None] * len(items))
        return [
            Answer({name: column[row] for name, column in columns.items()}, explanations[row])
            for row in range(len(items))
        ]

    def nonsense(self) -> Failure | None:
        return self._refused(b"\x0a\xc8\x01{")

    def foreign(self) -> Failure | None:
        request = pb.ModelInferRequest(model_name=self.spec.name)
        for name in self.spec.inputs:
            request.inputs.add(name=name, datatype="PNG", shape=[1])
        return self._refused(request)

    def stranger(self) -> Failure | None:
        return self._refused(pb.ModelInferRequest(model_name="stranger"))

    def lost(self) -> int:
        lose(self.channel)
        return 2

    def metadata(self) -> bool:
        return bool(self.ask("ModelMetadata", name=self.spec.name).name == self.spec.name)

    def oversized(self) -> Failure | None:
        return self._refused(bytes(LIMIT + 1))

    def close(self) -> None:
        self.channel.close()

    def _infer(self, request: Any) -> Any:
        method = f"{SERVICE}/ModelInfer"
        return self.call(method, request, pb.ModelInferResponse, self.limit or 30.0)

    def _refused(self, request: Any) -> Failure | None:
        try:
            self._infer(request)
        except grpc.RpcError as error:
            return failure(error)
        return None

    def _serves(self, service: str) -> bool:
        request = health_pb2.HealthCheckRequest(service=service)
        response = health_pb2.HealthCheckResponse
        answer = self.call("grpc.health.v1.Health/Check", request, response, 5.0)
        return bool(answer.status == response.SERVING)

    def _tensor(self, name: str, values: list[Any]) -> Any:
        kind = self.spec.inputs.get(name, "FP32")
        datatype = "BYTES" if kind in ("bytes", "json", "text") else kind
        shape = [len(values)]
        while isinstance(values[0], list):
            shape.append(len(values[0]))
            values = [value for row in values for value in row]
        tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
        if kind == "json":
            values = [json.dumps(value) for value in values]
        field = getattr(tensor.contents, _field(datatype, values))
        field.extend(_element(value) for value in values if value is not None)
        return tensor

    def _column(self, tensor: Any) -> list[Any]:
        kind = self.spec.outputs.get(tensor.name, "json")
        expected = "BYTES" if kind in ("bytes", "json", "text") else kind
        assert tensor.datatype == expected, tensor
        elements = list(getattr(tensor.contents, _FIELDS[tensor.datatype]))
        if kind == "json":
            elements = [json.loads(element) for element in elements]
        if kind == "text":
            elements = [element.decode() for element in elements]
        column: list[Any] = np.array(elements, object).reshape(tuple(tensor.shape)).tolist()
        return column


def failure(error: grpc.RpcError) -> Failure:
    """A refused call."""
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # The status of two codes; the text says what may be tried again.
        retry = "try again" in error.details()
        code = ErrorCode.OVERLOADED if retry else ErrorCode.TOO_LARGE
        return Failure(frozenset({code}), error.details(), whole=True, retry=retry)
    codes = frozenset(_CODES.get(error.code(), ()))
    return Failure(codes, error.details(), whole=True)


def _field(datatype: str, values: list[Any]) -> str:
    """The field that takes the values: of the datatype, unless it is those of another."""
    if datatype == "FP32":
        if any(isinstance(value, bool) for value in values):
            return "fp64_contents"
        if any(isinstance(value, str) for value in values):
            return "bytes_contents"
        if any(isinstance(value, float) and abs(value) > 3e38 for value in values):
            return "fp64_contents"
    return _FIELDS[datatype]


def _element(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
