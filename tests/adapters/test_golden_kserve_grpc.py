"""The KServe interface over gRPC: `inference.GRPCInferenceService`, message by message.

Open Inference Protocol, specification/protocol/inference_grpc.md; ModelStreamInfer and the index of
the model repository as Triton has them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from clients import until
from golden_servers import MODELS, Serve, Server
from omi_kserve._pb import open_inference_pb2 as pb

import omi_runtime
from omi_runtime.datatypes import DTYPES, frame, to_raw
from omi_runtime.transport._pb import health_pb2

SERVICE = "inference.GRPCInferenceService"
PATIENCE = 60.0
MEGABYTE = 1024 * 1024
INVALID = grpc.StatusCode.INVALID_ARGUMENT

Input = pb.ModelInferRequest.InferInputTensor
Contents = pb.InferTensorContents
Asked = pb.ModelInferRequest.InferRequestedOutputTensor
Parameter = pb.InferParameter


def channel(server: Server) -> grpc.Channel:
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options)


def call(server: Server, method: str, request: Any = None, **fields: Any) -> Any:
    request = getattr(pb, f"{method}Request")(**fields) if request is None else request
    response = getattr(pb, f"{method}Response")
    serialize = None if isinstance(request, bytes) else type(request).SerializeToString
    with channel(server) as opened:
        ask = opened.unary_unary(f"/{SERVICE}/{method}", serialize, response.FromString)
        return ask(request, timeout=PATIENCE)


def infer(server: Server, **fields: Any) -> Any:
    return call(server, "ModelInfer", pb.ModelInferRequest(**fields))


def refused(server: Server, method: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(server, method, **fields)
    return error.value.code(), error.value.details()


def stream(server: Server, requests: Iterator[Any]) -> Iterator[Any]:
    with channel(server) as opened:
        yield from opened.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )(requests, timeout=PATIENCE)


# ------------------------------------------------------------------ what it says of itself


SUMMARY = "One tensor in, one tensor out, batched; with an explanation and drift."


def test_live_ready_and_metadata(serve: Serve) -> None:
    server = serve("Total", "kserve")
    assert call(server, "ServerLive").live
    assert call(server, "ServerReady").ready
    assert call(server, "ModelReady", name="total").ready
    assert call(server, "ModelReady", name="total", version="1.0.0").ready
    metadata = call(server, "ServerMetadata")
    assert (metadata.name, metadata.version) == ("omi-runtime", omi_runtime.__version__)
    assert "binary_tensor_data" in metadata.extensions
    tensor = pb.ModelMetadataResponse.TensorMetadata
    for version in ("", "1.0.0"):
        assert call(server, "ModelMetadata", name="total", version=version) == (
            pb.ModelMetadataResponse(
                name="total",
                versions=["1.0.0"],
                platform="omi_python",
                inputs=[tensor(name="values", datatype="INT32", shape=[-1, 2])],
                outputs=[tensor(name="total", datatype="INT64", shape=[-1])],
                properties={"summary": SUMMARY},
            )
        )


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
def test_another_model_or_version_is_not_found(serve: Serve, method: str) -> None:
    server = serve("Total", "kserve")
    told = "no model 'other' here, only 'total'"
    assert refused(server, method, name="other") == (grpc.StatusCode.NOT_FOUND, told)
    told = "no version '9' of 'total' here, only '1.0.0'"
    found = refused(server, method, name="total", version="9")
    assert found == (grpc.StatusCode.NOT_FOUND, told)


def test_the_index_of_the_repository(serve: Serve) -> None:
    server = serve("Total", "kserve")
    for ready in (False, True):
        (model,) = call(server, "RepositoryIndex", ready=ready).models
        assert (model.name, model.version, model.state, model.reason) == (
            "total", "1.0.0", "READY", "",
        )  # fmt: skip


def test_loading_and_unloading(serve: Serve) -> None:
    """KServe's clients have the name in the first field, Triton's in the second."""
    server = serve("Words", "kserve", OMI_ADMIN="on")
    assert "model_repository" in call(server, "ServerMetadata").extensions
    first, second = {"repository_name": "words"}, {"model_name": "words"}
    assert call(server, "RepositoryModelUnload", **first) == (
        pb.RepositoryModelUnloadResponse(model_name="words", isUnloaded=True)
    )
    (model,) = call(server, "RepositoryIndex").models
    assert (model.state, model.reason) == ("UNAVAILABLE", "unloaded")
    assert not call(server, "RepositoryIndex", ready=True).models
    assert not call(server, "ServerReady").ready
    code, _ = refused(server, "ModelInfer", model_name="words")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert call(server, "RepositoryModelLoad", **second) == (
        pb.RepositoryModelLoadResponse(model_name="words", isLoaded=True)
    )
    assert call(server, "ServerReady").ready
    code, _ = refused(server, "RepositoryModelLoad", model_name="other")
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_another_model_is_not_loaded_in_its_place(serve: Serve, method: str) -> None:
    """Triton's parameters would: a configuration, and files."""
    server = serve("Words", "kserve", OMI_ADMIN="on")
    named = pb.ModelRepositoryParameter
    for name, value in (
        ("config", named(string_param="{}")),
        ("file:1/model.onnx", named(bytes_param=b"\xff")),
    ):
        code, details = refused(server, method, model_name="words", parameters={name: value})
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert details == f"parameters.{name}: is not offered here"
    assert call(server, "ServerReady").ready


