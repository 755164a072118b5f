"""`OMI_MODEL` → the author's class, and that class loaded.

    a directory            its model.py, with exactly one Model subclass
    a file                 exactly one Model subclass
    file.py:Class          that class
    package.module:Class   that class

What is none of these may be claimed by a flavor: an entry point in `omi_runtime.flavors` whose
object takes the text of `OMI_MODEL` and returns a Model subclass, or None if it is not its kind. It
imports nothing of the author's: that is for the subclass's `load`. The model's files lie where the
subclass's `directory` says, else where the text does: `model_directory` is the one place that
decides, for the lock, for what verifies it and for the model itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from omi_runtime import provenance
from omi_runtime.card import ModelCard, make_card
from omi_runtime.errors import LoadError, SettingsError
from omi_runtime.hints import read_signature
from omi_runtime.model import Model
from omi_runtime.settings import Settings
from omi_runtime.signature import Signature
from omi_runtime.validation import check_class, check_streaming

logger = logging.getLogger(__name__)

Loader = Callable[[str, str, Callable[[ModelCard], None]], tuple[Model, Signature]]
"""What `load_model` is: `OMI_MODEL`, `MODEL_NAME` and who gets the card → a model to serve."""

FLAVORS: Final = "omi_runtime.flavors"


@dataclass(frozen=True)
class FoundModel:
    """The author's class and where its files lie."""

    model_class: type[Model]
    directory: Path


def check_source(source: str) -> None:
    """Refuse at once what cannot name a model, before anything of it is imported.

    Raises:
        SettingsError: no such file or directory, or one without a model.py.
    """
    path, _ = split_source(source)
    if _flavored(source) or path.is_file():
        return
    if path.is_dir():
        if not (path / "model.py").is_file():
            raise _not_a_model(source, f"{path}{_sep(path)} has no model.py")
    elif not is_importable(source):
        raise _not_a_model(source, "there is no such file or directory")


def find_model(source: str) -> FoundModel:
    """Import the module that `source` names and find its Model subclass.

    Raises:
        SettingsError: it holds no Model, several, or not the one named.
        LoadError: the module raised while it was imported.
    """
    check_source(source)
    directory = model_directory(source)
    flavored = _flavored(source)
    if flavored is not None:
        return FoundModel(flavored, directory)
    path, class_name = split_source(source)
    if path.exists():
        module = import_file(_file_of(path))
    else:
        module_name, _, class_name = source.partition(":")
        module = _import_module(module_name)
    return FoundModel(_find_class(module, class_name, source), directory)


def model_directory(source: str) -> Path:
    """Where the files of a model lie, without importing anything of it.

    Raises:
        SettingsError: `source` names no model.
    """
    flavored = _flavored(source)
    own = None if flavored is None else flavored.__dict__.get("directory")
    if own is not None:
        return Path(own)
    path, _ = split_source(source)
    if flavored is not None:
        return path.parent if path.is_file() else Path(source)
    if path.exists():
        return _file_of(path).parent
    spec = find_module(source.partition(":")[0])
    if spec is None or spec.origin is None:
        raise _not_a_model(source, "there is no such file or directory")
    return Path(spec.origin).resolve().parent


def read_card(source: str, served_name: str = "") -> tuple[FoundModel, ModelCard]:
    """Import a model and read its card, without loading it.

    Raises:
        SettingsError: `source` names no model.
        LoadError: it cannot be imported, or its class and model.yaml disagree.
    """
    found = find_model(source)
    check_class(found.model_class)
    return found, _card(found, read_signature(found.model_class), served_name)


def verify(source: str) -> None:
    """Compare a model's files with its lock, before anything of it is imported.

    Raises:
        LoadError: they differ, or the lock cannot be read.
    """
    check_source(source)
    directory = model_directory(source)
    lock = provenance.read_lock(directory)
    if lock is None:
        logger.warning(
            "OMI_VERIFY is on, and there is no %s in %s: nothing is verified",
            provenance.LOCK_FILE,
            directory,
        )
        return
    sys.dont_write_bytecode = True  # the next start would find a file too many
    provenance.verify(directory, lock)


def loader_for(settings: Settings) -> Loader:
    """What loads a model: `load_model`, and with `OMI_VERIFY` verifies its files before that."""
    return _load_verified if settings.verify else load_model


