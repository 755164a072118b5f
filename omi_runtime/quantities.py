"""Spans of time and sizes, as model.yaml spells them."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_span(text: str) -> float | None:
    """Seconds of a span such as `20s`, `1m30s` or `500ms`; None for an empty one.

    Raises:
        ValueError: it is no span.
    """
    if not text:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no time span: write for example 20s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGTP]?)i?B?", re.IGNORECASE)


def parse_size(text: str) -> int | None:
    """Bytes of a size such as `512K`, `5M` or `1.5 GB`; None for an empty one.

    Units are powers of 1024 however they are written: who meant 1000 is not refused.

    Raises:
        ValueError: it is no size.
    """
    if not text:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size: write for example 512K or 5M")
    power = "KMGTP".find(found[2].upper()) + 1 if found[2] else 0
    return int(float(found[1]) * 1024**power)
