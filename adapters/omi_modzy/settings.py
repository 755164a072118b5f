"""The environment variables of the Modzy interface."""

from __future__ import annotations

import os
from dataclasses import dataclass

from omi_runtime.environment import SWITCH, parse_switch, setting


def _folders(text: str) -> tuple[str, ...]:
    paths = tuple(text.split(":"))
    if not all(os.path.isabs(path) for path in paths):  # noqa: PTH117 - of a text
        raise ValueError(text)
    return paths


@dataclass(frozen=True)
class ModzySettings:
    """What belongs to this wire alone."""

    data_roots: tuple[str, ...] = setting(
        "OMI_DATA_ROOTS",
        (),
        _folders,
        "absolute paths, separated by colons",
        "The folders in which /run reads and writes, separated by colons.",
        default_text="anywhere",
    )
    enforce_card: bool = setting(
        "OMI_ENFORCE_CARD",
        False,
        parse_switch,
        SWITCH,
        "Whether /run refuses input files that are larger, or of another media type, than the "
        "model's card says.",
        default_text="off",
    )
