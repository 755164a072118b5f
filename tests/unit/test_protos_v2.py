"""The messages of OpenModel v2: every field's number, name and type as the draft has them."""

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from omi_grpc._pb import inference_pb2, results_pb2
from test_protos import described

CLASS = {1: "class string", 2: "score double"}
XY = {1: "x int64", 2: "y int64"}
PACKAGE = "openmodel.v2."
DURATION = "google.protobuf.Duration"

INFERENCE = {
    "StatusRequest": {},
    "StatusResponse": {1: "status enum"},
    "ContainerInfoRequest": {},
    "Author": {1: "name string", 2: "email string"},
    "Biography": {1: "summary string"},
    "OpenModelContainerInfo": {
        1: "name string",
        2: "version string",
        3: f"author {PACKAGE}Author",
        4: f"biography {PACKAGE}Biography",
    },
    "Input": {1: "key string", 2: "text string", 3: "data bytes"},
    "PredictRequest": {1: f"inputs repeated {PACKAGE}Input", 10: "tags map<string,string>"},
    "PredictionTimings": {
        1: f"model_execution {DURATION}",
        2: f"preprocessing {DURATION}",
        3: f"postprocessing {DURATION}",
        4: f"formatting {DURATION}",
        5: f"total {DURATION}",
    },
    "PredictResponse": {
        1: f"outputs repeated {PACKAGE}PredictionOutput",
        2: f"explanation {PACKAGE}Explanation",
        3: f"drift {PACKAGE}ModelDrift",
        7: "success bool",
        8: "error string",
        9: f"timings {PACKAGE}PredictionTimings",
        10: "tags map<string,string>",
    },
    "ShutdownRequest": {},
    "ShutdownResponse": {},
}

RESULTS = {
    "BoundingBox": XY | {3: "width int64", 4: "height int64"},
    "Point": XY,
    "ImageMask": {
        1: "original_width int64",
        2: "original_height int64",
        3: "rle repeated int64",
        4: "image repeated bytes",
        5: f"points repeated {PACKAGE}Point",
    },
    "TextSpan": {1: "start int64", 2: "end int64", 3: "text string"},
    "ClassPrediction": CLASS,
    "ClassificationResult": {1: f"class_predictions repeated {PACKAGE}ClassPrediction"},
    "MultiClassificationResult": {1: f"classifications repeated {PACKAGE}ClassificationResult"},
    "Detection": CLASS | {3: f"bounding_box {PACKAGE}BoundingBox"},
    "ObjectDetectionResult": {1: f"detections repeated {PACKAGE}Detection"},
    "Segment": CLASS
    | {3: f"image_mask {PACKAGE}ImageMask", 4: f"bounding_box {PACKAGE}BoundingBox"},
    "SegmentationResult": {1: f"segments repeated {PACKAGE}Segment"},
    "NamedEntity": {
        1: "entity_group string",
        2: "score double",
        3: f"text_span {PACKAGE}TextSpan",
    },
    "NamedEntityResult": {1: f"entities repeated {PACKAGE}NamedEntity"},
    "TextResult": {1: "text string"},
    "ImageResult": {1: "data bytes"},
    "DataResult": {1: "data bytes", 2: "content_type string"},
    "PredictionOutput": {
        1: "key string",
        4: f"classification {PACKAGE}ClassificationResult",
        5: f"multi_classification {PACKAGE}MultiClassificationResult",
        6: f"object_detection {PACKAGE}ObjectDetectionResult",
        7: f"segmentation {PACKAGE}SegmentationResult",
        8: f"named_entity {PACKAGE}NamedEntityResult",
        9: f"text {PACKAGE}TextResult",
        10: f"image {PACKAGE}ImageResult",
        11: f"data {PACKAGE}DataResult",
    },
    "NoExplanation": {},
    "ImageExplanation": {1: f"mask {PACKAGE}ImageMask"},
    "TextSpanScore": {1: f"text_span {PACKAGE}TextSpan", 2: "score double"},
    "TextClassExplanation": {1: "class string", 2: f"scores repeated {PACKAGE}TextSpanScore"},
    "TextExplanation": {1: f"class_results repeated {PACKAGE}TextClassExplanation"},
    "Explanation": {
        1: f"image {PACKAGE}ImageExplanation",
        2: f"text {PACKAGE}TextExplanation",
        3: f"none {PACKAGE}NoExplanation",
    },
    "DataDrift": {1: "score double"},
    "ModelDrift": {1: f"data_drift {PACKAGE}DataDrift"},
}

ONEOFS = {
    "Input": {"source": [2, 3]},
    "PredictionOutput": {"result": [4, 5, 6, 7, 8, 9, 10, 11]},
    "Explanation": {"explanation": [1, 2, 3]},
}


def test_the_fields_are_those_of_the_draft() -> None:
    for module, expected in ((inference_pb2, INFERENCE), (results_pb2, RESULTS)):
        messages = module.DESCRIPTOR.message_types_by_name
        assert {name: described(message) for name, message in messages.items()} == expected
        for name, message in messages.items():
            oneofs = {oneof.name: [f.number for f in oneof.fields] for oneof in message.oneofs}
            assert oneofs == ONEOFS.get(name, {})


def test_the_numbers_that_the_draft_keeps_free_cannot_be_used() -> None:
    def reserved(module: object, name: str) -> list[tuple[int, int]]:
        file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        (message,) = (m for m in file.message_type if m.name == name)
        return [(span.start, span.end - 1) for span in message.reserved_range]

    assert reserved(inference_pb2, "PredictRequest") == [(2, 2)]
    assert reserved(results_pb2, "PredictionOutput") == [(3, 3)]


def test_the_methods_are_those_of_the_draft() -> None:
    file = FileDescriptorProto.FromString(inference_pb2.DESCRIPTOR.serialized_pb)
    (service,) = file.service
    assert f"{file.package}.{service.name}" == "openmodel.v2.InferenceService"
    assert {
        m.name: (m.input_type, m.output_type, m.client_streaming, m.server_streaming)
        for m in service.method
    } == {
        name: (f".openmodel.v2.{request}", f".openmodel.v2.{response}", streams, streams)
        for name, request, response, streams in (
            ("Status", "StatusRequest", "StatusResponse", False),
            ("GetContainerInfo", "ContainerInfoRequest", "OpenModelContainerInfo", False),
            ("Predict", "PredictRequest", "PredictResponse", False),
            ("PredictStream", "PredictRequest", "PredictResponse", True),
            ("Shutdown", "ShutdownRequest", "ShutdownResponse", False),
        )
    }


def test_the_words_of_a_status() -> None:
    assert dict(inference_pb2.StatusResponse.Status.items()) == {"UNKNOWN_STATUS": 0, "OK": 1}
