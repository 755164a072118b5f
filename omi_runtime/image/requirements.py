"""What `requirements.txt` of a model names beside itself: other lists, wheels, folders of wheels.

Only that goes where the packages are installed, and not all of the model, so that the layer of the
packages is made anew when they change, and not with every file. The lines are pip's (pip.pypa.io,
Requirements File Format): what a list names with `-r` and `-c` is relative to the list, other paths
are relative to where pip is called, which is here the model's folder.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from omi_runtime.errors import LoadError

REQUIREMENTS: Final = "requirements.txt"

_CONTINUED: Final = re.compile(r"\\\r?\n")
_COMMENT: Final = re.compile(r"(^|\s)#.*")
_OPTION: Final = re.compile(
    r"(?:-([rcfe])\s*|--(requirement|constraint|find-links|editable)(?:\s*=\s*|\s+))(.+)"
)
_HASH: Final = re.compile(r"\s*--hash[= ]\S+")
_OWN_OPTIONS: Final = re.compile(r"\s+--\w.*|\s*;.*|\s*\[[^\]]*\]\s*$")
"""What may follow the path of a package: options, a marker, extras."""
_URL: Final = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://")
_EXTRAS: Final = re.compile(r"^([\w.-]+)\s*\[[^\]]*\]")
_ARCHIVE: Final = re.compile(r"\.(whl|zip|tar\.\w+|tgz|tar)$")


@dataclass
class Requirements:
    """The lists of a model's packages, and what they name in its folder.

    Attributes:
        directory: the model's folder.
        paths: of the lists and of what they name, relative to the folder.
        pins: the packages as constraints: without hashes, options and extras.
        hashed: whether a package has hashes, which pip then wants for all.
    """

    directory: Path
    paths: list[Path] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    hashed: bool = False

    def copy(self, target: Path, ignore: Callable[[str, list[str]], set[str]]) -> None:
        """Copy them all into a folder, as they lie in the model's; the first list is there anyway.

        Raises:
            OSError: something cannot be copied.
        """
        target.mkdir()
        (target / REQUIREMENTS).touch()
        for path in self.paths:
            source, place = self.directory / path, target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=ignore, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, place)


def read(directory: Path) -> Requirements:
    """Read `requirements.txt` of a model's folder, and the lists that it names.

    Raises:
        LoadError: names the line that the image could not install.
    """
    found = Requirements(directory.resolve())
    if (directory / REQUIREMENTS).is_file():
        found.paths.append(Path(REQUIREMENTS))
        _read_list(found, Path(REQUIREMENTS), constrains=False)
    return found


def _read_list(found: Requirements, path: Path, *, constrains: bool) -> None:
    try:
        text = (found.directory / path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from None
    for line in _lines(text):
        found.hashed = found.hashed or _HASH.search(line) is not None
        option = _OPTION.fullmatch(line)
        if option is not None:
            letter = option[1] or option[2][0]
            _read_option(found, path, line, letter, _unquoted(option[3]), constrains=constrains)
        elif named := _local_path(found.directory, line):
            _add(found, path, line, Path(named))
        elif line[0].isalnum() and not _is_url(line) and not constrains:
            found.pins.append(_EXTRAS.sub(r"\1", _HASH.sub("", line)).strip())


def _read_option(
    found: Requirements, path: Path, line: str, letter: str, value: str, *, constrains: bool
) -> None:
    if _is_url(value):
        return  # pip fetches it
    if letter == "e":
        raise _refusal(path, line, "and an image has no package to be edited: leave the option out")
    # A folder of wheels may be relative to the list or to the model's folder.
    aside = letter in "rc" or (found.directory / path.parent / value).exists()
    known = len(found.paths)
    named = _add(found, path, line, path.parent / value if aside else Path(value))
    if letter in "rc" and len(found.paths) > known:
        _read_list(found, named, constrains=constrains or letter == "c")


def _add(found: Requirements, path: Path, line: str, named: Path) -> Path:
    """Note what a line names, if it is not known already; returns its path in the folder."""
    place = (found.directory / named).resolve()
    relative = not named.is_absolute() and not str(named).startswith("file:")
    if not relative or not place.is_relative_to(found.directory):
        raise _refusal(path, line, "which is not in the model's folder by a relative path")
    if place == found.directory:
        raise _refusal(path, line, "which is the model's folder itself")
    if not place.exists():
        raise _refusal(path, line, "which is not there")
    inner = place.relative_to(found.directory)
    if inner not in found.paths:
        found.paths.append(inner)
    return inner


def _lines(text: str) -> Iterator[str]:
    for line in _CONTINUED.sub(" ", text).splitlines():
        stripped = _COMMENT.sub("", line).strip()
        if stripped:
            yield stripped


def _local_path(directory: Path, line: str) -> str:
    """The path that a package is named by, empty if it is named otherwise."""
    name, at, url = line.partition(" @ ")
    text = (url if at else name).strip()
    if text.startswith("file:"):
        return text
    while (shorter := _OWN_OPTIONS.sub("", text)) != text:
        text = shorter
    if at or _is_url(text) or text.startswith("-"):
        return ""
    is_path = text.startswith((".", "/")) or "/" in text
    return text if is_path or (_ARCHIVE.search(text) and (directory / text).exists()) else ""


def _is_url(text: str) -> bool:
    return _URL.match(text) is not None


def _unquoted(value: str) -> str:
    try:
        return (shlex.split(value) or [""])[0]
    except ValueError:
        return value


def _refusal(path: Path, line: str, why: str) -> LoadError:
    return LoadError(f"{path} has the line {line!r}, {why}")
