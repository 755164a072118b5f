"""Traces: to a collector that listens, and never in the way of serving."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from clients import MODELS, Client, KServeV1Client, OMIClient, Spec, process, until
from omi_grpc._pb import model_pb2 as pb

collector_pb2 = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


class Collector:
    """Takes traces over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = collector_pb2.ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    names = {a.key: a.value.string_value for a in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        collector.spans += [(names["service.name"], span) for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, trace: str) -> dict[str, Any]:
        """The spans of a trace by name."""
        return {span.name: span for _, span in self.spans if span.trace_id.hex() == trace}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    taking = Collector()
    yield taking
    taking.close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def predict(client: Client, request_id: str) -> None:
    """One good request, of a caller who traces."""
    headers = {"traceparent": TRACEPARENT, "x-request-id": request_id}
    if isinstance(client, OMIClient):
        run = client.channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        item = pb.InputItem(input={"pair": b"[1, 2]"})
        answer = run(pb.RunRequest(inputs=[item]), metadata=list(headers.items()), timeout=30)
        assert answer.outputs[0].success
        return
    url = f"http://127.0.0.1:{client.port}/v1/models/totals:predict"
    answer = httpx.post(url, json={"instances": [[1, 2]]}, headers=headers, trust_env=False)
    assert answer.json() == {"predictions": [3.0]}


@pytest.mark.parametrize("wire", [KServeV1Client, OMIClient], ids=["kserve", "omi"])
def test_a_request_and_its_batch_are_spans_of_the_callers_trace(
    servers: Any, tmp_path: Any, collector: Collector, wire: type[Client]
) -> None:
    server = servers(
        INTERFACE=wire.interface,
        OMI_MODEL=TOTALS.source,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="50",
    )
    with wire(server.port(wire.interface), TOTALS, tmp_path) as client:
        until(client.ready, "it is ready")
        predict(client, "order-66")
        until(lambda: len(collector.of(TRACE)) == 2, "both spans have come")
        spans = collector.of(TRACE)
        method = "v1.predict" if wire is KServeV1Client else "ModzyModel/Run"
        request, batch = spans[f"{wire.interface} {method}"], spans["predict"]
        assert request.parent_span_id.hex() == CALLER
        assert batch.parent_span_id == request.span_id
        assert attributes(request) == {
            "omi.interface": wire.interface,
            "omi.method": method,
            "omi.request_id": "order-66",
            "omi.code": "OK",
            "omi.model": "totals",
        }
        assert attributes(batch)["omi.items"] == 1
        client.infer([{"pair": [-2, 0]}])
        server.signal()
        assert server.wait() == 0
    # What was not sent yet, is at the end; probes are no spans.
    names = [span.name for _, span in collector.spans]
    assert sorted(set(names)) == sorted({request.name, "predict"})
    failed = [span for _, span in collector.spans if span.name == request.name][-1]
    if wire is KServeV1Client:
        assert (attributes(failed)["omi.code"], failed.status.code) == ("INFERENCE_FAILED", 2)
    assert {service for service, _ in collector.spans} == {"omi-runtime"}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "no traces: OTEL_TRACES_EXPORTER='carrier-pi"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "OTEL_EXPORTER_OTLP_PROTOCOL='grpc' needs opentelemetry-exporter-otlp-proto-grpc to be",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "no address at all"}, ""),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "none"},
            "",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "x"},
            "",
        ),
    ],
    ids=["exporter", "protocol", "nobody", "no-address", "sampler", "delay"],
)
def test_a_configuration_that_is_wrong_never_stops_the_server(
    servers: Any, tmp_path: Any, variables: dict[str, str], told: str
) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=TOTALS.source, **variables)
    with KServeV1Client(server.port("kserve"), TOTALS, tmp_path) as client:
        predict(client, "a")
        assert told in server.log
        began = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - began < process.PATIENCE / 2


TELLS = """
from omi_runtime import Model, current_request

class Tells(Model):
    def predict(self, asked: str) -> str:
        return current_request().traceparent
"""


def test_a_model_has_the_callers_trace_if_it_is_one(servers: Any, tmp_path: Any) -> None:
    (tmp_path / "model.py").write_text(TELLS)
    server = servers(INTERFACE="kserve,omi", OMI_MODEL=tmp_path, PSC_MODEL_PORT="0")
    url = f"http://127.0.0.1:{server.port('kserve')}/v1/models/tells:predict"
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        run = client.channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        request = pb.RunRequest(inputs=[pb.InputItem(input={"asked": b"?"})])
        for sent, told in {
            TRACEPARENT: TRACEPARENT,
            "junk": "",
            f"00-{'0' * 32}-{CALLER}-01": "",
            f"ff-{TRACE}-{CALLER}-01": "",
        }.items():
            headers = {"traceparent": sent}
            answer = httpx.post(url, json={"instances": ["?"]}, headers=headers, trust_env=False)
            assert answer.json() == {"predictions": [told]}
            (output,) = run(request, metadata=list(headers.items()), timeout=30).outputs
            assert json.loads(output.output["results.json"])["data"]["result"] == told


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_traces_can_be_switched_off(
    servers: Any, tmp_path: Any, collector: Collector, variables: dict[str, str]
) -> None:
    server = servers(
        INTERFACE="omi",
        OMI_MODEL=TOTALS.source,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        **variables,
    )
    with OMIClient(server.port("omi"), TOTALS, tmp_path) as client:
        until(client.ready, "it is ready")
        predict(client, "a")
        server.signal()
        assert server.wait() == 0
    assert collector.spans == []
    assert "OpenTelemetry" not in server.log
