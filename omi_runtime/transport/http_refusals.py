"""What a request of HTTP/1.1 is refused for before anybody is asked to answer it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from httptools import HttpParserError, HttpParserInvalidMethodError

from omi_runtime.errors import InvalidRequest, OMIError
from omi_runtime.limits import BODY_SECONDS, SLOWEST_BODY
from omi_runtime.transport.http_messages import Refused

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 128
HEAD_SECONDS: Final = 20.0
"""From the first byte of a head to its last."""

UNREADABLE: Final = InvalidRequest("the request is no HTTP/1.1 that can be read")
NO_PROXY: Final = InvalidRequest("this is a server, no proxy")
NOT_ONE_HOST: Final = InvalidRequest("a request of HTTP/1.1 has one header Host")
"""RFC 9112, section 3.2."""
OTHER_CODING: Final = Refused(
    HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding: nothing but chunked is read here"
)
HEAD_TOO_LARGE: Final = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the head of the request is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers",
)
TRAILERS_TOO_LARGE: Final = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"what is no body in the chunks of the request is larger than {MAX_HEAD_BYTES} bytes",
)
HEAD_TOO_SLOW: Final = Refused(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the head of the request did not arrive within {HEAD_SECONDS:g} s",
)
BODY_TOO_SLOW: Final = Refused(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the body of the request stalled: {BODY_SECONDS:g} s brought less than {SLOWEST_BODY} bytes",
)


def refusal(error: HttpParserError, data: bytes) -> OMIError:
    """What a request is told that the parser does not read, by the bytes that it begins with.

    To the parser whatever it does not know is no method, what is no HTTP at all too. A request
    whose line comes in several pieces is not looked at so closely.
    """
    line = _REQUEST_LINE.match(data)
    is_method = isinstance(error, HttpParserInvalidMethodError) or "method" in str(error)
    if line is None or not is_method:
        return UNREADABLE
    method = line[1][:_SHOWN].decode()
    return Refused(HTTPStatus.NOT_IMPLEMENTED, f"{method} is no method that is known here")


_REQUEST_LINE: Final = re.compile(
    rb"(?:\r?\n)*([!#$%&'*+.^_`|~0-9A-Za-z-]+) [!-~]+ HTTP/1\.[01]\r?\n"
)
"""RFC 9112, section 3, with the method's characters of RFC 9110, section 5.6.2."""
_SHOWN: Final = 30
