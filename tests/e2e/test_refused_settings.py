"""Settings that cannot be: exit code 2, and one line that says what to do."""

from __future__ import annotations

import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from clients import MODELS
from clients.process import OMI, run

TOTALS = f"{MODELS}:Totals"


def refusal(*arguments: str, **variables: str) -> str:
    """The one line on stderr of an `omi serve` that refuses to start."""
    done = run(OMI, "serve", *arguments, **{"OMI_MODEL": TOTALS, **variables})
    assert done.code == 2, str(done)
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("omi: ")
    return line


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"INTERFACE": "foo"}, ["INTERFACE='foo'", "kserve", "kfserving", "modzy", "omi"]),
        ({"INTERFACE": "modzy.v2"}, ["INTERFACE='modzy.v2'", "kserve", "modzy", "omi"]),
        ({"INTERFACE": "omi,,modzy"}, ["INTERFACE='omi,,modzy'", "comma"]),
        ({"INTERFACE": "omi,omi"}, ["INTERFACE='omi,omi'"]),
        ({"PROTOCOL": "v3"}, ["PROTOCOL='v3'", "v1 or v2"]),
        ({"PROTOCOL": "v1"}, ["PROTOCOL='v1'", "INTERFACE=omi", "v2"]),
        ({"HTTP_PORT": "http"}, ["HTTP_PORT='http'", "0 to 65535"]),
        ({"HTTP_PORT": "65536"}, ["HTTP_PORT='65536'", "0 to 65535"]),
        ({"HTTP_PORT": "tcp://10.0.0.1:80"}, ["HTTP_PORT='tcp://10.0.0.1:80'", "Kubernetes"]),
        ({"PSC_MODEL_PORT": "tcp://10.0.0.1:80"}, ["PSC_MODEL_PORT=", "Kubernetes"]),
        ({"OMI_DRAIN_DELYA": "5"}, ["OMI_DRAIN_DELYA='5'", "did you mean OMI_DRAIN_DELAY?"]),
        ({"OMI_GRACE": "soon"}, ["OMI_GRACE='soon'", "seconds"]),
        ({"OMI_GRACE": "inf"}, ["OMI_GRACE='inf'", "seconds"]),
        ({"OMI_QUEUE_SIZE": "0"}, ["OMI_QUEUE_SIZE='0'", "1 or more"]),
        ({"OMI_ALLOW_SHUTDOWN": "maybe"}, ["OMI_ALLOW_SHUTDOWN='maybe'", "on or off"]),
        ({"OMI_LOG_LEVEL": "loud"}, ["OMI_LOG_LEVEL='loud'", "debug, info, warning or error"]),
        (
            {"INTERFACE": "omi,modzy", "PSC_MODEL_PORT": "5000"},
            ["INTERFACE='omi,modzy'", "port 5000", "PSC_MODEL_PORT"],
        ),
        (
            {"INTERFACE": "modzy,kserve"},
            ["INTERFACE='modzy,kserve'", "port 8080", "default", "HTTP_PORT"],
        ),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if type(value) is dict else "",
)
def test_the_line_names_variable_value_and_what_is_valid(
    variables: dict[str, str], told: list[str]
) -> None:
    line = refusal(**variables)
    for words in told:
        assert words in line


def test_within_a_second() -> None:
    """Of the processor's time, for the machine may be busy with other tests."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    refusal(INTERFACE="foo")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_values_are_read_in_either_case_and_empty_ones_are_unset() -> None:
    done = run(OMI, "serve", "--print-config", INTERFACE="KServe", PROTOCOL="V1", HTTP_PORT="")
    assert done.code == 0, str(done)


SOURCES = {
    "empty/notes.txt": "no model here",
    "none.py": "X = 1",
    "several.py": """
from omi_runtime import Model
class First(Model):
    def predict(self, text: str) -> str: return text
class Second(Model):
    def predict(self, text: str) -> str: return text
