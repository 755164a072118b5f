"""The port of metrics and probes, and clients who are no good ones."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from clients import MODELS, until
from clients.process import PATIENCE, Server, reserved_port

RESETS = struct.pack("ii", 1, 0)


@pytest.fixture
def side(servers: Any) -> Iterator[tuple[Server, int]]:
    with reserved_port() as port:
        server = servers(
            INTERFACE="omi",
            OMI_MODEL=f"{MODELS}:Totals",
            OMI_METRICS_PORT=str(port),
            OMI_LOG_FORMAT="json",
        )
        server.wait_for_log("metrics and probes listen")
        yield server, port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def lives(port: int) -> bool:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    client.request("GET", "/livez")
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return (answer.status, body) == (200, b"live\n")


def test_clients_that_break_off_leave_nothing_in_the_log_that_is_no_line(
    side: tuple[Server, int],
) -> None:
    server, port = side
    for sent in (b"", b"GET /livez HTTP/1.1\r\nHo", b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"):
        for _ in range(5):
            with connected(port) as client:
                client.sendall(sent)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    assert lives(port)
    server.signal()
    assert server.wait() == 0
    assert all("message" in json.loads(line) for line in server.lines)
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01 garbage\r\n\r\n", b"GET  HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 70_000 + b"\r\n"],
)
def test_what_is_no_request_is_told_so_in_text(side: tuple[Server, int], sent: bytes) -> None:
    _, port = side
    with connected(port) as client:
        client.sendall(sent)
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 4")
    assert b"\r\nContent-Type: text/plain; charset=utf-8" in head
    assert body.endswith(b"\n")
    assert b"<" not in body


def test_clients_that_say_nothing_take_no_threads_without_end_and_no_probes_turn(
    side: tuple[Server, int],
) -> None:
    server, port = side
    status = Path(f"/proc/{server.serving}/status")

    def threads() -> int:
        (line,) = (line for line in status.read_text().splitlines() if "Threads" in line)
        return int(line.split()[1])

    assert lives(port)
    before = threads()
    with ExitStack() as silent:
        for _ in range(200):
            silent.enter_context(connected(port))
        assert lives(port)
        assert threads() <= before + 16 + 1
    until(lambda: threads() <= before, "they are gone")
