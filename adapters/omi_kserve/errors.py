"""The KServe interface's error table, from the core's codes to HTTP, and its one error body."""

from __future__ import annotations

import logging
from typing import Final

import orjson

from omi_runtime.errors import ErrorCode, InternalError, OMIError
from omi_runtime.transport.http import JSON_HEADER, RETRY_AFTER, Response, status_of

logger = logging.getLogger(__name__)

TABLE: Final[dict[ErrorCode, int]] = {
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.INVALID_INPUT: 400,
    ErrorCode.MODEL_NOT_FOUND: 404,
    ErrorCode.MODEL_NOT_READY: 503,
    ErrorCode.NOT_OFFERED: 501,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.INFERENCE_FAILED: 500,
    ErrorCode.INTERNAL: 500,
}
"""Total: a test asserts that every ErrorCode is here."""

GRPC_TABLE: Final[dict[ErrorCode, str]] = {
    ErrorCode.INVALID_REQUEST: "INVALID_ARGUMENT",
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: "INVALID_ARGUMENT",
    ErrorCode.INVALID_INPUT: "INVALID_ARGUMENT",
    ErrorCode.MODEL_NOT_FOUND: "NOT_FOUND",
    ErrorCode.MODEL_NOT_READY: "UNAVAILABLE",
    ErrorCode.NOT_OFFERED: "UNIMPLEMENTED",
    ErrorCode.TOO_LARGE: "RESOURCE_EXHAUSTED",
    ErrorCode.OVERLOADED: "RESOURCE_EXHAUSTED",
    ErrorCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    ErrorCode.INFERENCE_FAILED: "INTERNAL",
    ErrorCode.INTERNAL: "INTERNAL",
}
"""The same over gRPC, by the names of `grpc.StatusCode`: REST alone does without grpc."""


def error_response(error: Exception) -> Response:
    """`{"error": text}` with the table's status; V1 and V2 have the same form."""
    if not isinstance(error, OMIError):
        logger.error("a request failed", exc_info=error)
        error = InternalError()
    headers = [JSON_HEADER]
    if error.code is ErrorCode.OVERLOADED:
        headers.append(RETRY_AFTER)
    return Response(status_of(error, TABLE), orjson.dumps({"error": error.message}), headers)