def test_nothing_depends_on_the_model_that_is_unloaded(serve: Serve) -> None:
    dependents = {"unload_dependents": pb.ModelRepositoryParameter(bool_param=True)}
    server = serve("Words", "kserve", OMI_ADMIN="on")
    assert call(
        server, "RepositoryModelUnload", model_name="words", parameters=dependents
    ).isUnloaded
    assert call(server, "RepositoryModelLoad", model_name="words").isLoaded


def test_loading_and_unloading_are_off(serve: Serve) -> None:
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        code, details = refused(serve("Total", "kserve"), method, model_name="total")
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert "OMI_ADMIN" in details


def test_health_by_every_name(serve: Serve) -> None:
    with channel(serve("Total", "kserve")) as opened:
        check = opened.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        for service in ("", SERVICE):
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


# ------------------------------------------------------------------------------ the tensors

EXTREMES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 2**8 - 1],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [-65504.0, 6e-8],
    "FP32": [-3.4028234663852886e38, float("inf")],
    "FP64": [-1.7976931348623157e308, 5e-324],
    "BF16": [-1.5, float("-inf")],
    "BYTES": [b"\xff\x00", "né".encode()],
}
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "UINT64": "uint64_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def test_every_datatype_is_here() -> None:
    assert set(EXTREMES) == set(DTYPES)
    assert set(EXTREMES) - set(FIELDS) == {"FP16", "BF16"}


@pytest.mark.parametrize("datatype", EXTREMES)
def test_raw_is_answered_with_raw(serve: Serve, datatype: str) -> None:
    name = datatype.lower()
    raw = to_raw(np.array(EXTREMES[datatype], DTYPES[datatype]), datatype)
    answer = infer(
        serve("Datatypes", "kserve"),
        model_name="datatypes",
        inputs=[Input(name=name, datatype=datatype, shape=[2])],
        outputs=[Asked(name=name)],
        raw_input_contents=[raw],
    )
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == (name, datatype, [2])
    assert not output.HasField("contents")
    assert list(answer.raw_output_contents) == [raw]


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_is_answered_with_typed(serve: Serve, datatype: str) -> None:
    name, contents = datatype.lower(), Contents(**{FIELDS[datatype]: EXTREMES[datatype]})
    answer = infer(
        serve("Datatypes", "kserve"),
        model_name="datatypes",
        model_version="1.0.0",
        id="typed",
        inputs=[Input(name=name, datatype=datatype, shape=[2], contents=contents)],
        outputs=[Asked(name=name)],
    )
    output = pb.ModelInferResponse.InferOutputTensor(
        name=name, datatype=datatype, shape=[2], contents=contents
    )
    assert answer == pb.ModelInferResponse(
        model_name="datatypes", model_version="1.0.0", id="typed", outputs=[output]
    )


