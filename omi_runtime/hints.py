"""A model's type hints → its Signature.

`typing.get_type_hints` with extras; Optional and Annotated are unwrapped in either order. A hint
that means nothing on the wire is an error that names the parameter and says what to write.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, cast

from omi_runtime.errors import LoadError
from omi_runtime.signature import Bytes, Field, Json, Marker, Signature, Tensor, Text


def read_signature(model_class: type) -> Signature | None:
    """The signature that a model's type hints declare.

    None for a model whose `predict` takes only `**columns`: it sets `self.signature` in `load()`.

    Raises:
        LoadError: a hint is missing or means nothing; names the parameter and what to write.
    """
    label = model_class.__name__
    predict = getattr(model_class, "predict", None)
    if not callable(predict):
        raise LoadError(f"{label} has no method predict")
    first = "preprocess" if hasattr(model_class, "preprocess") else "predict"
    last = "postprocess" if hasattr(model_class, "postprocess") else "predict"
    if _takes_any_keywords(predict) and first == "predict":
        return None
    # A batched predict is hinted with columns; preprocess and postprocess are about one item.
    batched = getattr(model_class, "max_batch_size", 1) > 1
    inputs = _read_inputs(
        getattr(model_class, first), f"{label}.{first}", columns=batched and first == "predict"
    )
    outputs, bare, streaming = _read_outputs(
        getattr(model_class, last), f"{label}.{last}", columns=batched and last == "predict"
    )
    return Signature(inputs, outputs, bare, streaming)


def _takes_any_keywords(function: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return bool(parameters) and all(p.kind is p.VAR_KEYWORD for p in parameters)


def _hints(function: Callable[..., Any], label: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise LoadError(f"the type hints of {label} cannot be read: {error}") from error


def _read_inputs(function: Callable[..., Any], label: str, *, columns: bool) -> tuple[Field, ...]:
    hints = _hints(function, label)
    fields = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        where = f"parameter {parameter.name!r} of {label}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise LoadError(f"{where} cannot be {parameter.kind.description}: name each input")
        marker, python_type = _read_hint(hints.get(parameter.name), where, columns=columns)
        field = Field(
            name=marker.name or parameter.name,
            marker=marker,
            parameter=parameter.name,
            required=parameter.default is parameter.empty,
            python_type=python_type,
        )
        fields.append(_checked(field, where, lambda field: field.validate))
    if not fields:
        raise LoadError(f"{label} takes no inputs: give it at least one parameter with a type hint")
    return tuple(fields)


def _read_outputs(
    function: Callable[..., Any], label: str, *, columns: bool
) -> tuple[tuple[Field, ...], bool, bool]:
    hint = _hints(function, label).get("return")
    where = f"the answer of {label}"
    streaming = False
    if typing.get_origin(hint) in _ITERATORS:
        streaming = True
        hint = next(iter(typing.get_args(hint)), None)
    members = _members(hint, label)
    if members is None:
        marker, python_type = _read_hint(hint, where, columns=columns)
        field = Field(marker.name or "output", marker, "output", python_type=python_type)
        return (_checked(field, where, lambda field: field.to_jsonable),), True, streaming
    fields = []
    for name, member_hint in members.items():
        part = f"{where}, field {name!r},"
        marker, python_type = _read_hint(member_hint, part, columns=columns)
        field = Field(marker.name or name, marker, name, python_type=python_type)
        fields.append(_checked(field, part, lambda field: field.to_jsonable))
    return tuple(fields), False, streaming


def _checked(field: Field, where: str, converter: Callable[[Field], object]) -> Field:
    """The field itself, if pydantic can make what converts its values: now, not when asked."""
    try:
        converter(field)
    except Exception as error:  # noqa: BLE001 - pydantic has many, of no common kind
        reason = str(error).partition("\n")[0]
        raise LoadError(
            f"{where} is JSON of a type that pydantic cannot read: write a pydantic model, or "
            f"Annotated[Any, Json()] for any JSON value ({reason})"
        ) from None
    return field


_ITERATORS: Final = {
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
}


def _members(hint: Any, label: str) -> dict[str, Any] | None:
    """The fields of a TypedDict, dataclass or NamedTuple that names several outputs."""
    if not isinstance(hint, type) or _is_pydantic_model(hint):
        return None
    several = (
        typing.is_typeddict(hint)
        or dataclasses.is_dataclass(hint)
        or (issubclass(hint, tuple) and hasattr(hint, "_fields"))
    )
    return _hints(hint, label) if several else None


def _is_pydantic_model(python_type: Any) -> bool:
    # Without importing pydantic: a class can only be a model of it if the author imported it.
    return isinstance(python_type, type) and hasattr(python_type, "__pydantic_core_schema__")


_BARE_HINTS: Final[dict[Any, Callable[[], Marker]]] = {
    str: Text,
    bytes: Bytes,
    bool: lambda: Tensor("BOOL"),
    int: lambda: Tensor("INT64"),
    float: lambda: Tensor("FP64"),
    dict: Json,
    list: Json,
}


def _read_hint(hint: Any, where: str, *, columns: bool) -> tuple[Marker, Any]:
    """The marker and the Python type of one item, from one hint.

    With `columns` the type beside a marker is that of n items: `Annotated[list[X], Json()]` is X.
    """
    hint, markers, constraints = _unwrap(hint)
    if len(markers) > 1:
        raise LoadError(f"{where} has {len(markers)} markers: keep one of {markers}")
    if markers and columns and list in (hint, typing.get_origin(hint)):
        return markers[0], next(iter(typing.get_args(hint)), Any)
    marker = markers[0] if markers else _bare_marker(hint)
    if marker is None:
        found = (
            "has no type hint" if hint is None else f"has the type hint {_spell(hint)}, which says"
        )
        says = "" if hint is None else " not what it is on the wire"
        raise LoadError(
            f'{where} {found}{says}: write for example Annotated[np.ndarray, Tensor("FP32", [4])], '
            'Annotated[bytes, Bytes("image/png")], str, Annotated[T, Json()] or a pydantic model'
        )
    if constraints and isinstance(marker, Json):
        return marker, Annotated[(hint, *constraints)]
    return marker, hint


def _unwrap(hint: Any) -> tuple[Any, list[Marker], list[Any]]:
    """A hint without Optional and Annotated; our markers; and pydantic's, such as Field(ge=0)."""
    extras: list[Any] = []
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            extras += hint.__metadata__
            hint = hint.__origin__
        elif origin in (typing.Union, types.UnionType):
            rest = [option for option in typing.get_args(hint) if option is not type(None)]
            if len(rest) != 1:
                break
            hint = rest[0]
        else:
            break
    markers = [extra for extra in extras if isinstance(extra, Marker)]
    return hint, markers, [extra for extra in extras if not isinstance(extra, Marker | str)]


def _bare_marker(hint: Any) -> Marker | None:
    """What a hint without a marker means, if anything."""
    if _is_pydantic_model(hint):
        return Json()
    if not isinstance(hint, collections.abc.Hashable):
        return None
    make = _BARE_HINTS.get(cast("Any", typing.get_origin(hint) or hint))
    return make() if make is not None else None


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
