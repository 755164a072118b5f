"""CloudEvents over HTTP around a route: an event is unwrapped, its answer is an event again.

Binary mode has the attributes in `ce-*` headers and the data as the body; structured mode has all
in one JSON object, of type `application/cloudevents+json`. Attributes and modes: CloudEvents 1.0,
"HTTP Protocol Binding"; those of the answer: kserve, `kserve/protocol/rest` (`ce-type`
`io.kserve.inference.response`, `ce-source` `io.kserve.inference.<model>`).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from omi_kserve.settings import KServeSettings
from omi_runtime.errors import InvalidRequest
from omi_runtime.transport.http import JSON_HEADER, Request, Response

Answer = Callable[[Request], Awaitable[Response]]

_STRUCTURED: Final = b"application/cloudevents+json"
_PREFIX: Final = b"ce-"
_REQUIRED: Final = ("specversion", "id", "source", "type")
_VERSIONS: Final = ("1.0", "0.3")
_CONTENT: Final = {"data", "data_base64", "datacontenttype", "dataschema", "datacontentencoding"}


class CloudEvents:
    """Answers events by what a route answers to their data.

    Args:
        model: the name served.
        settings: type and source of the answers.
    """

    def __init__(self, model: str, settings: KServeSettings) -> None:
        self._own = {
            "type": settings.event_type,
            "source": settings.event_source or f"io.kserve.inference.{model}",
        }
        self._merge = settings.event_merge

    def wrap(self, answer: Answer) -> Answer:
        """The route with events read; other requests go through it as they are."""

        def answer_any(request: Request) -> Awaitable[Response]:
            headers = request.headers
            if b"ce-specversion" in headers:
                return self._binary(answer, request)
            if headers.get(b"content-type", b"").lower().startswith(_STRUCTURED):
                return self._structured(answer, request)
            return answer(request)

        return answer_any

    async def _binary(self, answer: Answer, request: Request) -> Response:
        attributes = {
            name[len(_PREFIX) :].decode("latin-1"): value.decode("latin-1")
            for name, value in request.headers.items()
            if name.startswith(_PREFIX)
        }
        _check(attributes, "header ce-")
        response = await answer(request)
        own = [
            (_PREFIX + name.encode("latin-1"), value.encode("latin-1"))
            for name, value in self._attributes(attributes).items()
        ]
        headers = [*response.headers, *own]
        return Response(response.status, response.body, headers, response.tail)

    async def _structured(self, answer: Answer, request: Request) -> Response:
        try:
            event = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"the event is not JSON: {error}") from None
        if not isinstance(event, dict):
            raise InvalidRequest("expected an event, a JSON object")
        attributes = {name: value for name, value in event.items() if name not in _CONTENT}
        _check(attributes, "")
        response = await answer(request.holding(_Data(_data(event))))
        answered: dict[str, Any] = self._attributes(attributes)
        if JSON_HEADER in response.headers:
            answered |= {
                "datacontenttype": "application/json",
                "data": orjson.Fragment(response.body),
            }
        else:
            answered |= {
                "datacontenttype": "application/octet-stream",
                "data_base64": base64.b64encode(b"".join([response.body, *response.tail])).decode(),
            }
        rest = [h for h in response.headers if h[0] != b"content-type"]
        return Response(
            response.status, orjson.dumps(answered), [(b"content-type", _STRUCTURED), *rest]
        )

    def _attributes(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Of the answer: an id and time of its own."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        kept = dict(asked) if self._merge else {"specversion": asked["specversion"]}
        return kept | {"id": str(uuid.uuid4()), **self._own, "time": now}


class _Data:
    """The data of an event, in place of the body that holds the event."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def whole(self) -> bytes:
        return self.body

    def forget(self) -> None:
        self.body = b""


def _check(attributes: Mapping[str, Any], prefix: str) -> None:
    for name in _REQUIRED:
        if not attributes.get(name) or not isinstance(attributes[name], str):
            raise InvalidRequest(f"a CloudEvent needs {prefix}{name}, a string")
    if attributes["specversion"] not in _VERSIONS:
        raise InvalidRequest(
            f"{prefix}specversion {attributes['specversion']!r} is not read here: send 1.0"
        )


def _data(event: Mapping[str, Any]) -> bytes:
    if "data" in event:
        data = event["data"]
        return data.encode() if isinstance(data, str) else orjson.dumps(data)
    try:
        return base64.b64decode(event.get("data_base64", ""), validate=True)
    except (ValueError, TypeError):
        raise InvalidRequest("data_base64: expected base64") from None
