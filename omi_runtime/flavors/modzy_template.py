"""What a class in the style of Modzy's Python template imports, under the template's own names.

It stands in for the template's package `flask_psc_model`, which brings Flask and does not run on
the Pythons that this runtime does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class ModelBase:
    """What such a class subclasses; it declares `input_filenames`, `output_filenames`, `run`.

    Attributes:
        validation_exception_class: what `run` raises to refuse its input.
        io_exception_class: what `run` raises when it cannot read or write a file.
    """

    validation_exception_class: type[BaseException] = ValueError
    io_exception_class: type[BaseException] = OSError


class Metadata(dict[str, Any]):
    """A mapping whose members can be had as attributes too: `metadata.inputs`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the metadata has no {name}") from None


def load_metadata(path_hint: str, filename: str = "model.yaml") -> Metadata:
    """The metadata file in a folder or in the nearest one above it.

    Args:
        path_hint: the folder, or a file in it; a module gives its `__file__`.
        filename: of the metadata file.

    Raises:
        OSError: there is none.
    """
    start = Path(path_hint).absolute()
    for folder in (start, *start.parents):
        file = folder / filename
        if file.is_file():
            content: Metadata = _wrapped(yaml.safe_load(file.read_text(encoding="utf-8")))
            return content
    raise FileNotFoundError(f"there is no {filename} in {start.parent} or above it")


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Metadata({key: _wrapped(member) for key, member in value.items()})
    if isinstance(value, list):
        return [_wrapped(member) for member in value]
    return value
