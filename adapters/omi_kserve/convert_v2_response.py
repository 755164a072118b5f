"""Open Inference Protocol V2 infer answers as bodies; pure functions.

Outputs that were asked for in binary follow the JSON, in the order of the outputs there, each
output's `parameters.binary_data_size` in place of its `data`.
(Triton, docs/protocol/extension_binary_data.md)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from omi_kserve.convert_v2_request import BINARY_SIZE, BodyRequest
from omi_kserve.convert_v2_tensors import OutputTensor
from omi_runtime import jsontext
from omi_runtime.card import ModelCard


class Body(NamedTuple):
    """JSON, and the raw tensors that follow it."""

    json: bytes
    binary: list[bytes | memoryview]


def write_response(
    request: BodyRequest,
    outputs: Sequence[OutputTensor],
    card: ModelCard,
    nan: jsontext.NanPolicy,
) -> Body:
    """The answer; no optional key without a value.

    Raises:
        OMIError: an output cannot be told in JSON; names it.
    """
    answer: dict[str, Any] = {"model_name": card.name}
    if card.version:
        answer["model_version"] = card.version
    if request.infer.id is not None:
        answer["id"] = request.infer.id
    binary: list[bytes | memoryview] = []
    answer["outputs"] = [_write(output, request, card, nan, binary) for output in outputs]
    return Body(orjson.dumps(answer), binary)


def _write(
    output: OutputTensor,
    request: BodyRequest,
    card: ModelCard,
    nan: jsontext.NanPolicy,
    binary: list[bytes | memoryview],
) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": output.shape,
    }
    if request.is_binary(output.name):
        raw = output.raw()
        binary.append(raw)
        written["parameters"] = {BINARY_SIZE: len(raw)}
    else:
        written["data"] = output.json(card.name, nan)
    return written
