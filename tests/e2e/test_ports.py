"""Which port an interface gets, who said so, and what happens if it cannot have it."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import (
    MODELS,
    Answer,
    KServeGRPCClient,
    KServeV1Client,
    KServeV2Client,
    ModzyClient,
    OMIClient,
    Spec,
    is_failure,
    until,
)
from clients.process import OMI, reserved_port, run, taken_port

from omi_runtime.errors import ErrorCode

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})

# kserve's default for gRPC is one port for all that run at this moment.
BESIDE = {"HTTP_PORT": {"OMI_GRPC_PORT": "0"}, "OMI_GRPC_PORT": {"HTTP_PORT": "0"}}


@pytest.mark.parametrize(
    ("interface", "variable"),
    [
        ("omi", "HTTP_PORT"),
        ("omi", "PSC_MODEL_PORT"),
        ("kserve", "HTTP_PORT"),
        ("kserve", "OMI_GRPC_PORT"),
    ],
)
def test_a_port_in_use(marks: Path, interface: str, variable: str) -> None:
    with taken_port() as port:
        done = run(
            *(OMI, "serve"),
            INTERFACE=interface,
            OMI_MODEL=TOTALS.source,
            MARKS=str(marks),
            OMI_HOST="127.0.0.1",
            OMI_LOG_LEVEL="warning",
            **{variable: str(port)} | BESIDE.get(variable, {}),
        )
    assert done.code == 3, str(done)
    (line,) = done.err.splitlines()
    assert line == (
        f"omi: port {port} ({variable}) is in use: stop what listens there, or choose another port"
    )


def test_a_port_in_use_beside_a_model_that_does_not_load(marks: Path) -> None:
    with taken_port() as port:
        done = run(
            *(OMI, "serve", f"{MODELS}:Failing"),
            MARKS=str(marks),
            OMI_HOST="127.0.0.1",
            HTTP_PORT=str(port),
        )
    assert done.code == 3, str(done)
    assert sum(line.startswith("omi: ") for line in done.err.splitlines()) == 1
    assert "never retrieved" not in done.err


def test_a_default_port_in_use_says_how_to_change_it(marks: Path) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # somebody else has it: all the better
            stack.enter_context(socket.create_server(("127.0.0.1", 45000)))
        done = run(*(OMI, "serve"), OMI_MODEL=TOTALS.source, MARKS=str(marks), OMI_HOST="127.0.0.1")
    assert done.code == 3, str(done)
    last = done.err.splitlines()[-1]
    assert last.startswith("omi: port 45000 (the default; set HTTP_PORT to change it) is in use")


def test_of_two_ports_that_differ_the_stronger_wins_with_a_warning(
    servers: Any, marks: Path
) -> None:
    with reserved_port() as wins, reserved_port() as loses:
        server = servers(
            INTERFACE="modzy",
            OMI_MODEL=TOTALS.source,
            MARKS=marks,
            HTTP_PORT=loses,
            PSC_MODEL_PORT=wins,
        )
        assert server.port("modzy") == wins
    (warning,) = [line for line in server.lines if "WARNING" in line]
    assert f"PSC_MODEL_PORT={wins}" in warning
    assert f"HTTP_PORT={loses}" in warning
    assert "modzy listens on PSC_MODEL_PORT" in warning


def test_kserve_does_not_know_modzys_port(servers: Any, marks: Path) -> None:
    with reserved_port() as its, reserved_port() as other:
        server = servers(
            INTERFACE="kserve",
            OMI_MODEL=TOTALS.source,
            MARKS=marks,
            HTTP_PORT=its,
            PSC_MODEL_PORT=other,
        )
        assert server.port("kserve") == its
    assert "WARNING" not in server.log


def test_grpc_can_be_switched_off(servers: Any, marks: Path) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=TOTALS.source, MARKS=marks, OMI_GRPC_PORT="0")
    server.port("kserve")
    assert "INTERFACE=kserve (REST V1 and V2) listens on" in server.log


def test_the_same_port_can_be_taken_again_at_once(servers: Any, marks: Path) -> None:
    with reserved_port() as port:
        for _ in range(2):
            server = servers(
                INTERFACE="modzy", OMI_MODEL=TOTALS.source, MARKS=marks, HTTP_PORT=port
            )
            server.port("modzy")
            # A connection that the server closes lingers, and must not keep the next one out.
            with httpx.Client(trust_env=False) as browser:
                assert browser.get(f"http://127.0.0.1:{port}/status").status_code == 200
                server.signal()
                assert server.wait() == 0


@pytest.mark.parametrize(
    ("selected", "wire", "kind"),
    [
        ("modzy v2", OMIClient, "gRPC"),
        ("modzy v1", ModzyClient, "REST"),
        ("omi v2", OMIClient, "gRPC"),
        ("KFServing v2", KServeV1Client, "REST V1 and V2; gRPC V2 on port "),
    ],
)
def test_what_interface_and_protocol_select(
    servers: Any, tmp_path: Path, selected: str, wire: Any, kind: str
) -> None:
    interface, protocol = selected.split()
    server = servers(
        INTERFACE=interface, PROTOCOL=protocol, OMI_MODEL=TOTALS.source, MODEL_NAME="renamed"
    )
    port = server.port(interface.lower())
    assert f"INTERFACE={interface.lower()} ({kind}" in server.log
    renamed = replace(TOTALS, name="renamed")
    with wire(port, renamed, tmp_path) as client:
        until(client.ready, "the model has loaded")
        assert client.infer([{"pair": [1.0, 2.0]}]) == [Answer({"total": 3.0})]


def _need_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


@pytest.mark.parametrize("interface", ["omi", "kserve"])
def test_the_sixth_version_of_the_internet_protocol(
    servers: Any, marks: Path, interface: str
) -> None:
    _need_ipv6()
    server = servers(INTERFACE=interface, OMI_MODEL=TOTALS.source, MARKS=marks, OMI_HOST="::1")
    port = server.port(interface)
    socket.create_connection(("::1", port), timeout=10).close()


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("127.0.0.5", "127.0.0.5"),
        ("::1", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_how_to_try_it_can_be_pasted_wherever_it_listens(
    servers: Any, marks: Path, host: str, shown: str
) -> None:
    if ":" in host:
        _need_ipv6()
    server = servers(
        INTERFACE="kserve,omi", OMI_MODEL=TOTALS.source, OMI_HOST=host, PSC_MODEL_PORT="0"
    )
    line = server.wait_for_log(r"try it: (curl .*)$")[1]
    assert f"{shown}:{server.port('kserve')}/v1/models/totals:predict" in line
    assert json.loads(run("sh", "-c", line).out) == {"predictions": [0.0]}
    line = server.wait_for_log(r"try it: (grpcurl .*)$")[1]
    assert f"{shown}:{server.port('omi')}" in shlex.split(line)


def test_several_interfaces_around_one_model(
    servers: Any, marks: Path, tmp_path: Path, later: Any
) -> None:
    server = servers(
        INTERFACE="kserve,omi,modzy",
        OMI_MODEL=TOTALS.source,
        MARKS=marks,
        PSC_MODEL_PORT="0",
        OMI_QUEUE_SIZE="1",
    )
    item = {"pair": [1.0, 2.0]}
    wires = (KServeV1Client, KServeV2Client, KServeGRPCClient, ModzyClient, OMIClient)
    clients = [wire(wire.port_of(server), TOTALS, tmp_path) for wire in wires]
    v1, *others = clients
    for client in clients:
        assert client.infer([item]) == [Answer({"total": 3.0})]
    # One queue: what one interface holds, the others wait for.
    held = later(lambda: v1.infer([{"pair": [-8.0, 20.0]}]))
    until((marks / "holding").exists, "a prediction runs")
    for client in others:
        (outcome,) = client.infer([item])
        assert is_failure(outcome, ErrorCode.OVERLOADED), outcome
    # One life: asked over one interface, all stop, and what is in flight on another is answered.
    assert clients[-1].stop() is None
    until(lambda: not v1.live(), "KServe's port is closed")
    threading.Timer(0.2, (marks / "release").touch).start()
    assert held() == [Answer({"total": 12.0})]
    assert server.wait() == 0
    assert server.log.count("is ready") == 1
    for client in clients:
        client.close()
