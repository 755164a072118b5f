"""Named files ↔ items: what the OMI and Modzy wires share.

An item arrives as files by name. A name means an input if it is the input's exact name, or that
and the extension of a media type that the input is read from; other names are ignored. An answer
leaves as `results.json`, with everything that is not Bytes, and a file for each Bytes output:

    {"data": {"result": …, "explanation": …, "drift": …}}

`result` is the bare value if the model has one output in all, else an object; null if there are
only Bytes. The form is Modzy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import orjson

from omi_runtime import codecs, jsontext
from omi_runtime.batch import Result, Row
from omi_runtime.card import RESULTS_FILE
from omi_runtime.errors import InvalidInput, OMIError, UnsupportedMediaType
from omi_runtime.signature import Bytes, Field, Signature

ERROR_FILE: Final = "error"
"""The key under which an item's failure is told on the OMI wire."""

Item = Mapping[str, bytes | memoryview]
"""An item's files by name; a large one may be a view of a file mapped into memory."""


@dataclass(frozen=True, slots=True)
class _Key:
    field: Field
    decode: Callable[[codecs.Buffer], Any]


_SHOWN: Final = 60
"""Characters of an unknown name that an error repeats."""


class ItemCodec:
    """Reads and writes the items of one signature.

    Args:
        signature: of the model.
        model: its name, for errors.
        nan: what becomes of NaN in results.json.
    """

    def __init__(self, signature: Signature, model: str, nan: jsontext.NanPolicy) -> None:
        self._model = model
        self.signature = signature
        self._nan = nan
        self._keys: dict[str, _Key] = {}
        for field in signature.inputs:
            for extension, media_type in codecs.media_types(field).items():
                key = _Key(field, codecs.decoder(field, media_type))
                self._keys.setdefault(field.name + extension, key)
        for field in signature.inputs:  # an exact name wins over another's name with an extension
            self._keys[field.name] = _Key(field, codecs.decoder(field, None))
        self._files = [f for f in signature.outputs if isinstance(f.marker, Bytes)]
        self._results = [f for f in signature.outputs if not isinstance(f.marker, Bytes)]
        self._only = self._results[0] if len(signature.outputs) == 1 and self._results else None

    @property
    def output_files(self) -> list[str]:
        """The names of the files that an answer has."""
        files = [field.name for field in self._files]
        return files if self.signature.outputs_are_files else [RESULTS_FILE, *files]

    def file_names(self, field: Field) -> list[str]:
        """The names under which an input may come, the exact one first."""
        names = [name for name, key in self._keys.items() if key.field is field]
        return sorted(names, key=lambda name: name != field.name)

    def usual_names(self, field: Field) -> list[str]:
        """Those of `file_names` that an error tells: an exact one with an extension is enough."""
        if PurePath(field.name).suffix:
            return [field.name]
        usual = {field.name + extension for extension in codecs.usual_extensions(field)}
        return [name for name in self.file_names(field) if name == field.name or name in usual]

    def decode(self, item: Item) -> Row | OMIError:
        """One item's values by input name, or the error that it is answered with."""
        row: dict[str, Any] = {}
        try:
            for name in item:  # not by items(), which protobuf's maps have in Python
                key = self._keys.get(name)
                if key is None:
                    continue
                field = key.field.name
                if field in row:
                    raise InvalidInput(f"{field}: given twice, once as {name!r}")
                row[field] = key.decode(item[name])
            for name in self.signature.required_names:
                if name not in row:
                    raise self._missing(name, item)
        except OMIError as error:
            return error
        return row

    def encode(self, result: Result) -> list[dict[str, bytes] | OMIError]:
        """Every item's files, or the error that it ended with."""
        return [
            result.errors[row] if row in result.errors else self._encode_row(result, row)
            for row in range(result.n)
        ]

    def _encode_row(self, result: Result, row: int) -> dict[str, bytes] | OMIError:
        try:
            files = {}
            if not self.signature.outputs_are_files:
                files[RESULTS_FILE] = self._results_json(result, row)
            for field in self._files:
                files[field.name] = self._file(result, field, row)
            return files
        except OMIError as error:  # only this item's, as when its bytes are no text
            return error

    def _results_json(self, result: Result, row: int) -> bytes:
        if self._only is not None:
            answer: Any = result.columns[self._only.name][row]
            if self._only.as_declared is None:  # else they are numbers, and the encoder's own
                answer = codecs.jsonable_item(self._only, answer)
            outputs = {self._only.name: answer}
        else:
            outputs = {
                field.name: codecs.jsonable_item(field, result.columns[field.name][row])
                for field in self._results
            }
            answer = outputs or None
        text = jsontext.dump_outputs(answer, outputs, self._model, self._nan)
        # Each part is encoded on its own: in one document with an absent explanation's null, every
        # result would have to be searched for the NaN that such a null might stand for.
        if result.explanation is None and result.drift is None:
            return b'{"data":{"result":%b,"explanation":null,"drift":null}}' % text
        explanation = extra(result.explanation, row)
        drift = extra(result.drift, row)
        return b'{"data":{"result":%b,"explanation":%b,"drift":%b}}' % (text, explanation, drift)

    def _file(self, result: Result, field: Field, row: int) -> bytes:
        value = result.columns[field.name][row]
        # A model that yields has several values, and a file is all of them in order.
        return b"".join(value) if isinstance(value, list) else bytes(value)

    def _missing(self, name: str, names: Iterable[str]) -> OMIError:
        field = self.signature.input_by_name[name]
        usual = self.usual_names(field)
        accepted = f"send {'one of ' if len(usual) > 1 else ''}{', '.join(usual)}"
        for candidate in names:
            if candidate.startswith(name + "."):
                return UnsupportedMediaType(f"{name}: {candidate!r} is not read here; {accepted}")
        unknown = [repr(candidate[:_SHOWN]) for candidate in names if candidate not in self._keys]
        instead = f"; there is no input {', '.join(unknown[:3])}" if unknown else ""
        return InvalidInput(f"input {name!r} is missing: {accepted}{instead}")


def extra(values: list[Any] | None, row: int) -> bytes:
    """An item's explanation or drift as JSON, for a wire without an error for it: null if none."""
    if values is None or isinstance(values[row], OMIError):
        return b"null"
    return orjson.dumps(values[row])
