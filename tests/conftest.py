"""Of all tests: the logs of the servers that a failed test talked to stand in its report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from clients import process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome = yield
    if outcome.failed and "--- server" not in outcome.longreprtext:
        outcome.sections += process.report()
    return outcome


def pytest_runtest_setup() -> None:
    process.used.clear()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where a model and its test tell one another something: the models' MARKS."""
    directory = tmp_path / "marks"
    directory.mkdir()
    return directory


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Any]:
    """Starts servers, which end with the test."""
    started: list[process.Server] = []

    def start(*command: str, **variables: Any) -> process.Server:
        started.append(process.Server(tmp_path, command=command, **variables))
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


class Pending:
    """What a call on another thread will come to."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._future: Future[Any] = Future()
        # A daemon: a server that never answers fails the test, and does not hold up its end.
        threading.Thread(target=self._work, args=[function], daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def __call__(self) -> Any:
        """Wait for it; raises what it raised."""
        return self._future.result(process.PATIENCE)

    def _work(self, function: Callable[[], Any]) -> None:
        try:
            self._future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._future.set_exception(error)


@pytest.fixture
def later() -> type[Pending]:
    """Calls a function on a thread of its own; call the outcome to wait for it."""
    return Pending
