"""What goes into a model and what comes out: markers that authors write, and the signature.

An author annotates `predict`; `read_signature` turns the hints into a `Signature`, which is all
that the adapters ever know of a model.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, cast

from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InvalidInput, LoadError

_RESERVED_NAMES: Final = {"error", "results.json"}  # keys of every OMI and Modzy answer


class Marker:
    """What one input or output is; stands inside `Annotated[...]`.

    Args:
        name: the name on the wire; by default the parameter's, or `output`.
        description: one sentence for a person.
        max_size: the largest size as the card shows it, such as "10M".
    """

    def __init__(
        self, *, name: str | None = None, description: str = "", max_size: str | None = None
    ) -> None:
        self.name = name
        self.description = description
        self.max_size = max_size

    media_types: tuple[str, ...] = ()


class Tensor(Marker):
    """An array: `Tensor("FP32", [4])`.

    Args:
        datatype: a datatype of the Open Inference Protocol V2, such as "FP32" or "BYTES".
        shape: of one item, without the batch dimension; -1 is a variable dimension.
    """

    def __init__(
        self,
        datatype: str,
        shape: Sequence[int] = (),
        *,
        name: str | None = None,
        description: str = "",
        max_size: str | None = None,
    ) -> None:
        super().__init__(name=name, description=description, max_size=max_size)
        if datatype not in DTYPES:
            raise ValueError(f"datatype {datatype!r} is none of {', '.join(DTYPES)}")
        if any(size < -1 for size in shape):
            raise ValueError(f"shape {list(shape)} has a dimension below -1")
        self.datatype = datatype
        self.shape = tuple(shape)

    media_types = ("application/json", "application/x-npy", "text/csv", "application/octet-stream")

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether an item of `shape` fits; -1 in the declared shape fits any size."""
        return shape == self.shape or (
            len(shape) == len(self.shape)
            and all(want in (-1, have) for want, have in zip(self.shape, shape, strict=True))
        )

    def __repr__(self) -> str:
        return f"Tensor({self.datatype!r}, {list(self.shape)})"


class Bytes(Marker):
    """Bytes as they are, such as an image: `Bytes("image/jpeg", "image/png")`.

    Args:
        media_types: the accepted ones; of an output, the first is what it is.
    """

    def __init__(
        self,
        *media_types: str,
        name: str | None = None,
        description: str = "",
        max_size: str | None = None,
    ) -> None:
        super().__init__(name=name, description=description, max_size=max_size)
        self.media_types = media_types or ("application/octet-stream",)

    def __repr__(self) -> str:
        return f"Bytes({', '.join(map(repr, self.media_types))})"


class Text(Marker):
    """Unicode text; UTF-8 on every wire."""

    media_types = ("text/plain",)

    def __repr__(self) -> str:
        return "Text()"


class Json(Marker):
    """A JSON value; where the Python type says more than dict or list, pydantic validates it."""

    media_types = ("application/json",)

    def __repr__(self) -> str:
        return "Json()"


@dataclasses.dataclass(frozen=True)
class Field:
    """One input or output.

    Attributes:
        name: on the wire.
        marker: what it is.
        parameter: the keyword of `predict`, or the key in its answer.
        required: False for an input whose parameter has a default.
        python_type: the author's type, which validates Json.
    """

    name: str
    marker: Marker
    parameter: str
    required: bool = True
    python_type: Any = Any

    @cached_property
    def validate(self) -> Callable[[Any], Any] | None:
        """Validates one parsed JSON value, or None where any value will do.

        pydantic is imported only when a type says more than dict or list, for it would double the
        memory of a model that has no such type.
        """
        plain = typing.get_origin(self.python_type) or self.python_type
        if not isinstance(self.marker, Json) or plain is Any:
            return None
        if self.python_type in (dict, list):
            return self._validate_plain
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

        adapter: TypeAdapter[Any] = TypeAdapter(self.python_type)

        def validate(value: Any) -> Any:
            try:
                return adapter.validate_python(value)
            except ValidationError as error:
                details = "; ".join(
                    ".".join(map(str, (self.name, *problem["loc"]))) + f": {problem['msg']}"
                    for problem in error.errors(include_url=False)
                )
                raise InvalidInput(details) from None

        return validate

    @cached_property
    def to_jsonable(self) -> Callable[[Any], Any] | None:
        """Turns the author's object into plain JSON values, or None where it is plain already."""
        if not isinstance(self.marker, Json) or self.python_type in (Any, dict, list):
            return None
        from pydantic import TypeAdapter  # noqa: PLC0415

        adapter: TypeAdapter[Any] = TypeAdapter(self.python_type)
        return lambda value: adapter.dump_python(value, mode="json", warnings="error")

    def _validate_plain(self, value: Any) -> Any:
        if isinstance(value, self.python_type):
            return value
        expected = "an object" if self.python_type is dict else "a list"
        raise InvalidInput(f"{self.name}: expected {expected}")


