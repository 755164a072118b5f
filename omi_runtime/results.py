"""Typed answers that every interface encodes: classes, boxes, masks, entities, pictures.

A model hints one of these types as its output and returns an instance. On the wires that carry
JSON or files it is JSON with camelCase keys, as Modzy's results formats have it, such as
`{"classPredictions": [{"class": "cat", "score": 0.9}]}`; bytes are base64. The OpenModel v2
interface has a message for each, with the same content.

    from omi_runtime import Model
    from omi_runtime.results import Classification

    class Pets(Model):
        def predict(self, image: bytes) -> Classification:
            return Classification.of({"cat": 0.9, "dog": 0.1})

This module imports pydantic, and so is imported only by models that use it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


def _from_base64(value: Any) -> Any:
    """What JSON has for bytes; an author gives the bytes themselves."""
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


def _to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _from_numpy(value: Any) -> Any:
    """Models have their numbers from numpy, whose scalars pydantic does not take."""
    return value.item() if isinstance(value, np.generic) else value


Binary = Annotated[
    bytes, BeforeValidator(_from_base64), PlainSerializer(_to_base64, when_used="json")
]
Number = Annotated[float, BeforeValidator(_from_numpy)]
Pixels = Annotated[int, BeforeValidator(_from_numpy)]
Label = Annotated[str, Field(validation_alias="class", serialization_alias="class")]


class _Typed(BaseModel):
    """What the types have in common: camelCase on the wire, and no unknown keys."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


# --- what stands in an image or a text ---


class BoundingBox(_Typed):
    """A rectangle, in pixels of the original image from its top left corner."""

    x: Pixels
    y: Pixels
    width: Pixels
    height: Pixels


class Point(_Typed):
    """A pixel of the original image."""

    x: Pixels
    y: Pixels


class ImageMask(_Typed):
    """A part of an image: as runs of pixels, as encoded images, or as a polygon.

    Attributes:
        original_width, original_height: of the image, in pixels.
        rle: lengths of runs column by column (Fortran order), of pixels outside, inside, outside
            and so on; the first is 0 if the first pixel is inside.
        image: encoded images, such as PNG.
        points: corners of a polygon.
    """

    original_width: Pixels
    original_height: Pixels
    rle: list[Pixels] = []
    image: list[Binary] = []
    points: list[Point] = []

    @classmethod
    def of(cls, mask: np.ndarray[Any, Any]) -> Self:
        """The runs of a mask of shape (height, width): what is not zero is inside."""
        height, width = mask.shape
        pixels = np.asarray(mask, bool).ravel(order="F")
        changes = np.flatnonzero(np.diff(pixels, prepend=False))
        runs = np.diff(changes, prepend=0, append=pixels.size)
        return cls(original_width=width, original_height=height, rle=runs.tolist())


class TextSpan(_Typed):
    """A part of a text: characters `start` to `end`, the last not included."""

    start: Pixels
    end: Pixels
    text: str = ""


# --- results ---


class ClassPrediction(_Typed):
    """One class and how likely it is; `class` on the wire, which Python keeps to itself."""

    label: Label
    score: Number


class Classification(_Typed):
    """What an item is, the likeliest class first (Modzy's `imageClassification`)."""

    class_predictions: list[ClassPrediction]

    @classmethod
    def of(cls, scores: Mapping[str, float] | Iterable[tuple[str, float]], top: int = 0) -> Self:
        """From scores by label, sorted; of all, or of the `top` likeliest."""
        pairs = scores.items() if isinstance(scores, Mapping) else scores
        ranked = sorted(pairs, key=lambda pair: -pair[1])[: top or None]
        return cls(class_predictions=[ClassPrediction(label=k, score=v) for k, v in ranked])


class MultiClassification(_Typed):
    """Several questions about one item, each with its own classes."""

    classifications: list[Classification]


class Detection(_Typed):
    """One object that was found."""

    label: Label
    score: Number
    bounding_box: BoundingBox


class ObjectDetection(_Typed):
    """The objects in an image."""

    detections: list[Detection]


class Segment(_Typed):
    """One part of an image and what it shows."""

    label: Label
    score: Number
    image_mask: ImageMask
    bounding_box: BoundingBox | None = None


class Segmentation(_Typed):
    """The parts of an image."""

    segments: list[Segment]


class NamedEntity(_Typed):
    """One name that was found, such as a person's; `entity_group` is its kind."""

    entity_group: str
    score: Number
    text_span: TextSpan


class NamedEntities(_Typed):
    """The names in a text."""

    entities: list[NamedEntity]


class Text(_Typed):
    """A text, with a name of its own in JSON; a bare `str` is simpler where that will do."""

    text: str


class Image(_Typed):
    """An encoded image, such as PNG."""

    data: Binary


class Data(_Typed):
    """Anything else, in the form that its content type says."""

    data: Binary
    content_type: str = "application/octet-stream"


# --- explanations ---


class ImageExplanation(_Typed):
    """The part of an image that the prediction rests on."""

    mask: ImageMask


class TextSpanScore(_Typed):
    """How much a part of a text counts."""

    text_span: TextSpan
    score: Number


class TextClassExplanation(_Typed):
    """What counts for or against one class."""

    label: Label
    scores: list[TextSpanScore]


class TextExplanation(_Typed):
    """What in a text the prediction rests on, class by class."""

    class_results: list[TextClassExplanation]
