"""What metrics cost end to end: CPU time of the server for a small request, counted and not.

    python tests/benchmarks/counting.py [--turns 41] [--requests 1600]

Two servers of the iris example on KServe V1 take turns; in one of them nothing is counted: the
methods that count do nothing. There is no such setting, for nobody would gain by it.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 16
BODY = b'{"instances":[[5.1,3.5,1.4,0.2]]}'
REQUEST = b"POST /v1/models/iris:predict HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


def serve(*, counted: bool) -> None:
    """Be the server."""
    from omi_runtime import launch, metrics

    if not counted:
        for kind, names in (
            (metrics.Traffic, ("came", "received", "sent", "went")),
            (metrics.Metrics, ("queue", "batch", "answered", "failed")),
        ):
            for name in names:
                assert callable(getattr(kind, name))
                setattr(kind, name, lambda *_: None)
    sys.exit(launch.main())


class Server:
    """One of the two, with connections to it."""

    def __init__(self, *, counted: bool) -> None:
        settings = {
            "INTERFACE": "kserve",
            "OMI_GRPC_PORT": "0",
            "HTTP_PORT": "0",
            "OMI_HOST": "127.0.0.1",
            "OMI_MODEL": str(ROOT / "docs" / "examples" / "iris"),
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", "on" if counted else "off"],
            env=os.environ | settings,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        port = 0
        while not port:
            line = self.process.stderr.readline()
            assert line, "the server has ended"
            found = re.search(r"listens on .* port (\d+)$", line.strip())
            port = int(found[1]) if found else 0
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]

    def turn(self, requests: int) -> tuple[float, float]:
        """Requests of all connections together: CPU µs for each, and how many in a second."""
        cpu, clock = self._cpu(), time.monotonic()
        for _ in range(requests // CONNECTIONS):
            for sock in self.sockets:
                sock.sendall(REQUEST)
            for sock in self.sockets:
                assert b'{"predictions":[0]}' in sock.recv(4096)
        seconds = time.monotonic() - clock
        return (self._cpu() - cpu) / requests * 1e6, requests / seconds

    def _cpu(self) -> float:
        """Seconds that its threads have run, by the nanosecond."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def main() -> None:
    """Print what each turn has shown, and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", choices=["on", "off"])
    parser.add_argument("--turns", type=int, default=41)
    parser.add_argument("--requests", type=int, default=1600)
    options = parser.parse_args()
    if options.serve:
        serve(counted=options.serve == "on")
    servers = [Server(counted=True), Server(counted=False)]
    try:
        for server in servers:
            server.turn(options.requests)
        pairs = []
        for turn in range(options.turns):
            order = servers if turn % 2 else servers[::-1]
            figures = {server: server.turn(options.requests) for server in order}
            counted, bare = figures[servers[0]], figures[servers[1]]
            pairs.append((counted[0], bare[0], counted[0] - bare[0], counted[1] / bare[1]))
            print("counted {:.1f} µs, not {:.1f} µs: {:+.1f} µs, rate {:.3f}".format(*pairs[-1]))
        for name, column in zip(
            ("counted", "not", "more", "rate"), zip(*pairs, strict=True), strict=True
        ):
            print(
                f"{name}: median {statistics.median(column):.3f}, "
                f"{min(column):.3f} to {max(column):.3f}"
            )
    finally:
        for server in servers:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
