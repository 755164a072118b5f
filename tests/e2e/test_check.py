"""`omi check server`: ours keep every rule on every wire; a server that lies is found out."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from clients.process import EXAMPLES, OMI, run
from omi_grpc._pb import model_pb2 as pb


def check(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the rows of omi check server, by their ids."""
    done = run(OMI, "check", "server", "--json", *arguments, seconds=60.0)
    assert done.out, str(done)
    content = json.loads(done.out)
    assert content["passed"] == (done.code == 0)
    return done.code, {row["id"]: row for row in content["rows"]}


def broken(rows: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, row in rows.items() if row["outcome"] == "failed"}


@pytest.mark.parametrize("example", ["iris", "colours", "entities"])
def test_ours_keep_every_rule(servers: Any, example: str) -> None:
    source = str(EXAMPLES / example)
    server = servers(INTERFACE="kserve,omi,modzy", OMI_MODEL=source, PSC_MODEL_PORT="0")
    for interface in ("kserve", "modzy", "omi"):
        stop = ["--shutdown"] if interface == "omi" else []
        address = f"127.0.0.1:{server.port(interface)}"
        code, rows = check(address, "--interface", interface, *stop)
        assert broken(rows) == set(), [rows[name] for name in broken(rows)]
        assert code == 0
    assert rows["omi.shutdown"]["outcome"] == "passed"
    assert server.wait() == 0


def test_a_name_may_hold_spaces(servers: Any) -> None:
    name = "Größe der Blüte"
    server = servers(INTERFACE="kserve", OMI_MODEL=str(EXAMPLES / "iris"), MODEL_NAME=name)
    address = f"127.0.0.1:{server.port('kserve')}"
    code, rows = check(address, "--interface", "kserve", "--model", name)
    assert (code, broken(rows)) == (0, set()), [rows[name] for name in broken(rows)]


class Liar(grpc.GenericRpcHandler):
    """The faults that Chassis and Modzy's template are known for."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return {
            "/ModzyModel/Status": _method(pb.StatusRequest, self.status),
            "/ModzyModel/Run": _method(pb.RunRequest, self.run),
        }.get(details.method)

    def __init__(self) -> None:
        self.loaded = False

    def status(self, _request: Any, _context: Any) -> Any:
        self.loaded = True
        info = pb.ModelInfo(model_name="liar")
        return pb.StatusResponse(status_code=200, model_info=info)

    def run(self, request: Any, _context: Any) -> Any:
        if not self.loaded:
            raise RuntimeError("no model")
        if len(request.inputs) > 1:
            return pb.RunResponse(status_code=200)
        return pb.RunResponse(
            status_code=200,
            outputs=[
                pb.OutputItem(output={"error": b"\xff"}, success=True) for _ in request.inputs
            ],
        )


def _method(request: Any, answer: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        answer, request.FromString, lambda message: message.SerializeToString()
    )


@pytest.fixture
def liar() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([Liar()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0)


def test_the_known_faults_of_others_are_found(liar: str) -> None:
    code, rows = check(liar, "--interface=omi", "--timeout=5", "--shutdown")
    assert code == 1
    assert broken(rows) == {
        "omi.health",
        "omi.health.service",
        "omi.run.count",
        "omi.run.first",
        "omi.run.large",
        "omi.run.success",
        "omi.shutdown",
        "omi.status.files",
        "omi.status.model",
        "omi.status.summary",
    }
    assert "UNKNOWN" in rows["omi.run.first"]["note"]
    assert "3 items got 0 outputs" in rows["omi.run.count"]["note"]
    assert "RESOURCE_EXHAUSTED" in rows["omi.run.large"]["note"]


class Careless(http.server.BaseHTTPRequestHandler):
    """Answers everything with 200 and the same JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"models": ["m"], "name": "m", "inputs": [], "outputs": [], "id": null}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: Any) -> None:
        """Not to stderr."""


@pytest.fixture
def careless() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_that_takes_everything_is_found_out(careless: str) -> None:
    code, rows = check(careless, "--interface=kserve")
    assert code == 1
    kept = set(rows) - broken(rows)
    assert kept == {"kserve.v1.list", "kserve.v2.live", "kserve.v2.ready", "kserve.v2.model-ready"}
    code, rows = check(careless, "--interface=modzy")
    assert code == 1
    assert set(rows) - broken(rows) == {"modzy.shutdown"}


def test_only_one_protocols_rules(careless: str) -> None:
    _, rows = check(careless, "--interface=kserve", "--protocol=v1")
    assert not [name for name in rows if name.startswith("kserve.v2")]
    assert "kserve.routes" in rows


ENGINE = """\
#!/bin/sh
case "$1" in
  info) echo works ;;
  image) cat {content} ;;
  *) echo "$1" >> {content}.ran ;;
esac
"""


