"""Several workers on one port: who answers, what a dead one costs, how all of them end."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import KServeGRPCClient, KServeV1Client, ModzyClient, OMIClient, process, until
from clients.process import QUICK, alive, reserved_port
from crew import ask, who
from worker_models import CRASH, ORPHAN, WHO

WIRES = (OMIClient, KServeV1Client, ModzyClient)

each = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.wire)
early_and_late = pytest.mark.parametrize("wire", [OMIClient, KServeV1Client], ids=lambda w: w.wire)


def refuses(port: int) -> bool:
    """Whether nobody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # whoever listened is closing
        return False
    return False


# --- serving ---


def test_all_workers_answer_on_every_interface(crew: Any) -> None:
    crew = crew("kserve,omi,modzy", PSC_MODEL_PORT="0")
    pids = crew.wait_until_ready(2)
    for wire in (*WIRES, KServeGRPCClient):
        with crew.one_client_each(wire) as clients:
            assert set(clients) == pids, wire.wire
            for pid, client in clients.items():
                assert client.ready()
                assert [who(client) for _ in range(3)] == [pid] * 3
    until(lambda: crew.server.log.count("try it: ") >= 3, "it says how to try each interface")
    assert crew.server.log.count("try it: ") == 3, "not for each worker"
    crew.server.signal()
    assert crew.server.wait(QUICK) == 0
    assert all((crew.marks / f"closed-{pid}").exists() for pid in pids)
    assert "Traceback" not in crew.server.log


def test_the_supervisor_is_light_and_owns_no_thread(crew: Any) -> None:
    crew = crew("kserve,omi", PSC_MODEL_PORT="0")
    crew.wait_until_ready(2)
    folder = Path(f"/proc/{crew.server.process.pid}")
    assert "Threads:\t1\n" in (folder / "status").read_text()
    mapped = (folder / "maps").read_text()
    for library in ("numpy", "grpc", "uvloop", "httptools", "pydantic"):
        assert library not in mapped


def test_one_worker_has_no_supervisor(crew: Any) -> None:
    crew = crew(OMI_WORKERS="1", OMI_PRELOAD="on")
    with crew.client(ModzyClient) as client:
        assert who(client) == crew.server.serving
    assert "supervis" not in crew.server.log


@pytest.mark.parametrize("wire", [KServeV1Client, OMIClient], ids=lambda wire: wire.wire)
def test_each_worker_tells_what_all_have_counted(crew: Any, wire: Any) -> None:
    with reserved_port() as side_port:
        crew = crew(wire.interface, OMI_METRICS_PORT=side_port if wire is OMIClient else "")
        crew.wait_until_ready(2)
        port = side_port if wire is OMIClient else wire.port_of(crew.server)

        def answered() -> float:
            with httpx.Client(trust_env=False) as scraper:
                text = scraper.get(f"http://127.0.0.1:{port}/metrics").text
            pattern = r'^omi_requests_total\{(?=[^}]*method="[^"]*(?:predict|Run)")[^}]*\} ([\d.]+)'
            return sum(map(float, re.findall(pattern, text, re.MULTILINE)))

        with crew.one_client_each(wire) as clients:
            before = answered()
            assert before >= 2, "they have been asked"
            for client in clients.values():
                assert isinstance(ask(client, WHO), int)
            assert {answered() for _ in range(8)} == {before + 2}, "whoever answers"
            os.kill(min(clients), signal.SIGKILL)
            crew.server.wait_for_log("ended by SIGKILL")
            assert answered() == before + 2, "what a dead one has counted stays"


def test_a_metrics_port_in_use(crew: Any) -> None:
    with process.taken_port() as port:
        crew = crew("omi", OMI_METRICS_PORT=port)
        assert crew.server.wait() == 3
    assert crew.server.lines[-1].startswith(f"omi: port {port} (OMI_METRICS_PORT) is in use")


