"""Golden files: `golden/*.http` is what a client sends and the bytes that it gets back.

    ## Words                          which model of models.py serves what follows
    ### A word                        what is shown
    # why, where it is not plain
    POST /v1/models/words:predict
    content-type: text/plain

    {"instances": ["a"]}

    HTTP/1.1 200
    content-type: application/json

    {"predictions":["A"]}

Lines of a body that open with `+ ` are bytes in hexadecimal, which follow what is above them.

A request has the headers that are written and, beside Content-Length and Host, no others. Of an
answer the body is compared byte for byte, where `…` stands for any text, as in a header; a header
that is not written is not looked at, but every answer is JSON and has the length that it says.
"""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

GOLDEN = Path(__file__).with_name("golden")
ANYTHING = "…"
PATIENCE = 60.0
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    title: str
    model: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    answer_headers: dict[str, str]
    answer: str

    def __str__(self) -> str:
        return f"{self.model}: {self.title}"


def read(name: str) -> list[Exchange]:
    """All exchanges of a golden file."""
    text = (GOLDEN / name).read_text(encoding="utf-8")
    exchanges = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        model, _, rest = section.partition("\n")
        exchanges += [
            _exchange(part, model) for part in re.split(r"^### ", rest, flags=re.MULTILINE)[1:]
        ]
    titles = [str(exchange) for exchange in exchanges]
    assert exchanges, f"{name} holds no exchange"
    assert len(set(titles)) == len(titles), "two exchanges have one title"
    return exchanges


def to_bytes(body: str) -> bytes:
    """A body as it is sent: text, and after it the bytes that are written in hexadecimal."""
    lines = body.split("\n")
    text = "\n".join(line for line in lines if not line.startswith("+ "))
    return text.encode() + b"".join(
        bytes.fromhex(line[2:]) for line in lines if line.startswith("+ ")
    )


def matches(expected: str, actual: str) -> bool:
    """Whether the texts are equal, but for what `…` stands for."""
    parts = [re.escape(part) for part in expected.split(ANYTHING)]
    return re.fullmatch(".*".join(parts), actual, re.DOTALL) is not None


@dataclass(frozen=True)
class Answer:
    """What came back: header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def send(
    address: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
) -> Answer:
    """One request on a connection of its own, with these headers, Host and Content-Length."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body or method == "POST":
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        return _receive(connection)
    finally:
        connection.close()


def announce(address: str, path: str, length: int) -> Answer:
    """The answer to a POST that says how long it will be, and sends nothing yet."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.putrequest("POST", path)
        connection.putheader("content-length", str(length))
        connection.endheaders()
        return _receive(connection)
    finally:
        connection.close()


def replay(exchange: Exchange, address: str) -> None:
    """Send the request and compare the answer."""
    body = to_bytes(exchange.body)
    answer = send(address, exchange.method, exchange.path, body, exchange.headers)
    expected, actual = to_bytes(exchange.answer), answer.body
    matched = matches(_legible(expected), _legible(actual))
    assert matched, f"expected {expected!r}\n     got {actual!r}"
    assert answer.status == exchange.status
    written = {"content-type": "application/json"} | exchange.answer_headers
    for name, value in written.items():
        assert matches(value, answer.headers.get(name, "")), f"{name}: {answer.headers.get(name)}"
    assert answer.headers["content-length"] == str(len(answer.body))


def _legible(body: bytes) -> str:
    """A character for every byte, for not all are UTF-8; but for what stands for any text."""
    return body.decode("latin-1").replace(ANYTHING.encode().decode("latin-1"), ANYTHING)


def _receive(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def _exchange(text: str, model: str) -> Exchange:
    title, _, rest = text.partition("\n")
    rest = re.sub(r"\A(#.*\n)+", "", rest)
    request, found, answer = rest.partition("\nHTTP/1.1 ")
    assert found, f"{title}: there is no answer"
    request_line, headers, body = _split(request)
    status, answer_headers, answer_body = _split(answer)
    method, path = request_line.split(" ")
    return Exchange(
        title,
        model,
        method,
        path,
        headers,
        body,
        int(status),
        answer_headers,
        answer_body,
    )


def _split(message: str) -> tuple[str, dict[str, str], str]:
    head, _, body = message.partition("\n\n")
    first, *lines = head.strip().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return first, headers, body.strip()
