"""Typed results → messages of `openmodel.v2`; pure functions.

A model's Json outputs arrive here as the JSON that the other wires send. It is read back into the
author's own type, which says what it means.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from omi_grpc._pb import results_pb2 as pb
from omi_runtime.errors import OMIError

if TYPE_CHECKING:
    # It brings pydantic, which a model that answers with no such type has no use for.
    from pydantic import TypeAdapter

    from omi_runtime import results

logger = logging.getLogger(__name__)


def encoder(python_type: Any) -> Callable[[Any], dict[str, Any]] | None:
    """What turns the JSON of an output of this type into its message; None if there is none."""
    if not isinstance(python_type, type) or not hasattr(python_type, "__pydantic_core_schema__"):
        return None
    from omi_runtime import results  # noqa: PLC0415 - see above

    table: dict[type, tuple[str, Callable[[Any], Any]]] = {
        results.Classification: ("classification", _classification),
        results.MultiClassification: ("multi_classification", _multi_classification),
        results.ObjectDetection: ("object_detection", _object_detection),
        results.Segmentation: ("segmentation", _segmentation),
        results.NamedEntities: ("named_entity", _named_entities),
        results.Text: ("text", lambda value: pb.TextResult(text=value.text)),
        results.Image: ("image", lambda value: pb.ImageResult(data=value.data)),
        results.Data: ("data", _data),
    }
    for known, (member, convert) in table.items():
        if issubclass(python_type, known):
            read: Callable[[bytes], Any] = python_type.model_validate_json  # type: ignore[attr-defined]
            return lambda value: {member: convert(read(orjson.dumps(value)))}
    return None


def set_explanation(message: pb.Explanation, value: Any) -> None:
    """An explanation of a type that the messages have; `none` otherwise, or if it failed."""
    try:
        explanation = None if isinstance(value, OMIError) else _explanation(orjson.dumps(value))
    except ValueError:
        logger.info("an explanation that is no type of omi_runtime.results cannot be told here")
        explanation = None
    if explanation is None:
        message.none.SetInParent()
    elif hasattr(explanation, "mask"):
        message.image.mask.CopyFrom(_mask(explanation.mask))
    else:
        message.text.CopyFrom(_text_explanation(explanation))


def set_drift(message: pb.ModelDrift, value: Any) -> None:
    """A drift that is a number, or an object with a number `score`."""
    content = None if isinstance(value, OMIError) else orjson.loads(orjson.dumps(value))
    score = content.get("score") if isinstance(content, dict) else content
    if isinstance(score, int | float):
        message.data_drift.score = score
    else:
        logger.info("a drift that is no number and has no score cannot be told here")


def _explanation(text: bytes) -> results.ImageExplanation | results.TextExplanation:
    return _explanations().validate_json(text)


@cache
def _explanations() -> TypeAdapter[results.ImageExplanation | results.TextExplanation]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - see above

    from omi_runtime import results  # noqa: PLC0415 - see above

    return TypeAdapter(results.ImageExplanation | results.TextExplanation)


def _classification(value: results.Classification) -> pb.ClassificationResult:
    return pb.ClassificationResult(
        class_predictions=[
            pb.ClassPrediction(**{"class": prediction.label}, score=prediction.score)
            for prediction in value.class_predictions
        ]
    )


def _multi_classification(value: results.MultiClassification) -> pb.MultiClassificationResult:
    return pb.MultiClassificationResult(
        classifications=[_classification(part) for part in value.classifications]
    )


def _object_detection(value: results.ObjectDetection) -> pb.ObjectDetectionResult:
    return pb.ObjectDetectionResult(
        detections=[
            pb.Detection(
                **{"class": detection.label},
                score=detection.score,
                bounding_box=_box(detection.bounding_box),
            )
            for detection in value.detections
        ]
    )


def _segmentation(value: results.Segmentation) -> pb.SegmentationResult:
    return pb.SegmentationResult(
        segments=[
            pb.Segment(
                **{"class": segment.label},
                score=segment.score,
                image_mask=_mask(segment.image_mask),
                bounding_box=_box(segment.bounding_box),
            )
            for segment in value.segments
        ]
    )


def _named_entities(value: results.NamedEntities) -> pb.NamedEntityResult:
    return pb.NamedEntityResult(
        entities=[
            pb.NamedEntity(
                entity_group=entity.entity_group,
                score=entity.score,
                text_span=_span(entity.text_span),
            )
            for entity in value.entities
        ]
    )


def _data(value: results.Data) -> pb.DataResult:
    return pb.DataResult(data=value.data, content_type=value.content_type)


def _text_explanation(value: results.TextExplanation) -> pb.TextExplanation:
    return pb.TextExplanation(
        class_results=[
            pb.TextClassExplanation(
                **{"class": part.label},
                scores=[
                    pb.TextSpanScore(text_span=_span(each.text_span), score=each.score)
                    for each in part.scores
                ],
            )
            for part in value.class_results
        ]
    )


def _box(value: results.BoundingBox | None) -> pb.BoundingBox | None:
    if value is None:
        return None
    return pb.BoundingBox(x=value.x, y=value.y, width=value.width, height=value.height)


def _mask(value: results.ImageMask) -> pb.ImageMask:
    return pb.ImageMask(
        original_width=value.original_width,
        original_height=value.original_height,
        rle=value.rle,
        image=value.image,
        points=[pb.Point(x=point.x, y=point.y) for point in value.points],
    )


def _span(value: results.TextSpan) -> pb.TextSpan:
    return pb.TextSpan(start=value.start, end=value.end, text=value.text)
