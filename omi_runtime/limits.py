"""How large a request and an answer may be, and the errors that say so; how slow a request."""

from __future__ import annotations

from typing import Final

from omi_runtime.errors import TooLarge
from omi_runtime.settings import Settings

BODY_SECONDS: Final = 20.0
SLOWEST_BODY: Final = 10_000
"""Bytes that a request's body brings within BODY_SECONDS, if it does not end: 500 a second."""


def request_too_large(settings: Settings) -> TooLarge:
    """What the caller of a request over `OMI_MAX_REQUEST_BYTES` is told."""
    return TooLarge(
        f"the request is larger than {settings.max_request_bytes} bytes, "
        "which OMI_MAX_REQUEST_BYTES allows"
    )


def check_response(size: int, settings: Settings) -> None:
    """See that an answer is no larger than allowed.

    Args:
        size: in bytes, before any compression.
        settings: with `OMI_MAX_RESPONSE_BYTES`.

    Raises:
        TooLarge: it is.
    """
    if size > settings.max_response_bytes:
        raise TooLarge(
            f"the answer has {size} bytes, and OMI_MAX_RESPONSE_BYTES allows "
            f"{settings.max_response_bytes}: ask for less at once"
        )
