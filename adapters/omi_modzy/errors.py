"""The Modzy interface's error table, from the core's codes to HTTP, and its one answer body."""

from __future__ import annotations

import logging
import traceback
from http import HTTPStatus
from typing import Final

import orjson

from omi_runtime.errors import ErrorCode, InternalError, OMIError
from omi_runtime.transport.http import JSON_HEADER, JSON_ONLY, RETRY_AFTER, Response, status_of

logger = logging.getLogger(__name__)

TABLE: Final[dict[ErrorCode, int]] = {
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.INVALID_INPUT: 422,
    ErrorCode.MODEL_NOT_FOUND: 404,
    ErrorCode.MODEL_NOT_READY: 500,
    ErrorCode.NOT_OFFERED: 501,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.INFERENCE_FAILED: 500,
    ErrorCode.INTERNAL: 500,
}
"""Total: a test asserts that every ErrorCode is here."""

_PHRASES: Final = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}
"""Where Python's own words have changed from one release to another: an answer's do not."""


def answer(status: int, message: str, *, technical: str = "") -> Response:
    """Exactly `{"statusCode", "status", "message"}`, and `technicalInformation` if there is any."""
    content = {
        "statusCode": status,
        "status": _PHRASES.get(status) or HTTPStatus(status).phrase,
        "message": message,
    }
    if technical:
        content["technicalInformation"] = technical
    busy = status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = (JSON_HEADER, RETRY_AFTER) if busy else JSON_ONLY
    return Response(status, orjson.dumps(content), headers)


def error_response(error: Exception, *, debug: bool = False) -> Response:
    """An exception in the interface's shape; with its traceback if `debug`."""
    if not isinstance(error, OMIError):
        logger.error("a request failed", exc_info=error)
        error = InternalError()
    technical = "".join(traceback.format_exception(error)) if debug else ""
    return answer(status_of(error, TABLE), error.message, technical=technical)
