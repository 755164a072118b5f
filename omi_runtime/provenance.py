r"""Which model this is: the digests of its files, locked when its image was built.

`omi.lock.json` lies beside the model; `omi_runtime.image.lock` writes it. Here it is read and
verified, at every start, so nothing heavy is imported. A model's digest is that of a text with a
line for each file, sorted by path, as `sha256sum` prints them:

    find . -type f ! -name omi.lock.json ! -name omi.sbom.json -printf '%P\n' | LC_ALL=C sort |
      xargs sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from omi_runtime.errors import LoadError

LOCK_FILE: Final = "omi.lock.json"
SBOM_FILE: Final = "omi.sbom.json"

MODEL_KEY: Final = "omi-model"
"""The header and the trailing metadata of every answer that say which model gave it."""

_OUR_OWN: Final = frozenset({LOCK_FILE, SBOM_FILE})
_MOST_NAMED: Final = 3


class Tampered(LoadError):
    """The model's files are not those that were locked. Loading again does not help."""


def identity(name: str, version: str, digest: str = "") -> str:
    """`name:version@sha256:…`, or without the digest where none is known; printable ASCII."""
    text = f"{name}:{version}" + (f"@{digest}" if digest else "")
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else _escaped(c) for c in text)


def digest_files(directory: Path) -> dict[str, str]:
    """The SHA-256, as hexadecimal, of every file below a directory, by its path, sorted.

    Raises:
        LoadError: there is a symbolic link, which could be made to lead elsewhere, or something
            that cannot be read.
    """
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.is_symlink():
                raise LoadError(f"{path} is a symbolic link: put what it leads to in its place")
            if name in folders:
                continue
            found[path.relative_to(directory).as_posix()] = _digest(path)
    for name in _OUR_OWN:
        found.pop(name, None)
    return dict(sorted(found.items()))


def digest_of(files: Mapping[str, str]) -> str:
    """The model's digest, `sha256:…`, from the digests of its files."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def read_lock(directory: Path) -> Mapping[str, Any] | None:
    """The lock of a model's directory, or None if it has none.

    Raises:
        LoadError: it is no lock.
    """
    path = directory / LOCK_FILE
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise LoadError(f"{path} is no lock of a model: it has no files")
    return content


def locked_digest(lock: Mapping[str, Any] | None) -> str:
    """The model's digest by its lock, empty without one."""
    return "" if lock is None else digest_of(lock["files"])


def verify(directory: Path, lock: Mapping[str, Any]) -> None:
    """Compare a model's files with its lock: all of them, and nothing else, have to be there.

    A file too many counts, for a module beside the model is imported in the place of any other of
    that name.

    Raises:
        Tampered: names what differs.
    """
    locked: Mapping[str, str] = lock["files"]
    found = digest_files(directory)
    differing = [
        f"{path} {_difference(locked.get(path), found.get(path))}"
        for path in sorted(locked.keys() | found.keys())
        if locked.get(path) != found.get(path)
    ]
    if not differing:
        return
    more = len(differing) - _MOST_NAMED
    named = "; ".join(differing[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
    raise Tampered(f"{directory} is not as {LOCK_FILE} has it: {named}")


def _difference(locked: str | None, found: str | None) -> str:
    if locked is None:
        return "was added"
    return "is missing" if found is None else "was changed"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from None


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))