@dataclasses.dataclass(frozen=True)
class Signature:
    """All the inputs and outputs of a model, in order.

    Attributes:
        bare: the model answers with its single output's value itself, not with a mapping.
        streaming: the model yields its answers.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    bare: bool = False
    streaming: bool = False

    @classmethod
    def of(cls, inputs: Mapping[str, Marker], outputs: Mapping[str, Marker]) -> Signature:
        """A signature known only at run time, for a model that sets it in `load()`."""
        return cls(
            tuple(Field(name, marker, name) for name, marker in inputs.items()),
            tuple(Field(name, marker, name) for name, marker in outputs.items()),
        )

    def __post_init__(self) -> None:
        for kind, fields in (("input", self.inputs), ("output", self.outputs)):
            names = [field.name for field in fields]
            for name in names:
                if name in _RESERVED_NAMES or not name or name.startswith(".") or "/" in name:
                    raise LoadError(f"{kind} name {name!r} cannot be used: choose another")
                if names.count(name) > 1:
                    raise LoadError(f"two {kind}s are called {name!r}: give one another name=")
        if not self.outputs:
            raise LoadError("the signature has no output")

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The names of all inputs, in order."""
        return tuple(field.name for field in self.inputs)

    @cached_property
    def input_by_name(self) -> dict[str, Field]:
        """Inputs by their name on the wire."""
        return {field.name: field for field in self.inputs}

    @cached_property
    def required_names(self) -> frozenset[str]:
        """The names of the inputs that every request must carry."""
        return frozenset(field.name for field in self.inputs if field.required)


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
    first = getattr(model_class, "preprocess", predict)
    last = getattr(model_class, "postprocess", predict)
    if _takes_any_keywords(predict) and first is predict:
        return None
    inputs = _read_inputs(first, f"{label}.{first.__name__}")
    outputs, bare, streaming = _read_outputs(last, f"{label}.{last.__name__}")
    return Signature(inputs, outputs, bare, streaming)


def _takes_any_keywords(function: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return bool(parameters) and all(p.kind is p.VAR_KEYWORD for p in parameters)


def _hints(function: Callable[..., Any], label: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise LoadError(f"the type hints of {label} cannot be read: {error}") from error


def _read_inputs(function: Callable[..., Any], label: str) -> tuple[Field, ...]:
    hints = _hints(function, label)
    fields = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        where = f"parameter {parameter.name!r} of {label}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise LoadError(f"{where} cannot be {parameter.kind.description}: name each input")
        marker, python_type = _read_hint(hints.get(parameter.name), where)
        fields.append(
            Field(
                name=marker.name or parameter.name,
                marker=marker,
                parameter=parameter.name,
                required=parameter.default is parameter.empty,
                python_type=python_type,
            )
        )
    if not fields:
        raise LoadError(f"{label} takes no inputs: give it at least one parameter with a type hint")
    return tuple(fields)


def _read_outputs(function: Callable[..., Any], label: str) -> tuple[tuple[Field, ...], bool, bool]:
    hint = _hints(function, label).get("return")
    where = f"the answer of {label}"
    streaming = False
    if typing.get_origin(hint) in _ITERATORS:
        streaming = True
        hint = typing.get_args(hint)[0]
    members = _members(hint, label)
    if members is None:
        marker, python_type = _read_hint(hint, where)
        field = Field(marker.name or "output", marker, "output", python_type=python_type)
        return (field,), True, streaming
    fields = []
    for name, member_hint in members.items():
        marker, python_type = _read_hint(member_hint, f"{where}, field {name!r},")
        fields.append(Field(marker.name or name, marker, name, python_type=python_type))
    return tuple(fields), False, streaming


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


def _read_hint(hint: Any, where: str) -> tuple[Marker, Any]:
    """The marker and the Python type of one hint; Optional and Annotated in either order."""
    markers: list[Marker] = []
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            markers += [extra for extra in hint.__metadata__ if isinstance(extra, Marker)]
            hint = hint.__origin__
        elif origin in (typing.Union, types.UnionType):
            rest = [option for option in typing.get_args(hint) if option is not type(None)]
            if len(rest) != 1:
                break
            hint = rest[0]
        else:
            break
    if len(markers) > 1:
        raise LoadError(f"{where} has {len(markers)} markers: keep one of {markers}")
    if markers:
        return markers[0], hint
    if _is_pydantic_model(hint):
        return Json(), hint
    bare = (
        _BARE_HINTS.get(cast("Any", typing.get_origin(hint) or hint)) if _hashable(hint) else None
    )
    if bare is not None:
        return bare(), hint
    found = "has no type hint" if hint is None else f"has the type hint {_spell(hint)}, which says"
    says = "" if hint is None else " not what it is on the wire"
    raise LoadError(
        f'{where} {found}{says}: write for example Annotated[np.ndarray, Tensor("FP32", [4])], '
        'Annotated[bytes, Bytes("image/png")], str, Annotated[T, Json()] or a pydantic model'
    )


def _hashable(hint: Any) -> bool:
    return isinstance(hint, collections.abc.Hashable)


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
