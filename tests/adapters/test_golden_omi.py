"""The OMI interface: `ModzyModel` over gRPC, as tables of items and answers.

An item is files by name, and so is its answer. Messages, codes and texts are those of Modzy's gRPC
model template; what each item is answered with is the promise of the messages: N outputs for N
inputs, in order, an item that failed with `success` false and the reason under `error`.
"""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from golden_files import matches
from golden_servers import Gate, Serve, Server
from omi_grpc._pb import inference_pb2
from omi_grpc._pb import model_pb2 as pb

from omi_runtime.transport._pb import health_pb2, reflection_pb2, reflection_v1alpha_pb2

PATIENCE = 60.0
IRIS = str(Path(__file__).parents[2] / "docs/examples/iris")
MEGABYTE = 1024 * 1024

PREFIX = "Failed to process model input. Exception Encountered: "
NOT_INITIALIZED = "Failed to process model input. Model has not been initialized for inference."


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def result(value: str) -> dict[str, bytes]:
    """The file that holds everything that is not bytes."""
    text = '{"data":{"result":%s,"explanation":null,"drift":null}}'
    return {"results.json": (text % value).encode()}


class Failed(str):
    """The reason, after the prefix, that an item did not succeed; `…` is any text."""

    __slots__ = ()


ONE_OF = "send one of values, values.json, values.npy, values.csv, values.bin"

