"""`openmodel.v2.InferenceService`: every kind of answer, errors, tags, timings, and the calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from golden_files import matches
from golden_servers import Gate, Serve, Server
from google.protobuf.json_format import MessageToDict
from omi_grpc._pb import inference_pb2 as pb
from omi_grpc.client import Client

PATIENCE = 60.0
MODELS = Path(__file__).with_name("models_v2.py")
IRIS = str(Path(__file__).parents[2] / "docs/examples/iris")
SERVICE = "/openmodel.v2.InferenceService"


@pytest.fixture
def typed(serve: Serve) -> Server:
    return serve(f"{MODELS}:Typed", "omi")


@contextmanager
def channel(server: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as connection:
        yield connection


def call(server: Server, method: str, request: Any, response: Any, **metadata: str) -> Any:
    with channel(server) as connection:
        stub = connection.unary_unary(
            f"{SERVICE}/{method}", type(request).SerializeToString, response.FromString
        )
        pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        return stub(request, timeout=PATIENCE, metadata=pairs)


def predict(server: Server, tags: dict[str, str] | None = None, /, **inputs: Any) -> Any:
    return call(server, "Predict", asked(tags, **inputs), pb.PredictResponse)


def asked(tags: dict[str, str] | None = None, /, **inputs: Any) -> pb.PredictRequest:
    """A request; strings go as text, bytes as data."""
    return pb.PredictRequest(
        inputs=[
            pb.Input(key=key, text=value)
            if isinstance(value, str)
            else pb.Input(key=key, data=value)
            for key, value in inputs.items()
        ],
        tags=tags,
    )


TYPED = {
    "kind": {
        "classPredictions": [{"class": "cat", "score": 0.75}, {"class": "dog", "score": 0.25}]
    },
    "kinds": {
        "classifications": [
            {"classPredictions": [{"class": "cat", "score": 0.75}, {"class": "dog", "score": 0.25}]}
        ]
        * 2
    },
    "objects": {
        "detections": [
            {
                "class": "cat",
                "score": 0.5,
                "boundingBox": {"x": 1, "y": 2, "width": 3, "height": 4},
            }
        ]
    },
    "parts": {
        "segments": [
            {
                "class": "cat",
                "score": 0.5,
                "imageMask": {
                    "originalWidth": 2,
                    "originalHeight": 2,
                    "rle": [2, 2],
                    "image": [],
                    "points": [],
                },
                "boundingBox": None,
            }
        ]
    },
    "names": {
        "entities": [
            {
                "entityGroup": "PER",
                "score": 0.5,
                "textSpan": {"start": 0, "end": 3, "text": "Ada"},
            }
        ]
    },
    "text": {"text": "hello"},
    "picture": {"data": "iVBOR/8="},
    "table": {"data": "YSxiCg==", "contentType": "text/csv"},
}
"""What the typed outputs are in JSON; in messages the same, but for what is empty."""

MEMBERS = {
    "kind": "classification",
    "kinds": "multiClassification",
    "objects": "objectDetection",
    "parts": "segmentation",
    "names": "namedEntity",
    "text": "text",
    "picture": "image",
    "table": "data",
}


def without_empty(value: Any) -> Any:
    """As protobuf's JSON has it: no empty fields, and 64 bit integers as strings."""
    if isinstance(value, dict):
        members = {key: without_empty(member) for key, member in value.items()}
        return {key: member for key, member in members.items() if member not in ([], None, "0")}
    if isinstance(value, list):
        return [without_empty(member) for member in value]
    return str(value) if isinstance(value, int) else value


def test_every_type_has_its_message(typed: Server) -> None:
    answer = predict(typed, text="hello")
    assert (answer.success, answer.error) == (True, "")
    said = {output.key: MessageToDict(output) for output in answer.outputs}
    for key, member in MEMBERS.items():
        assert said.pop(key) == {"key": key, member: without_empty(TYPED[key])}
    assert said == {
        "scores": {
            "key": "scores",
            "data": {"data": "WzAuNSwxLjVd", "contentType": "application/json"},  # [0.5,1.5]
        },
        "caption": {"key": "caption", "text": {"text": "a cat"}},
        "facts": {
            "key": "facts",
            "data": {"data": "eyJsZWdzIjo0fQ==", "contentType": "application/json"},
        },
        "thumbnail": {"key": "thumbnail", "image": {"data": "iVBORw=="}},
        "sound": {"key": "sound", "data": {"data": "UklGRv8=", "contentType": "audio/wav"}},
    }
    assert [output.key for output in answer.outputs][:3] == ["kind", "kinds", "objects"]


