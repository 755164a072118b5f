"""Raw contents cut out of requests and put beside answers: protobuf reads and writes the same."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from omi_kserve import raw_contents
from omi_kserve._pb import open_inference_pb2 as pb
from omi_kserve.raw_contents import WORTH_BYTES, RawResponse

contents = st.lists(st.sampled_from([0, 1, 127, 128, WORTH_BYTES, 3 * WORTH_BYTES]), max_size=4)


def request_of(sizes: list[int], name: str = "model", **fields: Any) -> pb.ModelInferRequest:
    inputs = [{"name": f"x{i}", "datatype": "UINT8", "shape": [n]} for i, n in enumerate(sizes)]
    raw = [bytes([i]) * n for i, n in enumerate(sizes)]
    return pb.ModelInferRequest(
        model_name=name,
        inputs=inputs,
        raw_input_contents=raw,
        parameters={"count": pb.InferParameter(int64_param=-1)},
        **fields,
    )


@given(contents, st.text())
def test_a_request_is_read_as_protobuf_reads_it(sizes: list[int], request_id: str) -> None:
    message = request_of(sizes, id=request_id)
    asked = raw_contents.read(message.SerializeToString())
    assert [bytes(content) for content in asked.contents] == list(message.raw_input_contents)
    del asked.message.raw_input_contents[:]
    del message.raw_input_contents[:]
    assert asked.message == message


@given(contents)
def test_an_answer_is_written_as_protobuf_writes_it(sizes: list[int]) -> None:
    raw = [bytes([i]) * n for i, n in enumerate(sizes)]
    written = raw_contents.write(
        RawResponse(pb.ModelInferResponse(model_name="m", id="1"), [memoryview(b) for b in raw])
    )
    whole = pb.ModelInferResponse(model_name="m", id="1", raw_output_contents=raw)
    assert pb.ModelInferResponse.FromString(b"".join(written)) == whole


def test_a_large_content_is_not_copied() -> None:
    data = request_of([WORTH_BYTES]).SerializeToString()
    (content,) = raw_contents.read(data).contents
    assert isinstance(content, memoryview)
    assert content.obj is data
    large = memoryview(bytes(WORTH_BYTES))
    assert raw_contents.write(RawResponse(pb.ModelInferResponse(), [large]))[-1] is large


@given(st.binary(max_size=40), st.integers(0, 30))
def test_what_is_odd_is_for_protobuf_to_judge(odd: bytes, cut: int) -> None:
    data = request_of([WORTH_BYTES]).SerializeToString()
    data = odd + data[: len(data) - cut]
    try:
        expected = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            raw_contents.read(data)
        return
    asked = raw_contents.read(data)
    assert [bytes(content) for content in asked.contents] == list(expected.raw_input_contents)
