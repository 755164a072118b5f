"""From what a model answered to checked columns; pure functions.

Every failure is an InferenceFailed that names the output, what came and what was expected; the
runner puts the model's name before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from omi_runtime import casting, datatypes
from omi_runtime.batch import Column, item, stack_values
from omi_runtime.datatypes import Array
from omi_runtime.errors import InferenceFailed, InvalidInput
from omi_runtime.jsontext import NanPolicy, fragment
from omi_runtime.signature import Field, Json, Signature, Tensor, Text


def read_columns(answer: Any, signature: Signature, n: int, nan: NanPolicy) -> dict[str, Column]:
    """The output columns of an answer that holds a column of n for every output."""
    columns: dict[str, Column] = {}
    for field in signature.outputs:
        column = answer if signature.bare else _member(answer, field, signature)
        if (
            type(column) is np.ndarray
            and column.shape[:1] == (n,)
            and (column.dtype, column.shape[1:]) == field.as_declared
        ):
            columns[field.name] = column.copy()  # the author's own: see `_own`
        else:
            columns[field.name] = read_column(field, column, n, nan)
    return columns


def read_item(answer: Any, signature: Signature, nan: NanPolicy) -> dict[str, Column]:
    """The output columns, of one row, of an answer about a single item."""
    columns: dict[str, Column] = {}
    for field in signature.outputs:
        value = answer if signature.bare else _member(answer, field, signature)
        if type(value) is np.ndarray and (value.dtype, value.shape) == field.as_declared:
            columns[field.name] = value[None].copy()
        else:
            columns[field.name] = read_column(field, _lift(field, value), 1, nan)
    return columns


def split_answer(answer: Any, n: int) -> list[Any]:
    """An answer about n items, one by one: of a mapping or record of columns, mappings."""
    columns = _as_mapping(answer)
    if columns is None:
        _check_rows("the answer", answer, n)
        return [item(answer, i) for i in range(n)]
    for name, column in columns.items():
        _check_rows(f"output {name!r}", column, n)
    return [{name: item(column, i) for name, column in columns.items()} for i in range(n)]


def read_column(field: Field, column: Any, n: int, nan: NanPolicy) -> Column:
    """One output column, checked against its field: n rows of its datatype and shape."""
    label = f"output {field.name!r}"
    _check_rows(label, column, n)
    marker = field.marker
    try:
        if isinstance(marker, Tensor):
            return _read_tensors(column, marker)
        if isinstance(marker, Json):
            return [_read_json(field, value, nan) for value in column]
        kind, accepted = (str, str) if isinstance(marker, Text) else (bytes, _BYTES_LIKE)
        values = column.tolist() if isinstance(column, np.ndarray) else list(column)
        for value in values:
            if not isinstance(value, accepted):
                raise InferenceFailed(f"is {type(value).__name__}, expected {kind.__name__}")
        return values if kind is str else [bytes(value) for value in values]
    except (InferenceFailed, InvalidInput) as error:
        raise InferenceFailed(f"{label} {error.message}") from None


def read_extra(column: Any, n: int, label: str, nan: NanPolicy) -> list[Any]:
    """The answers of `explain` or `drift` to n items, encoded."""
    _check_rows(label, column, n)
    return [fragment(value, nan) for value in column]


def collect(values: Sequence[dict[str, Column]], signature: Signature) -> dict[str, Column]:
    """The yielded answers about one item as one: each output becomes the list of its values."""
    columns: dict[str, Column] = {}
    for field in signature.outputs:
        members: list[Any] = [item(value[field.name], 0) for value in values]
        if isinstance(field.marker, Json):
            columns[field.name] = [orjson.Fragment(orjson.dumps(members))]
        elif isinstance(field.marker, Tensor) and members:
            stacked = stack_values(members)
            columns[field.name] = stacked[None] if isinstance(stacked, np.ndarray) else [stacked]
        else:
            columns[field.name] = [members]
    return columns


_BYTES_LIKE = (bytes, bytearray, memoryview)


def _member(answer: Any, field: Field, signature: Signature) -> Any:
    members = _as_mapping(answer)
    if members is None:
        if len(signature.outputs) == 1:
            return answer
        names = ", ".join(output.parameter for output in signature.outputs)
        raise InferenceFailed(
            f"the answer is {type(answer).__name__}, expected a mapping of {names}"
        )
    if field.parameter not in members:
        raise InferenceFailed(
            f"output {field.parameter!r} is missing from the answer, which has "
            f"{', '.join(map(str, members)) or 'nothing'}"
        )
    return members[field.parameter]


def _as_mapping(answer: Any) -> Mapping[str, Any] | None:
    """A mapping, NamedTuple or dataclass instance as a mapping; None for a plain value."""
    if isinstance(answer, Mapping):
        return answer
    if hasattr(answer, "_asdict"):
        return dict(answer._asdict())
    if hasattr(answer, "__dataclass_fields__"):
        return {name: getattr(answer, name) for name in answer.__dataclass_fields__}
    return None


def _lift(field: Field, value: Any) -> Any:
    """A single item's value as a column of one."""
    marker = field.marker
    if isinstance(marker, Tensor) and marker.datatype != "BYTES" and hasattr(value, "__array__"):
        return np.asarray(value)[None]
    return [value]


