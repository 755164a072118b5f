"""A server with workers, as the tests of workers see it: its processes and who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from clients import Answer, Client, Server, Spec, process, until
from worker_models import HOLD, WHO

MODELS: Final = process.TESTS / "worker_models.py"


class Crew:
    """One server with `OMI_WORKERS`."""

    def __init__(self, server: Server, marks: Path, directory: Path, model: str) -> None:
        self.server = server
        self.marks = marks
        self._directory = directory
        self._spec = Spec(
            f"{MODELS}:{model}", model.lower(), {"order": "FP64"}, {"process": "INT64"}
        )

    @property
    def pids(self) -> set[int]:
        """The workers' processes."""
        return set(process.children(self.server.process.pid))

    def wait_until_ready(self, n: int) -> set[int]:
        """Wait until so many workers are ready; returns their processes."""
        self.server.wait_for_log(rf"is ready: {n} of \d+ are ready")
        return self.pids

    def client(self, wire: type[Client], port: int | None = None) -> Client:
        """A client with a connection of its own."""
        return wire(port or wire.port_of(self.server), self._spec, self._directory)

    @contextmanager
    def one_client_each(self, wire: type[Client], n: int = 2) -> Iterator[dict[int, Client]]:
        """A client of each of n workers, by process: a connection stays where it is."""
        with ExitStack() as stack:
            found: dict[int, Client] = {}

            def look() -> bool:
                client = stack.enter_context(self.client(wire))
                answer = ask(client, WHO)  # on a busy machine, gRPC's client may give up connecting
                if isinstance(answer, int):
                    found.setdefault(answer, client)
                return len(found) == n

            until(look, f"{n} workers answer")
            yield found

    def hold(self, later: Any, clients: dict[int, Client]) -> dict[int, Any]:
        """Have a prediction run in each worker until `release`; what will come of it."""
        held = {pid: later(lambda c=client: ask(c, HOLD)) for pid, client in clients.items()}
        for pid in clients:
            until((self.marks / f"holding-{pid}").exists, f"a prediction runs in {pid}")
        return held


def ask(client: Client, order: float) -> Any:
    """What a worker answers: its process, or what went wrong."""
    try:
        (outcome,) = client.infer([{"order": order}])
    except httpx.TransportError as error:
        return error
    return outcome.outputs["process"] if isinstance(outcome, Answer) else outcome


def who(client: Client) -> int:
    """The process that answers this client."""
    answer = ask(client, WHO)
    assert isinstance(answer, int), answer
    return answer


Start = Callable[..., Crew]
