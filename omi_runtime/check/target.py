"""The server that rules are applied to, and how it is asked over HTTP."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

import orjson

from omi_runtime.check.rules import Broken


@dataclass(frozen=True)
class Target:
    """A running server.

    Attributes:
        host, port: where it listens.
        model: the name it serves, or empty if that is to be found out.
        timeout: seconds that an answer may take.
        stop: whether it is to be asked to stop in the end.
    """

    host: str
    port: int
    model: str = ""
    timeout: float = 10.0
    stop: bool = False

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; a body that is neither bytes nor None is sent as JSON.

        Raises:
            Broken: there is no answer.
        """
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        sent = {"connection": "close", "content-type": "application/json", **(headers or {})}
        asked = f"{method} {path}"
        try:
            # A model may be called anything; what is quoted already stays as it is.
            connection.request(method, quote(path, safe="/:?=&%"), data, sent)
            response = connection.getresponse()
            return Reply(asked, response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"{asked}: no answer: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP."""

    asked: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes

    @cached_property
    def content(self) -> Any:
        """The body, read as JSON.

        Raises:
            Broken: it is none.
        """
        try:
            return orjson.loads(self.body)
        except ValueError:
            raise Broken(f"{self} is no JSON") from None

    def expect(self, *statuses: int) -> Reply:
        """Break the rule unless the answer has one of these statuses."""
        if self.status not in statuses:
            raise Broken(f"{self}; expected {' or '.join(map(str, statuses))}")
        return self

    def __str__(self) -> str:
        return f"{self.asked} → {self.status} {self.body[:200].decode(errors='replace')}"
