"""`omi check` of Modzy's REST interface: `/status`, `/run`, `/shutdown`.

Sources: Modzy's container specification (docs.modzy.com), and the conformance tests of its Python
template (modzy/python-model-template, testing.py).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from omi_runtime.check.rules import Book, Level, Row, Skipped, expect
from omi_runtime.check.target import Reply, Target

MUST, SHOULD = Level.MUST, Level.SHOULD
_BOOK: Final[Book[Target]] = Book()
_rule = _BOOK.rule

_SPECIFICATION: Final = "Modzy container specification"
_TEMPLATE: Final = "Modzy Python template, testing.py"
_NOWHERE: Final = {"type": "file", "input": "/dev/null", "output": "/dev/null"}


def check(target: Target, protocol: str = "") -> list[Row]:  # noqa: ARG001 - it has one
    """Apply the rules."""
    return _BOOK.apply(target)


def _run(target: Target, body: object, media_type: str = "application/json") -> Reply:
    return target.ask("POST", "/run", body, {"content-type": media_type})


def _expect_form(reply: Reply, *statuses: int) -> None:
    """Break the rule unless it is the one form that every answer has."""
    reply.expect(*statuses)
    content = reply.content
    expect(
        isinstance(content, dict)
        and content.get("statusCode") == reply.status
        and isinstance(content.get("status"), str)
        and isinstance(content.get("message"), str),
        f"{reply}; expected an object of statusCode, status and message",
    )


@_rule(
    "modzy.status",
    MUST,
    f"{_SPECIFICATION}, status",
    "GET /status is 200 once the model has loaded",
)
def _status(target: Target) -> None:
    _expect_form(target.ask("GET", "/status"), 200)


@_rule("modzy.media-type", MUST, f"{_SPECIFICATION}, responses", "every answer is application/json")
def _media_type(target: Target) -> None:
    for reply in (target.ask("GET", "/status"), _run(target, b"{")):
        headers = {name.lower(): value for name, value in reply.headers.items()}
        found = headers.get("content-type", "none")
        expect(found.startswith("application/json"), f"{reply.asked} answers as {found}")


@_rule(
    "modzy.run.form",
    MUST,
    f"{_TEMPLATE}",
    "a job whose folders are none is 400, as whatever type it is sent",
)
def _run_form(target: Target) -> None:
    for media_type in ("application/json", "text/plain"):
        _expect_form(_run(target, _NOWHERE, media_type), 400)


@_rule(
    "modzy.run.malformed",
    MUST,
    f"{_TEMPLATE}",
    "what is no JSON is 400, or 415 if it does not claim to be",
)
def _run_malformed(target: Target) -> None:
    _expect_form(_run(target, b"", "application/json"), 400)
    _expect_form(_run(target, b"cats and dogs", "application/json"), 400)
    _expect_form(_run(target, b"cats and dogs", "text/plain"), 415)


@_rule("modzy.run.type", MUST, f"{_SPECIFICATION}, run", "a type other than file is 400")
def _run_type(target: Target) -> None:
    _expect_form(_run(target, {**_NOWHERE, "type": "url"}), 400)


@_rule("modzy.run.fields", MUST, f"{_SPECIFICATION}, run", "input and output have to be texts")
def _run_fields(target: Target) -> None:
    for name in ("input", "output"):
        _expect_form(_run(target, {**_NOWHERE, name: 7}), 400)
        without = {key: value for key, value in _NOWHERE.items() if key != name}
        _expect_form(_run(target, without), 400)


@_rule("modzy.routes", MUST, f"{_SPECIFICATION}, responses", "404 and 405 have the one form too")
def _routes(target: Target) -> None:
    _expect_form(target.ask("GET", "/omi-check"), 404)
    _expect_form(target.ask("GET", "/run"), 405)
    _expect_form(target.ask("POST", "/status"), 405)


@_rule("modzy.phrase", SHOULD, f"{_SPECIFICATION}, responses", "status is HTTP's own phrase")
def _phrase(target: Target) -> None:
    for reply in (target.ask("GET", "/status"), target.ask("GET", "/omi-check")):
        found = str(reply.content.get("status"))
        phrase = HTTPStatus(reply.status).phrase
        expect(
            found.lower() == phrase.lower(), f"{reply.asked}: status is {found!r}, not {phrase!r}"
        )


@_rule("modzy.shutdown", MUST, f"{_SPECIFICATION}, shutdown", "POST /shutdown is 202")
def _shutdown(target: Target) -> None:
    if not target.stop:
        raise Skipped("the server is to go on: --shutdown")
    _expect_form(target.ask("POST", "/shutdown"), 202)
