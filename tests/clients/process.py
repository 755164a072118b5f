"""Servers as subprocesses: started as a user starts them, and ended by their own process id."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
MODELS = TESTS / "models.py"
EXAMPLES = ROOT / "docs" / "examples"
OMI = str(Path(sys.executable).with_name("omi"))

PATIENCE = 30.0
"""Seconds for what should take a moment: the machine may be busy with other tests."""

_OURS = re.compile(r"^(INTERFACE|PROTOCOL|HTTP_PORT|PSC_MODEL_PORT|MODEL_NAME|OMI_.*)$")

QUICK = 10.0
"""Far below the grace of 30 s, and far above what a busy machine needs."""

used: list[Server] = []
"""The servers that the running test has to do with, for its report if it fails."""


def environment(**variables: str) -> dict[str, str]:
    """The tests' own environment without any setting of ours, and what a test sets.

    The port of the metrics has a default, which several servers at a time cannot share.
    """
    inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return inherited | {"OMI_METRICS_PORT": "0"} | variables


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Ask again and again until the answer is true; returns it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not after {seconds:g} s: {what}{_logs()}"
        time.sleep(0.01)
    return value


def slowness() -> float:
    """By how much this machine is slower at the moment than if it had nothing else to do.

    That is how long something takes by the clock for each second of CPU that it gets: 1 at best.
    Limits of time that a server promises are multiplied by it, and by nothing else.
    """
    clock, cpu = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - cpu) < 0.1:
        pass
    return max(1.0, (time.monotonic() - clock) / used)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that nobody else is given and that refuses connections until a server listens there.

    Two sockets with SO_REUSEADDR may be bound to one port as long as only one of them listens.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which somebody listens already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run(*command: str, seconds: float = PATIENCE, **variables: str) -> Finished:
    """Run a command to its end."""
    done = subprocess.run(
        command,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def alive(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@dataclass(frozen=True)
class Finished:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}{self.err}"


class Server:
    """One running server.

    Args:
        directory: for its log.
        command: what to run; `python -m omi_runtime` unless told.
        variables: its settings; empty is unset. The port is the system's choice unless told.
    """

    def __init__(
        self, directory: Path, *, command: tuple[str, ...] = (), **variables: str | Path
    ) -> None:
        settings: dict[str, Any] = {"HTTP_PORT": "0", "OMI_HOST": "127.0.0.1"} | variables
        if str(settings["HTTP_PORT"]) != "0" and str(settings.get("INTERFACE")).startswith("k"):
            # Its default is one port for all that run at this moment.
            settings.setdefault("OMI_GRPC_PORT", "0")
        self._log = _fresh(directory)
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(
                command or (sys.executable, "-m", "omi_runtime"),
                env=environment(**{name: str(value) for name, value in settings.items()}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        used.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            watched = children(self.process.pid)
            self.process.kill()
            for pid in watched:  # they would stop by themselves, but not before what they hold up
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        """All that it has said on stdout and stderr."""
        return self._log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The log, line by line."""
        return self.log.splitlines()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    @property
    def serving(self) -> int:
        """The process that serves alone: the child of the one that was started."""
        (pid,) = children(self.process.pid)
        return pid

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Wait until the log has something of this pattern."""

        def find() -> re.Match[str] | None:
            found = re.search(pattern, self.log, re.MULTILINE)
            assert found or self.running, f"ended without logging {pattern!r}{_logs()}"
            return found

        found = until(find, f"a log line like {pattern!r}")
        assert found
        return found

    def port(self, interface: str) -> int:
        """The port that an interface listens on, once it does."""
        return int(self.wait_for_log(rf"INTERFACE={interface} .* listens on .* port (\d+)")[1])

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s{_logs()}") from None


def report() -> list[tuple[str, str]]:
    """The last of what the servers of the running test have said, by command line."""
    return [
        (f"server {server.process.pid}, exit code {server.process.poll()}", _tail(server))
        for server in used
    ]


def _logs() -> str:
    return "".join(f"\n--- {title}\n{log}" for title, log in report())


def _tail(server: Server) -> str:
    return "\n".join(server.lines[-60:])


def _fresh(directory: Path) -> Path:
    number = sum(1 for _ in directory.glob("server-*.log"))
    return directory / f"server-{number}.log"