def _load_verified(
    source: str, served_name: str, publish: Callable[[ModelCard], None]
) -> tuple[Model, Signature]:
    verify(source)
    return load_model(source, served_name, publish)


def load_model(
    source: str, served_name: str, publish: Callable[[ModelCard], None]
) -> tuple[Model, Signature]:
    """Import, read what the class and model.yaml say, load; all on the model's thread.

    Args:
        source: `OMI_MODEL`.
        served_name: `MODEL_NAME`, or empty.
        publish: gets the card as soon as it is known, also of a model that then fails to load.

    Raises:
        SettingsError: `source` names no model.
        LoadError: anything else; an author's own exception is its cause.
    """
    found = find_model(source)
    model_class = found.model_class
    check_class(model_class)
    signature = read_signature(model_class)
    if signature is not None:
        check_streaming(model_class, signature)
    publish(_card(found, signature, served_name))
    try:
        model = model_class()
        model.directory = found.directory
        model.load()
    except BaseException as error:
        raise LoadError(f"model {model_class.name} did not load: {_name(error)}") from error
    if signature is None:
        signature = getattr(model, "signature", None)
        if not isinstance(signature, Signature):
            raise LoadError(
                f"{model_class.__name__}.predict takes **columns, so load() has to set "
                "self.signature to a Signature"
            )
        check_streaming(model_class, signature)
        publish(_card(found, signature, served_name))
    return model, signature


def _card(found: FoundModel, signature: Signature | None, served_name: str) -> ModelCard:
    manifest = None
    if (found.directory / "model.yaml").is_file():
        # Imported here, for it brings pydantic and yaml.
        from omi_runtime.metadata import read_manifest  # noqa: PLC0415

        manifest = read_manifest(found.directory)
    digest = provenance.locked_digest(provenance.read_lock(found.directory))
    return make_card(found.model_class, signature, manifest, served_name=served_name, digest=digest)


def _file_of(path: Path) -> Path:
    """The file that defines a model of our own, named by itself or by its directory."""
    return (path / "model.py" if path.is_dir() else path).resolve()


def split_source(source: str) -> tuple[Path, str]:
    """The path and, after a colon, the class; a path that exists may hold colons itself."""
    path = Path(source)
    if path.exists() or ":" not in source:
        return path, ""
    head, _, class_name = source.rpartition(":")
    return Path(head), class_name


def _sep(path: Path) -> str:
    return "" if str(path).endswith("/") else "/"


def is_importable(source: str) -> bool:
    """Whether it is `package.module:Class` of a module that is there."""
    module_name, colon, _ = source.partition(":")
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


def _not_a_model(source: str, why: str) -> SettingsError:
    return SettingsError(
        f"OMI_MODEL={source!r} names no model: {why}; expected a directory with model.py, a file, "
        "file.py:Class or package.module:Class"
    )


def _flavored(source: str) -> type[Model] | None:
    for flavor in entry_points(group=FLAVORS):
        found = flavor.load()(source)
        if found is not None:
            return _checked(found, source)
    return None


def import_file(file: Path) -> ModuleType:
    """Import a file under its own name, its directory first on sys.path, in sys.modules."""
    directory = str(file.parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(file):
        name = f"omi_model_{name}"  # something else already has that name
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"OMI_MODEL names {file}, which is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise LoadError(f"{file} could not be imported: {_name(error)}") from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:
        raise LoadError(f"module {name} could not be imported: {_name(error)}") from error


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _find_class(module: ModuleType, class_name: str, source: str) -> type[Model]:
    if class_name:
        found = getattr(module, class_name, None)
        if found is None:
            raise _not_a_model(source, f"{module.__name__} has no {class_name}")
        return _checked(found, source)
    candidates = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Model)
        and value.__module__ == module.__name__
        and callable(getattr(value, "predict", None))
    ]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise _not_a_model(
            source, f"{module.__file__} has no subclass of omi_runtime.Model with a predict"
        )
    names = ", ".join(candidate.__name__ for candidate in candidates)
    raise _not_a_model(
        source, f"{module.__file__} has several models ({names}): add :{candidates[0].__name__}"
    )


def _checked(found: object, source: str) -> type[Model]:
    if inspect.isclass(found) and issubclass(found, Model) and found is not Model:
        return found
    raise _not_a_model(source, f"{found!r} is no subclass of omi_runtime.Model")
