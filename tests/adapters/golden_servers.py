"""The servers of the wire tests: each lives for a module of tests, with one model and interface."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from clients import process

T = TypeVar("T")

MODELS = Path(__file__).with_name("models.py")

# What the log says when the fault is ours: an exception that nobody mapped, on each road.
BUGS = ("a request failed", "Run failed", "ended unexpectedly", "Exception in ASGI")


class Server(process.Server):
    """One process that serves one model over one interface."""

    def __init__(self, model: str, interface: str, directory: Path, **settings: str) -> None:
        super().__init__(directory, **{"INTERFACE": interface, "OMI_MODEL": model} | settings)
        port = self.wait_for_log(r"listens on \S+ port (\d+)")[1]
        self.address = f"127.0.0.1:{port}"

    @property
    def grpc_port(self) -> int:
        """Of V2 over gRPC; it is open before the port is that `address` has."""
        found = re.search(r"gRPC V2 on port (\d+)", self.log)
        assert found, self.log
        return int(found[1])

    def ended(self) -> None:
        """See that it ends well, now that it has been asked to."""
        with self:
            assert self.wait() == 0, self.log
        assert not any(bug in self.log for bug in BUGS), self.log


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
                process.until(lambda: first.done() or self.path.exists(), "a prediction runs")
                assert not first.done(), first.result()
                yield first
            finally:
                self.path.with_name(self.path.name + ".open").touch()
            first.result()
