"""The usual bodies of V1 and V2, read and written by few calls; pure functions.

Nearly every request has nothing but tensors of numbers in JSON: all inputs of the model, in the
declared shape. What such a request and its answer look like is known when the model has loaded.
Whatever is not just so, or wrong, is None here and left to `convert_v1` and `convert_v2`, which
find the words. What both can read they read alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import orjson

from omi_kserve.convert_v2 import InferRequest
from omi_runtime import casting, jsontext
from omi_runtime.batch import Batch, Column, Result
from omi_runtime.card import ModelCard
from omi_runtime.datatypes import Array
from omi_runtime.errors import InferenceFailed, InvalidInput
from omi_runtime.jsontext import NanPolicy
from omi_runtime.signature import Field, Signature, Tensor


class PlainV1:
    """V1 with one input and one output.

    Args:
        signature: of the model.
        nan: see `OMI_NAN`.
    """

    def __init__(self, signature: Signature, nan: NanPolicy) -> None:
        self.signature = signature
        self._nan = nan
        single = len(signature.inputs) == len(signature.outputs) == 1 and not signature.streaming
        inputs = _numbers(signature.inputs) if single else None
        self._input = next(iter(inputs.items())) if inputs else None
        self._output = signature.outputs[0].name

    def read(self, content: Any) -> Batch | None:
        """`{"instances": [numbers, …]}`, parsed."""
        if self._input is None or type(content) is not dict or len(content) != 1:
            return None
        instances = content.get("instances")
        name, (datatype, item_shape) = self._input
        array = _array(instances, datatype)
        if array is None or array.shape[1:] != item_shape:
            return None
        return Batch({name: array}, len(array))

    def write(self, result: Result) -> bytes | None:
        """The predictions as they are."""
        if self._input is None or result.errors:
            return None
        data = _json(result.columns[self._output], self._nan)
        return None if data is None else b'{"predictions":%b}' % data


class PlainV2:
    """V2 with all inputs and all outputs, in JSON.

    Args:
        signature, card: of the model.
        nan: see `OMI_NAN`.
    """

    def __init__(self, signature: Signature, card: ModelCard, nan: NanPolicy) -> None:
        self.signature = signature
        self.card = card
        self._nan = nan
        self._inputs = _numbers(signature.inputs)
        kinds = None if signature.streaming else _numbers(signature.outputs)
        head: dict[str, Any] = {"model_name": card.name}
        if card.version:
            head["model_version"] = card.version
        self._head = orjson.dumps(head)[:-1]
        self._outputs: list[tuple[str, bytes]] | None = None
        if kinds is not None:
            self._outputs = [(name, _head_of(name, kind)) for name, (kind, _) in kinds.items()]

    def read(self, content: Any) -> InferRequest | None:
        """`{"inputs": [{"name", "datatype", "shape", "data"}, …]}`, and perhaps an id; parsed."""
        inputs = self._inputs
        if inputs is None or self._outputs is None or type(content) is not dict:
            return None
        request_id, tensors = content.get("id"), content.get("inputs")
        if type(tensors) is not list or len(tensors) != len(inputs):
            return None
        if len(content) > 1 and not (len(content) == 2 and type(request_id) is str):
            return None
        columns: dict[str, Column] = {}
        for tensor in tensors:
            array = self._read_tensor(tensor)
            if array is None:
                return None
            columns[tensor["name"]] = array
        sizes = {len(column) for column in columns.values()}
        if len(columns) != len(inputs) or len(sizes) != 1:
            return None
        return InferRequest(request_id, Batch(columns, sizes.pop()), batched=True)

    def write(self, request: InferRequest, result: Result) -> bytes | None:
        """All outputs of a request that `read` has read."""
        if self._outputs is None or result.errors:
            return None
        written = []
        for name, head in self._outputs:
            column = result.columns[name]
            if not isinstance(column, np.ndarray):
                return None
            data = _json(column.reshape(-1), self._nan)
            if data is None:
                return None
            written.append(b'%b%b,"data":%b}' % (head, orjson.dumps(column.shape), data))
        named = b"" if request.id is None else b',"id":%b' % orjson.dumps(request.id)
        return b'%b%b,"outputs":[%b]}' % (self._head, named, b",".join(written))

    def _read_tensor(self, tensor: Any) -> Array | None:
        if type(tensor) is not dict or len(tensor) != 4:
            return None
        name, shape = tensor.get("name"), tensor.get("shape")
        expected = self._inputs.get(name) if type(name) is str and self._inputs else None
        if expected is None or type(shape) is not list or not _WHOLE.issuperset(map(type, shape)):
            return None
        datatype, item_shape = expected
        if tensor.get("datatype") != datatype or tuple(shape[1:]) != item_shape or not shape:
            return None
        array = _array(tensor.get("data"), datatype)
        if array is None or array.size != math.prod(shape):
            return None
        if array.ndim == 1:
            return array.reshape(shape)
        return array if list(array.shape) == shape else None


_WHOLE: Final = {int}


def _numbers(fields: Iterable[Field]) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Datatype and item shape by name, if all fields are tensors of numbers of one shape."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for field in fields:
        marker = field.marker
        if not isinstance(marker, Tensor) or marker.datatype == "BYTES" or -1 in marker.shape:
            return None
        found[field.name] = marker.datatype, marker.shape
    return found


def _head_of(name: str, datatype: str) -> bytes:
    """How an output begins, up to its shape."""
    return orjson.dumps({"name": name, "datatype": datatype})[:-1] + b',"shape":'


def _array(value: Any, datatype: str) -> Array | None:
    if type(value) is not list or not value:
        return None
    try:
        return casting.from_json(value, datatype)
    except InvalidInput:
        return None


def _json(column: Column, nan: NanPolicy) -> bytes | None:
    if not isinstance(column, np.ndarray) or column.dtype.kind == "O":
        return None
    try:
        return jsontext.dump_json(column, nan)
    except InferenceFailed:
        return None