def test_nobody_may_change_the_model_of_one_worker(crew: Any) -> None:
    crew = crew("kserve", OMI_ADMIN="on")
    with crew.client(KServeV1Client) as client:
        assert client.http.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        for what in ("load", "unload"):
            refused = client.http.post(f"/v2/repository/models/who/{what}")
            assert refused.status_code == 501
            assert "OMI_WORKERS=2" in refused.json()["error"]
        assert client.ready()


def test_the_wildcard_address(crew: Any) -> None:
    crew = crew("kserve,omi", PSC_MODEL_PORT="0", OMI_HOST="0.0.0.0")
    pids = crew.wait_until_ready(2)
    for wire in (OMIClient, KServeV1Client):
        with crew.one_client_each(wire) as clients:
            assert set(clients) == pids


# --- ports ---


@early_and_late
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_others_share_is_in_use(crew: Any, wire: Any, workers: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        crew = crew(wire.interface, HTTP_PORT=port, OMI_WORKERS=workers, OMI_LOG_LEVEL="warning")
        assert crew.server.wait() == 3
    (line,) = crew.server.lines
    assert line.startswith(f"omi: port {port} (HTTP_PORT) is in use")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_whose_workers_still_load_is_in_use(crew: Any, marks: Path, workers: str) -> None:
    (marks / "shut").touch()
    with reserved_port() as port:
        first = crew("kserve", HTTP_PORT=port)
        until((marks / "loads").exists, "it loads")
        assert refuses(port), "KServe takes an open port for a model that is ready"
        (marks / "shut").unlink()
        first.wait_until_ready(2)
        second = crew("kserve", HTTP_PORT=port, OMI_WORKERS=workers)
        assert second.server.wait() == 3
        with first.client(KServeV1Client, port) as client:
            assert who(client) in first.pids


# --- death ---


@each
def test_a_worker_that_is_killed_costs_its_own_callers_alone(
    crew: Any, wire: Any, later: Any, marks: Path
) -> None:
    crew = crew(wire.interface)
    crew.wait_until_ready(2)
    with ExitStack() as stack, crew.one_client_each(wire) as clients:
        held = crew.hold(later, clients)
        victim, survivor = clients
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        assert not isinstance(held[victim](), int), "its caller is told"
        assert time.monotonic() - began < 1 * process.slowness()
        crew.server.wait_for_log(r"worker \d ended by SIGKILL: another starts in 0\.1s")
        newcomers = [stack.enter_context(crew.client(wire)) for _ in range(8)]
        for client in newcomers:
            until(client.live, "others find somebody")
        (marks / "release").touch()
        assert held[survivor]() == survivor
        assert {who(client) for client in newcomers} >= {survivor}
    until(lambda: len(crew.pids) == 2 and not crew.pids & {victim}, "another takes its place")
    with crew.one_client_each(wire) as clients:
        assert set(clients) == crew.pids
    crew.server.signal()
    assert crew.server.wait(QUICK) == 0


@early_and_late
def test_nobody_listens_while_no_worker_is_ready(crew: Any, wire: Any, marks: Path) -> None:
    with reserved_port() as port:
        crew = crew(wire.interface, HTTP_PORT=port)
        pids = crew.wait_until_ready(2)
        (marks / "shut").touch()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: refuses(port), "nobody listens")
        until(lambda: len(_loads(marks)) >= 4, "others load")
        assert refuses(port)
        (marks / "shut").unlink()
        until(lambda: not refuses(port), "somebody listens again")
        with crew.one_client_each(wire) as clients:
            assert set(clients) == crew.pids


def test_a_worker_that_crashes_again_and_again_ends_all(crew: Any, marks: Path) -> None:
    (marks / "cursed").touch()
    crew = crew("omi")
    assert crew.server.wait() == 3
    assert len(_loads(marks)) == 5
    assert crew.server.lines[-1] == (
        "omi: worker 1 ended by SIGKILL, the last of 5 in a row: giving up"
    )
    (lines,) = crew.server.log.split("its last lines were:\n")[1:]
    assert "out of luck" in lines


