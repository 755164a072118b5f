"""Messages of `openmodel.v2.InferenceService` ↔ the core's types; pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration

from omi_grpc import convert_results
from omi_grpc._pb import inference_pb2 as pb
from omi_grpc._pb import results_pb2
from omi_runtime import codecs, jsontext
from omi_runtime.batch import Result
from omi_runtime.card import ModelCard
from omi_runtime.errors import InferenceFailed, InvalidInput, OMIError
from omi_runtime.items import Item
from omi_runtime.jsontext import NanPolicy
from omi_runtime.signature import Bytes, Field, Json, Signature, Text
from omi_runtime.timings import Timings

_Encode = Callable[[Any], dict[str, Any]]
"""One output's value → the member of PredictionOutput's oneof, by name."""


def item_from_message(message: pb.PredictRequest) -> Item:
    """An item's files by name; text is UTF-8.

    Raises:
        InvalidInput: an input comes twice, or without text or data.
    """
    item: dict[str, bytes] = {}
    for given in message.inputs:
        source = given.WhichOneof("source")
        if source is None:
            raise InvalidInput(f"input {given.key!r} has neither text nor data")
        if given.key in item:
            raise InvalidInput(f"input {given.key!r} is given twice")
        item[given.key] = given.data if source == "data" else given.text.encode()
    return item


def container_info(card: ModelCard) -> pb.OpenModelContainerInfo:
    """What the card says of the container; an author may be `Name <address>`."""
    found = re.fullmatch(r"(.*?)\s*<([^<>\s]+@[^<>\s]+)>", card.author)
    name, email = found.groups() if found else (card.author, "")
    return pb.OpenModelContainerInfo(
        name=card.name,
        version=card.version,
        author=pb.Author(name=name, email=email),
        biography=pb.Biography(summary=card.summary),
    )


class AnswerEncoder:
    """Writes the responses of one model.

    Args:
        signature: of the model; its outputs' types choose the typed results.
        nan: what becomes of NaN where an output is JSON.
    """

    def __init__(self, signature: Signature, nan: NanPolicy) -> None:
        self._fields = [(field, _encoder(field, nan)) for field in signature.outputs]

    def outputs(self, result: Result) -> list[results_pb2.PredictionOutput]:
        """The outputs of a result of one item.

        Raises:
            OMIError: the item failed, or cannot be written.
        """
        result.raise_error()
        return [
            results_pb2.PredictionOutput(key=field.name, **encode(result.columns[field.name][0]))
            for field, encode in self._fields
        ]


def answer(
    outputs: Iterable[results_pb2.PredictionOutput], tags: Mapping[str, str]
) -> pb.PredictResponse:
    """A response with success."""
    return pb.PredictResponse(outputs=outputs, success=True, tags=tags)


def failure(error: OMIError, tags: Mapping[str, str]) -> pb.PredictResponse:
    """A response without success."""
    return pb.PredictResponse(success=False, error=error.message, tags=tags)


def set_extras(response: pb.PredictResponse, result: Result) -> None:
    """Explanation and drift, where the messages have a form for what the model answered."""
    if result.explanation is not None:
        convert_results.set_explanation(response.explanation, result.explanation[0])
    if result.drift is not None:
        convert_results.set_drift(response.drift, result.drift[0])


def set_timings(
    response: pb.PredictResponse, timings: Timings, *, encoding: float, total: float
) -> None:
    """The stages' times, in seconds; `encoding` is what the adapter adds to the formatting."""
    message = response.timings
    _set_seconds(message.model_execution, timings.predict)
    _set_seconds(message.preprocessing, timings.preprocess)
    _set_seconds(message.postprocessing, timings.postprocess)
    _set_seconds(message.formatting, timings.formatting + encoding)
    _set_seconds(message.total, total)


def _set_seconds(duration: Duration, seconds: float) -> None:
    whole, rest = divmod(round(seconds * 1e9), 1_000_000_000)
    duration.seconds, duration.nanos = whole, rest


def _encoder(field: Field, nan: NanPolicy) -> _Encode:
    marker = field.marker
    if isinstance(marker, Text):
        return lambda value: {"text": results_pb2.TextResult(text=value)}
    if isinstance(marker, Bytes):
        media_type = marker.media_types[0]
        if media_type.startswith("image/"):
            return lambda value: {"image": results_pb2.ImageResult(data=value)}
        return lambda value: {"data": results_pb2.DataResult(data=value, content_type=media_type)}
    typed = convert_results.encoder(field.python_type) if isinstance(marker, Json) else None
    if typed is None:
        return lambda value: _as_json(field, value, nan)

    def encode(value: Any) -> dict[str, Any]:
        try:
            return typed(value)
        except ValueError:  # OMI_NAN=null writes a null that a typed score cannot be
            return _as_json(field, value, nan)

    return encode


def _as_json(field: Field, value: Any, nan: NanPolicy) -> dict[str, Any]:
    try:
        text = jsontext.dump_json(codecs.jsonable_item(field, value), nan)
    except InferenceFailed as error:
        raise InferenceFailed(f"output {field.name!r} {error.message}") from None
    return {"data": results_pb2.DataResult(data=text, content_type=codecs.JSON)}
