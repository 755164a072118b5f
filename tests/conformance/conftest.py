"""Every test here runs once for each wire, with a client that hides the wire's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from clients import MODELS, Client, Server, Spec, each, process

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
GREETING = Spec(
    f"{MODELS}:Greeting",
    "greeting",
    {"name": "text", "times": "INT64", "seal": "bytes"},
    {"text": "text", "facts": "json", "seal": "bytes"},
)


@pytest.fixture(scope="session", params=each())
def wire(request: pytest.FixtureRequest) -> type[Client]:
    """The wire that the test speaks."""
    found: type[Client] = request.param
    return found


class Pool:
    """Servers and clients that tests share: one for each interface, model and settings."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._servers: dict[Any, Server] = {}
        self._clients: dict[Any, Client] = {}

    def client(self, wire: type[Client], spec: Spec, **variables: str) -> Client:
        """A client of a server that runs, which is started if there is none."""
        server_key = (wire.interface, spec.source, *sorted(variables.items()))
        server = self._servers.get(server_key)
        if server is None:
            server = self._servers[server_key] = self._start(wire, spec, variables)
        elif server not in process.used:
            process.used.append(server)
        key = (wire, *server_key)
        if key not in self._clients:
            client = wire(wire.port_of(server), spec, self._directory)
            self._clients[key] = self._stack.enter_context(client)
            process.until(client.ready, f"{wire.wire} is ready")
        return self._clients[key]

    def _start(self, wire: type[Client], spec: Spec, variables: dict[str, str]) -> Server:
        marks = self._directory / f"marks-{len(self._servers)}"
        marks.mkdir()
        server = Server(
            self._directory,
            INTERFACE=wire.interface,
            OMI_MODEL=spec.source,
            MARKS=marks,
            **variables,
        )
        return self._stack.enter_context(server)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ExitStack() as stack:
        yield Pool(tmp_path_factory.mktemp("pool"), stack)


@pytest.fixture
def totals(pool: Pool, wire: type[Client]) -> Client:
    """Served: adds pairs of numbers, batched."""
    return pool.client(wire, TOTALS)


@pytest.fixture
def greeting(pool: Pool, wire: type[Client]) -> Client:
    """Served: text in, text, JSON and bytes out, one item at a time; some inputs are optional."""
    return pool.client(wire, GREETING)


@pytest.fixture
def lenient(pool: Pool, wire: type[Client]) -> Client:
    """Served: totals, with NaN as null, and without the texts of exceptions."""
    return pool.client(wire, TOTALS, OMI_NAN="null", OMI_ERROR_DETAIL="generic")


@pytest.fixture
def start(
    wire: type[Client], servers: Any, marks: Path, tmp_path: Path
) -> Iterator[Callable[..., tuple[Server, Client]]]:
    """Starts a server of the test's own, with a client; does not wait for anything."""
    with ExitStack() as stack:

        def start(model: str = "Totals", **variables: Any) -> tuple[Server, Client]:
            port = stack.enter_context(process.reserved_port())
            spec = Spec(f"{MODELS}:{model}", model.lower(), TOTALS.inputs, TOTALS.outputs)
            settings = {wire.port_variable: port, "OMI_MODEL": spec.source, "MARKS": marks}
            server = servers(INTERFACE=wire.interface, **settings | variables)
            return server, stack.enter_context(wire(port, spec, tmp_path))

        yield start