def test_a_score_that_a_message_cannot_hold_is_json(serve: Serve) -> None:
    answer = predict(serve(f"{MODELS}:Typed", "omi", OMI_NAN="null"), text="nan")
    (objects,) = [output for output in answer.outputs if output.key == "objects"]
    assert objects.data.content_type == "application/json"
    assert json.loads(objects.data.data)["detections"][0]["score"] is None


def test_the_numbers_of_the_fields(serve: Serve) -> None:
    """Without the help of generated classes."""
    server = serve(f"{MODELS}:Counting", "omi", NOTES="/dev/null")
    source = b"\x0a\x06number" + b"\x12\x012"  # key, text
    request = b"\x0a" + bytes([len(source)]) + source + b"\x52\x06\x0a\x01k\x12\x01v"
    with channel(server) as connection:
        answer = connection.unary_unary(f"{SERVICE}/Predict")(request, timeout=PATIENCE)
    data = b"\x12\x10application/json"
    first = b"\x0a\x07counted" + b"\x5a\x15" + b"\x0a\x010" + data
    second = b"\x0a\x07counted" + b"\x5a\x15" + b"\x0a\x011" + data
    begin = b"".join(b"\x0a" + bytes([len(output)]) + output for output in (first, second))
    assert answer.startswith(begin + b"\x38\x01" + b"\x4a")  # success; then the timings
    assert answer.endswith(b"\x52\x06\x0a\x01k\x12\x01v")


def test_tags_come_back_whatever_happens(typed: Server) -> None:
    tags = {"trace": "7", "ünï": "cøde", "": ""}
    assert dict(predict(typed, tags, text="hello").tags) == tags
    assert dict(predict(typed, tags, text="refuse").tags) == tags
    assert dict(predict(typed, tags).tags) == tags


FAILURES = {
    "the author refuses it": ({"text": "refuse"}, "this text is refused"),
    "the author's code raises": ({"text": "raise"}, "typed: RuntimeError: this text is too much"),
    "an input is missing": ({}, "input 'text' is missing: send one of text, text.txt, text.json"),
    "an extension that is not read": ({"text.xml": "a"}, "text: 'text.xml' is not read here; …"),
    "bytes that are no text": ({"text": b"\xff"}, "text: is not UTF-8: … at byte 0"),
}


@pytest.mark.parametrize("title", FAILURES)
def test_what_is_wrong_with_the_item_is_told_in_the_response(title: str, typed: Server) -> None:
    inputs, expected = FAILURES[title]
    answer = predict(typed, **inputs)
    assert not answer.success
    assert not answer.outputs
    assert matches(expected, answer.error), answer.error


def test_an_input_without_a_source_and_one_given_twice(typed: Server) -> None:
    request = pb.PredictRequest(inputs=[pb.Input(key="text")])
    answer = call(typed, "Predict", request, pb.PredictResponse)
    assert answer.error == "input 'text' has neither text nor data"
    twice = [pb.Input(key="text", text="a"), pb.Input(key="text", data=b"b")]
    answer = call(typed, "Predict", pb.PredictRequest(inputs=twice), pb.PredictResponse)
    assert answer.error == "input 'text' is given twice"


def test_a_full_queue_is_a_status_that_can_be_tried_again(serve: Serve, gate: Gate) -> None:
    server = serve("Gate", "omi", OMI_QUEUE_SIZE="1")
    with gate.occupied(lambda: predict(server, path=str(gate.path))) as first:
        with pytest.raises(grpc.RpcError) as caught:
            predict(server, path=str(gate.path))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "OMI_QUEUE_SIZE is 1" in caught.value.details()
    assert first.result().success


def test_time_that_is_over_is_a_status(serve: Serve) -> None:
    server = serve(f"{MODELS}:Doubled", "omi", OMI_TIMEOUT="0.2")
    with pytest.raises(grpc.RpcError) as caught:
        predict(server, number="-2000")
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "OMI_TIMEOUT" in caught.value.details()


def test_explanations_and_drift(typed: Server) -> None:
    def extras(text: str) -> tuple[Any, Any]:
        answer = call(
            typed,
            "Predict",
            asked(text=text),
            pb.PredictResponse,
            omi_explain="true",
            omi_detect_drift="true",
        )
        assert answer.success
        return MessageToDict(answer.explanation), MessageToDict(answer.drift)

    mask = {"originalWidth": "2", "originalHeight": "2", "rle": ["2", "2"]}
    assert extras("image") == ({"image": {"mask": mask}}, {"dataDrift": {"score": 0.25}})
    span = {"textSpan": {"end": "4", "text": "text"}, "score": 0.75}
    results = {"classResults": [{"class": "cat", "scores": [span]}]}
    assert extras("text") == ({"text": results}, {"dataDrift": {"score": 0.5}})
    assert extras("other") == ({"none": {}}, {})
    assert extras("fail") == ({"none": {}}, {})
    plain = predict(typed, text="image")
    assert not plain.HasField("explanation")
    assert not plain.HasField("drift")