# By title: the model, the items, and what each is answered with.
RUNS: dict[str, tuple[str, list[dict[str, bytes]], list[dict[str, bytes] | Failed]]] = {
    "no item at all": ("Total", [], []),
    "a tensor is JSON unless its key says otherwise": (
        "Total",
        [
            {"values": b"[1, 2]"},
            {"values.json": b"[1, 2]"},
            {"values.npy": npy(np.array([1, 2], np.int32))},
            {"values.csv": b"1,2\r\n"},
            {"values.bin": b"\x01\0\0\0\x02\0\0\0"},
        ],
        [result("3")] * 5,
    ),
    "an array of another dtype whose numbers fit": (
        "Total",
        [{"values.npy": npy(np.array([1, 2], np.float64))}],
        [result("3")],
    ),
    "a text is UTF-8, or a JSON string": (
        "Words",
        [{"text": "naïve".encode()}, {"text.txt": b'"a"'}, {"text.json": b'"a"'}, {"text": b""}],
        [result('"NAÏVE"'), result(r'"\"A\""'), result('"A"'), result('""')],
    ),
    "JSON is JSON": (
        "Document",
        [{"document": b'{"b": [1.5, null]}'}, {"document.json": b"{}"}],
        [
            result('{"keys":["b"],"document":{"b":[1.5,null]}}'),
            result('{"keys":[],"document":{}}'),
        ],
    ),
    "bytes are a file of the output's own name": (
        "Blob",
        [{"blob": b"\0\xff"}, {"blob.png": b"abc"}, {"blob.bin": b""}],
        [
            result("null") | {"mirrored": b"\xff\0"},
            result("null") | {"mirrored": b"cba"},
            result("null") | {"mirrored": b""},
        ],
    ),
    "several outputs: an object of those that are not bytes, and the files": (
        "Shop",
        [
            {"prices": b"[1.5, 2.25]", "customer": b"Ann", "stamp": b"\xff"},
            {"prices.json": b"[]", "customer.txt": b"Bob"},
        ],
        [
            result('{"sum":3.75,"receipt":{"lines":2,"note":"for Ann"}}') | {"scan": b"\xff"},
            result('{"sum":0.0,"receipt":{"lines":0,"note":"for Bob"}}') | {"scan": b"unstamped"},
        ],
    ),
    "keys that the model does not have are ignored": (
        "Total",
        [{"note.txt": b"\xff", "values.json": b"[1, 2]", "error": b"", "VALUES": b"", "": b""}],
        [result("3")],
    ),
    "more items than the model takes at once": (
        "Total",
        [{"values": b"[%d, 0]" % n} for n in range(20, 60)],
        [result(str(n)) for n in range(20, 60)],
    ),
    "good and bad items keep their places": (
        "Total",
        [
            {"values": b"[1, 2]"},
            {"values": b"[13, 0]"},
            {"values": b"[3, 4]"},
            {"values": b"[666, 0]"},
            {},
            {"values": b"[5, 6]"},
        ],
        [
            result("3"),
            Failed("thirteen is refused"),
            result("7"),
            Failed("total: RuntimeError: the beast"),
            Failed(f"input 'values' is missing: {ONE_OF}"),
            result("11"),
        ],
    ),
    "a missing key is named": (
        "Shop",
        [{"prices": b"[1]"}, {"customer": b"Ann"}, {"prices": b"[1]", "customer": b"Ann"}],
        [
            Failed("input 'customer' is missing: send one of customer, …"),
            Failed("input 'prices' is missing: send one of prices, …"),
            result('{"sum":1.0,"receipt":{"lines":1,"note":"for Ann"}}') | {"scan": b"unstamped"},
        ],
    ),
    "an extension that is not read": (
        "Total",
        [{"values.xml": b"<a/>"}, {"values.json.gz": b""}, {"values.xml": b"", "values": b"[1,2]"}],
        [
            Failed(f"values: 'values.xml' is not read here; {ONE_OF}"),
            Failed(f"values: 'values.json.gz' is not read here; {ONE_OF}"),
            result("3"),
        ],
    ),
    "one input in two spellings": (
        "Total",
        [{"values": b"[1, 2]", "values.json": b"[1, 2]"}],
        [Failed("values: given twice, once as 'values…'")],
    ),
    "what is wrong inside a file": (
        "Total",
        [
            {"values": b"[1, 2"},
            {"values": b"[NaN, 2]"},
            {"values": b""},
            {"values": b"[1, 2, 3]"},
            {"values": b'[1, "2"]'},
            {"values": b"[1, 2147483648]"},
            {"values.npy": b"[1, 2]"},
            {"values.npy": npy(np.array([1, 2], np.int32))[:-1]},
            {"values.npy": npy(np.array([1, 2.5]))},
            {"values.csv": b"1;2"},
            {"values.bin": b"\x01\0\0\0\x02\0\0"},
            {"values.bin": b"\x01\0\0\0"},
        ],
        [
            Failed("values: is not JSON: …"),
            Failed("values: is not JSON: …"),
            Failed("values: is not JSON: …"),
            Failed("values: has shape [3], expected [2]"),
            Failed("values: has a string where INT32 expects a number"),
            Failed("values: has a number outside the range of INT32"),
            Failed("values: is not an .npy file: …"),
            Failed("values: …"),
            Failed("values: has a fraction where INT32 expects whole numbers"),
            Failed("values: has '1;2' where INT32 expects a number"),
            Failed("values: has 7 bytes, not a multiple of 4 for INT32"),
            Failed("values: has 1 elements, expected 2 for shape [2]"),
        ],
    ),
    "text that is no UTF-8": (
        "Words",
        [{"text": b"a\xff"}, {"text.json": b"5"}],
        [
            Failed("text: is not UTF-8: … at byte 1"),
            Failed("text: expected a JSON string"),
        ],
    ),
    "JSON of the wrong kind": (
        "Document",
        [{"document": b"[1]"}, {"document": b"{}"}],
        [Failed("document: expected an object"), result('{"keys":[],"document":{}}')],
    ),
    "what the author raised": (
        "Words",
        [{"text": b"refuse"}, {"text": b"raise"}, {"text": b"a"}],
        [
            Failed("this word is refused"),
            Failed("words: RuntimeError: this word is too much"),
            result('"A"'),
        ],
    ),
    "an answer that JSON cannot hold fails its own item": (
        "Decimals",
        [{"word": b"1.5"}, {"word": b"nan"}, {"word": b"-inf"}],
        [
            result("1.5"),
            Failed("decimals: output 'number' holds NaN, …OMI_NAN…"),
            Failed("decimals: output 'number' holds -Infinity, …OMI_NAN…"),
        ],
    ),
    "of several outputs, the one that JSON cannot hold is named": (
        "Shop",
        [{"prices": b"[1e308, 1e308]", "customer": b"Ann"}],
        [Failed("shop: output 'sum' holds Infinity, …OMI_NAN…")],
    ),
    "strings that are no UTF-8 fail their own item": (
        "Names",
        [{"names": b'["abc"]'}, {"names": '["é"]'.encode()}],
        [result('["cba"]'), Failed("reversed: holds bytes that are not UTF-8, …")],
    ),
}


@pytest.mark.parametrize("title", RUNS)
def test_run(title: str, serve: Serve) -> None:
    model, items, answers = RUNS[title]
    answer = run(serve(model, "omi"), items)
    assert (answer.status_code, answer.status) == (200, "OK")
    assert answer.message == "Inference executed"
    assert len(answer.outputs) == len(answers)
    for output, expected in zip(answer.outputs, answers, strict=True):
        files = dict(output.output)
        if isinstance(expected, Failed):
            assert list(files) == ["error"]
            text = files["error"].decode()
            assert matches(PREFIX + expected, text), f"expected {expected}\n     got {text}"
            assert not output.success
        else:
            assert files == expected
            assert output.success


