"""What `OMI_MODEL` names, found out without importing anything of it: it may have to be verified.

    a directory        with model.py in it
    a file             model.py, or another name
    file.py:Class      one of several classes
    package.mod:Class  an importable module

What is none of these may be claimed by a flavor: an entry point in `omi_runtime.flavors` whose
object takes the text of `OMI_MODEL` and returns a Model subclass, or None if it is not its kind. It
imports nothing of the author's either: that is for the subclass's `load`. The model's files lie
where the subclass's `directory` says, else where the text does.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from omi_runtime.errors import SettingsError
from omi_runtime.model import Model

FLAVORS: Final = "omi_runtime.flavors"


@dataclass(frozen=True)
class Source:
    """Where a model is.

    Attributes:
        text: as `OMI_MODEL` has it.
        directory: where its files lie, among them model.yaml and the lock.
        flavored: the class that a flavor made for it.
        file: that defines it; None of a flavored or importable one.
        module: that defines it; empty of a flavored one or a file.
        class_name: which class of the file or module; empty is the only one.
    """

    text: str
    directory: Path
    flavored: type[Model] | None = None
    file: Path | None = None
    module: str = ""
    class_name: str = ""


def find_source(text: str) -> Source:
    """Find what is named.

    Raises:
        SettingsError: no such file, directory or module; or a directory without a model.py.
    """
    path, class_name = split_source(text)
    flavored = _flavored(text)
    if flavored is not None:
        own = flavored.__dict__.get("directory")
        implied = path.parent if path.is_file() else Path(text)
        return Source(text, implied if own is None else Path(own), flavored)
    if path.is_file() or path.is_dir():
        file = (path / "model.py" if path.is_dir() else path).resolve()
        if not file.is_file():
            raise not_a_model(text, f"{path}{_sep(path)} has no model.py")
        return Source(text, file.parent, file=file, class_name=class_name)
    module, _, class_name = text.partition(":")
    spec = find_module(module) if is_importable(text) else None
    if spec is None or spec.origin is None:
        raise not_a_model(text, "there is no such file or directory")
    return Source(text, Path(spec.origin).resolve().parent, module=module, class_name=class_name)


def split_source(text: str) -> tuple[Path, str]:
    """The path and, after a colon, the class; a path that exists may hold colons itself."""
    path = Path(text)
    if path.exists() or ":" not in text:
        return path, ""
    head, _, class_name = text.rpartition(":")
    return Path(head), class_name


def is_importable(text: str) -> bool:
    """Whether it is `package.module:Class` of a module that is there."""
    module_name, colon, _ = text.partition(":")
    if not colon or not module_name.replace(".", "_").isidentifier():
        return False
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it, and the command has not
    return find_module(module_name) is not None


def find_module(name: str) -> ModuleSpec | None:
    """Where a module is, or None if it is nowhere; unlike importlib's, without importing parents.

    For what they hold is not verified yet.
    """
    first, *others = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    for other in others:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{other}", spec.submodule_search_locations)
    return spec


def not_a_model(text: str, why: str) -> SettingsError:
    """The error that says what `OMI_MODEL` may be."""
    return SettingsError(
        f"OMI_MODEL={text!r} names no model: {why}; expected a directory with model.py, a file, "
        "file.py:Class or package.module:Class"
    )


def checked(found: object, text: str) -> type[Model]:
    """What was found, if it is a class of a model.

    Raises:
        SettingsError: it is none.
    """
    if inspect.isclass(found) and issubclass(found, Model) and found is not Model:
        return found
    raise not_a_model(text, f"{found!r} is no subclass of omi_runtime.Model")


def _flavored(text: str) -> type[Model] | None:
    for flavor in entry_points(group=FLAVORS):
        found = flavor.load()(text)
        if found is not None:
            return checked(found, text)
    return None


def _sep(path: Path) -> str:
    return "" if str(path).endswith("/") else "/"