def test_what_has_no_typed_form_makes_the_whole_answer_raw(serve: Serve) -> None:
    answer = infer(
        serve("Datatypes", "kserve"),
        model_name="datatypes",
        inputs=[
            Input(name="int8", datatype="INT8", shape=[1], contents=Contents(int_contents=[7]))
        ],
        outputs=[Asked(name="fp16"), Asked(name="int8")],
    )
    assert [output.name for output in answer.outputs] == ["fp16", "int8"]
    assert not any(output.HasField("contents") for output in answer.outputs)
    assert list(answer.raw_output_contents) == [b"\0\0", b"\x07"]


def pairs(*values: int, shape: list[int] | None = None) -> Input:
    shape = [len(values) // 2, 2] if shape is None else shape
    contents = Contents(int_contents=values)
    return Input(name="values", datatype="INT32", shape=shape, contents=contents)


def test_a_tensor_without_the_batch_dimension_is_answered_without_one(serve: Serve) -> None:
    server = serve("Total", "kserve")
    for shape, expected in ([2], []), ([1, 2], [1]):
        answer = infer(server, model_name="total", inputs=[pairs(1, 2, shape=shape)])
        (output,) = answer.outputs
        assert list(output.shape) == expected
        assert list(output.contents.int64_contents) == [3]
        assert answer.id == ""


def test_no_rows_are_answered_with_none(serve: Serve) -> None:
    answer = infer(serve("Total", "kserve"), model_name="total", inputs=[pairs(shape=[0, 2])])
    assert list(answer.outputs[0].shape) == [0]
    assert list(answer.outputs[0].contents.int64_contents) == []


def test_explanation_and_drift_are_outputs_of_json(serve: Serve) -> None:
    answer = infer(
        serve("Total", "kserve"),
        model_name="total",
        inputs=[pairs(1, 2, 3, 4)],
        parameters={
            "explain": Parameter(bool_param=True),
            "detect_drift": Parameter(bool_param=True),
        },
    )
    assert [output.name for output in answer.outputs] == ["total", "explain", "detect_drift"]
    assert [list(output.contents.bytes_contents) for output in answer.outputs[1:]] == [
        [b'{"largest":2}', b'{"largest":4}'],
        [b"0.5", b"0.5"],
    ]


def test_an_explanation_may_be_named_among_the_outputs(serve: Serve) -> None:
    request = {"model_name": "total", "inputs": [pairs(1, 2)], "outputs": [Asked(name="explain")]}
    asked = {"explain": Parameter(bool_param=True)}
    (output,) = infer(serve("Total", "kserve"), **request, parameters=asked).outputs
    assert output.name == "explain"
    assert list(output.contents.bytes_contents) == [b'{"largest":2}']
    code, details = refused(serve("Total", "kserve"), "ModelInfer", **request)
    assert code is INVALID
    assert details == "unknown output 'explain': this model gives total"


def test_inputs_of_every_kind(serve: Serve) -> None:
    answer = infer(
        serve("Shop", "kserve"),
        model_name="shop",
        inputs=[
            Input(name="prices", datatype="FP64", shape=[1, 2]),
            Input(name="customer", datatype="BYTES", shape=[1]),
            Input(name="stamp", datatype="BYTES", shape=[1]),
        ],
        outputs=[Asked(name="scan"), Asked(name="receipt")],
        raw_input_contents=[
            np.array([1.5, 2.0]).tobytes(), frame([b"Zo\xc3\xab"]), frame([b"\xff\xfe"]),
        ],
    )  # fmt: skip
    assert [(output.name, output.datatype) for output in answer.outputs] == [
        ("scan", "BYTES"),
        ("receipt", "BYTES"),
    ]
    assert list(answer.raw_output_contents) == [
        frame([b"\xff\xfe"]),
        frame(['{"lines":2,"note":"for Zoë"}'.encode()]),
    ]


def test_parameters_of_every_kind_are_taken(serve: Serve) -> None:
    kinds = {
        "a": Parameter(bool_param=True),
        "b": Parameter(int64_param=-1),
        "c": Parameter(string_param="x"),
        "d": Parameter(double_param=0.5),
        "e": Parameter(uint64_param=2**64 - 1),
        "f": Parameter(),
    }
    tensor = pairs(1, 2)
    for name, parameter in kinds.items():
        tensor.parameters[name].CopyFrom(parameter)
    answer = infer(
        serve("Total", "kserve"),
        model_name="total",
        inputs=[tensor],
        outputs=[Asked(name="total", parameters=kinds)],
        parameters=kinds,
    )
    assert list(answer.outputs[0].contents.int64_contents) == [3]
    assert not answer.parameters


def test_thirty_megabytes_both_ways(serve: Serve) -> None:
    data = bytes(range(256)) * (30 * MEGABYTE // 256)
    answer = infer(
        serve("Blob", "kserve"),
        model_name="blob",
        inputs=[Input(name="blob", datatype="BYTES", shape=[1])],
        raw_input_contents=[frame([data])],
    )
    assert answer.raw_output_contents[0] == frame([data[::-1]])


# ------------------------------------------------------------------------- what it refuses

BOTH = {"raw_input_contents": [bytes(8)]}
REFUSALS: dict[str, tuple[dict[str, Any], grpc.StatusCode, str]] = {
    "another model": ({"model_name": "other"}, grpc.StatusCode.NOT_FOUND, "only 'total'"),
    "another version": (
        {"model_version": "2"}, grpc.StatusCode.NOT_FOUND, "no version '2' of 'total'",
    ),
    "no inputs": ({"inputs": []}, INVALID, "inputs: expected values"),
    "an unknown input": (
        {"inputs": [Input(name="value", datatype="INT32", shape=[1, 2])]},
        INVALID,
        "unknown input 'value': this model takes values",
    ),
    "an input twice": (
        {"inputs": [pairs(1, 2), pairs(1, 2)]}, INVALID, "input 'values' is given twice",
    ),
    "another datatype": (
        {"inputs": [Input(name="values", datatype="FP32", shape=[1, 2])]},
        INVALID,
        "input 'values': has datatype 'FP32', expected INT32",
    ),
    "another shape": (
        {"inputs": [pairs(1, 2, 3)]}, INVALID,
        "input 'values': has 3 elements, shape [1, 2] needs 2",
    ),
    "another rank": (
        {"inputs": [pairs(1, 2, shape=[1, 1, 2])]},
        INVALID,
        "input 'values': has shape [1, 1, 2], expected [-1, 2]",
    ),
    "a shape below zero": (
        {"inputs": [pairs(1, 2, shape=[-1, 2])]},
        INVALID,
        "input 'values': shape has to be a list of whole numbers, 0 or more",
    ),
    "a shape beyond all": (
        {"inputs": [pairs(shape=[2**62, 2])]},
        INVALID,
        f"input 'values': has 0 elements, shape [{2**62}, 2] needs {2**63}",
    ),
    "the contents of another datatype": (
        {
            "inputs": [
                Input(name="values", datatype="INT32", shape=[1, 2],
                      contents=Contents(int64_contents=[1, 2]))
            ]
        },
        INVALID,
        "input 'values': has elements in int64_contents; of INT32 they belong in int_contents",
    ),
    "both forms": (
        {"inputs": [pairs(1, 2)], **BOTH}, INVALID,
        "input 'values': has contents beside raw_input_contents: give all inputs in one form",
    ),
    "more raw contents than inputs": (
        {"inputs": [Input(name="values", datatype="INT32", shape=[1, 2])],
         "raw_input_contents": [bytes(8)] * 2},
        INVALID,
        "raw_input_contents: has 2 members for 1 inputs: give the bytes of every input",
    ),
    "too few raw bytes": (
        {"inputs": [Input(name="values", datatype="INT32", shape=[2, 2])], **BOTH},
        INVALID,
        "input 'values': has 8 bytes, shape [2, 2] of INT32 needs 16",
    ),
    "an unknown output": (
        {"outputs": [Asked(name="sum")]}, INVALID,
        "unknown output 'sum': this model gives total",
    ),
    "an output twice": (
        {"outputs": [Asked(name="total")] * 2}, INVALID, "output 'total' is asked for twice",
    ),
    "a switch that is none": (
        {"parameters": {"explain": Parameter(string_param="yes")}}, INVALID,
        "parameters.explain: expected a boolean",
    ),
    "shared memory": (
        {"inputs": [Input(name="values", datatype="INT32", shape=[1, 2],
                          parameters={"shared_memory_region": Parameter(string_param="r")})]},
        grpc.StatusCode.UNIMPLEMENTED,
        "input 'values': parameters.shared_memory_region: shared memory is not offered here",
    ),
    "an input that the model refuses": (
        {"inputs": [pairs(1, 2, 13, 0)]}, INVALID, "row 1: thirteen is refused",
    ),
    "a model that fails": (
        {"inputs": [pairs(666, 0)]}, grpc.StatusCode.INTERNAL,
        "total: RuntimeError: the beast",
    ),
    "an explanation that fails": (
        {"inputs": [pairs(99, 0)], "parameters": {"explain": Parameter(bool_param=True)}},
        grpc.StatusCode.INTERNAL,
        "total: ArithmeticError: 99 cannot be explained",
    ),
}  # fmt: skip


@pytest.mark.parametrize("title", REFUSALS)
def test_it_is_refused_with_the_reason(serve: Serve, title: str) -> None:
    changed, status, told = REFUSALS[title]
    fields = {"model_name": "total", "inputs": [pairs(1, 2)]} | changed
    code, details = refused(serve("Total", "kserve"), "ModelInfer", **fields)
    assert (code, told in details) == (status, True), details


def test_what_has_no_typed_form_is_refused_in_one(serve: Serve) -> None:
    tensor = Input(name="fp16", datatype="FP16", shape=[1], contents=Contents(fp32_contents=[1]))
    found = refused(
        serve("Datatypes", "kserve"), "ModelInfer", model_name="datatypes", inputs=[tensor]
    )
    assert found == (
        INVALID,
        (
            "input 'fp16': has elements in fp32_contents; of FP16 they belong in none: it travels "
            "in raw_input_contents only"
        ),
    )


def test_bytes_that_are_no_message(serve: Serve) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call(serve("Total", "kserve"), "ModelInfer", b"\x0a\xc8\x01{")
    assert error.value.code() is INVALID


def test_an_explanation_of_a_model_that_has_none(serve: Serve) -> None:
    found = refused(
        serve("Words", "kserve"),
        "ModelInfer",
        model_name="words",
        inputs=[
            Input(
                name="text", datatype="BYTES", shape=[1], contents=Contents(bytes_contents=[b"a"])
            )
        ],
        parameters={"explain": Parameter(bool_param=True)},
    )
    assert found == (grpc.StatusCode.UNIMPLEMENTED, "model words has no explain")


# ------------------------------------------------------------------------------- streams


def counting(to: int, mark: str = "", **fields: Any) -> pb.ModelInferRequest:
    to_input = Input(name="to", datatype="INT64", shape=[1], contents=Contents(int64_contents=[to]))
    mark_input = Input(
        name="mark", datatype="BYTES", shape=[1], contents=Contents(bytes_contents=[mark.encode()])
    )
    return pb.ModelInferRequest(model_name="counting", inputs=[to_input, mark_input], **fields)


def numbers(response: Any) -> list[int]:
    return [
        *response.infer_response.outputs[0].contents.int64_contents,
        response.infer_response.parameters["triton_final_response"].bool_param,
    ]


def test_a_model_that_yields_answers_with_every_value(serve: Serve) -> None:
    asks = {"triton_enable_empty_final_response": Parameter(bool_param=True)}
    requests = [counting(3, id="a"), counting(0, id="b"), counting(1, id="c", parameters=asks)]
    *values, last = stream(serve("Counting", "kserve"), iter(requests))
    assert [(value.infer_response.id, *numbers(value)) for value in values] == [
        ("a", 1, False), ("a", 2, False), ("a", 3, False), ("c", 1, False),
    ]  # fmt: skip
    assert list(values[0].infer_response.outputs[0].shape) == [1]
    assert last.infer_response == pb.ModelInferResponse(
        model_name="counting",
        model_version="1.0.0",
        id="c",
        parameters={"triton_final_response": Parameter(bool_param=True)},
    )


def test_the_values_come_as_they_are_made(serve: Serve, tmp_path: Path) -> None:
    """The reader has the first before the last is there: the model waits for it at each value."""
    mark = tmp_path / "closed"
    values = stream(serve("Counting", "kserve"), iter([counting(10**9, str(mark))]))
    assert numbers(next(values)) == [1, False]
    assert numbers(next(values)) == [2, False]
    assert not mark.exists()
    values.close()  # the caller leaves
    until(mark.exists, "the generator is closed")


def test_a_failure_ends_one_answer_and_not_the_stream(serve: Serve) -> None:
    requests = [counting(14, id="a"), pb.ModelInferRequest(model_name="other"), counting(1, id="b")]
    *values, failed, stranger, good = stream(serve("Counting", "kserve"), iter(requests))
    assert [numbers(value)[0] for value in values] == list(range(1, 13))
    assert failed.error_message == "counting: RuntimeError: thirteen is too much"
    assert failed.infer_response.id == "a"
    assert stranger.error_message == "no model 'other' here, only 'counting'"
    assert not stranger.HasField("infer_response")
    assert numbers(good) == [1, False]


def test_a_model_that_does_not_yield_answers_once_and_in_order(serve: Serve) -> None:
    def request(i: int) -> pb.ModelInferRequest:
        return pb.ModelInferRequest(model_name="total", id=str(i), inputs=[pairs(i, 1)])

    answers = list(stream(serve("Total", "kserve"), (request(i) for i in range(200))))
    assert [answer.infer_response.id for answer in answers if not answer.error_message] == [
        str(i) for i in range(200) if i not in (13, 666)
    ]
    assert answers[13].error_message == "thirteen is refused"
    assert numbers(answers[0]) == [1, True]
    assert numbers(answers[199]) == [200, True]


def test_several_items_cannot_be_streamed(serve: Serve) -> None:
    request = counting(1)
    for tensor in request.inputs:
        tensor.shape[:] = [2]
        tensor.contents.MergeFrom(
            type(tensor.contents).FromString(tensor.contents.SerializeToString())
        )
    (answer,) = stream(serve("Counting", "kserve"), iter([request]))
    assert answer.error_message == "a stream of answers is to one item, not to 2"


def test_a_stream_that_is_idle_ends_with_the_server(tmp_path: Path) -> None:
    """It is told to try another, and the process does not wait for it until its grace is over."""
    server = Server(f"{MODELS}:Total", "kserve", tmp_path, OMI_GRACE="40")
    requests = Held(pb.ModelInferRequest(model_name="total", inputs=[pairs(1, 2)]))
    answers = stream(server, requests)
    assert numbers(next(answers)) == [3, True]
    server.signal()
    with pytest.raises(grpc.RpcError) as error:
        next(answers)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    requests.end()
    server.ended()
    assert "work was cut off" not in server.log


class Held:
    """A stream of requests whose sender has sent one and thinks of the next."""

    def __init__(self, only: Any) -> None:
        self._first: list[Any] = [only]
        self._over = threading.Event()

    def __iter__(self) -> Held:
        return self

    def __next__(self) -> Any:
        if self._first:
            return self._first.pop()
        self._over.wait(PATIENCE)
        raise StopIteration

    def end(self) -> None:
        self._over.set()