@pytest.fixture
def check_labels(tmp_path: Path) -> Callable[[dict[str, str]], Any]:
    """Checks an image of these labels, which an engine that has nothing else tells of."""
    engine = tmp_path / "podman"
    content = tmp_path / "content.json"
    engine.write_text(ENGINE.format(content=content))
    engine.chmod(0o755)

    def checked(labels: dict[str, str]) -> Any:
        content.write_text(json.dumps([{"Config": {"Labels": labels, "User": "1", "Cmd": ["x"]}}]))
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = run(OMI, "check", "image", "an:image", "--json", "--no-run", PATH=path)
        assert not Path(f"{content}.ran").exists(), "it is only to be looked at"
        return done.code, {row["id"]: row for row in json.loads(done.out)["rows"]}

    return checked


@pytest.mark.parametrize(
    ("interfaces", "protocols", "told"),
    [
        ('["modzy"]', "[[]]", "modzy has []: expected a list of at least one protocol"),
        ('["modzy"]', "[1]", "modzy has 1: expected a list"),
        ('["modzy"]', '["v1"]', 'modzy has "v1": expected a list'),
        ('["modzy"]', "[[1]]", "modzy has [1]: expected a list"),
        ('["modzy"]', "[null]", "modzy has null: expected a list"),
        ('["modzy"]', '[["v1", "v3"]]', "['v3'] is neither v1 nor v2"),
        ('["kfserving", "modzy"]', '[["v1"], []]', "modzy has []: expected a list"),
        ('["kfserving", "modzy"]', '[["v1"]]', "has 1 members for 2 interfaces"),
        ("[[]]", '[["v1"]]', "[[]] are not all names"),
        ('["modzy"]', "{}", "is no list with members: {}"),
        ('["modzy"]', "[", "is no JSON: ["),
    ],
)
def test_protocols_that_are_none_break_their_rule(
    check_labels: Any, interfaces: str, protocols: str, told: str
) -> None:
    code, rows = check_labels(
        {
            "ml.openmodel.interfaces": interfaces,
            "ml.openmodel.protocols": protocols,
            "ml.openmodel.port": "8080",
            "ml.openml.model_name": "x",
        }
    )
    assert code == 1
    assert "image.protocols" in broken(rows)
    assert told in rows["image.protocols"]["note"]
    assert not [row["note"] for row in rows.values() if "Error: " in row["note"]]


def test_a_port_that_is_none_breaks_its_rule(check_labels: Any) -> None:
    _, rows = check_labels({"ml.openmodel.port": "9" * 5000})
    assert rows["image.port"]["note"].endswith("no port")


def test_a_report_for_people(careless: str) -> None:
    done = run(OMI, "check", "server", careless, "--interface=kserve", "--protocol=v1")
    assert done.code == 1
    assert "FAIL  MUST    kserve.v1.unknown" in done.out
    assert "→ 200" in done.out
    assert done.out.rstrip().endswith("1 kept, 5 broken (4 of them MUST), 0 do not apply")


def test_one_that_speaks_no_grpc_is_told_so_at_once(careless: str) -> None:
    began = time.monotonic()
    code, rows = check(careless, "--interface=omi", "--timeout=2")
    assert time.monotonic() - began < 20.0, "one wait of 2 s, and not one for each rule"
    assert code == 1
    assert rows.keys() == {"omi.grpc"}
    assert "takes connections, and does not speak gRPC within 2 s" in rows["omi.grpc"]["note"]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_time_that_is_none_is_refused(seconds: str) -> None:
    for command in (
        ("check", "server", "127.0.0.1:1", "--interface=modzy", f"--timeout={seconds}"),
        ("check", "image", "x:1", f"--start-timeout={seconds}"),
        ("health", f"--timeout={seconds}"),
    ):
        done = run(OMI, *command)
        assert done.code == 2, str(done)
        assert "Invalid value for '--" in done.err
        assert f"timeout': {float(seconds)}" in done.err.replace("'nan'", "nan")


def test_no_grpc_server_there() -> None:
    code, rows = check("127.0.0.1:1", "--interface=omi", "--timeout=1")
    assert code == 1
    assert rows["omi.grpc"]["note"] == "127.0.0.1:1 cannot be reached: Connection refused"


def test_nobody_there() -> None:
    code, rows = check("127.0.0.1:1", "--interface=modzy")
    assert code == 1
    assert "no answer" in rows["modzy.status"]["note"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ftp://x:1", "--interface=omi"], "'ftp://x:1' is no server"),
        (["http://x", "--interface=omi"], "'http://x' is no server"),
        (["https://x:1", "--interface=kserve"], "'https://x:1': TLS is not supported here"),
        (["grpcs://x:1", "--interface=omi"], "'grpcs://x:1': TLS is not supported here"),
        (["http://x:1", "--interface=nothing"], "INTERFACE='nothing' is not valid"),
    ],
)
def test_what_cannot_be_checked_is_told(arguments: list[str], told: str) -> None:
    done = run(OMI, "check", "server", *arguments)
    assert done.code == 2
    assert told in done.err
