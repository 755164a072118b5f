"""Ways to stop, and what may not hold them up; what is in flight is tests/conformance's subject."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from clients import MODELS, Answer, KServeV1Client, OMIClient, Spec, until
from clients.process import QUICK

from omi_runtime.transport._pb import health_pb2, reflection_pb2

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
SLEEP, HOLD = -5.0, -8.0
ITEM = {"pair": [1.0, 2.0]}


@pytest.fixture
def serve(servers: Any, marks: Path) -> Any:
    def start(interface: str, model: str = "Totals", **variables: str) -> Any:
        return servers(INTERFACE=interface, OMI_MODEL=f"{MODELS}:{model}", MARKS=marks, **variables)

    return start


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    serve: Any, marks: Path, later: Any, tmp_path: Path, first: signal.Signals
) -> None:
    server = serve("omi")
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        later(lambda: client.infer([{"pair": [SLEEP, 3600.0]}]))
        until((marks / "sleeping").exists, "a prediction runs")
        server.signal(first)
        server.wait_for_log(f"stopping \\({first.name}\\)")
        server.signal(signal.SIGTERM)
        assert server.wait(QUICK) == 1


def test_the_delay_goes_on_accepting_and_then_ends_by_itself(serve: Any, tmp_path: Path) -> None:
    server = serve("kserve", OMI_DRAIN_DELAY="1")
    with KServeV1Client(server.port("kserve"), TOTALS, tmp_path) as client:
        began = time.monotonic()
        server.signal()
        until(lambda: not client.ready(), "it says that it is stopping")
        with KServeV1Client(client.port, TOTALS, tmp_path) as newcomer:
            assert newcomer.infer([ITEM]) == [Answer({"total": 3.0})]
        assert server.wait(QUICK) == 0
        assert time.monotonic() - began >= 1


def test_a_model_that_does_not_close_is_cut_off(serve: Any, marks: Path) -> None:
    server = serve("omi", "HangingClose", OMI_GRACE="0.5")
    server.wait_for_log("is ready")
    server.signal()
    assert server.wait(QUICK) == 1
    assert (marks / "closing").exists()
    assert "OMI_GRACE=0.5s" in server.log


def test_no_grace_at_all(serve: Any, marks: Path, later: Any, tmp_path: Path) -> None:
    server = serve("omi", OMI_GRACE="0")
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        later(lambda: client.infer([{"pair": [SLEEP, 3600.0]}]))
        until((marks / "sleeping").exists, "a prediction runs")
        server.signal()
        assert server.wait(QUICK) == 1


@pytest.mark.parametrize("interface", ["omi", "kserve"])
def test_without_grace_there_is_nothing_to_cut_off_where_nothing_runs(
    serve: Any, marks: Path, interface: str
) -> None:
    server = serve(interface, OMI_GRACE="0")
    server.port(interface)
    server.wait_for_log("is ready")
    server.signal()
    assert server.wait(QUICK) == 0
    assert (marks / "closed").exists()


def test_watchers_of_health_learn_of_the_stop_and_do_not_hold_it_up(
    serve: Any, tmp_path: Path
) -> None:
    server = serve("omi")
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        until(client.ready, "the model has loaded")
        watch = client.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        watches = [
            watch(health_pb2.HealthCheckRequest(service=service), timeout=60)
            for service in ("", "ModzyModel", "nobody")
        ]
        words = health_pb2.HealthCheckResponse
        first = [next(stream).status for stream in watches]
        assert first == [words.SERVING, words.SERVING, words.SERVICE_UNKNOWN]
        server.signal()
        assert [[answer.status for answer in stream] for stream in watches] == [
            [words.NOT_SERVING],
            [words.NOT_SERVING],
            [],
        ]
        assert server.wait(QUICK) == 0


def test_a_watch_tells_when_the_model_has_loaded(serve: Any, marks: Path, tmp_path: Path) -> None:
    server = serve("omi", "Gated")
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        stream = client.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(stream).status == health_pb2.HealthCheckResponse.NOT_SERVING
        (marks / "open").touch()
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        stream.cancel()
    server.signal()
    assert server.wait(QUICK) == 0


def test_an_open_stream_of_reflection_does_not_hold_it_up(serve: Any, tmp_path: Path) -> None:
    server = serve("omi")
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        stop_asking: list[bool] = []

        def requests() -> Iterator[Any]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            until(lambda: stop_asking, "the test is over")

        stream = client.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )(requests(), timeout=60)
        names = {service.name for service in next(stream).list_services_response.service}
        assert {"ModzyModel", "grpc.health.v1.Health"} <= names
        server.signal()
        assert server.wait(QUICK) == 0
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        stop_asking.append(True)


@pytest.mark.parametrize(
    ("interface", "path"), [("kserve", "/v2/health/ready"), ("modzy", "/status")]
)
def test_connections_are_kept_and_do_not_hold_up_a_stop(
    serve: Any, interface: str, path: str
) -> None:
    server = serve(interface)
    port = server.port(interface)
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(3)]
    used, idle, half = connections
    used.connect()
    socket = used.sock
    for _ in range(3):
        used.request("GET", path)
        answer = used.getresponse()
        assert answer.status == 200
        answer.read()
        assert used.sock is socket, "the server has closed the connection"
    idle.connect()
    half.connect()
    half.sock.sendall(b"POST /run HTTP/1.1\r\nhost: loc")
    server.signal()
    assert server.wait(QUICK) == 0
    assert used.sock.recv(1) == b"", "closed by the server"
    for connection in connections:
        connection.close()


def test_a_client_that_has_sent_half_a_body_does_not_outlive_the_grace(serve: Any) -> None:
    server = serve("kserve", OMI_GRACE="1")
    connection = http.client.HTTPConnection("127.0.0.1", server.port("kserve"), timeout=30)
    connection.putrequest("POST", "/v1/models/totals:predict")
    connection.putheader("content-length", "100")
    connection.endheaders(b'{"instances"')
    until(lambda: _asked(connection), "the server waits for the rest")
    server.signal()
    answer = connection.getresponse()
    assert answer.status == 503
    assert json.loads(answer.read()).keys() == {"error"}, "in the interface's own shape"
    server.wait(QUICK)
    assert "Traceback" not in server.log
    connection.close()


def _asked(connection: http.client.HTTPConnection) -> bool:
    """Whether the server answers others, and so has read what that connection has sent."""
    other = http.client.HTTPConnection("127.0.0.1", connection.port, timeout=30)
    other.request("GET", "/v2/health/live")
    answered = other.getresponse().status == 200
    other.close()
    return answered


def test_asked_twice_it_stops_once(serve: Any, marks: Path, later: Any, tmp_path: Path) -> None:
    server = serve("omi")
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        held = later(lambda: client.infer([{"pair": [HOLD, 20.0]}]))
        until((marks / "holding").exists, "a prediction runs")
        assert client.stop() is None
        server.wait_for_log("stopping \\(Shutdown\\)")
        (marks / "release").touch()
        assert held() == [Answer({"total": 12.0})]
    assert server.wait(QUICK) == 0
    assert server.log.count("stopping (") == 1
