"""What a server tells about its requests: the same numbers, ids and log lines over every wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from clients import Client, Server, per_interface, process, until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = per_interface

METHODS = {
    "omi": "ModzyModel/Run",
    "kserve-v1": "v1.predict",
    "kserve-grpc": "GRPCInferenceService/ModelInfer",
    "modzy": "run",
}
"""What each wire calls an inference."""

GOOD = {"pair": [1, 2]}
REFUSED = {"pair": [-1, 3]}
BROKEN = {"pair": [-2, 41.5]}


@pytest.fixture
def side_port() -> Any:
    with process.reserved_port() as port:
        yield port


def scraped(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def total(port: int, name: str, **labels: str) -> float:
    """The sum over the series that have these labels."""
    return sum(
        value
        for (found, has), value in scraped(port).items()
        if found == name and labels.items() <= dict(has).items()
    )


def test_requests_are_counted_by_interface_method_and_code(
    start: Callable[..., tuple[Server, Client]], side_port: int
) -> None:
    server, client = start(OMI_METRICS_PORT=side_port)
    until(client.ready, "it is ready")
    for item in (GOOD, GOOD, GOOD, REFUSED, BROKEN):
        client.infer([item])
    client.nonsense()
    about = {"interface": client.interface, "model": "totals", "version": "1.2.0"}
    codes = {
        dict(labels)["code"]: value
        for (name, labels), value in scraped(side_port).items()
        if name == "omi_requests_total"
        and about.items() <= dict(labels).items()
        and dict(labels)["method"] == METHODS[client.wire]
    }
    if client.interface == "omi":  # whose items tell their own failures
        assert codes == {"OK": 5, "INVALID_REQUEST": 1}
        assert total(side_port, "omi_item_failures_total", code="INVALID_INPUT") == 1
        assert total(side_port, "omi_item_failures_total", code="INFERENCE_FAILED") == 1
    else:
        assert codes == {"OK": 3, "INVALID_INPUT": 1, "INFERENCE_FAILED": 1, "INVALID_REQUEST": 1}
    assert total(side_port, "omi_request_seconds_count", **about) >= 6
    assert total(side_port, "omi_request_bytes_total", **about) > 0
    assert total(side_port, "omi_response_bytes_total", **about) > 0
    assert total(side_port, "omi_requests_in_flight", **about) == 0
    assert total(side_port, "omi_batch_items_sum") == 5
    assert total(side_port, "request_predict_seconds_count", model_name="totals") == 5
    assert server.running


def test_metrics_and_probes_answer_while_the_model_is_busy(
    start: Callable[..., tuple[Server, Client]], side_port: int, marks: Any, later: Any
) -> None:
    _, client = start(OMI_METRICS_PORT=side_port)
    until(client.ready, "it is ready")
    held = later(lambda: client.infer([{"pair": [-8, 0]}]))
    until((marks / "holding").exists, "the model is busy")
    assert total(side_port, "omi_queue_items") == 1
    assert total(side_port, "omi_requests_in_flight", interface=client.interface) == 1
    base = f"http://127.0.0.1:{side_port}"
    for path, status in {"/livez": 200, "/readyz": 200, "/": 404, "/metricsx": 404}.items():
        assert httpx.get(base + path, trust_env=False, timeout=30).status_code == status
    assert httpx.post(f"{base}/metrics", trust_env=False, timeout=30).status_code == 405
    head = httpx.head(f"{base}/metrics", trust_env=False, timeout=30)
    assert (head.status_code, head.content) == (200, b"")
    (marks / "release").touch()
    held()
    assert total(side_port, "omi_queue_items") == 0


def test_the_side_port_tells_of_a_load_and_of_a_stop(
    start: Callable[..., tuple[Server, Client]], side_port: int, marks: Any, later: Any
) -> None:
    server, client = start("Gated", OMI_METRICS_PORT=side_port)

    def probe(path: str) -> int:
        try:
            url = f"http://127.0.0.1:{side_port}/{path}"
            return httpx.get(url, trust_env=False, timeout=30).status_code
        except httpx.TransportError:
            return 0

    until(lambda: probe("livez") == 200, "it lives")
    assert probe("readyz") == 503
    (marks / "open").touch()
    until(lambda: probe("readyz") == 200, "it is ready")
    until(client.ready, "it answers")
    server.signal()
    until(lambda: probe("readyz") in (503, 0), "it is not ready")
    assert server.wait() == 0


# --- ids ---


def test_every_answer_has_the_callers_id_or_one_of_its_own(totals: Client) -> None:
    for good in (True, False):
        assert totals.id_of("order-66", good=good) == "order-66"
        made = {totals.id_of(None, good=good) for _ in range(3)}
        assert len(made) == 3
        assert all(re.fullmatch(r"[0-9a-f-]{10,40}", one) for one in made)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("x" * 500, "x" * 128), ("a]b [c", "a]b [c")],
    ids=["long", "brackets"],
)
def test_an_id_that_could_spoil_a_log_is_cleaned(totals: Client, sent: str, echoed: str) -> None:
    assert totals.id_of(sent) == echoed


# --- logs ---


def records(server: Server) -> list[dict[str, Any]]:
    """What is said of requests; other lines, such as how to try it, come when they come."""
    told = (json.loads(line) for line in server.lines)
    return [line for line in told if "request_id" in line]


def test_a_failed_request_has_a_line_and_only_what_the_model_raised_a_traceback(
    start: Callable[..., tuple[Server, Client]],
) -> None:
    server, client = start(OMI_LOG_FORMAT="json")
    until(client.ready, "it is ready")
    client.infer([GOOD])
    client.infer([REFUSED])
    client.nonsense()
    client.foreign()
    # On omi the items tell what is wrong with them, and the request is well.
    failed = 1 if client.interface == "omi" else 3
    until(lambda: len(records(server)) == failed, "each has its line")
    quiet = records(server)
    assert all(line["logger"] == "omi_runtime.access" for line in quiet)
    assert all(line["level"] == "info" for line in quiet)
    assert not [line for line in quiet if "exception" in line]
    assert "INVALID_REQUEST" in {line["code"] for line in quiet}
    assert {line["model"] for line in quiet} == {"totals"}
    client.infer([BROKEN])
    more = 1 if client.interface == "omi" else 2
    until(lambda: len(records(server)) == failed + more, "so has this")
    lines = records(server)[len(quiet) :]
    (told,) = (line for line in lines if "exception" in line)
    assert "RuntimeError: the model broke on 41.5" in told["exception"]
    assert (told["level"], told["logger"]) == ("error", "omi_runtime.failures")
    assert told["request_id"]
    assert all(line["request_id"] == told["request_id"] for line in lines)


def test_the_access_log_has_a_line_for_every_request_but_not_for_probes(
    start: Callable[..., tuple[Server, Client]],
) -> None:
    server, client = start(OMI_ACCESS_LOG="on")
    until(client.ready, "it is ready")
    for _ in range(3):
        assert client.live()
        assert client.ready()
    client.look()
    client.infer([GOOD])
    method = re.escape(METHODS[client.wire])
    pattern = (
        rf"INFO omi_runtime.access: \[[0-9a-f-]+\] {client.interface} {method} of totals: OK in"
    )
    until(lambda: re.search(pattern, server.log), "the request has its line")
    # modzy has no word for liveness, and its client asks for a path that is not there.
    told = [
        line for line in server.lines if "omi_runtime.access" in line and " GET / of" not in line
    ]
    assert len(told) == 1
    assert "uvicorn" not in server.log
    if client.metadata():
        pattern = rf"{client.interface} \S*etadata of totals: OK in"
        until(lambda: re.search(pattern, server.log), "who asks what the model takes has a line")


@pytest.mark.parametrize("told", ["on", "off"])
def test_a_request_for_what_is_not_there_has_a_line(
    start: Callable[..., tuple[Server, Client]], side_port: int, told: str
) -> None:
    server, client = start(OMI_LOG_FORMAT="json", OMI_ACCESS_LOG=told, OMI_METRICS_PORT=side_port)
    until(client.ready, "it is ready")
    asked = client.lost()
    if client.names_models:
        assert client.stranger()
        asked += 1
    until(lambda: len(records(server)) == asked, "each has its line")
    for line in records(server):
        assert (line["logger"], line["level"]) == ("omi_runtime.access", "info")
        assert line["interface"] == client.interface
        assert line["code"] in {"404", "405", "NOT_OFFERED", "MODEL_NOT_FOUND"}
        assert line["ms"] >= 0
        assert "exception" not in line
    assert "swordfish" not in server.log, "what stands in a query is not logged"
    others = total(side_port, "omi_requests_total", interface=client.interface, method="other")
    assert others >= 2
    assert total(side_port, "omi_requests_in_flight", interface=client.interface) == 0


def test_nothing_that_was_sent_or_answered_is_logged(
    start: Callable[..., tuple[Server, Client]],
) -> None:
    server, client = start(OMI_ACCESS_LOG="on")
    until(client.ready, "it is ready")
    client.infer([{"pair": [12345.25, 3]}])
    if client.wire != "kserve-grpc":  # whose tensors hold nothing but numbers
        client.infer([{"pair": ["swordfish", 3]}])
    client.nonsense()
    server.signal()
    assert server.wait() == 0
    for secret in ("12345", "12348", "swordfish", "cats and dogs"):
        assert secret not in server.log
