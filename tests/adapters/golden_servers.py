"""Real servers: subprocesses on ports of their own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MODELS = Path(__file__).with_name("models.py")
STARTS_WITHIN = ENDS_WITHIN = 60.0
OF_OUR_OWN = {"INTERFACE", "PROTOCOL", "HTTP_PORT", "PSC_MODEL_PORT", "MODEL_NAME"}

# What the log says when the fault is ours: an exception that nobody mapped, on each road.
BUGS = ("a request failed", "Run failed", "ended unexpectedly", "Exception in ASGI")


class Server:
    """One process that serves one model over one interface."""

    def __init__(self, model: str, interface: str, log: Path, **settings: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in OF_OUR_OWN and not name.startswith("OMI_")
        }
        own = {"INTERFACE": interface, "HTTP_PORT": "0", "OMI_HOST": "127.0.0.1"}
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "omi_runtime"],
                env=inherited | own | {"OMI_MODEL": model} | settings,
                stderr=stream,
            )
        self.port = self._wait_for_port()
        self.address = f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def grpc_port(self) -> int:
        """Of V2 over gRPC; it is open before the port is that `port` names."""
        found = re.search(r"gRPC V2 on port (\d+)", self.log)
        assert found, self.log
        return int(found[1])

    def ended(self) -> None:
        """See that it ends well, now that it has been asked to."""
        try:
            code = self.process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        assert code == 0, self.log
        assert not any(bug in self.log for bug in BUGS), self.log

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            found = re.search(r"listens on \S+ port (\d+)", self.log)
            if found:
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"it did not start:\n{self.log}")


Serve = Callable[..., Server]


class Gate:
    """A prediction of the model Gate that lasts until the test has seen what it wants to see."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def occupied(self, predict: Callable[[], T]) -> Iterator[Future[T]]:
        """While the prediction runs; its answer is there afterwards."""
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(predict)
            try:
                deadline = time.monotonic() + STARTS_WITHIN
                while not self.path.exists():
                    assert not first.done(), first.result()
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                yield first
            finally:
                self.path.with_name(self.path.name + ".open").touch()
            first.result()
