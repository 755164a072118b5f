"""A model class in the style of Modzy's Python template: `run(input_path…, output_path…)`.

    class Model(ModelBase):
        input_filenames = ["input.txt"]
        output_filenames = ["results.json"]

        def run(self, input_path, output_path): ...

Each input and output is Bytes, called like its file, so that the model answers on every interface;
its files lie in a folder of its own for as long as `run` does. The names, the calls and the rules
for exceptions are those of modzy/python-model-template; this is the one place where a plain
ValueError of a model refuses its input.

Whether a source holds such a class is read from its text: nothing is imported before the load.
"""

from __future__ import annotations

import ast
import importlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from omi_runtime.errors import InferenceFailed, InvalidInput, InvalidRequest, LoadError
from omi_runtime.loading import import_file
from omi_runtime.model import Model, kebab_case
from omi_runtime.signature import Bytes, Field, Signature
from omi_runtime.sources import find_module, is_importable, split_source

TEMPLATE_PACKAGE: Final = "flask_psc_model"
"""What a class of the template imports `ModelBase` and `load_metadata` from."""

_MODULES: Final = ("model.py", "model_lib/model.py")
"""Where in a directory the class may be; the second is the template's own layout."""

_CLASS_ATTRIBUTES: Final = {"run", "input_filenames", "output_filenames"}


@dataclass(frozen=True)
class _Place:
    file: Path
    class_name: str


def find(source: str) -> type[Model] | None:
    """A Model around the class in this style that `OMI_MODEL` names, or None."""
    place = _find_place(source)
    if place is None:
        return None
    attributes = {
        "name": kebab_case(place.class_name),
        "directory": _directory_of(source, place.file),
        "place": place,
        "__doc__": None,
    }
    return type(place.class_name, (FileStyleModel,), attributes)


class FileStyleModel(Model):
    """Calls a class in the template's style; `find` makes a subclass of it for one such class."""

    place: ClassVar[_Place]

    def load(self) -> None:
        """Import the class and make an instance, which is when such a class loads."""
        # The template's own package needs Flask, and a Python older than 3.10.
        template = importlib.import_module("omi_runtime.flavors.modzy_template")
        sys.modules.setdefault(TEMPLATE_PACKAGE, template)
        module = _import(self.place.file)
        self._model: Any = getattr(module, self.place.class_name)()
        inputs = _listed(self._model.input_filenames)
        outputs = _listed(self._model.output_filenames)
        self._invalid = getattr(self._model, "validation_exception_class", ValueError)
        self._io = getattr(self._model, "io_exception_class", OSError)
        self.signature = Signature(
            self._fields(inputs), self._fields(outputs), outputs_are_files=True
        )

    def predict(self, **files: bytes) -> dict[str, bytes]:
        """Write the inputs, let the model run, read what it wrote."""
        with tempfile.TemporaryDirectory(prefix="omi-") as folder:
            sources = _paths(folder, "in", self.signature.inputs)
            targets = _paths(folder, "out", self.signature.outputs)
            for name, path in sources.items():
                path.write_bytes(files[name])
            self._run(folder, [*map(str, sources.values()), *map(str, targets.values())])
            return {name: _written(name, path) for name, path in targets.items()}

    def close(self) -> None:
        """Let go of the model; the template's style has no word for more."""
        del self._model

    def _run(self, folder: str, paths: list[str]) -> None:
        try:
            self._model.run(*paths)
        except self._invalid as error:
            raise InvalidInput(_readable(error, folder)) from error
        except self._io as error:
            filename = getattr(error, "filename", None)
            if filename and os.path.realpath(filename) not in map(os.path.realpath, paths):
                raise  # some other file, which is no fault of the caller's
            raise InvalidRequest(_readable(error, folder)) from error

    def _fields(self, names: Iterable[str]) -> tuple[Field, ...]:
        media_types = self._media_types()
        return tuple(Field(name, Bytes(*media_types.get(name, ())), name) for name in names)

    def _media_types(self) -> dict[str, tuple[str, ...]]:
        # Imported here, for it brings pydantic and yaml.
        from omi_runtime.metadata import read_manifest  # noqa: PLC0415

        manifest = read_manifest(self.directory)
        if manifest is None:
            return {}
        inputs = {name: file.media_types for name, file in manifest.inputs.items()}
        return inputs | {name: file.media_types for name, file in manifest.outputs.items()}


def _find_place(source: str) -> _Place | None:
    path, class_name = split_source(source)
    for file in _files_of(source, path):
        try:
            text = file.read_text(encoding="utf-8")
            if "output_filenames" not in text:  # parsing takes longer, and most models are ours
                continue
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError):  # told by whoever imports it
            continue
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        names = [node.name for node in classes if _is_in_this_style(node)]
        if class_name in names or (len(names) == 1 and not class_name):
            return _Place(file.resolve(), class_name or names[0])
    return None


def _files_of(source: str, path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in _MODULES if (path / name).is_file()]
    if path.is_file():
        return [path]
    if is_importable(source):
        spec = find_module(source.partition(":")[0])
        if spec is not None and spec.origin and spec.origin.endswith(".py"):
            return [Path(spec.origin)]
    return []


def _is_in_this_style(node: ast.ClassDef) -> bool:
    bound: set[str] = set()
    for member in node.body:
        if isinstance(member, ast.FunctionDef):
            bound.add(member.name)
        elif isinstance(member, ast.Assign):
            bound |= {target.id for target in member.targets if isinstance(target, ast.Name)}
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            bound.add(member.target.id)
    return bound >= _CLASS_ATTRIBUTES


def _directory_of(source: str, file: Path) -> Path:
    """The directory that is named; else where model.yaml is, beside the file or above it."""
    path, _ = split_source(source)
    if path.is_dir():
        return path.resolve()
    folders = (file.parent, file.parent.parent)
    return next((folder for folder in folders if (folder / "model.yaml").is_file()), file.parent)


def _import(file: Path) -> Any:
    """Import a file; one of a package as such, so that it may import what lies beside it."""
    name, folder = file.stem, file.parent
    while (folder / "__init__.py").is_file():
        name, folder = f"{folder.name}.{name}", folder.parent
    if folder == file.parent:
        return import_file(file)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def _listed(names: Any) -> list[str]:
    """The template takes a single name for a list of one."""
    listed = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in listed):
        raise LoadError(f"input_filenames and output_filenames hold texts, not {names!r}")
    return listed


def _paths(folder: str, kind: str, fields: Iterable[Field]) -> dict[str, Path]:
    inner = Path(folder, kind)
    inner.mkdir()
    return {field.name: inner / field.name for field in fields}


def _written(name: str, path: Path) -> bytes:
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            return path.read_bytes()
    except FileNotFoundError:
        pass
    raise InferenceFailed(f"expected output file was not written: {name!r}")


def _readable(error: BaseException, folder: str) -> str:
    """What the error says, without the folder that only this call had."""
    return str(error).replace(f"{folder}/in/", "").replace(f"{folder}/out/", "")
