"""Which `OMI_MODEL` names a `kserve.Model` subclass, told from the source without importing it.

An entry point of `omi_runtime.flavors`. It is asked at every start, whatever the model is, so it is
light: only a file that mentions kserve is parsed, and what wraps the class is imported then.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from omi_runtime.errors import SettingsError
from omi_runtime.model import Model
from omi_runtime.sources import find_module, is_importable, split_source

_BASE: Final = "Model"
_MODULES: Final = {"kserve", "kserve.model"}


def find(source: str) -> type[Model] | None:
    """The model that `source` names as this runtime's, or None if it is no `kserve.Model`.

    Args:
        source: `OMI_MODEL`: a directory with model.py, a file, file.py:Class or
            package.module:Class.

    Raises:
        SettingsError: the file has several.
    """
    file, class_name = _file(source)
    if file is None or b"kserve" not in (text := file.read_bytes()):
        return None
    try:
        names = _subclasses(ast.parse(text))
    except (SyntaxError, ValueError):
        return None  # whoever imports it says so better
    if class_name:
        names = [name for name in names if name == class_name]
    if not names:
        return None
    if len(names) > 1:
        raise SettingsError(
            f"OMI_MODEL={source!r}: {file} has several models ({', '.join(names)}): add :{names[0]}"
        )
    from omi_kserve.flavored import make_class  # noqa: PLC0415 - only for such a model

    return make_class(file.resolve(), names[0])


def _file(source: str) -> tuple[Path | None, str]:
    """The file of the model, if it is Python's, and the class named."""
    path, class_name = split_source(source)
    if not path.exists() and is_importable(source):
        module, _, class_name = source.partition(":")
        spec = find_module(module)
        path = Path(spec.origin or "") if spec is not None else path
    if path.is_dir():
        path /= "model.py"
    return (path if path.suffix == ".py" and path.is_file() else None), class_name


def _subclasses(module: ast.Module) -> list[str]:
    """The classes of a module that have `kserve.Model` as a base, directly or by one another."""
    bases, prefixes = set(), set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            prefixes |= {name.asname or name.name for name in node.names if name.name in _MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in _MODULES:
            bases |= {name.asname or name.name for name in node.names if name.name == _BASE}
    bases |= {f"{prefix}.{_BASE}" for prefix in prefixes}
    found = []
    for statement in module.body:
        if isinstance(statement, ast.ClassDef) and not bases.isdisjoint(
            ast.unparse(base) for base in statement.bases
        ):
            found.append(statement.name)
            bases.add(statement.name)
    return found
