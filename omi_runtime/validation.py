"""What the handler asks of a model's class and of every request, whatever wire it came by."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from omi_runtime.batch import Batch, Column, Result, Row
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InvalidInput, LoadError, OMIError
from omi_runtime.model import Model
from omi_runtime.signature import Signature, Tensor


def check_class(model_class: type[Model]) -> None:
    """Refuse class attributes of the wrong kind.

    Raises:
        LoadError: names the attribute.
    """
    label = model_class.__name__
    for method in ("load", "close", "preprocess"):
        if inspect.iscoroutinefunction(getattr(model_class, method, None)):
            raise LoadError(
                f"{label}.{method} is async, which only predict and what follows may be"
            )
    if not isinstance(model_class.max_batch_size, int) or model_class.max_batch_size < 1:
        raise LoadError(f"{label}.max_batch_size is {model_class.max_batch_size!r}, expected >= 1")
    for attribute in ("name", "version"):
        value = getattr(model_class, attribute)
        if not isinstance(value, str):
            raise LoadError(f"{label}.{attribute} is {value!r}, expected a string")


def check_streaming(model_class: type[Model], signature: Signature) -> None:
    """Refuse what a model that yields cannot have.

    Raises:
        LoadError: names the attribute or method.
    """
    if not signature.streaming:
        return
    label = model_class.__name__
    if model_class.max_batch_size > 1:
        raise LoadError(f"{label}.predict yields, so its max_batch_size has to be 1")
    if hasattr(model_class, "postprocess"):
        raise LoadError(f"{label}.postprocess cannot yield: it is called once for each item")


def check_names(row: Row | OMIError, signature: Signature) -> Row | OMIError:
    """The item itself, or the error that it is answered with: an unknown or missing input."""
    if isinstance(row, OMIError):
        return row
    try:
        _check_keys(row, signature)
    except InvalidInput as error:
        return error
    return row


def _check_keys(names: Mapping[str, Any], signature: Signature) -> None:
    for name in names:
        if name not in signature.input_by_name:
            known = ", ".join(signature.input_names)
            raise InvalidInput(f"unknown input {name!r}: this model takes {known}")
    for name in signature.required_names:
        if name not in names:
            raise InvalidInput(f"input {name!r} is missing")


def check_batch(batch: Batch, signature: Signature) -> None:
    """Refuse a batch with unknown or missing inputs, or of the wrong datatype or shape.

    Raises:
        InvalidInput: names the input.
    """
    _check_keys(batch.columns, signature)
    check_tensors(batch, signature)


def check_tensors(batch: Batch, signature: Signature) -> None:
    """Refuse a batch, whose names are good, with a tensor of the wrong datatype or shape.

    Raises:
        InvalidInput: names the input.
    """
    for name, column in batch.columns.items():
        marker = signature.input_by_name[name].marker
        if not isinstance(marker, Tensor):
            continue
        if not isinstance(column, np.ndarray) or column.dtype != DTYPES[marker.datatype]:
            raise InvalidInput(f"{name}: expected {marker.datatype} values")
        if not marker.accepts_shape(column.shape[1:]):
            shape = list(column.shape[1:])
            raise InvalidInput(f"{name}: has shape {shape}, expected {list(marker.shape)}")


def no_rows(signature: Signature) -> Result:
    """Zero rows, answered with zero rows of the declared datatypes and shapes."""
    columns: dict[str, Column] = {}
    for field in signature.outputs:
        marker = field.marker
        if isinstance(marker, Tensor):
            shape = (0, *(max(size, 0) for size in marker.shape))
            columns[field.name] = np.empty(shape, DTYPES[marker.datatype])
        else:
            columns[field.name] = []
    return Result(columns, 0)
