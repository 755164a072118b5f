"""Start-up time, idle memory and requests per second of every interface: `make figures`.

Absolute figures drift with the machine, so every turn also measures a bare server under the same
load (a raw ASGI application on uvicorn; a grpc.aio servicer that answers a constant), and the last
columns are ratios to it. Needs `wrk` and `h2load` for the rates; without them they are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODELS = {"empty": HERE / "empty", "iris": ROOT / "docs/examples/iris"}
INPUT = {"empty": "x", "iris": "measurements"}
ROW = [5.1, 3.5, 1.4, 0.2]


@dataclass
class Server:
    """A running server, and how long it took."""

    process: subprocess.Popen[str]
    port: int = 0
    opened: float = 0.0
    ready: float = 0.0
    log: list[str] = field(default_factory=list)

    def resident(self) -> float:
        """MiB of resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def omi(interface: str, model: str) -> Iterator[Server]:
    environ = os.environ | {
        "INTERFACE": interface,
        "HTTP_PORT": "0",
        "OMI_MODEL": str(MODELS[model]),
        "OMI_HOST": "127.0.0.1",
    }
    with _running([str(Path(sys.executable).parent / "omi"), "serve"], environ) as server:
        begin = time.monotonic()
        while not (server.port and server.ready):
            line = server.process.stderr.readline()
            if not line:
                raise SystemExit(f"the server ended: {''.join(server.log)}")
            server.log.append(line)
            if found := re.search(r"listens on .* port (\d+)", line):
                server.port, server.opened = int(found[1]), time.monotonic() - begin
            if "is ready" in line:
                server.ready = time.monotonic() - begin
        server.ready = max(server.ready, server.opened)
        yield server


@contextlib.contextmanager
def bare(kind: str) -> Iterator[Server]:
    """The least that can answer: `http` or `grpc`."""
    with _running([sys.executable, str(HERE / "bare.py"), kind], dict(os.environ)) as server:
        server.port = int(server.process.stderr.readline())
        yield server


@contextlib.contextmanager
def _running(command: list[str], environ: dict[str, str]) -> Iterator[Server]:
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def wrk(server: Server, path: str, body: str, connections: int, seconds: int):
    """Requests per second, and the server's CPU microseconds per request."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method='POST' wrk.body={json.dumps(body)}")
        script.flush()
        url = f"http://127.0.0.1:{server.port}{path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, url]
        return _load(server, command, r"(\d+) requests in", "Non-2xx", seconds)


def h2load(server: Server, message: bytes, connections: int, streams: int, seconds: int):
    with tempfile.NamedTemporaryFile("wb") as body:
        body.write(b"\0" + struct.pack(">I", len(message)) + message)
        body.flush()
        command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "-d"]
        command += [body.name, "-Hcontent-type:application/grpc", "-Hte:trailers"]
        command += [f"http://127.0.0.1:{server.port}/ModzyModel/Run"]
        return _load(server, command, r"status codes: (\d+) 2xx", "[1-9]\\d* 5xx", seconds)


def _load(server, command, count, bad, seconds) -> tuple[float, float]:
    before = server.cpu_seconds()
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if re.search(bad, text):
        raise SystemExit(f"answers were not all good:\n{text}")
    requests = int(re.search(count, text)[1])
    return requests / seconds, (server.cpu_seconds() - before) / requests * 1e6


def run_message() -> bytes:
    from omi_grpc._pb import model_pb2 as pb

    item = pb.InputItem(input={"x": json.dumps(ROW).encode()})
    return pb.RunRequest(inputs=[item]).SerializeToString()


def start_up(turns: int) -> None:
    print("| interface | model | port open (s) | ready (s) | idle memory (MiB) |")
    print("|---|---|---|---|---|")
    for model in MODELS:
        for interface in ("omi", "kserve", "modzy"):
            opened, ready, memory = [], [], []
            for _ in range(turns):
                with omi(interface, model) as server:
                    opened.append(server.opened)
                    ready.append(server.ready)
                    memory.append(server.resident())
            median = [statistics.median(values) for values in (opened, ready, memory)]
            cells = f"{median[0]:.2f} | {median[1]:.2f} | {median[2]:.0f}"
            print(f"| {interface} | {model} | {cells} |")


def rates(turns: int, seconds: int) -> None:
    v1 = json.dumps({"instances": [ROW]})
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}
    v2 = json.dumps({"inputs": [tensor]})
    message = run_message()
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        bare("http") as http,
        bare("grpc") as grpc,
        omi("kserve", "empty") as kserve,
        omi("omi", "empty") as omi_server,
        omi("modzy", "empty") as modzy,
    ):
        Path(folder, "x.json").write_text(json.dumps(ROW))
        job = json.dumps({"type": "file", "input": folder, "output": f"{folder}/out"})
        for _ in range(turns):
            for connections in (1, 16, 64):
                base = wrk(http, "/", v1, connections, seconds)
                for name, server, path, body in (
                    ("KServe V1", kserve, "/v1/models/linear:predict", v1),
                    ("KServe V2", kserve, "/v2/models/linear/infer", v2),
                    ("Modzy /run", modzy, "/run", job),
                ):
                    got = wrk(server, path, body, connections, seconds)
                    rows.setdefault(f"{name}, {connections} connections", []).append((*got, *base))
            for connections, streams in ((1, 1), (4, 8)):
                base = h2load(grpc, message, connections, streams, seconds)
                got = h2load(omi_server, message, connections, streams, seconds)
                name = f"OMI Run, {connections}x{streams} streams"
                rows.setdefault(name, []).append((*got, *base))
    print("\n| work | requests/s | CPU us/request | bare /s | its CPU us | ratio | CPU ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, turned in rows.items():
        rate, cpu, base_rate, base_cpu = (
            statistics.median(column) for column in zip(*turned, strict=True)
        )
        ratio = statistics.median(turn[0] / turn[2] for turn in turned)
        cpu_ratio = statistics.median(turn[3] / turn[1] for turn in turned)
        print(
            f"| {name} | {rate:,.0f} | {cpu:.0f} | {base_rate:,.0f} | {base_cpu:.0f} "
            f"| {ratio:.2f} | {cpu_ratio:.2f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--only", choices=("start", "rates"))
    options = parser.parse_args()
    if options.only != "rates":
        start_up(options.turns)
    if options.only != "start":
        if shutil.which("wrk") and shutil.which("h2load"):
            rates(options.turns, options.seconds)
        else:
            print("\nno rates: wrk and h2load (Debian: wrk, nghttp2-client) are not here")
