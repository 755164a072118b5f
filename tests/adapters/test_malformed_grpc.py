"""Whatever is sent to V2 over gRPC, it is refused with a status that a caller can cause, and soon.

As test_malformed.py has it for the wires over HTTP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import fuzzing
import grpc
import pytest
from golden_servers import Serve
from hypothesis import given
from hypothesis import strategies as st
from omi_kserve._pb import open_inference_pb2 as pb

from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import InternalError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OURS = InternalError().message
PATIENCE = 60.0
ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,  # of a model that fails
}

bounded = fuzzing.bounded(share=10)

names = st.sampled_from(["prices", "pair", "count", "flag", "names", "customer", "document", "x"])
parameters = st.dictionaries(
    st.sampled_from(["explain", "detect_drift", "classification", "a"]),
    st.sampled_from(
        [
            pb.InferParameter(),
            pb.InferParameter(bool_param=True),
            pb.InferParameter(double_param=0.5),
            pb.InferParameter(string_param="x"),
        ]
    ),
    max_size=2,
)
shapes = st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**31, 2**62, 2**63 - 1]), max_size=4)
contents = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=2),
    int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
    fp64_contents=st.lists(st.floats(), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=3),
)
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=names,
    datatype=st.sampled_from([*DTYPES, "", "FP8"]),
    shape=shapes,
    parameters=parameters,
    contents=st.none() | contents,
)
raw = st.one_of(
    st.binary(max_size=16),
    st.sampled_from([b"", bytes(4), struct.pack("<I", 2**32 - 1), struct.pack("<I", 1) + b"{"]),
)
requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from(["everything", "everything", "everything", "other"]),
    model_version=st.sampled_from(["", "", "1.0.0", "2"]),
    id=st.text(max_size=3),
    parameters=parameters,
    inputs=st.lists(tensors, max_size=3),
    raw_input_contents=st.just([]) | st.lists(raw, max_size=3),
)


@pytest.fixture(scope="module")
def ask(serve: Serve) -> Iterator[Callable[[bytes], grpc.StatusCode | None]]:
    """Sends bytes to ModelInfer; the status that they are refused with, or None."""
    server = serve("Everything", "kserve")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(METHOD)

        def ask(data: bytes) -> grpc.StatusCode | None:
            try:
                infer(data, timeout=PATIENCE)
            except grpc.RpcError as error:
                if error.details() == OURS:
                    pytest.fail("a fault of ours")
                return error.code()
            return None

        yield ask
    assert "Traceback" not in server.log


@bounded
@given(request=requests)
def test_messages_of_the_wrong_things(
    ask: Callable[[bytes], grpc.StatusCode | None], request: pb.ModelInferRequest
) -> None:
    assert ask(request.SerializeToString()) in {None, *ALLOWED}


@bounded
@given(request=requests, at=st.integers(0, 200), put=st.binary(max_size=3), over=st.integers(0, 3))
def test_bytes_in_the_wrong_place(
    ask: Callable[[bytes], grpc.StatusCode | None],
    request: pb.ModelInferRequest,
    at: int,
    put: bytes,
    over: int,
) -> None:
    data = request.SerializeToString()
    at %= len(data) + 1
    assert ask(data[:at] + put + data[at + over :]) in {None, *ALLOWED}


@bounded
@given(data=st.binary(max_size=64))
def test_bytes_that_are_nothing(
    ask: Callable[[bytes], grpc.StatusCode | None], data: bytes
) -> None:
    assert ask(data) in {None, *ALLOWED}