def test_the_bytes_of_a_run(serve: Serve) -> None:
    """Numbers and order of the fields, without the help of generated classes."""
    item = b"\x0a\x14" + b"\x0a\x0bvalues.json" + b"\x12\x05[1,2]"
    request = b"\x0a\x16" + item
    text = b'{"data":{"result":3,"explanation":{"largest":2},"drift":0.5}}'
    entry = b"\x0a\x0cresults.json" + b"\x12" + bytes([len(text)]) + text
    output = b"\x0a" + bytes([len(entry)]) + entry + b"\x10\x01"
    with channel(serve("Total", "omi")) as connection:
        raw = connection.unary_unary("/ModzyModel/Run")
        answer = raw(request + b"\x10\x01" + b"\x18\x01", timeout=PATIENCE)
    expected = b"\x08\xc8\x01" + b"\x12\x02OK" + b"\x1a\x12Inference executed"
    assert answer == expected + b"\x22" + bytes([len(output)]) + output


def test_explanation_and_drift_are_each_there_if_asked_for(serve: Serve) -> None:
    def asked(**flags: bool) -> dict[str, Any]:
        answer = run(serve("Total", "omi"), [{"values": b"[1, 2]"}, {"values": b"[7, 3]"}], **flags)
        return [json.loads(output.output["results.json"])["data"] for output in answer.outputs]

    assert asked(explain=True) == [
        {"result": 3, "explanation": {"largest": 2}, "drift": None},
        {"result": 10, "explanation": {"largest": 7}, "drift": None},
    ]
    assert asked(detect_drift=True) == [
        {"result": 3, "explanation": None, "drift": 0.5},
        {"result": 10, "explanation": None, "drift": 0.5},
    ]


def test_an_explanation_that_fails_fails_no_prediction(serve: Serve) -> None:
    items = [{"values": b"[1, 2]"}, {"values": b"[99, 0]"}]
    answer = run(serve("Total", "omi"), items, explain=True)
    assert [output.success for output in answer.outputs] == [True, True]
    assert [dict(output.output)["results.json"] for output in answer.outputs] == [
        b'{"data":{"result":3,"explanation":{"largest":2},"drift":null}}',
        b'{"data":{"result":99,"explanation":null,"drift":null}}',
    ]


def test_explanation_and_drift_that_the_model_does_not_have_are_null(serve: Serve) -> None:
    server = serve("Words", "omi")
    answer = run(server, [{"text": b"a"}], explain=True, detect_drift=True)
    assert dict(answer.outputs[0].output) == result('"A"')
    assert answer.outputs[0].success
    assert "explanation or drift was asked for, which words does not have" in server.log


def test_the_first_status_initialized_the_model_and_the_others_found_it_so(serve: Serve) -> None:
    server = serve("Total", "omi", MODEL_NAME="fresh")
    # A Run before any Status waits for the model, and is answered like every other.
    answer = run(server, [{"values": b"[1, 2]"}])
    assert dict(answer.outputs[0].output) == result("3")
    first, second, third = status(server), status(server), status(server)
    assert (first.status_code, first.status) == (200, "OK")
    assert first.message == "Model Initialized Successfully."
    assert (second.status_code, second.status) == (200, "OK")
    assert second.message == third.message == "Model Already Initialized."
    assert first.model_info.model_name == "fresh"
    second.message = first.message
    assert second == first


