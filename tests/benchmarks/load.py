"""One request at a server for a look at its answer, or as many as it can take for some seconds.

Load comes from `wrk` (HTTP/1.1) and `h2load` (gRPC), whose bodies are prepared beforehand.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from peer import Server

NUMBER = b"{number}"


@dataclass(frozen=True)
class Request:
    """What one server is asked.

    Attributes:
        path: of HTTP; or the gRPC method, such as `/ModzyModel/Run`.
        body: of HTTP; or the serialized message. Where it says NUMBER, each request of a load has
            another one there.
        headers: of HTTP.
        grpc: whether it goes to the gRPC port.
    """

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    grpc: bool = False


@dataclass(frozen=True)
class Concurrency:
    """How many requests are under way: connections, and streams on each (gRPC)."""

    connections: int
    streams: int = 1

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}" if self.streams > 1 else str(self.connections)


@dataclass(frozen=True)
class Figures:
    """What a load has shown.

    Attributes:
        rate: answers per second.
        median, p99: seconds from request to answer.
        cpu: the server's CPU microseconds per answer.
    """

    rate: float
    median: float
    p99: float
    cpu: float


class BadAnswers(Exception):
    """A server answered with errors while it was measured."""


def missing_tools() -> list[str]:
    """The load generators that are not installed."""
    return [name for name in ("wrk", "h2load") if shutil.which(name) is None]


def ask(server: Server, request: Request) -> bytes:
    """The body, or the message, of one answer.

    Raises:
        BadAnswers: it was an error.
    """
    if request.grpc:
        import grpc

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
            try:
                return channel.unary_unary(request.path)(request.body, timeout=60)
            except grpc.RpcError as error:
                raise BadAnswers(f"{server.name}: {error}") from None
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request("POST", request.path, request.body, request.headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status not in (200, 201):
        raise BadAnswers(f"{server.name}: {response.status} {body[:300]!r}")
    return body


def put_under(server: Server, request: Request, concurrency: Concurrency, seconds: int) -> Figures:
    """As many requests as it answers with so many under way.

    Raises:
        BadAnswers: not all answers were good.
    """
    before = server.cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        run = _h2load if request.grpc else _wrk
        rate, median, p99, answers = run(server, request, concurrency, seconds, Path(folder))
    cpu = (server.cpu_seconds() - before) / max(answers, 1) * 1e6
    return Figures(rate, median, p99, cpu)


_WRK = """
wrk.method = "POST"
wrk.path = "%s"
local file = io.open("%s", "rb")
wrk.body = file:read("*all")
file:close()
%s
local number = os.time() * 1000000
if wrk.body:find("{number}", 1, true) then
  request = function()
    number = number + 1
    return wrk.format(nil, nil, nil, (wrk.body:gsub("{number}", string.format("%%d", number))))
  end
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def _wrk(
    server: Server, request: Request, concurrency: Concurrency, seconds: int, folder: Path
) -> tuple[float, float, float, int]:
    body, script = folder / "body", folder / "script.lua"
    body.write_bytes(request.body)
    headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in request.headers.items())
    script.write_text(_WRK % (request.path, body, headers))
    connections = concurrency.connections
    text = _run(
        "wrk",
        *("-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"),
        *("-s", str(script), f"http://127.0.0.1:{server.http_port}"),
    )
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    assert found is not None, text
    answers, duration, median, p99, errors = map(int, found.groups())
    if errors or not answers:
        raise BadAnswers(f"{server.name}: {answers} answers, {errors} errors\n{text}")
    return answers / (duration / 1e6), median / 1e6, p99 / 1e6, answers


def _h2load(
    server: Server, request: Request, concurrency: Concurrency, seconds: int, folder: Path
) -> tuple[float, float, float, int]:
    body, log = folder / "body", folder / "log"
    body.write_bytes(b"\0" + struct.pack(">I", len(request.body)) + request.body)
    window = "30"  # bits: flow control is not what is measured
    text = _run(
        "h2load",
        *("-t1", f"-c{concurrency.connections}", f"-m{concurrency.streams}", f"-D{seconds}"),
        *(f"-d{body}", f"-w{window}", f"-W{window}", f"--log-file={log}"),
        *("-Hcontent-type:application/grpc", "-Hte:trailers"),
        f"http://127.0.0.1:{server.grpc_port}{request.path}",
    )
    found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    assert found is not None, text
    answers, *errors = map(int, found.groups())
    if any(errors) or not answers:
        raise BadAnswers(f"{server.name}:\n{text}")
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    return (
        answers / seconds,
        times[len(times) // 2] / 1e6,
        times[min(len(times) - 1, len(times) * 99 // 100)] / 1e6,
        answers,
    )


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def parse_json(body: bytes) -> dict[str, object]:
    """The object that a JSON answer is."""
    content = json.loads(body)
    assert isinstance(content, dict)
    return content
