"""The OMI interface's error table, from the core's codes to the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from omi_runtime.errors import ErrorCode


@dataclass(frozen=True)
class WireError:
    """How one code is told.

    Attributes:
        run_status: `status_code` of a RunResponse whose items all failed with this code at once.
        grpc_status: of a call that has no response of its own to carry it.
    """

    run_status: int
    grpc_status: grpc.StatusCode


_Status = grpc.StatusCode

TABLE: Final[dict[ErrorCode, WireError]] = {
    ErrorCode.INVALID_REQUEST: WireError(400, _Status.INVALID_ARGUMENT),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: WireError(200, _Status.INVALID_ARGUMENT),
    ErrorCode.INVALID_INPUT: WireError(200, _Status.INVALID_ARGUMENT),
    ErrorCode.MODEL_NOT_FOUND: WireError(200, _Status.NOT_FOUND),
    ErrorCode.MODEL_NOT_READY: WireError(200, _Status.UNAVAILABLE),
    ErrorCode.NOT_OFFERED: WireError(200, _Status.UNIMPLEMENTED),
    ErrorCode.TOO_LARGE: WireError(413, _Status.RESOURCE_EXHAUSTED),
    ErrorCode.OVERLOADED: WireError(503, _Status.RESOURCE_EXHAUSTED),
    ErrorCode.DEADLINE_EXCEEDED: WireError(504, _Status.DEADLINE_EXCEEDED),
    ErrorCode.INFERENCE_FAILED: WireError(200, _Status.INTERNAL),
    ErrorCode.INTERNAL: WireError(500, _Status.INTERNAL),
}
"""Total: a test asserts that every ErrorCode is here. 200 means: the failed items say it."""

ITEM_CODES: Final = frozenset(
    {ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.INVALID_INPUT, ErrorCode.INFERENCE_FAILED}
)
"""What a response of Predict tells itself; the rest concerns the server and is a gRPC status."""