def test_a_failed_load_is_a_status_and_a_later_status_loads_again(
    serve: Serve, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    server = serve("Fragile", "omi", FRAGILE_KEY=str(key), OMI_LOAD_GRACE="300")
    failed = status(server)
    assert (failed.status_code, failed.status) == (500, "Internal Server Error")
    assert failed.message == "Model Failed to Initialize."
    assert failed.model_info.model_name == "fragile"
    assert [file.filename for file in failed.inputs] == ["text"]
    answer = run(server, [{"text": b"a"}] * 3)
    assert (answer.status_code, answer.status) == (200, "OK")
    assert [dict(output.output) for output in answer.outputs] == [
        {"error": NOT_INITIALIZED.encode()}
    ] * 3
    assert not any(output.success for output in answer.outputs)
    key.touch()
    loaded = status(server)
    assert (loaded.status_code, loaded.message) == (200, "Model Initialized Successfully.")
    assert dict(run(server, [{"text": b"a"}]).outputs[0].output) == result('"a"')


def test_the_card_of_the_iris_example(serve: Serve) -> None:
    answer = status(serve(IRIS, "omi"))
    assert answer.status_code == 200
    assert answer.model_info == pb.ModelInfo(
        model_name="iris",
        model_version="1.0.0",
        model_author="The omi-runtime authors",
        model_type="grpc",
        source="omi-runtime, docs/examples/iris",
    )
    description = answer.description
    assert description.summary == (
        "Names the species of an iris flower from four measurements in centimetres."
    )
    assert description.details.startswith("Given the length and width of a flower's sepals")
    assert description.technical.startswith("# OVERVIEW\n")
    assert description.performance.startswith("49 of 50 held-out flowers")
    assert list(answer.inputs) == [
        pb.ModelInput(
            filename="measurements.json",
            accepted_media_types=["application/json"],
            max_size="1M",
            description="Sepal length, sepal width, petal length and petal width, in centimetres.",
        )
    ]
    assert list(answer.outputs) == [
        pb.ModelOutput(
            filename="results.json",
            media_type="application/json",
            max_size="1M",
            description="The species, 0 setosa, 1 versicolor, 2 virginica, and why, "
            "if that was asked for.",
        )
    ]
    assert answer.resources == pb.ModelResources(required_ram="512M", num_cpus=1, num_gpus=0)
    assert answer.timeout == pb.ModelTimeout(status="60s", run="20s")
    assert answer.features == pb.ModelFeatures(batch_size=256)


def test_the_card_of_a_model_without_a_yaml(serve: Serve) -> None:
    answer = status(serve("Shop", "omi"))
    assert answer.model_info == pb.ModelInfo(
        model_name="shop", model_version="2.1.0", model_type="grpc"
    )
    assert answer.description.summary == (
        "Several inputs, one of them optional, and several outputs."
    )
    tensor = ["application/json", "application/x-npy", "text/csv", "application/octet-stream"]
    assert [(file.filename, list(file.accepted_media_types)) for file in answer.inputs] == [
        ("prices", tensor),
        ("customer", ["text/plain"]),
        ("stamp", ["application/octet-stream"]),
    ]
    assert [(file.filename, file.media_type) for file in answer.outputs] == [
        ("results.json", "application/json"),
        ("scan", "image/png"),
    ]
    assert answer.features.batch_size == 1


YAML = """
specification: "0.4"
type: file
source: https://example.org/upper
version: 1.2.3
name: Upper case
author: Ada <ada@example.org>
description: {summary: S, details: D, technical: T, performance: P}
inputs:
  picture.png: {acceptedMediaTypes: [image/png, image/jpeg], maxSize: 5M, description: Any.}
  words.txt: {acceptedMediaTypes: [text/plain], maxSize: 1k, description: Some.}
outputs:
  results.json: {mediaType: application/json, maxSize: 2M, description: Louder.}
  scan: {mediaType: image/png, maxSize: 3M, description: As it was.}
resources: {memory: {size: 512M}, cpu: {count: 1.5}, gpu: {count: 2}}
timeout: {status: 60s, run: 20s}
features:
  adversarialDefense: true
  maxBatchSize: 1
  retrainable: true
  resultsFormat: imageClassification
  driftFormat: imageDrift
  explanationFormat: imageExplanation
"""

MODEL = """
from typing import Annotated, TypedDict
from omi_runtime import Bytes, Model
class Answer(TypedDict):
    upper: str
    scan: Annotated[bytes, Bytes("image/png")]
class Upper(Model):
    def predict(
        self, picture: Annotated[bytes, Bytes("image/png", "image/jpeg")], words: str
    ) -> Answer:
        return {"upper": words.upper(), "scan": picture}
"""


def test_a_status_has_all_that_model_yaml_says(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(YAML)
    (tmp_path / "model.py").write_text(MODEL)
    picture = pb.ModelInput(
        filename="picture.png",
        accepted_media_types=["image/png", "image/jpeg"],
        max_size="5M",
        description="Any.",
    )
    words = pb.ModelInput(filename="words.txt", accepted_media_types=["text/plain"], max_size="1k")
    words.description = "Some."
    results = pb.ModelOutput(filename="results.json", media_type="application/json")
    results.max_size, results.description = "2M", "Louder."
    scan = pb.ModelOutput(filename="scan", media_type="image/png", max_size="3M")
    scan.description = "As it was."
    server = serve(str(tmp_path), "omi")
    assert status(server) == pb.StatusResponse(
        status_code=200,
        status="OK",
        message="Model Initialized Successfully.",
        model_info=pb.ModelInfo(
            model_name="upper",
            model_version="1.2.3",
            model_author="Ada <ada@example.org>",
            model_type="file",
            source="https://example.org/upper",
        ),
        description=pb.ModelDescription(summary="S", details="D", technical="T", performance="P"),
        inputs=[picture, words],
        outputs=[results, scan],
        resources=pb.ModelResources(required_ram="512M", num_cpus=1.5, num_gpus=2),
        timeout=pb.ModelTimeout(status="60s", run="20s"),
        features=pb.ModelFeatures(
            adversarial_defense=True,
            batch_size=1,
            retrainable=True,
            results_format="imageClassification",
            drift_format="imageDrift",
            explanation_format="imageExplanation",
        ),
    )
    answer = run(server, [{"picture.jpg": b"\xff", "words.txt": b"a"}])
    assert dict(answer.outputs[0].output) == result('{"upper":"A"}') | {"scan": b"\xff"}
    request = inference_pb2.ContainerInfoRequest()
    info = call(
        server,
        "/openmodel.v2.InferenceService/GetContainerInfo",
        request,
        inference_pb2.OpenModelContainerInfo.FromString,
    )
    assert (info.author.name, info.author.email) == ("Ada", "ada@example.org")
    assert info.biography.summary == "S"


def test_a_full_queue_fails_all_items_of_the_run(serve: Serve, gate: Gate) -> None:
    server = serve("Gate", "omi", OMI_QUEUE_SIZE="1")
    path = {"path": str(gate.path).encode()}
    with gate.occupied(lambda: run(server, [path])) as first:
        refused = run(server, [path, path, path])
        assert (refused.status_code, refused.status) == (503, "Service Unavailable")
        assert "OMI_QUEUE_SIZE is 1" in refused.message
        assert len(refused.outputs) == 3
        for output in refused.outputs:
            assert dict(output.output) == {"error": (PREFIX + refused.message).encode()}
            assert not output.success
    assert dict(first.result().outputs[0].output) == result('"open"')


def test_items_of_different_shapes_are_one_request_to_the_queue(serve: Serve) -> None:
    """A request larger than the queue is taken when nothing else waits, whatever its shapes."""
    server = serve("Names", "omi", OMI_QUEUE_SIZE="2")
    alike = run(server, [{"names": b'["a"]'}] * 4)
    assert [output.success for output in alike.outputs] == [True] * 4
    mixed = run(server, [{"names": b'["a"]'}, {"names": b'["a", "b"]'}, {"names": b"[]"}])
    assert (mixed.status_code, mixed.message) == (200, "Inference executed")
    assert [output.success for output in mixed.outputs] == [True] * 3


def test_thirty_megabytes_both_ways(serve: Serve) -> None:
    data = bytes(range(256)) * (30 * MEGABYTE // 256)
    answer = run(serve("Blob", "omi"), [{"blob": data}])
    assert answer.outputs[0].success
    assert answer.outputs[0].output["mirrored"] == data[::-1]


def test_bytes_that_are_no_message(serve: Serve) -> None:
    with channel(serve("Total", "omi")) as connection:
        call = connection.unary_unary("/ModzyModel/Run")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\x0a\xff\xff", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_method_that_is_not_there(serve: Serve) -> None:
    with channel(serve("Total", "omi")) as connection, pytest.raises(grpc.RpcError) as caught:
        connection.unary_unary("/ModzyModel/Train")(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_shutdown_is_answered_and_then_the_process_ends_well(serve: Serve) -> None:
    server = serve("Total", "omi", MODEL_NAME="ending")
    answer = shutdown(server)
    assert answer == pb.ShutdownResponse(
        status_code=200, status="OK", message="Model Shutdown Successfully."
    )
    assert server.wait() == 0


def test_shutdown_may_be_switched_off(serve: Serve) -> None:
    server = serve("Total", "omi", OMI_ALLOW_SHUTDOWN="off")
    with pytest.raises(grpc.RpcError) as caught:
        shutdown(server)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "OMI_ALLOW_SHUTDOWN" in caught.value.details()
    assert run(server, [{"values": b"[1, 2]"}]).outputs[0].success


@pytest.mark.parametrize("settings", [{"INTERFACE": "modzy", "PROTOCOL": "v2"}], ids=["modzy-v2"])
def test_the_same_service_under_its_other_name(serve: Serve, settings: dict[str, str]) -> None:
    answer = run(serve("Words", "modzy", **settings), [{"text": b"a"}])
    assert dict(answer.outputs[0].output) == result('"A"')


SERVING, NOT_SERVING = 1, 2


SERVICES = ["ModzyModel", "openmodel.v2.InferenceService"]


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_check(serve: Serve, service: str) -> None:
    assert check(serve("Total", "omi"), service).status == SERVING


def test_health_of_an_unknown_service(serve: Serve) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(serve("Total", "omi"), "inference.GRPCInferenceService")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with channel(serve("Total", "omi")) as connection:
        answers = watch(connection, "inference.GRPCInferenceService")
        assert next(answers).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        answers.cancel()


def test_health_list(serve: Serve) -> None:
    request = health_pb2.HealthListRequest().SerializeToString()
    with channel(serve("Total", "omi")) as connection:
        answer = health_pb2.HealthListResponse.FromString(
            connection.unary_unary("/grpc.health.v1.Health/List")(request, timeout=PATIENCE)
        )
    listed = {name: status.status for name, status in answer.statuses.items()}
    assert listed == dict.fromkeys(["", *SERVICES], SERVING)


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_is_watched_from_a_failed_load_to_the_end(
    service: str, serve: Serve, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    settings = {"FRAGILE_KEY": str(key), "OMI_LOAD_GRACE": "300", "OMI_DRAIN_DELAY": "2"}
    server = serve("Fragile", "omi", **settings)
    with channel(server) as connection:
        answers = watch(connection, service)
        assert next(answers).status == NOT_SERVING
        assert status(server).status_code == 500
        assert check(server, service).status == NOT_SERVING
        key.touch()
        assert status(server).status_code == 200
        assert next(answers).status == SERVING
        assert check(server, service).status == SERVING
        server.signal()
        # From the first moment of the drain, while calls are still answered.
        assert next(answers).status == NOT_SERVING
        assert check(server, service).status == NOT_SERVING
        assert run(server, [{"text": b"a"}]).outputs[0].success
        stopping = status(server)
        assert (stopping.status_code, stopping.status) == (503, "Service Unavailable")
        assert stopping.message == "Model is shutting down."
        assert stopping.model_info.model_name == "fragile"
        assert list(answers) == []
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("version", "module"), [("v1", reflection_pb2), ("v1alpha", reflection_v1alpha_pb2)]
)
def test_reflection_lists_the_services(serve: Serve, version: str, module: Any) -> None:
    request = module.ServerReflectionRequest(list_services="").SerializeToString()
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    with channel(serve("Total", "omi")) as connection:
        (answer,) = connection.stream_stream(method)(iter([request]), timeout=PATIENCE)
    listed = module.ServerReflectionResponse.FromString(answer).list_services_response.service
    assert [service.name for service in listed] == [
        "ModzyModel",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "openmodel.v2.InferenceService",
    ]


@contextmanager
def channel(server: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", 64 * MEGABYTE)]
    with grpc.insecure_channel(server.address, options) as connection:
        yield connection


def call(server: Server, method: str, request: Any, answer_type: Callable[[bytes], Any]) -> Any:
    with channel(server) as connection:
        raw = connection.unary_unary(method)(request.SerializeToString(), timeout=PATIENCE)
    return answer_type(raw)


def run(server: Server, items: list[dict[str, bytes]], **flags: bool) -> Any:
    request = pb.RunRequest(inputs=[pb.InputItem(input=item) for item in items], **flags)
    return call(server, "/ModzyModel/Run", request, pb.RunResponse.FromString)


def status(server: Server) -> Any:
    return call(server, "/ModzyModel/Status", pb.StatusRequest(), pb.StatusResponse.FromString)


def shutdown(server: Server) -> Any:
    request, answer_type = pb.ShutdownRequest(), pb.ShutdownResponse.FromString
    return call(server, "/ModzyModel/Shutdown", request, answer_type)


def check(server: Server, service: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    answer_type = health_pb2.HealthCheckResponse.FromString
    return call(server, "/grpc.health.v1.Health/Check", request, answer_type)


def watch(connection: grpc.Channel, service: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    method = connection.unary_stream(
        "/grpc.health.v1.Health/Watch",
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return method(request, timeout=PATIENCE)
