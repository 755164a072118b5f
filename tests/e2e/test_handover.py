"""What is queued for a worker that goes, and what comes to its place afterwards, is answered."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from clients import KServeV1Client, OMIClient, process, until

CALLERS: Final = 8
BODY: Final = b'{"instances":[0.0]}'
REQUEST: Final = (
    b"POST /v1/models/who:predict HTTP/1.1\r\nhost: here\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client of HTTP/2 says first, with no setting (RFC 9113, 3.4)."""


class Connection(NamedTuple):
    """To the server: the caller's port, and whether it is accepted."""

    caller: int
    accepted: bool


class Callers:
    """Callers who open a connection for every request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._going = threading.Event()
        self.answers: list[int] = []
        self.failed: dict[int, str] = {}

    @contextmanager
    def calling(self) -> Iterator[None]:
        """They call meanwhile, and nobody is left without an outcome."""
        self._going.set()
        threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._going.clear()
            for thread in threads:
                thread.join(process.PATIENCE)

    def wait_for_more(self, n: int = 50) -> None:
        """Wait until so many more are answered."""
        goal = len(self.answers) + n
        until(lambda: len(self.answers) >= goal, f"{n} more answers")

    def _call(self) -> None:
        while self._going.is_set():
            own = 0
            try:
                with socket.create_connection(("127.0.0.1", self._port), process.PATIENCE) as sock:
                    own = sock.getsockname()[1]
                    sock.sendall(REQUEST)
                    with sock.makefile("rb") as stream:
                        answer = stream.read()
                (pid,) = orjson.loads(answer.rpartition(b"\r\n\r\n")[2])["predictions"]
                self.answers.append(pid)
            except (OSError, ValueError) as error:
                self.failed[own] = repr(error)


def connections(port: int) -> list[Connection]:
    """Of a server's port: the system gives a connection an inode when it is accepted."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        Connection(int(row[2].rpartition(":")[2], 16), accepted=row[9] != "0")
        for row in rows
        if int(row[1].rpartition(":")[2], 16) == port and row[3] == "01"
    ]


def if_all_wait(port: int) -> list[Connection] | None:
    """The connections, if both sets of callers wait, and some of them in a queue."""
    found = connections(port)
    time.sleep(0.1)
    if len(found) < 2 * CALLERS or found != connections(port) or all(c.accepted for c in found):
        return None
    return found


def state(pid: int) -> str:
    """Of a process, such as T for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def test_only_what_a_killed_worker_has_accepted_is_lost(crew: Any) -> None:
    crew = crew("kserve")
    victim, survivor = crew.wait_until_ready(2)
    port = KServeV1Client.port_of(crew.server)
    before = descriptors(survivor)
    early, late = Callers(port), Callers(port)
    with early.calling():
        early.wait_for_more()
        os.kill(victim, signal.SIGSTOP)
        until(lambda: state(victim) == "T", "it takes no connection any more")
        with late.calling():
            # Whoever comes to the survivor is answered and calls again, until all wait.
            waiting = until(lambda: if_all_wait(port), "all wait for a stopped worker")
            os.kill(victim, signal.SIGKILL)
            until(lambda: crew.server.log.count("2 of 2 are ready") > 1, "another is ready")
            late.wait_for_more()
    accepted = {connection.caller for connection in waiting if connection.accepted}
    assert early.failed.keys() <= accepted, early.failed
    assert late.failed == {}
    assert set(early.answers) >= {victim, survivor}
    assert set(late.answers) == crew.pids
    until(lambda: descriptors(survivor) == before, "the place is its own worker's again")


def test_who_waits_in_the_queue_is_answered_over_grpc_too(crew: Any) -> None:
    """With the frame that HTTP/2 begins with: gRPC's clients have a patience of their own."""
    crew = crew("omi")
    victim, _ = crew.wait_until_ready(2)
    port = OMIClient.port_of(crew.server)
    os.kill(victim, signal.SIGSTOP)
    until(lambda: state(victim) == "T", "it takes no connection any more")
    with ExitStack() as stack:
        callers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), process.PATIENCE))
            for _ in range(4 * CALLERS)
        ]
        for caller in callers:
            caller.sendall(PREFACE + SETTINGS)
        assert not all(connection.accepted for connection in connections(port)), "some are queued"
        os.kill(victim, signal.SIGKILL)
        for caller in callers:
            assert caller.recv(9)[3] == 4, "the server's own settings"


def test_nothing_is_lost_when_a_worker_is_told_to_go(crew: Any) -> None:
    crew = crew("kserve")
    pids = crew.wait_until_ready(2)
    callers = Callers(KServeV1Client.port_of(crew.server))
    with callers.calling():
        callers.wait_for_more()
        os.kill(min(pids), signal.SIGTERM)
        until(lambda: crew.server.log.count("2 of 2 are ready") > 1, "another takes its place")
        callers.wait_for_more()
    assert callers.failed == {}
    assert min(pids) not in crew.pids
    crew.server.signal()
    assert crew.server.wait() == 0
