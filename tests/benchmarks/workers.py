"""What several workers cost and bring: memory, with and without OMI_PRELOAD, and rates.

    .venv/bin/python tests/benchmarks/workers.py

Memory is the proportional set size of all processes of a server (a page that n processes share
counts as 1/n in each), with a model that holds 500 MB. Rates are those of a model that computes for
10 ms of CPU time in Python, over 32 connections, in turns of one and two workers.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clients.process import Server, until

MODEL = """
import time
import numpy as np
from omi_runtime import Model

class Large(Model):
    def load(self):
        self.weights = np.ones(500_000_000 // 8)

    def predict(self, x: float) -> float:
        return float(self.weights[::4096].sum() * 0 + x)

class Busy(Model):
    def predict(self, x: float) -> float:
        end = time.thread_time() + 0.010
        while time.thread_time() < end:
            pass
        return x
"""
TURNS, SECONDS, CONNECTIONS = 5, 2.0, 32
BODY = b'{"instances":[1.0]}'


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "model.py").write_text(MODEL)
        rates(directory)
        memory(directory)


def start(directory: Path, model: str, workers: int, **settings: str) -> Server:
    server = Server(
        directory,
        INTERFACE="kserve",
        OMI_MODEL=f"{directory / 'model.py'}:{model}",
        OMI_WORKERS=str(workers),
        **settings,
    )
    ready = "try it" if workers == 1 else f"{workers} of {workers} are ready"
    until(lambda: ready in server.log, ready, 300.0)
    return server


def memory(directory: Path) -> None:
    one = measured(directory, 1)
    four = measured(directory, 4)
    shared = measured(directory, 4, OMI_PRELOAD="on")
    print(f"one worker: {one:.0f} MB; 4 of it: {4 * one:.0f} MB")
    print(f"4 workers: {four:.0f} MB, {four / (4 * one):.2f} of 4 x 1")
    print(f"4 workers, preloaded: {shared:.0f} MB, {shared / (4 * one):.2f} of 4 x 1")


def measured(directory: Path, workers: int, **settings: str) -> float:
    """Megabytes of all processes after some predictions."""
    with start(directory, "Large", workers, **settings) as server:
        asyncio.run(load(server.port("kserve"), "large", 1.0))
        pid = server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        total = sum(proportional(int(child)) for child in (pid, *children))
        end(server)
    return total / 1e6


def proportional(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def rates(directory: Path) -> None:
    with start(directory, "Busy", 1) as one, start(directory, "Busy", 2) as two:
        ports = one.port("kserve"), two.port("kserve")
        turns = [[asyncio.run(load(port, "busy", SECONDS)) for port in ports] for _ in range(TURNS)]
        end(one)
        end(two)
    ratios = sorted(second / first for first, second in turns)
    print("requests/s, 1 and 2 workers:", ", ".join(f"{a:.0f} {b:.0f}" for a, b in turns))
    print(f"ratio: {statistics.median(ratios):.2f} (median; {ratios[0]:.2f} to {ratios[-1]:.2f})")


async def load(port: int, model: str, seconds: float) -> float:
    """Requests per second over all connections, each of which asks one thing after the other."""
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}"
    request = head.encode() + b"\r\n\r\n" + BODY
    deadline = time.monotonic() + seconds

    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        while time.monotonic() < deadline:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            assert b" 200 " in answer.partition(b"\r\n")[0], answer
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))) / seconds


def end(server: Server) -> None:
    server.signal()
    until(lambda: not server.running, "the server has stopped")


if __name__ == "__main__":
    main()