""",
    "broken.txt": "no Python",
}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("missing", ["no such file"]),
        ("missing.py:First", ["no such file"]),
        ("no_such_package.module:First", ["no such file"]),
        ("empty", ["no model.py"]),
        ("none.py", ["no subclass of omi_runtime.Model"]),
        ("several.py", ["several models", "First, Second", ":First"]),
        ("several.py:Third", ["no Third"]),
        ("several.py:Model", ["Model"]),
        ("broken.txt", ["no Python file"]),
    ],
)
def test_a_model_that_is_none(tmp_path: Path, source: str, told: list[str]) -> None:
    for name, content in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    where = str(tmp_path / source)
    # The port may be open, and told of in the log, before the model's module has been imported.
    line = refusal(OMI_MODEL=where, HTTP_PORT="0", OMI_LOG_LEVEL="warning")
    assert "OMI_MODEL" in line
    assert where in line
    for words in told:
        assert words in line


def test_an_argument_is_told_like_the_variable_that_it_stands_for(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert f"OMI_MODEL={missing!r}" in refusal(missing, OMI_MODEL=TOTALS)


def test_a_model_that_is_none_leaves_one_line_where_the_port_opens_after_the_load(
    tmp_path: Path,
) -> None:
    source = tmp_path / "several.py"
    source.write_text(SOURCES["several.py"])
    assert "several models" in refusal(OMI_MODEL=str(source), INTERFACE="kserve", HTTP_PORT="0")


def test_what_kubernetes_injects_for_services_is_let_through() -> None:
    """For services called omi, omi-foo and http, with their links in every container."""
    injected = {
        "OMI_SERVICE_HOST": "10.0.0.1",
        "OMI_SERVICE_PORT": "45000",
        "OMI_SERVICE_PORT_GRPC": "45000",
        "OMI_PORT": "tcp://10.0.0.1:45000",
        "OMI_FOO_SERVICE_HOST": "10.0.0.1",
        "OMI_FOO_SERVICE_PORT": "8080",
        "OMI_FOO_PORT": "tcp://10.0.0.1:8080",
        "OMI_FOO_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "OMI_FOO_PORT_8080_TCP_PROTO": "tcp",
        "OMI_FOO_PORT_8080_TCP_PORT": "8080",
        "OMI_FOO_PORT_8080_TCP_ADDR": "10.0.0.1",
        "HTTP_SERVICE_HOST": "10.0.0.1",
        "HTTP_PORT_80_TCP": "tcp://10.0.0.1:80",
    }
    done = run(OMI, "serve", "--print-config", **injected)
    assert done.code == 0, str(done)
    # Of two wrong ones, ours is told.
    done = run(OMI, "serve", "--print-config", OMI_FOO_BAR="1", **injected)
    assert done.code == 2, str(done)
    assert done.err.startswith("omi: OMI_FOO_BAR='1'")


ECHO = """
import asyncio
from dataclasses import dataclass
from omi_runtime.environment import setting

@dataclass(frozen=True)
class EchoSettings:
    roots: str = setting("OMI_ECHO_ROOTS", "/", str, "directories", "Where to look.")

class EchoAdapter:
    settings_group = EchoSettings
    protocols = frozenset()
    default_port = 7777
    port_variables = ("HTTP_PORT",)
    opens_before_load = True
    serves_metrics = False

    @classmethod
    def further_ports(cls, port, environ):
        return {}

    def __init__(self, mount):
        self.port = mount.port.number
        self.title = f"INTERFACE={mount.interface} (echo)"
        self.host, self.handler = mount.settings.host, mount.handler

    async def start(self):
        self.server = await asyncio.start_server(self.answer, self.host, self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def answer(self, reader, writer):
        from omi_runtime.items import ItemCodec
        from omi_runtime.jsontext import NanPolicy
        codec = ItemCodec(await self.handler.loaded(), self.handler.name, NanPolicy.ERROR)
        rows = [codec.decode({"pair": await reader.readline()})]
        (files,) = codec.encode(await self.handler.infer_rows(rows))
        writer.write(files["results.json"])
        writer.close()

    async def stop(self, grace):
        self.server.close()

    def example_request(self):
        return f"nc localhost {self.port}"
"""


@pytest.fixture
def third_party(tmp_path: Path) -> str:
    """A distribution of somebody else's that brings an interface; what PYTHONPATH has to be."""
    (tmp_path / "echo_adapter.py").write_text(ECHO)
    information = tmp_path / "omi_echo-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: omi-echo\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[omi_runtime.adapters]\necho = echo_adapter:EchoAdapter\n"
    )
    return str(tmp_path)


def test_variables_of_an_installed_interface_are_known_though_it_is_not_selected(
    third_party: str,
) -> None:
    show = ("serve", "--print-config")
    done = run(OMI, *show, PYTHONPATH=third_party, OMI_ECHO_ROOTS="/data")
    assert done.code == 0, str(done)
    assert "OMI_ECHO_ROOTS" not in done.out, "only those of selected interfaces are in effect"
    done = run(OMI, *show, PYTHONPATH=third_party, OMI_ECHO_ROOTS="/data", INTERFACE="echo")
    assert done.code == 0, str(done)
    assert "OMI_ECHO_ROOTS" in done.out
    line = refusal(PYTHONPATH=third_party, OMI_ECHO_ROOT="/data")
    assert "did you mean OMI_ECHO_ROOTS?" in line
    assert "echo" in refusal(PYTHONPATH=third_party, INTERFACE="foo")


def test_an_interface_of_somebody_else_serves_the_model(
    third_party: str, servers: Any, marks: Path
) -> None:
    server = servers(
        INTERFACE="echo", PYTHONPATH=third_party, OMI_MODEL=f"{MODELS}:Totals", MARKS=marks
    )
    with socket.create_connection(("127.0.0.1", server.port("echo")), timeout=30) as connection:
        connection.sendall(b"[1.0, 2.5]\n")
        answer = connection.makefile("rb").read()
    assert b'"result":3.5' in answer
    server.signal()
    assert server.wait() == 0
