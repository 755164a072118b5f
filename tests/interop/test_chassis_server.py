"""Our client, and `omi predict --url`, against the server of chassisml 1.5.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import environments
import pytest
from clients import process
from environments import PATIENCE, PEERS, Environment
from omi_grpc.client import Answer, AsyncClient, Client, NotLoaded


@pytest.fixture(scope="module")
def chassis() -> Environment:
    return environments.require("chassis", "chassisml==1.5.0")


@pytest.fixture
def serve(chassis: Environment, servers: Any, tmp_path: Path) -> Any:
    """Starts chassis's server on a port; does not wait for it, for the client does."""

    def serve(kind: str, port: int) -> Any:
        directory = tmp_path / kind
        directory.mkdir()
        command = (chassis.python, str(PEERS / "chassis_server.py"), str(directory), kind)
        return servers(*command, PSC_MODEL_PORT=port)

    return serve


def test_status_run_error_and_shutdown(serve: Any) -> None:
    with process.reserved_port() as port:
        server = serve("single", port)
        with Client(f"127.0.0.1:{port}", patience=PATIENCE) as client:
            first, refused, last = client.run([{"number": n} for n in (1, 13, "3")])
            assert (first.result, last.result) == (2, 6)
            # Chassis says success of this item.
            assert refused == Answer({}, "thirteen is refused")
            status = client.status()
            assert (status.status_code, status.message) == (200, "Model Already Initialized.")
            assert status.model_info.model_name == "Doubled by chassis"
            assert [file.filename for file in status.inputs] == ["number"]
            client.shutdown()
        assert server.wait(PATIENCE) != 0  # it ends itself with SIGTERM


async def test_asynchronously_in_batches(serve: Any) -> None:
    with process.reserved_port() as port:
        serve("batch", port)
        async with AsyncClient(f"grpc://127.0.0.1:{port}", patience=PATIENCE) as client:
            answers = await client.run([{"number": n} for n in range(10)])
            assert [answer.result for answer in answers] == [2 * n for n in range(10)]
            with pytest.raises(ValueError, match="answered 2 items with 0 outputs"):
                await client.run([{"number": 1}, {"number": 13}])  # it loses the whole batch
            assert (await client.run([{"number": 4}]))[0].result == 8


def test_a_model_that_does_not_load(serve: Any) -> None:
    with process.reserved_port() as port:
        serve("broken", port)
        with Client(f"127.0.0.1:{port}", patience=PATIENCE) as client:
            with pytest.raises(NotLoaded, match="Model Failed to Initialize"):
                client.run([{"number": 1}])
            assert client.status().model_info.model_version == "1.2.3"


def test_from_the_command_line(serve: Any) -> None:
    with process.reserved_port() as port:
        server = serve("single", port)
        server.wait_for_log("Serving on")
        command = (process.OMI, "predict", "--url", f"grpc://127.0.0.1:{port}")
        done = process.run(*command, "--input", "number=21", seconds=PATIENCE)
        assert done.code == 0, done
        assert done.out == '{"data": {"result": 42, "explanation": null, "drift": null}}\n'
        failed = process.run(*command, "--input", "number=13", seconds=PATIENCE)
        assert (failed.code, failed.err) == (1, "omi: thirteen is refused\n")


KNOWN = {"omi.run.first", "omi.status.summary", "omi.run.malformed", "omi.health.service"}
"""What its server breaks whatever the model: it takes no Run before a Status, and so on."""


@pytest.mark.parametrize(
    ("kind", "further"),
    [
        ("single", {"omi.run.success"}),  # it says success of an item with an error
        ("batch", {"omi.run.count", "omi.run.missing", "omi.run.flags"}),  # it loses whole batches
    ],
)
def test_its_faults_are_found(serve: Any, kind: str, further: set[str]) -> None:
    with process.reserved_port() as port:
        server = serve(kind, port)
        server.wait_for_log("Serving on")
        command = (process.OMI, "check", "server", f"grpc://127.0.0.1:{port}", "--interface=omi")
        done = process.run(*command, "--json", "--shutdown", seconds=PATIENCE)
        assert done.code == 1, done
        rows = json.loads(done.out)["rows"]
        broken = {row["id"] for row in rows if row["outcome"] == "failed"}
        assert broken == KNOWN | further
        assert server.wait(PATIENCE) != 0
