"""Whatever a client sends over gRPC: bytes that are no message, and messages of nonsense.

As on HTTP: refused in the interface's own words, soon, and without a trace. N inputs get N outputs;
what concerns one of them is told there.
"""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from fuzzing import bounded
from golden_servers import Serve, Server
from hypothesis import given
from hypothesis import strategies as st
from omi_grpc._pb import model_pb2 as pb
from test_malformed import DEEP, ENDLESS, FINITE, as_json, broken, values

from omi_runtime.errors import InternalError

OURS = InternalError().message
PATIENCE = 60.0

NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
NPY += b" " * (128 - 1 - len(NPY)) + b"\n" + bytes(8)
shapes = st.lists(st.integers(-2, 2**64), max_size=3).map(tuple)
descriptions = st.sampled_from(["<f4", ">f8", "|O", "<U9999999", "nonsense", "<f4,<f4", "|b1"])
npys = st.builds(
    lambda shape, descr: NPY.replace(b"(1, 2)", str(shape).encode()).replace(
        b"<f4", descr.encode()
    ),
    shapes,
    descriptions,
)
contents = (
    st.binary(max_size=40)
    | values.map(as_json)
    | st.lists(st.lists(FINITE, max_size=3), max_size=3).map(as_json)
    | st.sampled_from([ENDLESS, DEEP, b"NaN", b"[[NaN, 1]]", b"1,2\n3", b"1e999", b"", NPY])
    | npys
    | broken([NPY, b"[[1.5, 2], [3, 4]]", b"1.5,2\n3,4\n"])
)
names = st.sampled_from(
    [
        *("grid", "grid.json", "grid.npy", "grid.csv", "grid.bin", "grid.xml", "grid.JSON"),
        *("", "prices", "prices.npy", "names", "count", "document", "stamp", "flag", "customer"),
        *("unknown", "results.json", "error", "a/../b", "\0"),
    ]
)
items = st.lists(st.dictionaries(names, contents, max_size=3), max_size=3)
requests = st.builds(
    lambda items, drift, explain: pb.RunRequest(
        inputs=[pb.InputItem(input=item) for item in items], detect_drift=drift, explain=explain
    ),
    items,
    st.booleans(),
    st.booleans(),
)


@pytest.fixture(scope="module", params=["Everything", "Grid"])
def run(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Any]:
    """Asks a server for `Run`, with any bytes."""
    server: Server = serve(request.param, "omi")
    with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as channel:
        method = channel.unary_unary(
            "/ModzyModel/Run", lambda data: data, pb.RunResponse.FromString
        )
        yield lambda data: method(data, timeout=PATIENCE)
    assert "Traceback" not in server.log


def assert_told(answer: pb.RunResponse, n: int) -> None:
    assert answer.status_code in (200, 400, 413, 503, 504), answer
    assert len(answer.outputs) == n
    for output in answer.outputs:
        if output.success:
            assert json.loads(output.output["results.json"])
        else:
            text = output.output["error"].decode()
            assert text
            assert OURS not in text


@bounded(share=4)
@given(
    data=st.binary(max_size=60)
    | st.builds(lambda r, end: r.SerializeToString()[:end], requests, st.integers(0, 60))
)
def test_bytes(data: bytes, run: Any) -> None:
    try:
        sent = pb.RunRequest.FromString(data)
    except Exception:  # noqa: BLE001 - which one is protobuf's business
        with pytest.raises(grpc.RpcError) as refused:
            run(data)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    else:
        assert_told(run(data), len(sent.inputs))


@bounded(share=4)
@given(request=requests)
def test_messages(request: pb.RunRequest, run: Any) -> None:
    assert_told(run(request.SerializeToString()), len(request.inputs))