def _check_rows(label: str, column: Any, n: int) -> None:
    try:
        rows = len(column)
    except TypeError:
        raise InferenceFailed(f"{label} is {type(column).__name__}, expected {n} rows") from None
    if isinstance(column, str | bytes | Mapping):
        raise InferenceFailed(f"{label} is one {type(column).__name__}, expected a list of {n}")
    if rows != n:
        raise InferenceFailed(f"{label} has {rows} rows, expected {n}: one for each item")


def _read_tensors(column: Any, marker: Tensor) -> Column:
    if marker.datatype == "BYTES":
        return stack_values([_read_bytes_tensor(value, marker) for value in column])
    try:
        array = np.asarray(column)
    except ValueError:  # items of different shapes, which a variable dimension allows
        return stack_values([_read_tensor(value, marker) for value in column])
    if array.dtype.kind == "O":
        return stack_values([_read_tensor(value, marker) for value in column])
    if not marker.accepts_shape(array.shape[1:]):
        raise InferenceFailed(_shape_text(array.shape[1:], marker))
    return _own(casting.fit(array, marker.datatype, original=_listed(column)), column)


def _own(fitted: Array, answer: Any) -> Array:
    """A copy of what is the author's own array: a model may write its next answer into it."""
    shared = isinstance(answer, np.ndarray) and np.may_share_memory(fitted, answer)
    return fitted.copy() if shared else fitted


def _read_tensor(value: Any, marker: Tensor) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise InferenceFailed(f"has lists of unequal lengths, expected {marker}") from None
    if not marker.accepts_shape(array.shape):
        raise InferenceFailed(_shape_text(array.shape, marker))
    return _own(casting.fit(array, marker.datatype, original=_listed(value)), value)


def _listed(value: Any) -> Any:
    """Python numbers that numpy may have changed: of large and small integers it makes floats."""
    return value if isinstance(value, list | tuple | int) else None


def _shape_text(shape: tuple[int, ...], marker: Tensor) -> str:
    return f"has items of shape {list(shape)}, expected {list(marker.shape)}"


def _read_bytes_tensor(value: Any, marker: Tensor) -> Array:
    """Nested lists or arrays of bytes or str; numpy's own S dtype would cut trailing zeros."""
    shape, elements = casting.unnest(value.tolist() if isinstance(value, np.ndarray) else value)
    try:
        encoded = [e.encode() if isinstance(e, str) else bytes(memoryview(e)) for e in elements]
        array = datatypes.object_array(encoded, shape)
    except (TypeError, ValueError):
        raise InferenceFailed(f"does not hold bytes or str, as {marker} expects") from None
    if not marker.accepts_shape(array.shape):
        raise InferenceFailed(_shape_text(array.shape, marker))
    return array


def _read_json(field: Field, value: Any, nan: NanPolicy) -> orjson.Fragment:
    if field.to_jsonable is not None:
        try:
            value = field.to_jsonable(value)
        except ValueError as error:  # pydantic's validation and serialization errors
            raise InferenceFailed(f"is not a {field.python_type}: {error}") from None
    return fragment(value, nan)
