"""A `/run` body → a job: the checks of Modzy's REST specification, in its order."""

from __future__ import annotations

from typing import Any

import orjson

from omi_runtime.errors import InvalidRequest, UnsupportedMediaType
from omi_runtime.jobfiles import Job
from omi_runtime.runner import NOTHING_MORE, Wanted


def read_job(body: bytes, media_type: str) -> tuple[Job, Wanted]:
    """Parse a body whatever its content type, which only tells how a body that is none is refused.

    Raises:
        UnsupportedMediaType: no JSON object, and not called JSON either.
        InvalidRequest: what Modzy's specification answers with 400.
    """
    content = _parse(body)
    if content is None:
        if media_type != "application/json":
            raise UnsupportedMediaType(
                f"the body is no JSON object and its Content-Type is {media_type!r}: send "
                'application/json like {"type": "file", "input": "<dir>", "output": "<dir>"}'
            )
        raise InvalidRequest("the body is no JSON object")
    if content.get("type") != "file":
        raise InvalidRequest("type: expected 'file'")
    job = Job(_directory(content, "input"), _directory(content, "output"))
    if len(content) == 3:
        return job, NOTHING_MORE
    return job, Wanted(_switch(content, "explain"), _switch(content, "detectDrift"))


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def _directory(content: dict[str, Any], key: str) -> str:
    path = content.get(key)
    if not isinstance(path, str) or not path:
        raise InvalidRequest(f"{key}: expected the path of a directory")
    if "\0" in path:
        raise InvalidRequest(f"{key}: a path cannot hold a NUL character")
    return path


def _switch(content: dict[str, Any], key: str) -> bool:
    """A key of ours: REST v1 has no word for it, the gRPC service calls it so."""
    value = content.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key}: expected true or false")
    return value