def test_the_others_finish_before_all_is_given_up(crew: Any, marks: Path, later: Any) -> None:
    crew = crew()
    crew.wait_until_ready(2)
    with crew.one_client_each(ModzyClient) as clients:
        held = crew.hold(later, clients)
        victim, survivor = clients
        (marks / "cursed").touch()
        os.kill(victim, signal.SIGKILL)
        crew.server.wait_for_log("giving up")
        (marks / "release").touch()
        assert held[survivor]() == survivor
        assert not isinstance(held[victim](), int)
    assert crew.server.wait(QUICK) == 3


def test_a_request_that_kills_its_worker(crew: Any) -> None:
    crew = crew("omi")
    pids = crew.wait_until_ready(2)
    with crew.client(OMIClient) as client:
        assert not isinstance(ask(client, CRASH), int)
    crew.server.wait_for_log("ended by SIGSEGV")
    until(lambda: len(crew.pids) == 2, "another takes its place")
    assert len(pids & crew.pids) == 1


# --- loading ---


def test_what_is_wrong_with_a_model_is_told_once(crew: Any) -> None:
    crew = crew("kserve", "Unlucky", OMI_WORKERS="3")
    assert crew.server.wait() == 3
    assert crew.server.log.count("Traceback") == 1
    assert crew.server.lines[-1].startswith("omi: model unlucky did not load: RuntimeError")
    assert len(_loads(crew.marks)) == 1


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_wrong_setting_is_told_once(crew: Any, preload: str) -> None:
    crew = crew(OMI_MODEL="/no/such/model", OMI_PRELOAD=preload)
    assert crew.server.wait() == 2
    (line,) = [line for line in crew.server.lines if " INFO " not in line]
    assert line.startswith("omi: OMI_MODEL='/no/such/model' names no model")


def test_a_status_loads_again_and_then_all_follow(crew: Any, marks: Path) -> None:
    crew = crew("omi", "Unlucky", OMI_LOAD_GRACE="600")
    with crew.client(OMIClient) as client:
        assert client.reload() is not None
        (marks / "mended").touch()
        assert client.reload() is None
    assert len(crew.wait_until_ready(2)) == 2


# --- stopping ---


@pytest.mark.parametrize("wire", [OMIClient, ModzyClient], ids=lambda wire: wire.wire)
def test_a_caller_who_stops_one_stops_all(crew: Any, wire: Any, later: Any, marks: Path) -> None:
    crew = crew(wire.interface)
    pids = crew.wait_until_ready(2)
    with crew.one_client_each(wire) as clients:
        one, other = clients
        held = crew.hold(later, {other: clients[other]})
        assert clients[one].stop() is None
        crew.server.wait_for_log(r"stopping all workers \((Shutdown|POST /shutdown)\)")
        crew.server.signal()  # platforms send it after a shutdown over the wire
        until(lambda: not alive(one), "who has nothing to do is gone")
        (marks / "release").touch()
        assert held[other]() == other
    assert crew.server.wait(QUICK) == 0
    assert all((marks / f"closed-{pid}").exists() for pid in pids)


@each
def test_a_signal_lets_every_worker_finish(crew: Any, wire: Any, later: Any, marks: Path) -> None:
    crew = crew(wire.interface)
    pids = crew.wait_until_ready(2)
    port = wire.port_of(crew.server)
    with crew.one_client_each(wire) as clients:
        held = crew.hold(later, clients)
        crew.server.signal(signal.SIGINT)
        until(lambda: refuses(port), "nobody listens any more")
        (marks / "release").touch()
        assert {pid: answer() for pid, answer in held.items()} == {pid: pid for pid in pids}
    assert crew.server.wait(QUICK) == 0
    assert all((marks / f"closed-{pid}").exists() for pid in pids)


