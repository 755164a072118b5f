"""The OMI wire: gRPC, `ModzyModel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import grpc
from omi_grpc._pb import model_pb2 as pb

from clients.base import Client, Failure, Item, Outcome
from clients.files import files_of, outputs_of
from omi_runtime.errors import ErrorCode
from omi_runtime.transport._pb import health_pb2

_ITEM: Final = frozenset(
    {
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ErrorCode.INVALID_INPUT,
        ErrorCode.INFERENCE_FAILED,
        ErrorCode.INTERNAL,
    }
)
_RUN: Final = {
    400: {ErrorCode.INVALID_REQUEST},
    500: {ErrorCode.INTERNAL},
    503: {ErrorCode.OVERLOADED},
    504: {ErrorCode.DEADLINE_EXCEEDED},
}
_CALL: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: {ErrorCode.INVALID_REQUEST},
    grpc.StatusCode.UNAVAILABLE: {ErrorCode.MODEL_NOT_READY},
    grpc.StatusCode.UNIMPLEMENTED: {ErrorCode.NOT_OFFERED},
    grpc.StatusCode.RESOURCE_EXHAUSTED: {ErrorCode.TOO_LARGE},
    grpc.StatusCode.INTERNAL: {ErrorCode.INTERNAL},
    grpc.StatusCode.DEADLINE_EXCEEDED: {ErrorCode.DEADLINE_EXCEEDED},
}
_NOT_INITIALIZED: Final = (
    "Failed to process model input. Model has not been initialized for inference."
)
_FAILED: Final = "Failed to process model input. Exception Encountered: "

LIMIT: Final = 250 * 1024 * 1024


def channel_to(port: int) -> grpc.Channel:
    """A channel without limits or proxies of its own."""
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # Every channel its own connection, as if every client were another process.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 100),
    ]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options)


def id_over(channel: grpc.Channel, method: str, data: bytes, request_id: str | None) -> str:
    """The id that comes with the answer to a request of this id, in its trailing metadata."""
    metadata = () if request_id is None else (("x-request-id", request_id),)
    try:
        _, call = channel.unary_unary(f"/{method}").with_call(data, 30.0, metadata)
        trailing = call.trailing_metadata()
    except grpc.RpcError as error:
        trailing = error.trailing_metadata()
    (echoed,) = (value for key, value in trailing if key == "x-request-id")
    return str(echoed)


def lose(channel: grpc.Channel) -> None:
    """Ask for a method of a service that there is, and for a service that there is not."""
    for path in ("/grpc.health.v1.Health/Sing", "/nowhere.Service/Call"):
        call: Any = channel.unary_unary(path)
        assert call.future(b"", timeout=30).code() is grpc.StatusCode.UNIMPLEMENTED


class OMIClient(Client):
    wire: ClassVar = "omi"
    interface: ClassVar = "omi"
    opens_early: ClassVar = True
    item_errors: ClassVar = True
    explains: ClassVar = True
    stops: ClassVar = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.channel = channel_to(self.port)

    def call(self, method: str, request: Any, response: Any, seconds: float = 30.0) -> Any:
        """One unary call; bytes are sent as they are."""
        serialize = (lambda data: data) if isinstance(request, bytes) else _serialize
        stub = self.channel.unary_unary(f"/{method}", serialize, response.FromString)
        return stub(request, timeout=seconds)

    def id_of(self, request_id: str | None, *, good: bool = True) -> str:
        data = b"" if good else b"\x0a\xc8\x01{"
        return id_over(self.channel, "ModzyModel/Run", data, request_id)

    def status(self, seconds: float = 30.0) -> Any:
        """The answer to a Status, which waits while the model loads."""
        return self.call("ModzyModel/Status", pb.StatusRequest(), pb.StatusResponse, seconds)

    def health(self, service: str = "") -> Any:
        """The standard health service's word."""
        request = health_pb2.HealthCheckRequest(service=service)
        answer = self.call(
            "grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse, 5.0
        )
        return answer.status

    def live(self) -> bool:
        try:
            self.health()
        except grpc.RpcError:
            return False
        return True

    def ready(self) -> bool:
        try:
            words = {self.health(), self.health("ModzyModel")}
        except grpc.RpcError:
            return False
        return words == {health_pb2.HealthCheckResponse.SERVING}

    def infer(self, items: Sequence[Item], *, explain: bool = False) -> list[Outcome]:
        inputs = [pb.InputItem(input=files_of(item, self.spec)) for item in items]
        return self._run(pb.RunRequest(inputs=inputs, explain=explain), len(items))

    def nonsense(self) -> Failure | None:
        # Field 1 is a message, and its declared 200 bytes are not there.
        return _whole(self._run(b"\x0a\xc8\x01{", 0))

    def foreign(self) -> Failure | None:
        files = {f"{name}.xml": b"<value/>" for name in self.spec.inputs}
        (outcome,) = self._run(pb.RunRequest(inputs=[pb.InputItem(input=files)]), 1)
        return outcome if isinstance(outcome, Failure) else None

    def lost(self) -> int:
        lose(self.channel)
        return 2

    def oversized(self) -> Failure | None:
        # Sent as bytes that were never a message: the server has to refuse them by their length.
        return _whole(self._run(bytes(LIMIT + 1), 0))

    def reload(self) -> Failure | None:
        answer = self.status()
        if answer.status_code == 200:
            return None
        assert (answer.status_code, answer.status) == (500, "Internal Server Error")
        return Failure(frozenset({ErrorCode.MODEL_NOT_READY}), answer.message)

    def stop(self) -> Failure | None:
        try:
            answer = self.call("ModzyModel/Shutdown", pb.ShutdownRequest(), pb.ShutdownResponse)
        except grpc.RpcError as error:
            return _of_call(error)
        assert (answer.status_code, answer.status) == (200, "OK"), answer
        return None

    def close(self) -> None:
        self.channel.close()

    def _run(self, request: Any, n: int) -> list[Outcome]:
        try:
            answer = self.call("ModzyModel/Run", request, pb.RunResponse, self.limit or 30.0)
        except grpc.RpcError as error:
            return [_of_call(error)] * (n or 1)
        assert len(answer.outputs) == n, answer
        if answer.status_code == 200:
            return [self._outcome(output) for output in answer.outputs]
        assert not any(output.success for output in answer.outputs), answer
        codes = frozenset(_RUN[answer.status_code])
        failure = Failure(codes, answer.message, whole=True, retry=answer.status_code == 503)
        return [failure] * (n or 1)

    def _outcome(self, item: Any) -> Outcome:
        assert item.success == ("error" not in item.output), item
        if item.success:
            return outputs_of(dict(item.output), self.spec)
        text = item.output["error"].decode()
        if text == _NOT_INITIALIZED:
            return Failure(frozenset({ErrorCode.MODEL_NOT_READY}), text)
        assert text.startswith(_FAILED), text
        return Failure(_ITEM, text)


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _of_call(error: grpc.RpcError) -> Failure:
    codes = frozenset(_CALL.get(error.code(), ()))
    return Failure(codes, f"{error.code().name}: {error.details()}", whole=True)


def _whole(outcomes: list[Outcome]) -> Failure | None:
    (outcome,) = outcomes
    return outcome if isinstance(outcome, Failure) else None
