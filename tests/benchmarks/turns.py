"""Runs the servers of a workload in turns (A B C A B C …), after a look at whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
from load import BadAnswers, Concurrency, Request, ask, put_under
from peer import Peer, Server, Unavailable
from workload import OURS, Workload

WARM_UP_SECONDS = 1

Say = Callable[[str], None]


class Disagreement(Exception):
    """Two servers answered the same question with different numbers."""


def measure(workload: Workload, turns: int, seconds: int, say: Say = print) -> dict[str, Any]:
    """All sides of a workload: what each turn has shown, and who could not take part and why."""
    unavailable: dict[str, str] = {}
    results: dict[str, list[dict[str, float]]] = {}
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        servers = _start(workload, stack, unavailable, versions)
        _check_answers(workload, servers)
        asked = {name: workload.sides[name].request() for name in servers}
        for name, server in servers.items():
            put_under(server, asked[name], workload.concurrency, WARM_UP_SECONDS)
        for turn in range(turns):
            for name, server in servers.items():
                figures = put_under(server, asked[name], workload.concurrency, seconds)
                results.setdefault(name, []).append(asdict(figures))
            say(f"  {workload.key}, turn {turn + 1}: {_rates(results)}")
    return {"turns": results, "unavailable": unavailable, "versions": versions}


def sweep(
    workload: Workload,
    points: Iterable[tuple[float, Concurrency, Callable[[str], Request]]],
    seconds: int,
    names: Iterable[str],
    **variables: str,
) -> list[dict[str, Any]]:
    """How a figure grows: every server at every point, one turn.

    Args:
        workload: whose model and sides are asked.
        points: a place on the axis, how much is under way, and what each peer is asked.
        seconds: of each load.
        names: of the peers that take part.
        variables: of our server's environment.
    """
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in names:
            side = workload.sides[name]
            added = variables if name == OURS else {}
            peer = Peer(name)
            try:
                peer.install()
                started = peer.serving(workload.model, **side.variables, **added)
                servers[name] = stack.enter_context(started)
            except Unavailable:
                continue
        if workload.sides[OURS].variables.get("INTERFACE") == "omi":
            _initialize(servers)
        for place, concurrency, request in points:
            for name, server in servers.items():
                try:
                    figures = put_under(server, request(name), concurrency, seconds)
                except BadAnswers:
                    continue
                rows.append({"peer": name, "at": place} | asdict(figures))
    return rows


def _start(
    workload: Workload, stack: ExitStack, unavailable: dict[str, str], versions: dict[str, str]
) -> dict[str, Server]:
    servers: dict[str, Server] = {}
    for name, side in workload.sides.items():
        peer = Peer(name)
        try:
            peer.install()
            servers[name] = stack.enter_context(peer.serving(workload.model, **side.variables))
            versions[name] = peer.version()
        except Unavailable as error:
            if name == OURS:
                raise
            unavailable[name] = str(error)
    return servers


def _check_answers(workload: Workload, servers: dict[str, Server]) -> None:
    """Ask everybody once.

    Raises:
        Disagreement: names the two that differ.
    """
    side = workload.sides[OURS]
    assert side.answer is not None
    if workload.sides[OURS].variables.get("INTERFACE") == "omi":
        _initialize(servers)
    expected = side.answer(ask(servers[OURS], side.request()))
    for name, server in servers.items():
        answer = workload.sides[name].answer
        if answer is None:
            continue
        given = answer(ask(server, workload.sides[name].request()))
        if not np.allclose(given, expected, rtol=1e-5):
            raise Disagreement(f"{workload.key}: {OURS} says {expected}, {name} says {given}")


def _initialize(servers: dict[str, Server]) -> None:
    """A Status loads the model of an OMI server; Chassis answers no Run before it."""
    for name in servers.keys() & {OURS, "chassis"}:
        ask(servers[name], Request("/ModzyModel/Status", b"", grpc=True))


def _rates(results: dict[str, list[dict[str, float]]]) -> str:
    return ", ".join(f"{name} {turned[-1]['rate']:,.0f}/s" for name, turned in results.items())
