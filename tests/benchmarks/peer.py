"""Servers under measurement: an environment of their own, a start, a stop, and what they use.

A peer is one file in `peers/`. It is read here for its constants, and run by its environment's own
interpreter to serve: `python peers/NAME.py MODEL HTTP_PORT GRPC_PORT`. So it imports its framework
inside a function, and nothing of ours.

    REQUIREMENTS   what pip installs into `.bench/NAME`; empty for servers that run in `.venv`
    INTERFACES     the INTERFACE of ours that it is compared with
    OPENS_GRPC     whether it listens on GRPC_PORT too
    prepare()      optional: a reason why it cannot run here, or None
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENVIRONMENTS = ROOT / ".bench"
JOBS = ENVIRONMENTS / "jobs"
"""Files of jobs, until the end of a run."""

PEERS = HERE / "peers"
PATIENCE = 120.0
"""Seconds for a server to start; some import for long."""


class Unavailable(Exception):
    """A peer that cannot be installed or started here; the report says so."""


@dataclass(frozen=True)
class Server:
    """A server whose port is open.

    Attributes:
        begun: when it was started, a time of `time.monotonic`.
    """

    name: str
    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int
    begun: float

    def processes(self) -> list[int]:
        """Its process, first, and all others of the session that was made for it."""
        others = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and _session(folder) == self.process.pid
        ]
        return [self.process.pid, *(pid for pid in others if pid != self.process.pid)]

    def resident(self) -> float:
        """MiB of resident memory, all processes added up."""
        return sum(_status(pid, "VmRSS") for pid in self.processes()) / 1024

    def proportional(self) -> float:
        """MiB of memory, what is shared counted once."""
        return sum(_rollup(pid, "Pss") for pid in self.processes()) / 1024

    def cpu_seconds(self) -> float:
        """CPU time so far, all processes that live added up."""
        ticks = 0
        for pid in self.processes():
            fields = _stat(Path(f"/proc/{pid}"))
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Peer:
    """One file of `peers/`, and the environment that it runs in."""

    name: str
    module: ModuleType = field(init=False)

    def __post_init__(self) -> None:
        spec = importlib.util.spec_from_file_location(f"peers.{self.name}", self.path)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    @property
    def path(self) -> Path:
        return PEERS / f"{self.name}.py"

    @property
    def python(self) -> str:
        """The interpreter that serves."""
        if not self.module.REQUIREMENTS:
            return sys.executable
        return str(ENVIRONMENTS / self.name / "bin" / "python")

    def install(self) -> None:
        """Make the environment, unless it is there.

        Raises:
            Unavailable: pip could not; says why.
        """
        reason = self.module.prepare() if hasattr(self.module, "prepare") else None
        if reason:
            raise Unavailable(reason)
        requirements = self.module.REQUIREMENTS
        folder = ENVIRONMENTS / self.name
        complete = folder / "complete"
        if not requirements or (complete.exists() and complete.read_text() == repr(requirements)):
            return
        print(f"installing {' '.join(requirements)} into {folder.relative_to(ROOT)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        done = subprocess.run(
            [self.python, "-m", "pip", "install", "--quiet", *requirements],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"pip could not install it: {done.stderr.strip()[-300:]}")
        complete.write_text(repr(requirements))

    def version(self) -> str:
        """Of the first requirement, as installed; of ours, the project's."""
        package = self.module.PACKAGE
        code = f"from importlib.metadata import version; print(version({package!r}))"
        done = subprocess.run(
            [self.python, "-P", "-c", code], capture_output=True, text=True, check=False
        )
        return f"{package} {done.stdout.strip()}"

    @contextmanager
    def serving(self, model: str, **variables: str) -> Iterator[Server]:
        """The server, answering, with a model of `functions.py`.

        Raises:
            Unavailable: it did not start; says what it printed.
        """
        http_port, grpc_port = _free_port(), _free_port()
        command = [self.python, "-P", str(self.path), model, str(http_port), str(grpc_port)]
        log = ENVIRONMENTS / f"{self.name}.log"
        begin = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=_environ() | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(self.name, process, http_port, grpc_port, begin)
        only_grpc = self.module.OPENS_GRPC_ONLY or variables.get("INTERFACE") == "omi"
        try:
            self._wait(server, grpc_port if only_grpc else http_port, log)
            yield server
        finally:
            _end(server)

    def _wait(self, server: Server, port: int, log: Path) -> None:
        """Until the port is open and the peer's own probe says yes."""
        deadline = time.monotonic() + PATIENCE
        probe = getattr(self.module, "is_ready", None)
        while time.monotonic() < deadline:
            if server.process.poll() is not None:
                raise Unavailable(f"it ended: {log.read_text()[-300:]}")
            if _is_open(port) and (probe is None or probe(port)):
                return
            time.sleep(0.005)
        raise Unavailable(f"not ready within {PATIENCE:.0f} s: {log.read_text()[-300:]}")


def _environ() -> dict[str, str]:
    """Ours, but servers keep their bytecode: those that are installed have it from the start."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def _end(server: Server) -> None:
    """End the server and whatever it started, by their ids."""
    everything = server.processes()
    server.process.terminate()
    try:
        server.process.wait(15)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    for pid in everything[1:]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _session(folder: Path) -> int:
    return int(_stat(folder)[3])


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat from the state on; zeros if it has ended."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 50


def _status(pid: int, key: str) -> int:
    return _kib(Path(f"/proc/{pid}/status"), key)


def _rollup(pid: int, key: str) -> int:
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), key)


def _kib(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key + ":")), 0)
