"""Through the proxies that stand before models in production: Envoy, nginx, HAProxy and Caddy.

Their HTTP is nobody's here: Envoy's is what Istio and so KServe use, Caddy's is Go's, as Knative's.
"""

from __future__ import annotations

import json
import queue
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import proxies
import pytest
from clients import Server, until
from clients.omi import channel_to
from clients.process import TESTS
from omi_grpc._pb import inference_pb2 as v2
from omi_grpc._pb import model_pb2 as pb

MEGABYTE = 1024 * 1024
LIMIT = 30 * MEGABYTE
ECHO = TESTS / "interop" / "peers" / "echo_models.py"
GOLDEN = TESTS / "adapters" / "models.py"

pytestmark = pytest.mark.parametrize("name", proxies.NAMES)


class Echo:
    """Calls of `ModzyModel.Run` and of `PredictStream`, whose model gives back what it gets."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._run = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        self._raw = channel.unary_unary("/ModzyModel/Run")
        self.stream = channel.stream_stream(
            "/openmodel.v2.InferenceService/PredictStream",
            v2.PredictRequest.SerializeToString,
            v2.PredictResponse.FromString,
        )

    def ask(self, data: bytes, **options: Any) -> tuple[bytes, Any]:
        """What comes back, and the trailing metadata."""
        answer, call = self._run.with_call(_request(data), timeout=30.0, **options)
        return answer.outputs[0].output["output"], dict(call.trailing_metadata())

    def begin(self, data: bytes, seconds: float = 30.0) -> Any:
        """A call that is under way."""
        return self._run.future(_request(data), timeout=seconds)

    def refused(self, request: bytes) -> tuple[str, str]:
        """The status and the text of a call that is refused."""
        with pytest.raises(grpc.RpcError) as caught:
            self._raw(request, timeout=30.0)
        return caught.value.code().name, caught.value.details()


def _request(data: bytes) -> pb.RunRequest:
    return pb.RunRequest(inputs=[pb.InputItem(input={"data": data})])


@pytest.fixture
def server(servers: Any) -> Server:
    """Echo over `omi`, and over `kserve` for the checks of proxies that know HTTP alone."""
    server: Server = servers(
        INTERFACE="kserve,omi",
        OMI_MODEL=f"{ECHO}:Echo",
        OMI_MAX_REQUEST_BYTES=LIMIT,
        OMI_ACCESS_LOG="on",
        PSC_MODEL_PORT="0",
    )
    server.wait_for_log("is ready")
    return server


@pytest.fixture
def echo(name: str, servers: Any, server: Server, tmp_path: Path) -> Iterator[Echo]:
    ports = server.port("kserve"), server.port("omi")
    proxy = proxies.start(name, servers, tmp_path, ports)
    with channel_to(proxy.grpc) as channel:
        yield Echo(channel)


def test_a_call_and_what_is_said_beside_it(echo: Echo) -> None:
    said, trailing = echo.ask(b"one", metadata=(("x-request-id", "mine"), ("trace-bin", b"\0\xff")))
    assert said == b"one"
    assert (trailing["x-request-id"], trailing["omi-model"]) == ("mine", "echo:0.0.0")


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_large_messages(echo: Echo, compression: grpc.Compression) -> None:
    data = secrets.token_bytes(LIMIT // 2)
    said, _ = echo.ask(data, compression=compression)
    assert said == data


def test_many_calls_at_once(echo: Echo) -> None:
    calls = {b"%d" % number: echo.begin(b"%d" % number) for number in range(1000)}
    for data, call in calls.items():
        assert call.result().outputs[0].output["output"] == data


def test_refusals(echo: Echo) -> None:
    for _ in range(3):  # what is still on its way of one does not harm the next
        code, text = echo.refused(bytes(LIMIT + MEGABYTE))
        assert code == "RESOURCE_EXHAUSTED"
        assert "OMI_MAX_REQUEST_BYTES" in text
        assert echo.refused(b"\x0a\xc8\x01{")[0] == "INVALID_ARGUMENT"
        assert echo.ask(b"next")[0] == b"next"


def test_deadlines_and_cancellations_reach_the_server(echo: Echo, server: Server) -> None:
    late = echo.begin(b"wait", seconds=0.3)
    if late.exception() is None:  # the server's clock was first, and told it as Run does
        assert late.result().status_code == 504
    else:
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_for_log(r"Run of echo: (DEADLINE_EXCEEDED|CANCELLED)")
    before = server.log.count("Run of echo: CANCELLED")
    calls = [echo.begin(b"wait") for _ in range(5)]
    until(lambda: in_flight(server) == len(calls), "all calls are there")
    for call in calls:
        call.cancel()
    until(
        lambda: server.log.count("Run of echo: CANCELLED") == before + len(calls),
        "all calls are cancelled",
    )


def test_a_conversation(echo: Echo) -> None:
    """Every request is asked when the one before it has been answered: nothing is held back."""
    asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def requests() -> Iterator[v2.PredictRequest]:
        while (data := asked.get()) is not None:
            yield v2.PredictRequest(inputs=[v2.Input(key="data", data=data)])

    sent = [b"a", b"b" * MEGABYTE, b"c"]
    asked.put(sent[0])
    came = []
    for response in echo.stream(requests(), timeout=30.0):
        came.append(response.outputs[0].data.data)
        asked.put(sent[len(came)] if len(came) < len(sent) else None)
    assert came == sent


def in_flight(server: Server) -> int:
    """How many calls of Run the server is at."""
    text = httpx.get(f"http://127.0.0.1:{server.port('kserve')}/metrics", trust_env=False).text
    found = re.search(
        r'^omi_requests_in_flight\{.*method="ModzyModel/Run".*\} (\S+)', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def test_events_come_as_they_are_made(name: str, servers: Any, tmp_path: Path) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=f"{GOLDEN}:Tokens")
    proxy = proxies.start(name, servers, tmp_path, proxies.ports_of(server))
    gate, closed = tmp_path / "gate", tmp_path / "closed"
    prompt = f"one closed={closed} wait={gate} " + "more " * 1000
    url = f"http://127.0.0.1:{proxy.http}/v2/models/tokens/generate_stream"
    with (
        httpx.Client(trust_env=False, timeout=30.0) as client,
        client.stream("POST", url, json={"text_input": prompt}) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        first = next(line for line in answer.iter_lines() if line)
        assert json.loads(first.removeprefix("data: "))["text_output"] == "one "
    # The client has gone. That is noticed while the model makes the rest, or before.
    gate.with_name("gate.open").touch()
    until(closed.exists, "the generator is closed")
