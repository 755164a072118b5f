"""From what `OMI_MODEL` names to a loaded model and its card. `sources` says what may be named."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from omi_runtime import provenance
from omi_runtime.card import ModelCard, make_card
from omi_runtime.errors import LoadError, SettingsError
from omi_runtime.hints import read_signature
from omi_runtime.model import Model
from omi_runtime.settings import Settings
from omi_runtime.signature import Signature
from omi_runtime.sources import Source, checked, find_source, not_a_model
from omi_runtime.validation import check_class, check_streaming

logger = logging.getLogger(__name__)

Loader = Callable[[str, str, Callable[[ModelCard], None]], tuple[Model, Signature]]
"""What `load_model` is: `OMI_MODEL`, `MODEL_NAME` and who gets the card → a model to serve."""


@dataclass(frozen=True)
class FoundModel:
    """The author's class and where its files lie."""

    model_class: type[Model]
    directory: Path


def find_model(source: Source) -> FoundModel:
    """Import the module that defines a model, and find its Model subclass.

    Raises:
        SettingsError: it holds no Model, several, or not the one named.
        LoadError: the module raised while it was imported.
    """
    if source.flavored is not None:
        return FoundModel(source.flavored, source.directory)
    module = import_file(source.file) if source.file else _import_module(source.module)
    return FoundModel(_find_class(module, source), source.directory)


def read_card(source: str, served_name: str = "") -> tuple[FoundModel, ModelCard]:
    """Import a model and read its card, without loading it.

    Raises:
        SettingsError: `source` names no model.
        LoadError: it cannot be imported, or its class and model.yaml disagree.
    """
    found = find_model(find_source(source))
    check_class(found.model_class)
    return found, _card(found, read_signature(found.model_class), served_name)


def verify(source: Source) -> None:
    """Compare a model's files with its lock, before anything of it is imported.

    Raises:
        LoadError: they differ, or the lock cannot be read.
    """
    lock = provenance.read_lock(source.directory)
    if lock is None:
        logger.warning(
            "OMI_VERIFY is on, and there is no %s in %s: nothing is verified",
            provenance.LOCK_FILE,
            source.directory,
        )
        return
    sys.dont_write_bytecode = True  # the next start would find a file too many
    provenance.verify(source.directory, lock)


def loader_for(settings: Settings) -> Loader:
    """What loads a model: `load_model`, and with `OMI_VERIFY` verifies its files before that."""
    return _load_verified if settings.verify else load_model


def _load_verified(
    source: str, served_name: str, publish: Callable[[ModelCard], None]
) -> tuple[Model, Signature]:
    found = find_source(source)
    verify(found)
    return _load(found, served_name, publish)


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
    return _load(find_source(source), served_name, publish)


def _load(
    source: Source, served_name: str, publish: Callable[[ModelCard], None]
) -> tuple[Model, Signature]:
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


def _find_class(module: ModuleType, source: Source) -> type[Model]:
    if source.class_name:
        found = getattr(module, source.class_name, None)
        if found is None:
            raise not_a_model(source.text, f"{module.__name__} has no {source.class_name}")
        return checked(found, source.text)
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
        raise not_a_model(
            source.text, f"{module.__file__} has no subclass of omi_runtime.Model with a predict"
        )
    names = ", ".join(candidate.__name__ for candidate in candidates)
    raise not_a_model(
        source.text,
        f"{module.__file__} has several models ({names}): add :{candidates[0].__name__}",
    )
