"""The two servers that are compared, each with the same ways to ask it."""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
from clients import KServeGRPCClient, Server, Spec, until
from clients.process import TESTS, reserved_port
from environments import PEERS, Environment

GOLDEN = TESTS / "adapters" / "models.py"
STARTING = 120.0
"""Seconds for a server that imports much on a busy machine."""


class Running:
    """One server process, asked for one model."""

    def __init__(self, server: Server, rest: int, rpc: int, model: str) -> None:
        self.server = server
        self._ports = (rest, rpc)
        self.address = f"http://127.0.0.1:{rest}"
        self.model = model
        self._stack = ExitStack()
        # KServe's server closes connections that it has promised to keep, after a failure.
        limits = httpx.Limits(max_keepalive_connections=0)
        client = httpx.Client(base_url=self.address, trust_env=False, timeout=30, limits=limits)
        self.http = self._stack.enter_context(client)
        spec = Spec("", model, {}, {})
        self.rpc = self._stack.enter_context(KServeGRPCClient(rpc, spec, Path()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, model: str) -> Running:
        """Another model of the same process."""
        return Running(self.server, *self._ports, model)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET, and the answer whatever its status."""
        return self.http.get(path, **more)

    def infer(self, body: Any, **more: Any) -> httpx.Response:
        """POST to the model's `infer`: an object as JSON, bytes as they are."""
        return self.post(f"/v2/models/{self.model}/infer", body, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """POST: an object as JSON, bytes as they are."""
        sent = {"content": body} if isinstance(body, bytes | None) else {"json": body}
        return self.http.post(path, **sent, **more)

    def call(self, method: str, **fields: Any) -> Any:
        """The answer of a call of the service, or the error that it ended with."""
        if method == "ModelInfer":
            fields = {"model_name": self.model} | fields
        try:
            return self.rpc.ask(method, 30.0, **fields)
        except grpc.RpcError as error:
            return error


class Side(ABC):
    """One of the two columns: servers of one kind, each started when it is first asked for."""

    kserve: bool

    def __init__(self, directory: Path, sdk: Environment) -> None:
        self.directory = directory
        self.sdk = sdk
        self._stack = ExitStack()
        self._running: dict[Any, Running] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, model: str, **settings: str) -> Running:
        """A server of the model, which other rows ask as well; settings are those of ours."""
        key = (model, *settings.items())
        if key not in self._running:
            self._running[key] = self._stack.enter_context(self.fresh(model, **settings))
        return self._running[key]

    @abstractmethod
    def fresh(self, model: str, **settings: str) -> AbstractContextManager[Running]:
        """A server of the model that no other row asks."""


class KServe(Side):
    """KServe's own server; all its models are in one process."""

    kserve = True

    def ask(self, model: str, **settings: str) -> Running:
        """Any model's, by the one process."""
        running = super().ask("total")
        if model not in self._running:
            self._running[model] = self._stack.enter_context(running.of(model))
        return self._running[model]

    @contextmanager
    def fresh(self, model: str, **settings: str) -> Iterator[Running]:
        """A process with all the models; it has no settings."""
        with reserved_port() as rest, reserved_port() as rpc:
            script = str(PEERS / "kserve_plain.py")
            command = (self.sdk.python, script, str(rest), str(rpc))
            with Server(self.directory, command=command) as server:
                for port in (rest, rpc):
                    until(partial(_listens, server, port), f"it listens on {port}", STARTING)
                with Running(server, rest, rpc, model) as running:
                    yield running


class Here(Side):
    """This project's server; each process has one model, of tests/adapters/models.py."""

    kserve = False

    @contextmanager
    def fresh(self, model: str, **settings: str) -> Iterator[Running]:
        """A process with these settings."""
        own = {"INTERFACE": "kserve", "OMI_MODEL": f"{GOLDEN}:{model.title()}"} | settings
        with Server(self.directory, **own) as server:
            rest, rpc = server.port("kserve"), KServeGRPCClient.port_of(server)
            with Running(server, rest, rpc, model) as running:
                yield running


def _listens(server: Server, port: int) -> bool:
    assert server.running, server.log
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
