"""The short road of V1 and V2 bodies leads where the long one does, or is not taken."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omi_kserve import convert_v1, convert_v2_request
from omi_kserve.convert_plain import PlainV1, PlainV2
from omi_kserve.convert_v2 import InferRequest, write_outputs
from omi_kserve.convert_v2_response import write_response

from omi_runtime.batch import Batch, Result
from omi_runtime.card import ModelCard
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import OMIError
from omi_runtime.nan import NanPolicy
from omi_runtime.signature import Bytes, Field, Marker, Signature, Tensor

CARD = ModelCard(name='a "name"', title="A", version="1")
DATATYPES = [name for name in DTYPES if name != "BYTES"]


def signature(*inputs: Marker, output: Marker | None = None, **facts: Any) -> Signature:
    fields = [Field(f"in{i}", marker, f"in{i}") for i, marker in enumerate(inputs)]
    answer = Field("out", output or inputs[0], "out")
    return Signature(tuple(fields), (answer,), bare=True, **facts)


numbers = st.one_of(
    st.integers(-3, 300),
    st.floats(-2, 2, width=16),
    st.sampled_from([True, None, "1", 2**53, 2**63, 1e39, -(2**63) - 1]),
)
values = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
names = st.sampled_from(["in0", "in1", "in2"])


def columns_of(batch: Batch) -> dict[str, Any]:
    return {
        name: (column.dtype, column.shape, column.tolist()) if isinstance(column, np.ndarray) else 0
        for name, column in batch.columns.items()
    }


@given(st.sampled_from(DATATYPES), st.lists(st.integers(0, 3), max_size=2), values, st.booleans())
def test_v1_reads_alike(datatype: str, shape: list[int], value: Any, more: bool) -> None:
    model = signature(Tensor(datatype, shape))
    content = orjson.loads(json.dumps({"instances": value} | ({"x": 1} if more else {})))
    batch = PlainV1(model, NanPolicy.ERROR).read(content)
    if batch is None:
        return
    expected = convert_v1.read_content(content, model)
    assert isinstance(expected, Batch)
    assert (columns_of(batch), batch.n) == (columns_of(expected), expected.n)


tensors = st.fixed_dictionaries(
    {
        "name": names,
        "datatype": st.sampled_from(["FP32", "INT64"]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 2, True, 2.0, -1]), max_size=3),
        "data": values,
    },
    optional={"parameters": st.just({})},
)
one_good = st.just({"name": "in0", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]})
other_good = st.just({"name": "in1", "datatype": "INT64", "shape": [1], "data": [7]})


@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(st.one_of(one_good, other_good, tensors), max_size=3)},
        optional={
            "id": st.sampled_from(["a", 1, None, '"']),
            "outputs": st.just([]),
            "parameters": st.just({"explain": True}),
        },
    )
)
def test_v2_reads_alike(content: Any) -> None:
    model = signature(Tensor("FP32", [2]), Tensor("INT64"))
    content = orjson.loads(json.dumps(content))
    request = PlainV2(model, CARD, NanPolicy.ERROR).read(content)
    if request is None:
        return
    expected = convert_v2_request.read_content(content, model).infer
    assert columns_of(request.batch) == columns_of(expected.batch)
    assert request.batch.n == expected.batch.n
    assert (request.id, request.batched) == (expected.id, expected.batched)
    assert (request.outputs, request.wanted) == (expected.outputs, expected.wanted)


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_the_usual_requests_take_the_short_road(form: str) -> None:
    model = signature(Tensor("FP32", [2]), Tensor("INT64"))
    data: Any = [1, 2.5, 3, 4] if form == "flat" else [[1, 2.5], [3, 4]]
    inputs = [
        {"name": "in1", "datatype": "INT64", "shape": [2], "data": [7, 8]},
        {"name": "in0", "datatype": "FP32", "shape": [2, 2], "data": data},
    ]
    request = PlainV2(model, CARD, NanPolicy.ERROR).read({"inputs": inputs, "id": "7"})
    assert request is not None
    assert request.batch.n == 2
    batch = PlainV1(signature(Tensor("FP32", [2])), NanPolicy.ERROR).read({"instances": [[1, 2]]})
    assert batch is not None
    assert batch.n == 1


ANSWERS = [
    np.array([[1, 2], [3, 4]], "<f4"),
    np.array([[1, np.nan]], "<f4"),
    np.array([[0.1, -1e-9]], "<f8"),
    np.array([[True, False]]),
    np.array([[2**63]], "<u8"),
    np.zeros((0, 2), "<f2"),
    np.zeros((3,), "<i8"),
    np.zeros((2, 3, 2), "<f2"),
    [np.zeros(2), np.zeros(3)],
]


@pytest.mark.parametrize("nan", list(NanPolicy))
@pytest.mark.parametrize("column", ANSWERS, ids=str)
@pytest.mark.parametrize("request_id", [None, 'an "id"'])
def test_answers_are_written_alike(column: Any, nan: NanPolicy, request_id: str | None) -> None:
    datatype = next((n for n, d in DTYPES.items() if d == getattr(column, "dtype", 0)), "FP64")
    model = signature(Tensor("FP32", [2]), output=Tensor(datatype, [-1]))
    fixed = signature(Tensor("FP32", [2]), output=Tensor(datatype, [2]))
    result = Result({"out": column}, len(column))
    request = InferRequest(request_id, Batch({}, len(column)), batched=True)
    body = convert_v2_request.BodyRequest(request)
    try:
        v1 = convert_v1.write_response(result, model, CARD.name, nan)
        outputs = write_outputs(request, result, model, CARD.name)
        v2 = write_response(body, outputs, CARD, nan).json
    except OMIError:
        v1 = v2 = b""
    written = PlainV2(fixed, CARD, nan).write(request, result)
    assert written in (v2 or None, None)
    assert (written is None) == (v2 == b"" or isinstance(column, list))
    assert PlainV1(fixed, nan).write(result) in (v1 or None, None)


def test_what_is_not_of_numbers_takes_the_long_road() -> None:
    content = {"inputs": [{"name": "in0", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
    for model in (
        signature(Bytes()),
        signature(Tensor("BYTES")),
        signature(Tensor("FP32", [-1])),
        signature(Tensor("FP32"), streaming=True),
    ):
        assert PlainV1(model, NanPolicy.ERROR).read({"instances": [1.0]}) is None
        assert PlainV2(model, CARD, NanPolicy.ERROR).read(content) is None
    of_bytes = signature(Tensor("FP32"), output=Bytes())
    assert PlainV2(of_bytes, CARD, NanPolicy.ERROR).read(content) is None
    assert PlainV1(of_bytes, NanPolicy.ERROR).write(Result({"out": [b"x"]}, 1)) is None
    failed = Result.failed([OMIError("no")])
    request = InferRequest(None, Batch({}, 1), batched=True)
    model = signature(Tensor("FP32"))
    assert PlainV1(model, NanPolicy.ERROR).write(failed) is None
    assert PlainV2(model, CARD, NanPolicy.ERROR).write(request, failed) is None
