"""Metrics of several workers: whichever is asked answers for all, the dead included."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import pytest
from clients import KServeV1Client, OMIClient, process, until
from crew import Start, who
from prometheus_client.parser import text_string_to_metric_families


def counted(port: int, name: str, **labels: str) -> float:
    """One scrape over a connection of its own, which may reach any worker."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=30).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize("wire", [KServeV1Client, OMIClient], ids=["kserve", "omi"])
@pytest.mark.parametrize("preload", ["off", "on"])
def test_every_worker_tells_what_all_have_counted(
    crew: Start, later: Any, wire: Any, preload: str
) -> None:
    with process.reserved_port() as port:
        team = crew(wire.interface, OMI_WORKERS=4, OMI_METRICS_PORT=port, OMI_PRELOAD=preload)
        pids = team.wait_until_ready(4)
        about = {"code": "OK", "interface": wire.interface}
        method = "v1.predict" if wire is KServeV1Client else "ModzyModel/Run"

        def total() -> float:
            return counted(port, "omi_requests_total", method=method, **about)

        with team.one_client_each(wire, 4) as clients:
            before = total()
            for client in clients.values():
                for _ in range(5):
                    who(client)
            assert {total() for _ in range(8)} == {before + 20}
            in_flight = {"method": method, "interface": wire.interface}
            held = team.hold(later, clients)
            assert counted(port, "omi_requests_in_flight", **in_flight) == 4
            assert counted(port, "omi_queue_items") == 4
            (team.marks / "release").touch()
            for answer in held.values():
                answer()
            until(lambda: counted(port, "omi_requests_in_flight", **in_flight) == 0, "none is left")
            assert total() == before + 24
            victim = next(iter(clients))
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(team.pids) == 4 and victim not in team.pids, "it is replaced")
            until(lambda: team.server.log.count("are ready") >= 5, "the new one is ready")
            assert {total() for _ in range(8)} == {before + 24}
        with team.client(wire) as client:
            who(client)
        until(lambda: total() == before + 25, "it goes on from there")
        assert victim in pids
