"""JSON text ↔ values, strictly: what JSON cannot hold is refused, never changed in silence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

from omi_runtime import datatypes
from omi_runtime.errors import InferenceFailed, InvalidInput
from omi_runtime.nan import NanPolicy as NanPolicy  # noqa: PLC0414 - it belongs here: see there


class NotFinite(ValueError):
    """A value holds NaN or infinity, for which JSON has no word."""


def load_json(data: bytes | memoryview) -> Any:
    """Parse JSON; NaN and Infinity are no JSON and refused."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"is not JSON: {error}") from None


def dump_json(value: Any, nan: NanPolicy) -> bytes:
    """Encode an answer as `encode` does.

    Raises:
        InferenceFailed: JSON cannot hold the value, or NaN is refused; the caller adds the name.
    """
    try:
        return encode(value, nan)
    except TypeError as error:
        raise InferenceFailed(f"cannot be written as JSON: {error}") from None
    except NotFinite as error:
        raise InferenceFailed(
            f"{error}: OMI_NAN=null or OMI_NAN=string would let it through"
        ) from None


def encode(value: Any, nan: NanPolicy = NanPolicy.ERROR) -> bytes:
    """Encode plain values, numpy arrays and scalars, dataclasses, dates, UUIDs, Fragments.

    Raises:
        TypeError: JSON cannot hold the value.
        NotFinite: it holds NaN or infinity, and that is refused.
    """
    text = orjson.dumps(value, default=_jsonable, option=_OPTIONS)
    # orjson writes NaN and infinity as null without a word, so only a null needs a second look.
    if b"null" in text and nan is not NanPolicy.NULL:
        replaced = _replace_non_finite(value, nan)
        if replaced is not value:
            return orjson.dumps(replaced, default=_jsonable, option=_OPTIONS)
    return text


def dump_outputs(answer: Any, outputs: Mapping[str, Any], model: str, nan: NanPolicy) -> bytes:
    """`dump_json` of an answer that holds a model's outputs, and names the one at fault.

    Args:
        answer: what is encoded.
        outputs: what it holds, by name.
        model: its name, for the error.
        nan: see `OMI_NAN`.

    Raises:
        InferenceFailed: JSON cannot hold the answer.
    """
    try:
        return dump_json(answer, nan)
    except InferenceFailed:
        for name, value in outputs.items():
            _check_output(name, value, model, nan)
        raise


def _check_output(name: str, value: Any, model: str, nan: NanPolicy) -> None:
    try:
        dump_json(value, nan)
    except InferenceFailed as error:
        raise InferenceFailed(f"{model}: output {name!r} {error.message}") from None


def fragment(value: Any, nan: NanPolicy) -> orjson.Fragment:
    """`dump_json`, to be put into a larger document as it is."""
    return orjson.Fragment(dump_json(value, nan))


def _jsonable(value: Any) -> Any:
    """What orjson asks for a type that it does not know."""
    if isinstance(value, np.ndarray):  # not C-contiguous, or of Python objects
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "model_dump"):  # a pydantic model inside an untyped value
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    raise TypeError(f"{type(value).__name__} is not JSON")


_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_CLOSED: Final = (str, int, type(None), orjson.Fragment)


def _replace_non_finite(value: Any, nan: NanPolicy) -> Any:
    """The value with NaN and infinity replaced by strings, or refused; itself if it has none."""
    if isinstance(value, float | np.floating):
        return _replace_number(float(value), nan) if not math.isfinite(value) else value
    if isinstance(value, dict):
        changed = {key: _replace_non_finite(member, nan) for key, member in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    if isinstance(value, list) or type(value) is tuple:
        members = [_replace_non_finite(member, nan) for member in value]
        same = all(new is old for new, old in zip(members, value, strict=True))
        return value if same else members
    plain = _opened(value)
    if plain is value:
        return value
    replaced = _replace_non_finite(plain, nan)
    return value if replaced is plain else replaced


def _opened(value: Any) -> Any:
    """What an array or object is written as; itself if it cannot hold a NaN."""
    if isinstance(value, np.ndarray):
        closed = value.dtype.kind not in "fO"
        closed = closed or (value.dtype.kind == "f" and datatypes.all_finite(value))
        return value if closed else value.tolist()
    if isinstance(value, _CLOSED):
        return value
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    try:
        return _jsonable(value)
    except TypeError:  # what orjson writes by itself, such as a date
        return value


def _replace_number(number: float, nan: NanPolicy) -> str:
    if nan is NanPolicy.ERROR:
        raise NotFinite(f"holds {_spell(number)}, which JSON cannot hold")
    return _spell(number)


def _spell(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
