"""The OMI interface's error table, from the core's codes to the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omi_runtime.errors import ErrorCode
from omi_runtime.transport.status import Status


@dataclass(frozen=True)
class WireError:
    """How one code is told.

    Attributes:
        run_status: `status_code` of a RunResponse whose items all failed with this code at once.
        grpc_status: of a call that has no response of its own to carry it.
    """

    run_status: int
    grpc_status: Status


TABLE: Final[dict[ErrorCode, WireError]] = {
    ErrorCode.INVALID_REQUEST: WireError(400, Status.INVALID_ARGUMENT),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: WireError(200, Status.INVALID_ARGUMENT),
    ErrorCode.INVALID_INPUT: WireError(200, Status.INVALID_ARGUMENT),
    ErrorCode.MODEL_NOT_FOUND: WireError(200, Status.NOT_FOUND),
    ErrorCode.MODEL_NOT_READY: WireError(200, Status.UNAVAILABLE),
    ErrorCode.NOT_OFFERED: WireError(200, Status.UNIMPLEMENTED),
    ErrorCode.TOO_LARGE: WireError(413, Status.RESOURCE_EXHAUSTED),
    ErrorCode.OVERLOADED: WireError(503, Status.RESOURCE_EXHAUSTED),
    ErrorCode.DEADLINE_EXCEEDED: WireError(504, Status.DEADLINE_EXCEEDED),
    ErrorCode.INFERENCE_FAILED: WireError(200, Status.INTERNAL),
    ErrorCode.INTERNAL: WireError(500, Status.INTERNAL),
}
"""Total: a test asserts that every ErrorCode is here. 200 means: the failed items say it."""

ITEM_CODES: Final = frozenset(
    {ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.INVALID_INPUT, ErrorCode.INFERENCE_FAILED}
)
"""What a response of Predict tells itself; the rest concerns the server and is a gRPC status."""
