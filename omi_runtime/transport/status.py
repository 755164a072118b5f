"""gRPC's status codes: how a call has ended (grpc/doc/statuscodes.md of gRPC's repository)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from omi_runtime.errors import ErrorCode


class Status(IntEnum):
    """By the names and numbers that gRPC gives them, as in `grpc.StatusCode` of its own package."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


STANDARD: Final[Mapping[ErrorCode, Status]] = {
    ErrorCode.INVALID_REQUEST: Status.INVALID_ARGUMENT,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: Status.INVALID_ARGUMENT,
    ErrorCode.INVALID_INPUT: Status.INVALID_ARGUMENT,
    ErrorCode.MODEL_NOT_FOUND: Status.NOT_FOUND,
    ErrorCode.MODEL_NOT_READY: Status.UNAVAILABLE,
    ErrorCode.NOT_OFFERED: Status.UNIMPLEMENTED,
    ErrorCode.TOO_LARGE: Status.RESOURCE_EXHAUSTED,
    ErrorCode.OVERLOADED: Status.RESOURCE_EXHAUSTED,
    ErrorCode.DEADLINE_EXCEEDED: Status.DEADLINE_EXCEEDED,
    ErrorCode.INFERENCE_FAILED: Status.INTERNAL,
    ErrorCode.INTERNAL: Status.INTERNAL,
}
"""Of gRPC's own services, which belong to no interface: health and reflection."""
