"""The core's types → Open Inference Protocol V2 bodies: metadata and infer answers; pure functions.

Tensors travel with the batch dimension first, unless the request's did not have it. Text, Json and
Bytes are BYTES: UTF-8, JSON text, and the bytes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson

from omi_kserve.convert_v2_request import (
    DETECT_DRIFT,
    EXPLAIN,
    InferRequest,
    datatype_of,
    item_shape_of,
)
from omi_runtime import codecs, datatypes, jsontext
from omi_runtime.batch import Column, Result
from omi_runtime.card import ModelCard
from omi_runtime.errors import InferenceFailed, InvalidInput, OMIError
from omi_runtime.runner import NOTHING_MORE
from omi_runtime.signature import Bytes, Field, Json, Signature, Tensor

PLATFORM: Final = "omi_python"


def model_metadata(card: ModelCard, signature: Signature) -> dict[str, Any]:
    """The metadata of the model: names, datatypes and shapes, with the batch dimension."""
    return {
        "name": card.name,
        "versions": [card.version],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(field) for field in signature.inputs],
        "outputs": [
            _tensor_metadata(field, streaming=signature.streaming) for field in signature.outputs
        ],
    }


def write_response(
    request: InferRequest,
    result: Result,
    signature: Signature,
    card: ModelCard,
    nan: jsontext.NanPolicy,
) -> bytes:
    """The answer: all outputs, or those asked for; no optional key without a value.

    Raises:
        OMIError: an item failed, or an output cannot be told in JSON; names it.
    """
    result.raise_error()
    fields = {field.name: field for field in signature.outputs}
    wanted = list(fields) if request.outputs is None else request.outputs
    outputs = [
        _write_tensor(card.name, fields[name], result.columns[name], request, nan)
        for name in wanted
    ]
    answer: dict[str, Any] = {"model_name": card.name, "model_version": card.version}
    if request.id is not None:
        answer["id"] = request.id
    if request.wanted is not NOTHING_MORE:
        outputs += _extra_outputs(request, result)
    answer["outputs"] = outputs
    return orjson.dumps(answer)


def _tensor_metadata(field: Field, *, streaming: bool = False) -> dict[str, Any]:
    # A model that yields has a list of values for each item; a list of JSON is JSON itself.
    values = [-1] if streaming and not isinstance(field.marker, Json) else []
    return {
        "name": field.name,
        "datatype": datatype_of(field),
        "shape": [-1, *values, *item_shape_of(field)],
    }


def _write_tensor(
    model: str, field: Field, column: Column, request: InferRequest, nan: jsontext.NanPolicy
) -> dict[str, Any]:
    try:
        shape, data = _write_data(field, column, nan)
    except InferenceFailed as error:
        raise InferenceFailed(f"{model}: output {field.name!r} {error.message}") from None
    return {
        "name": field.name,
        "datatype": datatype_of(field),
        "shape": shape if request.batched else shape[1:],
        "data": data,
    }


def _write_data(
    field: Field, column: Column, nan: jsontext.NanPolicy
) -> tuple[list[int], orjson.Fragment]:
    """The shape and the flat data, encoded."""
    if isinstance(field.marker, Tensor):
        if not isinstance(column, np.ndarray):
            raise InferenceFailed("has items of different shapes, which one tensor cannot hold")
        flat = codecs.jsonable_column(field, column.reshape(-1))
        return list(column.shape), jsontext.fragment(flat, nan)
    try:
        shape, elements = datatypes.unnest(list(column))
    except InvalidInput as error:  # the model's fault: it yielded not as often for every item
        raise InferenceFailed(error.message) from None
    return list(shape), jsontext.fragment([_text(field, e, nan) for e in elements], nan)


def _text(field: Field, value: Any, nan: jsontext.NanPolicy) -> str:
    """One item of a Text, Json or Bytes output as the UTF-8 text of a BYTES element."""
    if isinstance(value, str):
        return value
    if isinstance(field.marker, Bytes) and isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(
                f"output {field.name!r} is not UTF-8, which JSON cannot carry"
            ) from None
    return jsontext.dump_json(value, nan).decode()


def _extra_outputs(request: InferRequest, result: Result) -> list[dict[str, Any]]:
    """Explanation and drift as BYTES outputs of JSON text.

    A failed drift is null, for it never fails a prediction; a failed explanation is the error.
    """
    outputs = []
    for name, asked, values in (
        (EXPLAIN, request.wanted.explanation, result.explanation),
        (DETECT_DRIFT, request.wanted.drift, result.drift),
    ):
        if not asked:
            continue
        answers = values or []
        failed = {row: value for row, value in enumerate(answers) if isinstance(value, OMIError)}
        if name == EXPLAIN:
            Result({}, result.n, failed).raise_error()
        texts = [
            "null" if row in failed else orjson.dumps(value).decode()
            for row, value in enumerate(answers)
        ]
        shape = [len(texts)] if request.batched else []
        outputs.append({"name": name, "datatype": "BYTES", "shape": shape, "data": texts})
    return outputs
