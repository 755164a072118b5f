"""What goes into a model and what comes out: markers that authors write, and the signature.

An author annotates `predict`; `hints.read_signature` turns the hints into a `Signature`, which is
all that the adapters ever know of a model.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InvalidInput, LoadError

_RESERVED_NAMES: Final = {"error", "results.json"}  # keys of every OMI and Modzy answer
_PLAIN_TYPES: Final = ((dict, dict), (dict[str, Any], dict), (list, list), (list[Any], list))


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
        if not isinstance(self.marker, Json) or self.python_type is Any:
            return None
        plain = self.plain_type
        if plain is not None:
            return lambda value: self._validate_plain(value, plain)
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
    def as_declared(self) -> Any:
        """Dtype and item shape of a tensor's column that is taken as it is; None of all else.

        A variable dimension has to be looked at, as have elements of BYTES; BF16 is rounded.
        """
        marker = self.marker
        if not isinstance(marker, Tensor) or marker.datatype in ("BYTES", "BF16"):
            return None
        return None if -1 in marker.shape else (DTYPES[marker.datatype], marker.shape)

    @cached_property
    def to_jsonable(self) -> Callable[[Any], Any] | None:
        """Turns the author's object into plain JSON values, or None where it is plain already."""
        if not isinstance(self.marker, Json) or self.python_type is Any:
            return None
        if self.plain_type is not None or typing.is_typeddict(self.python_type):
            return None
        from pydantic import TypeAdapter  # noqa: PLC0415

        adapter: TypeAdapter[Any] = TypeAdapter(self.python_type)
        return lambda value: adapter.dump_python(
            value, mode="json", by_alias=True, warnings="error"
        )

    @property
    def plain_type(self) -> type | None:
        """Dict or list, if the author's type says no more than that."""
        return next((plain for hint, plain in _PLAIN_TYPES if hint == self.python_type), None)

    def _validate_plain(self, value: Any, plain: type) -> Any:
        if isinstance(value, plain):
            return value
        expected = "an object" if plain is dict else "a list"
        raise InvalidInput(f"{self.name}: expected {expected}")


@dataclasses.dataclass(frozen=True)
class Signature:
    """All the inputs and outputs of a model, in order.

    Attributes:
        bare: the model answers with its single output's value itself, not with a mapping.
        streaming: the model yields its answers.
        outputs_are_files: all are Bytes, and on the wires that carry files they are all that is
            answered: there is no results.json, unless one of them is called so.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    bare: bool = False
    streaming: bool = False
    outputs_are_files: bool = False

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
            reserved = _RESERVED_NAMES - ({"results.json"} if self.outputs_are_files else set())
            for name in names:
                if name in reserved or not name or name.startswith(".") or "/" in name:
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
    def required_names(self) -> tuple[str, ...]:
        """The names of the inputs that every request must carry, in order."""
        return tuple(field.name for field in self.inputs if field.required)
