"""Replicas behind a proxy are replaced one after the other while callers never pause."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import proxies
import pytest
from clients import (
    MODELS,
    Answer,
    Client,
    KServeGRPCClient,
    KServeV1Client,
    KServeV2Client,
    Server,
    Spec,
    until,
)

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
WIRES: tuple[type[Client], ...] = (KServeV1Client, KServeV2Client, KServeGRPCClient)
CALLERS = 2
"""Of each wire."""


class Caller:
    """Asks one thing after the other, on a thread of its own."""

    def __init__(self, client: Client, later: Any) -> None:
        self._answered = 0
        self._client = client
        self._over = threading.Event()
        self._outcome = later(self._work)

    def go_on(self, n: int = 10) -> None:
        """Wait for some answers more; raises one that is not as it should be."""
        goal = self._answered + n
        until(lambda: self._answered >= goal or self._outcome.done, "more answers")
        if self._outcome.done:
            self._outcome()

    def stop(self) -> None:
        """Ask nothing more; raises an answer that is not as it should be."""
        self._over.set()
        self._outcome()

    def _work(self) -> None:
        while not self._over.is_set():
            first, second = float(self._answered % 1000 + 1), 0.5
            (outcome,) = self._client.infer([{"pair": [first, second]}])
            assert outcome == Answer({"total": first + second}), f"no. {self._answered}: {outcome}"
            self._answered += 1


def replica(servers: Any, **ports: int) -> Server:
    """A server that is ready."""
    server: Server = servers(
        INTERFACE="kserve",
        OMI_MODEL=TOTALS.source,
        OMI_DRAIN_DELAY="3",  # the proxies look every second
        OMI_ACCESS_LOG="on",
        **ports,
    )
    server.wait_for_log("is ready")
    return server


@pytest.mark.parametrize("name", proxies.NAMES)
def test_nothing_is_lost_when_replicas_are_replaced(
    name: str, servers: Any, tmp_path: Path, later: Any
) -> None:
    replicas = [replica(servers), replica(servers)]
    proxy = proxies.start(name, servers, tmp_path, *map(proxies.ports_of, replicas))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                wire(proxy.grpc if wire is KServeGRPCClient else proxy.http, TOTALS, tmp_path)
            )
            for wire in WIRES
            for _ in range(CALLERS)
        ]
        for client in clients:
            until(client.live, "the proxy has found the replicas")
        callers = [Caller(client, later) for client in clients]
        for number, old in enumerate(replicas):
            asks_all(replicas)
            http, grpc = proxies.ports_of(old)
            old.signal()
            assert old.wait() == 0
            for caller in callers:
                caller.go_on()
            replicas[number] = replica(servers, HTTP_PORT=http, OMI_GRPC_PORT=grpc)
        asks_all(replicas)
        for caller in callers:
            caller.stop()


def asks_all(replicas: list[Server]) -> None:
    """Wait until the proxy has brought requests of both protocols to every replica."""
    for server in replicas:
        server.wait_for_log(r"kserve v[12]\.\S+ of totals: OK")
        server.wait_for_log(r"kserve GRPCInferenceService/ModelInfer of totals: OK")
