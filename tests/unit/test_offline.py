"""`OMI_OFFLINE`: what leaves the machine is refused, everything else works; each in a new process,
for the hook is there for good."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from clients import process

BEGIN = (
    "import socket\nfrom omi_runtime import offline\noffline.enforce(allowed=['allowed.test'])\n"
)


def python(directory: Path, code: str, **variables: str) -> process.Finished:
    """Run some lines as a file of somebody's."""
    script = directory / "somebody.py"
    script.write_text(BEGIN + code)
    return process.run(sys.executable, str(script), **variables)


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("socket.create_connection(('192.0.2.1', 443), 1)", "192.0.2.1:443"),
        ("socket.create_connection(('hub.test', 443), 1)", "hub.test:443"),
        ("socket.socket(socket.AF_INET6).connect(('2001:db8::1', 443))", "2001:db8::1:443"),
        ("socket.socket().connect_ex(('192.0.2.1', 443))", "192.0.2.1:443"),
        (
            "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
            "192.0.2.1:53",
        ),
        (
            "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('192.0.2.1', 53))",
            "192.0.2.1:53",
        ),
        ("socket.getaddrinfo(b'hub.test', 443)", "hub.test:443"),
        ("socket.gethostbyname('hub.test')", "hub.test"),
        ("socket.gethostbyname_ex('hub.test')", "hub.test"),
        ("socket.socket().connect(('::ffff:192.0.2.1'[7:], 443))", "192.0.2.1:443"),
        (
            "import urllib.request\nurllib.request.urlopen('http://192.0.2.1/x', timeout=1)",
            "192.0.2.1:80",
        ),
        (
            "import asyncio\nasyncio.run(asyncio.open_connection('192.0.2.1', 443))",
            "192.0.2.1:443",
        ),
    ],
)
def test_what_leaves_the_machine_is_refused(tmp_path: Path, code: str, where: str) -> None:
    done = python(tmp_path, code)
    assert done.code == 1, str(done)
    line = 4 + code.count("\n")
    assert f"somebody.py, line {line} in <module> wants to connect to {where}: " in done.err
    assert "OMI_OFFLINE is on" in done.err


def test_it_is_an_error_of_the_network_for_libraries_that_can_do_without(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "try: socket.create_connection(('hub.test', 443))\nexcept OSError: print('from the cache')",
    )
    assert done.out == "from the cache\n", str(done)


def test_the_machine_itself_is_free(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        """
import os, socketserver, threading
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "localhost")):
    with socket.create_server((host, 0), family=family) as listener:
        socket.create_connection(listener.getsockname()[:2], 5).close()
with socket.create_server(("0.0.0.0", 0)) as listener:
    socket.create_connection(("0.0.0.0", listener.getsockname()[1]), 5).close()
socket.getaddrinfo(None, 0)
socket.getaddrinfo(socket.gethostname(), 0) if os.path.exists("/etc/hosts") else None
one, other = socket.socketpair()
one.send(b"x")
path = os.path.join(os.path.dirname(__file__), "s")
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen()
    socket.socket(socket.AF_UNIX).connect(path)
print("free")
""",
    )
    assert done.out == "free\n", str(done)


def test_hubs_are_told_unless_the_operator_has_said_otherwise(tmp_path: Path) -> None:
    code = "import os\nprint(os.environ['HF_HUB_OFFLINE'], os.environ['TRANSFORMERS_OFFLINE'])"
    assert python(tmp_path, code, HF_HUB_OFFLINE="0").out == "0 1\n"


def test_a_collector_of_traces_is_let_through(tmp_path: Path) -> None:
    code = """
socket.setdefaulttimeout(0.1)
for host in ("192.0.2.1", "collector.test", "allowed.test"):
    try: socket.create_connection((host, 4318))
    except offline.Offline: print("refused", host)
    except OSError: print("tried", host)
"""
    done = python(tmp_path, code, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.test:4318/v1")
    assert done.out == "refused 192.0.2.1\ntried collector.test\ntried allowed.test\n", str(done)
    done = python(tmp_path, code, OTEL_EXPORTER_OTLP_ENDPOINT="http://192.0.2.1:4318")
    assert done.out.startswith("tried 192.0.2.1\nrefused collector.test\n"), str(done)


ON_A_THREAD = """
import asyncio, socket
from concurrent.futures import ThreadPoolExecutor
from omi_runtime import Model
WHERE = ("192.0.2.1", 443)
class Caller(Model):
    version = "1"
    def load(self):
        {load}
    {predict}
    {explain}
"""
QUIET = "def predict(self, text: str) -> str: return text"


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (
            {"load": "asyncio.run(asyncio.open_connection('hub.test', 443))"},
            "load of caller, at {file}, line 9 in load, wants to connect to hub.test:443",
        ),
        (
            {
                "predict": "def predict(self, text: str) -> str: "
                "ThreadPoolExecutor().submit(socket.create_connection, WHERE).result()"
            },
            "predict of caller, at {file}, line 10 in predict, wants to connect to 192.0.2.1:443",
        ),
        (
            {
                "predict": "async def predict(self, text: str) -> str: "
                "await asyncio.open_connection('hub.test', 443)"
            },
            "predict of caller, wants to connect to hub.test:443",
        ),
        (
            {
                "explain": "async def explain(self, text: str) -> str: "
                "await asyncio.open_connection('hub.test', 443)"
            },
            "explain of caller, wants to connect to hub.test:443",
        ),
    ],
    ids=["load", "predict", "async-predict", "async-explain"],
)
def test_a_library_that_connects_on_a_thread_of_its_own_is_told_with_the_models_call(
    tmp_path: Path, members: dict[str, str], told: str
) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        ON_A_THREAD.format_map({"load": "pass", "predict": QUIET, "explain": ""} | members)
    )
    omi = str(Path(sys.executable).with_name("omi"))
    asked = ["predict", str(tmp_path), "--input", "text=a", "--explain"]
    done = process.run(omi, *asked, OMI_OFFLINE="1")
    expected = f"OMI_OFFLINE is on, and a library, during {told.format(file=file)}: "
    assert expected in done.err + done.out, str(done)
