"""A model that does not load: what its author sees, and what callers are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clients import MODELS, OMIClient, Spec, process, until

FAILING = f"{MODELS}:Failing"
SPEC = Spec(FAILING, "failing", {"pair": "FP32"}, {"total": "FP32"})


def test_the_author_sees_the_traceback_and_kserve_opens_no_port(servers: Any, marks: Path) -> None:
    server = servers(process.OMI, "serve", FAILING, INTERFACE="kserve", MARKS=marks)
    assert server.wait() == 3
    assert "Traceback (most recent call last):" in server.log
    assert 'raise RuntimeError("the weights are missing")' in server.log
    assert server.log.count("Traceback") == 1
    assert "listens on" not in server.log
    assert "stopped" not in server.log
    assert server.lines[-1] == (
        "omi: model failing did not load: RuntimeError: the weights are missing"
    )


@pytest.mark.parametrize("interfaces", ["kserve", "omi,kserve"])
def test_where_kserve_is_served_nobody_waits_for_a_second_attempt(
    servers: Any, marks: Path, interfaces: str
) -> None:
    server = servers(INTERFACE=interfaces, OMI_MODEL=FAILING, MARKS=marks, OMI_LOAD_GRACE="600")
    assert server.wait() == 3
    assert "INTERFACE=kserve" not in server.log


def test_status_tells_of_the_model_though_it_has_failed(
    servers: Any, marks: Path, tmp_path: Path
) -> None:
    server = servers(INTERFACE="omi", OMI_MODEL=FAILING, MARKS=marks, OMI_LOAD_GRACE="600")
    with OMIClient(server.port("omi"), SPEC, tmp_path) as client:
        answer = client.status()
        assert (answer.status_code, answer.status) == (500, "Internal Server Error")
        assert answer.message == "Model Failed to Initialize."
        assert answer.model_info.model_name == "failing"
        assert answer.model_info.model_version == "1.2.0"
        assert [file.filename for file in answer.inputs] == ["pair"]
        assert [file.filename for file in answer.outputs] == ["results.json"]
        assert answer.features.batch_size == 8
        (marks / "mended").touch()
        answers = [client.status() for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].message == "Model Initialized Successfully."
        assert answers[1].message == "Model Already Initialized."
    # From here on the grace is over: only a model that is ready is told to be.
    server.wait_for_log(r"model failing 1\.2\.0 is ready")
    assert server.log.count("Traceback") == 2, "one for each attempt that failed"


def test_attempts_that_come_together_load_once(
    servers: Any, marks: Path, tmp_path: Path, later: Any
) -> None:
    server = servers(INTERFACE="omi", OMI_MODEL=FAILING, MARKS=marks, OMI_LOAD_GRACE="600")
    with OMIClient(server.port("omi"), SPEC, tmp_path) as client:
        server.wait_for_log("did not load")
        (marks / "mended").touch()
        statuses = [later(client.status) for _ in range(8)]
        assert {status().status_code for status in statuses} == {200}
    assert (marks / "attempts").read_text() == "!!", "the failed one and one more"


def test_the_grace_begins_with_the_failure(servers: Any, marks: Path) -> None:
    server = servers(INTERFACE="modzy", OMI_MODEL=FAILING, MARKS=marks, OMI_LOAD_GRACE="0.2")
    assert server.wait() == 3
    assert server.lines[-1].startswith("omi: model failing did not load")
    assert "OMI_LOAD_GRACE=0.2s" in server.log


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("import no_such_package", "ModuleNotFoundError"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
    ids=["import", "syntax", "exit"],
)
def test_a_module_that_cannot_be_imported(
    servers: Any, tmp_path: Path, content: str, cause: str
) -> None:
    (tmp_path / "model.py").write_text(content + "\n")
    server = servers(INTERFACE="kserve", OMI_MODEL=tmp_path)
    assert server.wait() == 3
    assert "Traceback" in server.log
    assert server.lines[-1].startswith("omi: ")
    assert cause in server.lines[-1]
    assert "model.py" in server.lines[-1]


def test_a_log_in_json_holds_the_traceback(servers: Any, marks: Path) -> None:
    server = servers(
        INTERFACE="modzy",
        OMI_MODEL=FAILING,
        MARKS=marks,
        OMI_LOAD_GRACE="0",
        OMI_LOG_FORMAT="json",
    )
    assert server.wait() == 3
    *lines, last = server.lines
    assert last.startswith("omi: model failing did not load")
    told = [json.loads(line) for line in lines]
    (failure,) = [line for line in told if "exception" in line]
    assert failure["level"] == "error"
    assert "the weights are missing" in failure["exception"]


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_load_that_hangs_ends_the_process(
    servers: Any, marks: Path, workers: str, preload: str
) -> None:
    server = servers(
        INTERFACE="kserve",
        OMI_MODEL=f"{MODELS}:Gated",
        MARKS=marks,
        OMI_LOAD_TIMEOUT="1.5",
        OMI_WORKERS=workers,
        OMI_PRELOAD=preload,
    )
    assert server.wait() == 3
    assert server.lines[-1] == (
        "omi: model gated did not load within 1.5 s, the limit of OMI_LOAD_TIMEOUT"
    )
    assert (marks / "loading").exists()
    if preload == "off":
        assert '_wait_for(mark("open"))' in server.log, "the line that it hangs at"


@pytest.mark.parametrize("preload", ["on", "off"])
def test_model_yaml_says_how_long_a_load_may_take(
    servers: Any, tmp_path: Path, preload: str
) -> None:
    (tmp_path / "model.py").write_text(
        "import time\nfrom omi_runtime import Model\n\n\n"
        "class Sleepy(Model):\n"
        "    def load(self) -> None:\n        time.sleep(600)\n\n"
        "    def predict(self, n: int) -> int:\n        return n\n"
    )
    (tmp_path / "model.yaml").write_text('specification: "0.4"\ntimeout: {status: 500ms}\n')
    server = servers(
        INTERFACE="omi",
        OMI_MODEL=tmp_path,
        OMI_LOAD_GRACE="0",
        OMI_PRELOAD=preload,
        OMI_WORKERS="2",
    )
    assert server.wait() == 3
    assert server.lines[-1] == (
        "omi: model sleepy did not load within 0.5 s, the timeout.status of model.yaml"
    )


def test_a_status_waits_again_for_a_load_that_took_too_long(
    servers: Any, marks: Path, tmp_path: Path
) -> None:
    server = servers(
        INTERFACE="omi",
        OMI_MODEL=f"{MODELS}:Gated",
        MARKS=marks,
        OMI_LOAD_TIMEOUT="0.5",
        OMI_LOAD_GRACE="600",
    )
    spec = Spec("gated", "gated", {"pair": "FP32"}, {"total": "FP32"})
    with OMIClient(server.port("omi"), spec, tmp_path) as client:
        server.wait_for_log("did not load within 0.5 s, the limit of OMI_LOAD_TIMEOUT; a Status")
        assert client.status().status_code == 500
        (marks / "open").touch()
        until(lambda: client.status().status_code == 200, "the load is over")
    assert "Traceback" not in server.log
    server.signal()
    assert server.wait() == 0


@pytest.mark.parametrize("interface", ["omi", "kserve"])
def test_a_stop_does_not_wait_for_the_load(servers: Any, marks: Path, interface: str) -> None:
    server = servers(INTERFACE=interface, OMI_MODEL=f"{MODELS}:Gated", MARKS=marks)
    until((marks / "loading").exists, "the model is loading")
    server.signal()
    assert server.wait() == 0
    assert "Traceback" not in server.log
