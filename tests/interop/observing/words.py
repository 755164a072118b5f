"""What was answered, in the words of the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import httpx

_VALUES = {str: '"…"', list: "[…]", dict: "{…}"}


def told(*answers: httpx.Response) -> str:
    """Status and form of an answer, such as 404 `{"error": "…"}`; of several, each that differs."""
    return _each(_told(answer) for answer in answers)


def statuses(*answers: httpx.Response) -> str:
    """The statuses, each that differs."""
    return _each(str(answer.status_code) for answer in answers)


def code(answer: Any) -> str:
    """The status that a call of gRPC ended with."""
    return answer.code().name if isinstance(answer, grpc.RpcError) else "OK"


def codes(*answers: Any) -> str:
    """The statuses, each that differs."""
    return _each(code(answer) for answer in answers)


def naming(names: Iterable[bool]) -> str:
    """Whether every text has the name that it is about."""
    return " that names the input" if all(names) else ""


def chosen(seen: Any, sentences: Mapping[Any, str]) -> str:
    """The sentence for what was seen; AssertionError if nobody has written one."""
    assert seen in sentences, f"there is no sentence yet for {seen!r}"
    return sentences[seen]


def _told(answer: httpx.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.text}".strip()
    members = (f'"{key}": {_VALUES.get(type(value), value)}' for key, value in content.items())
    return f"{answer.status_code} `{{{', '.join(members)}}}`"


def _each(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
