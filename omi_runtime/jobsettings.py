"""The environment variables of jobs of files: of the Modzy interface's `/run`, and of `omi run`."""

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
class JobSettings:
    """Where jobs may read and write, and what; whoever runs jobs reads them."""

    data_roots: tuple[str, ...] = setting(
        "OMI_DATA_ROOTS",
        (),
        _folders,
        "absolute paths, separated by colons",
        "The folders in which /run and `omi run` read and write, separated by colons.",
        default_text="anywhere; in images /data",
    )
    enforce_card: bool = setting(
        "OMI_ENFORCE_CARD",
        False,
        parse_switch,
        SWITCH,
        "Whether /run and `omi run` refuse input files that are larger, or of another media type, "
        "than the model's card says.",
        default_text="off",
    )
