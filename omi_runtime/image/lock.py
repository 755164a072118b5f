"""Writing `omi.lock.json`, and the SBOM beside it: what a model's image holds and where it is from.

The lock is made where the model will run, for only there the versions of the packages are known.
`omi_runtime.provenance` verifies it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import orjson

from omi_runtime import __version__, provenance
from omi_runtime.card import ModelCard
from omi_runtime.errors import LoadError
from omi_runtime.image import sbom

SCHEMA: Final = 1

_FORMAT: Final = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def lock(directory: Path, card: ModelCard, facts: Mapping[str, Any]) -> str:
    """Write the lock and the SBOM into the model's directory; returns the model's digest.

    Args:
        directory: with the model's files, as they will be served.
        card: the model's.
        facts: what is only known outside of the image: `code` with its revision, `training`,
            `base` image.

    Raises:
        LoadError: a file cannot be locked, or the directory not be written to.
    """
    files = provenance.digest_files(directory)
    digest = provenance.digest_of(files)
    content = {
        "schema": SCHEMA,
        "model": {"name": card.name, "version": card.version, "digest": digest},
        "files": files,
        "code": facts.get("code"),
        "training": facts.get("training"),
        "packages": installed(),
        "built": {
            "at": moment(),
            "with": f"omi-runtime {__version__}",
            "base": facts.get("base"),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }
    bill = sbom.make(content)
    try:
        (directory / provenance.LOCK_FILE).write_bytes(orjson.dumps(content, option=_FORMAT))
        (directory / provenance.SBOM_FILE).write_bytes(orjson.dumps(bill, option=_FORMAT))
    except OSError as error:
        raise LoadError(f"{error.filename} cannot be written: {error.strerror}") from None
    return digest


def installed() -> dict[str, str]:
    """The version of every distribution that this interpreter finds, by its name."""
    found: dict[str, str] = {}
    for distribution in distributions():
        # The first one found is the one that is imported.
        found.setdefault(distribution.name.lower().replace("_", "-"), distribution.version)
    return dict(sorted(found.items()))


def moment() -> str:
    """Now, or what SOURCE_DATE_EPOCH says (reproducible-builds.org), in UTC."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(text) if text.isdecimal() else time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def read_facts(path: Path | None) -> Mapping[str, Any]:
    """The file that `omi build` leaves for the lock; nothing without one.

    Raises:
        LoadError: it is no JSON object.
    """
    if path is None:
        return {}
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise LoadError(f"{path} holds no JSON object")
    return content
