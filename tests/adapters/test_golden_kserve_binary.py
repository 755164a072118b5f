"""The binary tensor extension, byte for byte: golden/kserve_binary.http, and every datatype."""

import json

import numpy as np
import pytest
from golden_files import Exchange, read, replay, send
from golden_servers import Serve
from omi_kserve.convert_v2 import InferRequest, write_outputs
from omi_kserve.convert_v2_request import read_request

from omi_runtime import Signature, Tensor
from omi_runtime.batch import Batch, Result


@pytest.mark.parametrize("exchange", read("kserve_binary.http"), ids=str)
def test_exchange(exchange: Exchange, serve: Serve) -> None:
    replay(exchange, serve(exchange.model, "kserve").address)


# The datatype, the dtype of its bytes and values at its ends; BF16 has no dtype: its bits.
EXTREMES = {
    "BOOL": ("?", [False, True]),
    "UINT8": ("<u1", [0, 2**8 - 1]),
    "UINT16": ("<u2", [0, 2**16 - 1]),
    "UINT32": ("<u4", [0, 2**32 - 1]),
    "UINT64": ("<u8", [0, 2**64 - 1]),
    "INT8": ("<i1", [-(2**7), 2**7 - 1]),
    "INT16": ("<i2", [-(2**15), 2**15 - 1]),
    "INT32": ("<i4", [-(2**31), 2**31 - 1]),
    "INT64": ("<i8", [-(2**63), 2**63 - 1]),
    "FP16": ("<f2", [-65504.0, 2**-24, np.inf, -np.inf]),
    "FP32": ("<f4", [-3.4028235e38, 2**-149, np.inf, -np.inf]),
    "FP64": ("<f8", [-1.7976931348623157e308, 5e-324, np.inf, -np.inf]),
    "BF16": ("<u2", [0xFF7F, 0x0001, 0x7F80, 0xFF80, 0x8000]),
}


@pytest.mark.parametrize("datatype", EXTREMES)
def test_every_datatype_comes_back_bit_for_bit(datatype: str, serve: Serve) -> None:
    dtype, values = EXTREMES[datatype]
    raw = np.array(values, dtype).tobytes()
    tensor = {"name": datatype.lower(), "datatype": datatype, "shape": [len(values)]}
    described = tensor | {"parameters": {"binary_data_size": len(raw)}}
    head = json.dumps(
        {
            "inputs": [described],
            "outputs": [{"name": datatype.lower(), "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"inference-header-content-length": str(len(head))}
    address = serve("Datatypes", "kserve").address
    answer = send(address, "POST", "/v2/models/datatypes/infer", head + raw, headers)
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"] == [described]
    assert answer.body[length:] == raw
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_large_tensors_are_sent_whole(serve: Serve) -> None:
    signal = np.linspace(-1, 1, 250_000, dtype="<f4")
    tensor = {"name": "signal", "datatype": "FP32", "shape": [1, signal.size]}
    asked = {
        "parameters": {"binary_data_output": True},
        "inputs": [tensor | {"parameters": {"binary_data_size": signal.nbytes}}],
    }
    head = json.dumps(asked).encode()
    headers = {"inference-header-content-length": str(len(head))}
    address = serve("Signal", "kserve").address
    answer = send(address, "POST", "/v2/models/signal/infer", head + signal.tobytes(), headers)
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    sizes = [
        o["parameters"]["binary_data_size"] for o in json.loads(answer.body[:length])["outputs"]
    ]
    assert sizes == [1_000_000, 250_000]
    assert answer.body[length:] == (signal / 2).tobytes() + (signal < 0).tobytes()
    assert answer.headers["content-length"] == str(len(answer.body))


SIGNATURE = Signature.of({"x": Tensor("FP32", [2])}, {"y": Tensor("FP32", [2])})


def test_numbers_are_read_where_they_lie() -> None:
    raw = np.arange(4, dtype="<f4").tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 16}}]}).encode()
    body = head + raw
    column = read_request(body, b"%d" % len(head), SIGNATURE).infer.batch.columns["x"]
    assert isinstance(column, np.ndarray)
    assert column.tolist() == [[0, 1], [2, 3]]
    assert np.shares_memory(column, np.frombuffer(body, np.uint8))
    assert not column.flags.writeable


def test_numbers_are_sent_from_where_they_lie() -> None:
    column = np.arange(4, dtype="<f4").reshape(2, 2)
    request = InferRequest(None, Batch({}, 2), batched=True)
    (output,) = write_outputs(request, Result({"y": column}, 2), SIGNATURE, "model")
    raw = output.raw()
    assert raw == column.tobytes()
    assert np.shares_memory(np.frombuffer(raw, np.uint8), column)