def seconds(duration: Any) -> float:
    return duration.seconds + duration.nanos / 1e9


def test_the_stages_are_timed(serve: Serve) -> None:
    timings = predict(serve(f"{MODELS}:Stages", "omi"), number="1").timings
    assert seconds(timings.preprocessing) >= 0.01
    assert seconds(timings.model_execution) >= 0.02
    assert seconds(timings.postprocessing) >= 0.03
    assert 0 < seconds(timings.formatting) < 0.02
    stages = ("preprocessing", "model_execution", "postprocessing", "formatting")
    assert seconds(timings.total) >= sum(seconds(getattr(timings, stage)) for stage in stages)


def test_status_and_container_info(serve: Serve) -> None:
    server = serve(IRIS, "omi")
    status = call(server, "Status", pb.StatusRequest(), pb.StatusResponse)
    assert status.status == pb.StatusResponse.OK
    info = call(server, "GetContainerInfo", pb.ContainerInfoRequest(), pb.OpenModelContainerInfo)
    assert (info.name, info.version) == ("iris", "1.0.0")
    assert info.author == pb.Author(name="The omi-runtime authors")
    assert info.biography.summary.startswith("Names the species of an iris flower")


def test_a_failed_load_is_unavailable_until_a_status_loads_again(
    serve: Serve, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    server = serve("Fragile", "omi", FRAGILE_KEY=str(key), OMI_LOAD_GRACE="300")
    for method, request, response in (
        ("Status", pb.StatusRequest(), pb.StatusResponse),
        ("Predict", asked(text="a"), pb.PredictResponse),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(server, method, request, response)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the key is missing" in caught.value.details()
    info = call(server, "GetContainerInfo", pb.ContainerInfoRequest(), pb.OpenModelContainerInfo)
    assert info.name == "fragile"
    key.touch()
    status = call(server, "Status", pb.StatusRequest(), pb.StatusResponse)
    assert status.status == pb.StatusResponse.OK
    assert predict(server, text="a").outputs[0].text.text == "a"


def test_shutdown(serve: Serve) -> None:
    refusing = serve("Total", "omi", OMI_ALLOW_SHUTDOWN="off")
    with pytest.raises(grpc.RpcError) as caught:
        call(refusing, "Shutdown", pb.ShutdownRequest(), pb.ShutdownResponse)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    server = serve("Total", "omi", MODEL_NAME="ending-v2")
    call(server, "Shutdown", pb.ShutdownRequest(), pb.ShutdownResponse)
    assert server.wait() == 0


def test_nonsense(typed: Server) -> None:
    with channel(typed) as connection, pytest.raises(grpc.RpcError) as caught:
        connection.unary_unary(f"{SERVICE}/Predict")(b"\x0a\xff\xff", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_that_was_loaded_again_is_asked_as_it_is_now(servers: Any, tmp_path: Path) -> None:
    source = (
        "from omi_runtime import Model\n"
        "class Changing(Model):\n"
        "    def predict(self, {}) -> {}:\n"
        "        return {}\n"
    )
    model = tmp_path / "model.py"
    model.write_text(source.format("a: str", "str", "a.upper()"))
    server = servers(INTERFACE="kserve,omi", PSC_MODEL_PORT="0", OMI_MODEL=tmp_path, OMI_ADMIN="on")
    target, kserve = f"127.0.0.1:{server.port('omi')}", server.port("kserve")
    with Client(target, patience=PATIENCE) as client:
        assert client.run([{"a": "x"}])[0].result == "X"
        assert client.predict({"a": "x"}).outputs[0].text.text == "X"
        model.write_text(source.format("other: int", "int", "other + 1"))
        repository = f"http://127.0.0.1:{kserve}/v2/repository/models/changing"
        assert httpx.post(f"{repository}/unload", timeout=PATIENCE).status_code == 200
        status = client.status()
        assert (status.status_code, status.message) == (503, "Model is unloaded.")
        assert status.model_info.model_name == "changing"
        with Client(target, patience=0) as impatient, pytest.raises(grpc.RpcError) as caught:
            impatient.predict({"a": "x"})
        assert caught.value.details() == "the model is unloaded"
        assert httpx.post(f"{repository}/load", timeout=PATIENCE).status_code == 200
        assert client.status().status_code == 200
        assert client.run([{"other": 41}])[0].result == 42
        assert client.predict({"other": 41}).outputs[0].data.data == b"42"
        assert [each.success for each in client.stream([{"other": 1}, {"a": "x"}])] == [True, False]
