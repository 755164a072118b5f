"""`omi check` of the OMI interface: gRPC `ModzyModel`, of whatever server.

Sources: Modzy's gRPC template (modzy/grpc-model-template: model.proto and its comments), Chassis's
client. The rules find what is known to be wrong with servers that Chassis built.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from omi_grpc._pb import model_pb2 as pb
from omi_runtime.check.rules import Book, Broken, Level, Row, Skipped, expect
from omi_runtime.check.target import Target
from omi_runtime.transport._pb import health_pb2

M = TypeVar("M", bound=Message)

MUST, SHOULD = Level.MUST, Level.SHOULD
_LARGE: Final = 5 * 1024 * 1024
"""More than the 4 MiB that gRPC takes by itself."""

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
_PROTO: Final = "model.proto"
_HEALTH: Final = "gRPC health checking protocol"


@dataclass
class Server:
    """The server under test, and what it has said."""

    target: Target
    channel: grpc.Channel

    def call(self, method: str, request: Message | bytes, response: type[M]) -> M:
        """One call.

        Raises:
            Broken: it ends with an error.
        """
        data = request if isinstance(request, bytes) else request.SerializeToString()
        stub: Any = self.channel.unary_unary(f"/{method}", None, response.FromString)
        try:
            answer: M = stub(data, timeout=self.target.timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Broken(f"{method}: {error.code().name} {error.details()}") from None
        return answer

    def run(self, *items: dict[str, bytes], **flags: bool) -> pb.RunResponse:
        """A Run."""
        inputs = [pb.InputItem(input=item) for item in items]
        return self.call("ModzyModel/Run", pb.RunRequest(inputs=inputs, **flags), pb.RunResponse)

    @cached_property
    def status(self) -> pb.StatusResponse:
        """The first Status."""
        return self.call("ModzyModel/Status", pb.StatusRequest(), pb.StatusResponse)


_FIRST: Final[Book[Server]] = Book()
"""What has to be so before anything else can be asked."""
_BOOK: Final[Book[Server]] = Book()
_rule = _BOOK.rule


def check(target: Target, protocol: str = "") -> list[Row]:  # noqa: ARG001 - it has one
    """Apply the rules."""
    with grpc.insecure_channel(f"{target.host}:{target.port}", _OPTIONS) as channel:
        server = Server(target, channel)
        rows = _FIRST.apply(server)
        if any(row.fatal for row in rows):
            return rows  # every other rule would wait as long, and find the same
        return rows + _BOOK.apply(server)


@_FIRST.rule("omi.grpc", MUST, "gRPC over HTTP/2", "it speaks gRPC")
def _speaks_grpc(server: Server) -> None:
    target = server.target
    ready = grpc.channel_ready_future(server.channel)
    try:
        ready.result(target.timeout)
    except grpc.FutureTimeoutError:
        ready.cancel()
        raise Broken(_why_not(target)) from None


def _why_not(target: Target) -> str:
    where = f"{target.host}:{target.port}"
    try:
        socket.create_connection((target.host, target.port), target.timeout).close()
    except OSError as error:
        return f"{where} cannot be reached: {error.strerror or error}"
    return f"{where} takes connections, and does not speak gRPC within {target.timeout:g} s"


@_rule("omi.run.first", MUST, f"{_PROTO}, Run", "a Run before the first Status is answered")
def _run_first(server: Server) -> None:
    found = len(server.run({}).outputs)
    expect(found == 1, f"one item got {found} outputs")


@_rule("omi.status", MUST, f"{_PROTO}, Status", "Status is 200 once the model has loaded")
def _status(server: Server) -> None:
    code = server.status.status_code
    expect(code == 200, f"status_code {code}: {server.status.message}")


@_rule("omi.status.again", MUST, f"{_PROTO}, Status", "a second Status is 200 too")
def _status_again(server: Server) -> None:
    again = server.call("ModzyModel/Status", pb.StatusRequest(), pb.StatusResponse)
    expect(again.status_code == 200, f"status_code {again.status_code}: {again.message}")


@_rule("omi.status.model", MUST, f"{_PROTO}, StatusResponse", "the model has a name and a version")
def _status_model(server: Server) -> None:
    info = server.status.model_info
    expect(info.model_name, "model_info.model_name is empty")
    expect(info.model_version, "model_info.model_version is empty")


@_rule("omi.status.files", MUST, f"{_PROTO}, StatusResponse", "inputs and outputs are described")
def _status_files(server: Server) -> None:
    for title, files in (("inputs", server.status.inputs), ("outputs", server.status.outputs)):
        expect(files, f"{title} is empty")
        expect(all(file.filename for file in files), f"{title}: one has no filename")


@_rule("omi.status.summary", SHOULD, f"{_PROTO}, StatusResponse", "the model is described in words")
def _status_summary(server: Server) -> None:
    expect(server.status.description.summary, "description.summary is empty")


@_rule("omi.run.count", MUST, f"{_PROTO}, RunResponse", "N items get N outputs")
def _run_count(server: Server) -> None:
    for n in (0, 1, 3):
        found = len(server.run(*[{}] * n).outputs)
        expect(found == n, f"{n} items got {found} outputs")


@_rule(
    "omi.run.success",
    MUST,
    f"{_PROTO}, OutputItem",
    "success is false if and only if there is an error",
)
def _run_success(server: Server) -> None:
    alone, together = server.run({}), server.run({}, {"omi-check": b"?"})
    for output in (*alone.outputs, *together.outputs):
        failed = "error" in output.output
        expect(
            failed != output.success,
            f"success is {str(output.success).lower()} of an item "
            f"{'with' if failed else 'without'} an error",
        )


@_rule("omi.run.missing", MUST, f"{_PROTO}, OutputItem", "an item without its inputs fails alone")
def _run_missing(server: Server) -> None:
    response = server.run({})
    expect(response.status_code == 200, f"status_code {response.status_code}: {response.message}")
    (output,) = response.outputs
    if output.success:
        raise Skipped("the model takes an item without inputs")
    try:
        output.output["error"].decode()
    except UnicodeDecodeError:
        raise Broken("the error is no UTF-8 text") from None


@_rule(
    "omi.run.flags",
    MUST,
    f"{_PROTO}, RunRequest",
    "asking for an explanation or drift fails no call",
)
def _run_flags(server: Server) -> None:
    response = server.run({}, explain=True, detect_drift=True)
    expect(len(response.outputs) == 1, f"one item got {len(response.outputs)} outputs")


@_rule("omi.run.large", SHOULD, "Modzy gRPC template, 250 MiB", "a message of 5 MiB is taken")
def _run_large(server: Server) -> None:
    server.run({"omi-check": bytes(_LARGE)})


@_rule(
    "omi.run.malformed",
    SHOULD,
    "gRPC status codes",
    "bytes that are no message are told to be wrong",
)
def _run_malformed(server: Server) -> None:
    stub: Any = server.channel.unary_unary("/ModzyModel/Run", None, pb.RunResponse.FromString)
    try:
        stub(b"\x0a\xc8\x01{", timeout=server.target.timeout)
    except grpc.RpcError as error:
        code = error.code()
        wrong = code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
        expect(wrong, f"{code.name} {error.details()}; expected INVALID_ARGUMENT")


@_rule("omi.health", SHOULD, _HEALTH, "the standard health service says SERVING")
def _health(server: Server) -> None:
    _expect_serving(server, "")


@_rule("omi.health.service", SHOULD, _HEALTH, "it knows the service by its name")
def _health_service(server: Server) -> None:
    _expect_serving(server, "ModzyModel")


@_rule("omi.shutdown", MUST, f"{_PROTO}, Shutdown", "Shutdown is answered with 200")
def _shutdown(server: Server) -> None:
    if not server.target.stop:
        raise Skipped("the server is to go on: --shutdown")
    answer = server.call("ModzyModel/Shutdown", pb.ShutdownRequest(), pb.ShutdownResponse)
    expect(answer.status_code == 200, f"status_code {answer.status_code}: {answer.message}")


def _expect_serving(server: Server, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = server.call("grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    expect(name == "SERVING", f"Check({service!r}) is {name}")
