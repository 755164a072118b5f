"""`jsontext.NanPolicy`. Apart from it, so that settings are read without importing numpy."""

from __future__ import annotations

from enum import StrEnum


class NanPolicy(StrEnum):
    """What becomes of NaN and infinity in JSON, which has no word for them (`OMI_NAN`)."""

    ERROR = "error"
    NULL = "null"
    STRING = "string"
