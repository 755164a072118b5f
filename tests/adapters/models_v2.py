"""Models with typed answers, and models of streams: each shows one thing that OpenModel v2 can."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from omi_runtime import Bytes, InvalidInput, Json, Model, Tensor, Text, current_request, results

BOX = results.BoundingBox(x=1, y=2, width=3, height=4)
MASK = results.ImageMask.of(np.array([[0, 1], [0, 1]]))
PETS = results.Classification.of({"dog": 0.25, "cat": 0.75})


class Answers(TypedDict):
    """One output of every kind."""

    kind: results.Classification
    kinds: results.MultiClassification
    objects: results.ObjectDetection
    parts: results.Segmentation
    names: results.NamedEntities
    text: results.Text
    picture: results.Image
    table: results.Data
    scores: Annotated[np.ndarray, Tensor("FP32", [2])]
    caption: Annotated[str, Text()]
    facts: Annotated[dict[str, Any], Json()]
    thumbnail: Annotated[bytes, Bytes("image/png")]
    sound: Annotated[bytes, Bytes("audio/wav")]


class Typed(Model):
    """Answers with everything, whatever it is asked."""

    version = "3.2.1"

    def predict(self, text: str) -> Answers:
        if text == "refuse":
            raise InvalidInput("this text is refused")
        if text == "raise":
            raise RuntimeError("this text is too much")
        span = results.TextSpan(start=0, end=3, text="Ada")
        score = float("nan") if text == "nan" else 0.5
        return {
            "kind": PETS,
            "kinds": results.MultiClassification(classifications=[PETS, PETS]),
            "objects": results.ObjectDetection(
                detections=[results.Detection(label="cat", score=score, bounding_box=BOX)]
            ),
            "parts": results.Segmentation(
                segments=[results.Segment(label="cat", score=np.float32(0.5), image_mask=MASK)]
            ),
            "names": results.NamedEntities(
                entities=[results.NamedEntity(entity_group="PER", score=0.5, text_span=span)]
            ),
            "text": results.Text(text=text),
            "picture": results.Image(data=b"\x89PNG\xff"),
            "table": results.Data(data=b"a,b\n", content_type="text/csv"),
            "scores": np.array([0.5, 1.5], np.float32),
            "caption": "a cat",
            "facts": {"legs": 4},
            "thumbnail": b"\x89PNG",
            "sound": b"RIFF\xff",
        }

    def explain(self, text: str) -> Any:
        match text:
            case "image":
                return results.ImageExplanation(mask=MASK)
            case "text":
                span = results.TextSpan(start=0, end=4, text="text")
                part = results.TextSpanScore(text_span=span, score=0.75)
                return results.TextExplanation(
                    class_results=[results.TextClassExplanation(label="cat", scores=[part])]
                )
            case "fail":
                raise ArithmeticError("no explanation")
        return {"anything": "else"}

    def drift(self, text: str) -> Any:
        return {"score": 0.25} if text == "image" else 0.5 if text == "text" else "much"


class Stages(Model):
    """Sleeps in each of its stages."""

    def preprocess(self, number: int) -> dict[str, int]:
        time.sleep(0.01)
        return {"n": number}

    def predict(self, n: int) -> int:
        time.sleep(0.02)
        return n

    def postprocess(self, n: int) -> Annotated[int, Tensor("INT64", name="number")]:
        time.sleep(0.03)
        return n


class Doubled(Model):
    """Batched: doubles, and tells how large the batch was. Refuses 13."""

    max_batch_size = 16

    def predict(
        self, number: Annotated[np.ndarray, Tensor("INT64")]
    ) -> Annotated[np.ndarray, Tensor("INT64", [2], name="doubled")]:
        if (number == 13).any():
            raise InvalidInput("thirteen is refused")
        if (number < 0).any():
            time.sleep(float(-number.min()) / 1000)
        return np.stack([number * 2, np.full_like(number, len(number))], axis=1)


class Counting(Model):
    """Yields the numbers below the one that it is given; 13 fails half way. Notes what happens."""

    def predict(self, number: int) -> Iterator[Annotated[int, Tensor("INT64", name="counted")]]:
        notes = Path(os.environ["NOTES"])
        request = current_request()
        try:
            for i in range(number):
                if number == 13 and i == 6:
                    raise RuntimeError("halfway to thirteen")
                if number > 1000:
                    time.sleep(0.001)
                with notes.open("a") as file:
                    file.write(f"{i}\n")
                yield i
        finally:
            with notes.open("a") as file:
                file.write(f"end {number} cancelled={request.cancelled}\n")


class Payload(Model):
    """As many bytes as the number says, to fill whatever buffers there are."""

    def predict(self, number: int) -> Annotated[bytes, Bytes(name="payload")]:
        with Path(os.environ["NOTES"]).open("a") as file:
            file.write(f"{number}\n")
        return bytes(number)