def test_a_second_signal_ends_all_at_once(crew: Any, later: Any) -> None:
    crew = crew("omi")
    pids = crew.wait_until_ready(2)
    with crew.one_client_each(OMIClient) as clients:
        crew.hold(later, clients)
        crew.server.signal()
        crew.server.wait_for_log("stopping all workers")
        crew.server.signal()
        assert crew.server.wait(QUICK) == 1
    assert not any(alive(pid) for pid in pids)


def test_a_worker_that_hangs_does_not_outlive_the_grace(crew: Any, later: Any) -> None:
    crew = crew(OMI_GRACE="1")
    crew.wait_until_ready(2)
    with crew.one_client_each(ModzyClient) as clients:
        hung, idle = clients
        crew.hold(later, {hung: clients[hung]})
        # Not even its event loop runs any more, so that it cannot end itself.
        os.kill(hung, signal.SIGSTOP)
        began = time.monotonic()
        crew.server.signal()
        assert crew.server.wait(QUICK) == 1
        assert time.monotonic() - began < (1 + 1) * process.slowness()
    assert not alive(idle)


def test_a_stop_does_not_wait_for_the_load(crew: Any, marks: Path) -> None:
    (marks / "shut").touch()
    crew = crew()
    until((marks / "loads").exists, "it loads")
    crew.server.signal()
    assert crew.server.wait(QUICK) == 0


def test_a_worker_that_is_told_to_go_is_replaced(crew: Any, later: Any, marks: Path) -> None:
    crew = crew()
    crew.wait_until_ready(2)
    with crew.one_client_each(ModzyClient) as clients:
        held = crew.hold(later, clients)
        leaving, staying = clients
        os.kill(leaving, signal.SIGTERM)
        crew.server.wait_for_log(r"stopping \(SIGTERM\)")
        (marks / "release").touch()
        assert held[leaving]() == leaving, "it finishes what it is at"
        assert held[staying]() == staying
    crew.server.wait_for_log("has left; another takes its place")
    with crew.one_client_each(ModzyClient) as clients:
        assert leaving not in clients


def test_workers_do_not_outlive_their_supervisor(crew: Any) -> None:
    crew = crew("omi")
    pids = crew.wait_until_ready(2)
    crew.server.signal(signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), "they have stopped by themselves")
    assert all((crew.marks / f"closed-{pid}").exists() for pid in pids)


# --- the first process of a container ---

SUBREAPER = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], "
    "sys.argv[1:])"
)
"""Inherits orphans as the first process does, which needs no privilege (PR_SET_CHILD_SUBREAPER)."""


def test_orphans_are_buried(crew: Any) -> None:
    crew = crew(command=(sys.executable, "-c", SUBREAPER, process.OMI, "serve"))
    pids = crew.wait_until_ready(2)
    with crew.client(ModzyClient) as client:
        assert ask(client, ORPHAN) in pids
    until(lambda: crew.pids == pids, "the orphan has ended and is buried")
    assert crew.server.running
    crew.server.signal()
    assert crew.server.wait(QUICK) == 0


def test_as_the_first_process(crew: Any) -> None:
    unshare = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if process.run("sh", "-c", " ".join([*unshare, "true"])).code != 0:
        pytest.skip("this machine lets nobody make a namespace of process numbers")
    crew = crew(command=(*unshare, "sh", "-c", f"exec {process.OMI} serve"))
    crew.wait_until_ready(2)
    crew.server.wait_for_log("process 1 supervises 2 workers")
    (first,) = crew.pids
    with crew.client(ModzyClient) as client:
        assert isinstance(ask(client, WHO), int)
    os.kill(first, signal.SIGTERM)
    assert crew.server.wait(QUICK) == 0


def _loads(marks: Path) -> list[str]:
    return (marks / "loads").read_text().split()
