"""All interfaces under mixed traffic for a long time, while workers are killed: `make soak`.

SOAK_S says for how long. At the end every request has had an answer, every answer was right, memory
and descriptors are where they were after the first minute, and no process has more threads than its
pools allow: they start threads when a disk is slow or a body large, and keep them. A run of less
than two minutes looks at half of its time, and not at memory: a worker is still warming up then.
"""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import census
import pytest
from clients import MODELS, WIRES, Server, Spec, until
from traffic import Book, Caller

from omi_runtime.threads import FILE_THREADS

SECONDS: Final = float(os.environ.get("SOAK_S") or 0)
KILL_EVERY_SECONDS: Final = min(20.0, SECONDS / 6)
CALLERS: Final = 2
"""Of each wire."""

AFTER_A_KILL_SECONDS: Final = 2.0
"""How long after a kill a caller may see a broken connection, on a machine that is busy."""

GROWTH: Final = 1.05
LONG_SECONDS: Final = 120.0
OF_ASYNCIO: Final = min(32, (os.cpu_count() or 1) + 4)
"""Threads of its default executor, for large bodies: `concurrent.futures`' own limit."""

MOST_THREADS: Final = {
    "omi": 2 + OF_ASYNCIO,  # the event loop's and the model's
    "kserve": 3 + OF_ASYNCIO,  # and the side port's
    "modzy": 2 + OF_ASYNCIO + 2 * FILE_THREADS,
}
"""Of a worker. If every tenth request left a thread behind, a minute would make far more."""

INTERFACES: Final = ("omi", "kserve", "modzy")
SPEC: Final = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not SECONDS, reason="make soak runs it, for SOAK_S seconds"),
]


def test_nothing_is_lost_and_nothing_grows(servers: Any, tmp_path: Path) -> None:
    running = {interface: _start(servers, interface) for interface in INTERFACES}
    books = {interface: Book() for interface in INTERFACES}
    callers = [
        Caller(partial(wire, wire.port_of(running[wire.interface]), SPEC, tmp_path), book, seed)
        for wire in WIRES
        for book in [books[wire.interface]]
        for seed in range(CALLERS)
    ]
    for caller in callers:
        caller.start()
    early, kills = _disturb(running)
    for caller in callers:
        caller.stop()
    for caller in callers:
        caller.join(60)
    assert not [caller.name for caller in callers if caller.is_alive()], "still waiting"
    for interface, server in running.items():
        _check_book(interface, books[interface], kills[interface])
        _check_growth(interface, server, early[interface])
        server.signal()
        assert server.wait() == 0
        assert "Traceback" not in _unexpected(server.log)


def _start(servers: Any, interface: str) -> Server:
    server: Server = servers(INTERFACE=interface, OMI_MODEL=SPEC.source, OMI_WORKERS="2")
    server.wait_for_log(r"is ready: 2 of 2 are ready")
    return server


def _disturb(running: dict[str, Server]) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Kill a worker now and then; what was used early on, and when the kills were."""
    begin = time.monotonic()
    first_look = begin + min(60.0, SECONDS / 2)
    next_kill = begin + KILL_EVERY_SECONDS / 2
    kills: dict[str, list[float]] = {interface: [] for interface in running}
    early: dict[str, Any] = {}
    turn = 0
    while (now := time.monotonic()) < begin + SECONDS:
        if not early and now >= first_look:
            early = {i: (census.typical(s), census.supervisor(s)) for i, s in running.items()}
        if now >= next_kill and now < begin + SECONDS - KILL_EVERY_SECONDS / 2:
            interface = INTERFACES[turn % len(INTERFACES)]
            os.kill(census.oldest(running[interface]), signal.SIGKILL)
            kills[interface].append(time.monotonic())
            until(lambda s=running[interface]: len(census.workers(s)) == 2, "a worker follows")
            next_kill += KILL_EVERY_SECONDS
            turn += 1
        time.sleep(0.05)
    return early, kills


def _check_book(interface: str, book: Book, kills: list[float]) -> None:
    print(f"{interface}: {dict(book.answered)}, {len(kills)} kills, {len(book.broken)} broken")
    assert not book.wrong, "\n".join(book.wrong[:20])
    lost = [
        how
        for when, how in book.broken
        if not any(kill - 0.5 <= when <= kill + AFTER_A_KILL_SECONDS for kill in kills)
    ]
    assert not lost, "\n".join(lost[:20])
    assert min(book.answered[kind] for kind in ("good", "mixed", "nonsense", "hurried")) > 0


def _check_growth(interface: str, server: Server, early: tuple[Any, Any]) -> None:
    until(lambda: len(census.workers(server)) == 2, "both workers are there")
    for who, before, now, threads in (
        ("worker", early[0], census.typical(server), MOST_THREADS[interface]),
        ("supervisor", early[1], census.supervisor(server), 1),
    ):
        print(f"{interface} {who}: {before} then, {now} at the end")
        if SECONDS >= LONG_SECONDS:
            assert now.resident <= before.resident * GROWTH, f"{interface} {who} has grown"
        assert now.threads <= threads, f"{interface} {who} has more threads than it may"
        assert now.descriptors <= before.descriptors + 2, f"{interface} {who} has more descriptors"


def _unexpected(log: str) -> str:
    """The log without what the model was asked to raise; every record begins with its date."""
    records = re.split(r"\n(?=\d{4}-\d\d-\d\dT)", log)
    return "\n".join(record for record in records if "the model broke on" not in record)
