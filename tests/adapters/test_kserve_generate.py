"""The generate extension: golden/kserve_generate.http, and what takes time: streams."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clients import until
from golden_files import PATIENCE, Exchange, read, replay
from golden_servers import Serve


@pytest.mark.parametrize("exchange", read("kserve_generate.http"), ids=str)
def test_exchange(exchange: Exchange, serve: Serve) -> None:
    replay(exchange, serve(exchange.model, "kserve").address)


@contextmanager
def stream(address: str, model: str, text: str) -> Iterator[http.client.HTTPResponse]:
    """An open stream of events; the connection is closed in the end."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    body = json.dumps({"id": "7", "text_input": text})
    try:
        connection.request("POST", f"/v2/models/{model}/generate_stream", body)
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream"
        yield response
    finally:
        connection.close()


def event(response: http.client.HTTPResponse) -> Any:
    """The next event, or None at the end."""
    line = response.readline()
    if not line:
        return None
    assert line.startswith(b"data: "), line
    assert response.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: "))


def token(text: str, model: str = "tokens") -> dict[str, str]:
    return {"model_name": model, "model_version": "1.0.0", "id": "7", "text_output": text}


def test_the_first_piece_is_there_before_the_last_is_made(serve: Serve, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with stream(serve("Tokens", "kserve").address, "tokens", f"naïve wait={gate} end") as events:
        assert event(events) == token("naïve ")
        assert not gate.with_name("gate.open").exists()
        gate.with_name("gate.open").touch()
        assert event(events) == token("wait ")
        assert event(events) == token("end ")
        assert event(events) is None


def test_a_model_that_does_not_yield_is_one_event(serve: Serve) -> None:
    with stream(serve("Words", "kserve").address, "words", "a b") as events:
        assert event(events) == token("A B", "words")
        assert event(events) is None


def test_a_stream_of_nothing(serve: Serve) -> None:
    with stream(serve("Tokens", "kserve").address, "tokens", "") as events:
        assert event(events) is None


def test_a_failure_after_the_first_piece_is_an_event(serve: Serve) -> None:
    with stream(serve("Tokens", "kserve").address, "tokens", "a raise b") as events:
        assert event(events) == token("a ")
        assert event(events) == {"error": "tokens: RuntimeError: this word is too much"}
        assert event(events) is None


@pytest.mark.parametrize("working", [True, False], ids=["while it works", "while it waits for us"])
def test_a_client_that_goes_ends_the_generator(working: bool, serve: Serve, tmp_path: Path) -> None:
    closed, gate = tmp_path / "closed", tmp_path / "gate"
    # The rest is far more than what fits between server and client unread.
    rest = f"wait={gate}" if working else "word" * 100_000
    address = serve("Tokens", "kserve").address
    with stream(address, "tokens", f"closed={closed} " + f"{rest} " * 100) as events:
        assert event(events) == token("closed ")
        if working:
            until(gate.exists, "the model works on the next piece")
        assert not closed.exists()
    if working:
        gate.with_name("gate.open").touch()
    until(closed.exists, "the generator is closed")
    with stream(address, "tokens", "next") as events:
        assert event(events) == token("next ")
