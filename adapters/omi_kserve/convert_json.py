"""The JSON that bodies of every REST protocol here are made of; pure functions."""

from __future__ import annotations

from typing import Any

import orjson

from omi_runtime.errors import InvalidRequest


def read_json(body: bytes | memoryview) -> Any:
    """Parse a body.

    Raises:
        InvalidRequest: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def read_object(body: bytes | memoryview) -> dict[str, Any]:
    """Parse a body that has to be an object.

    Raises:
        InvalidRequest: it is none.
    """
    content = read_json(body)
    if not isinstance(content, dict):
        raise InvalidRequest("expected a JSON object")
    return content
