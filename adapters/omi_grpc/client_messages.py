"""What the clients send and what comes back: pure functions, without a connection."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from omi_grpc._pb import inference_pb2, model_pb2
from omi_runtime import jsontext
from omi_runtime.card import RESULTS_FILE
from omi_runtime.errors import InferenceFailed, ModelNotReady
from omi_runtime.items import ERROR_FILE

STATUS: Final = "/ModzyModel/Status"
RUN: Final = "/ModzyModel/Run"
SHUTDOWN: Final = "/ModzyModel/Shutdown"
STATUS_V2: Final = "/openmodel.v2.InferenceService/Status"
PREDICT: Final = "/openmodel.v2.InferenceService/Predict"
PREDICT_STREAM: Final = "/openmodel.v2.InferenceService/PredictStream"

Inputs = Mapping[str, Any]
"""One item: bytes as they are, text as UTF-8, anything else, numpy's arrays too, as JSON."""

Item = Inputs | inference_pb2.PredictRequest
"""One item of a stream: a request may have tags, which tell whose answer a response is."""

Metadata = tuple[tuple[str, str], ...]


class PredictionFailed(InferenceFailed):
    """An item failed; the text is the server's."""


class NotLoaded(ModelNotReady):
    """The model failed to load; the text is the server's."""


@dataclass(frozen=True)
class Answer:
    """What one item is answered with.

    Attributes:
        files: contents by name; of an item that failed, empty.
        error: what went wrong, or empty.
    """

    files: Mapping[str, bytes]
    error: str = ""

    @property
    def data(self) -> Any:
        """The content of `results.json`.

        Raises:
            PredictionFailed: the item failed.
        """
        self.raise_error()
        return orjson.loads(self.files[RESULTS_FILE])

    @property
    def result(self) -> Any:
        """What is under `data.result` in `results.json`; where there is no such key, all of it.

        Raises:
            PredictionFailed: the item failed.
        """
        content = self.data
        try:
            return content["data"]["result"]
        except (KeyError, TypeError, IndexError):
            return content

    def raise_error(self) -> None:
        """Raise PredictionFailed if the item failed."""
        if self.error:
            raise PredictionFailed(self.error)


def run_request(
    items: Iterable[Inputs], *, explain: bool, detect_drift: bool
) -> model_pb2.RunRequest:
    """Items as `ModzyModel` takes them.

    Raises:
        ValueError: an input that would be sent as JSON holds NaN or infinity.
        TypeError: or is of a type that JSON does not know; or `items` are no items.
    """
    _check_items(items)
    return model_pb2.RunRequest(
        inputs=[
            model_pb2.InputItem(
                input={key: _as_bytes(key, value) for key, value in _named(item, "items: each")}
            )
            for item in items
        ],
        explain=explain,
        detect_drift=detect_drift,
    )


def answers(response: model_pb2.RunResponse, n: int) -> list[Answer]:
    """The answers to n items.

    Raises:
        ValueError: there are more, or fewer: Chassis answers a failed batch with none.
    """
    if len(response.outputs) != n:
        raise ValueError(
            f"the server answered {n} items with {len(response.outputs)} outputs: "
            f"{response.status_code} {response.message}"
        )
    return [_answer(item) for item in response.outputs]


def check_loaded(status: model_pb2.StatusResponse) -> None:
    """Raise NotLoaded if a status says so."""
    if status.status_code != 200:
        raise NotLoaded(f"{status.status_code} {status.status}: {status.message}")


def predict_request(
    inputs: Inputs, tags: Mapping[str, str] | None = None, argument: str = "inputs:"
) -> inference_pb2.PredictRequest:
    """One item as OpenModel v2 takes it; raises what `run_request` raises."""
    return inference_pb2.PredictRequest(
        inputs=[
            inference_pb2.Input(key=key, text=value)
            if isinstance(value, str)
            else inference_pb2.Input(key=key, data=_as_bytes(key, value))
            for key, value in _named(inputs, argument)
        ],
        tags=tags,
    )


class StreamRequests:
    """A stream's requests, made of items however they come.

    gRPC hides what an iterator raises. So an item that cannot be sent, or did not come, ends the
    requests, and `raise_failure` says why when those before it are answered.
    """

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item]) -> None:
        _check_items(items)
        self._items = items
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[inference_pb2.PredictRequest]:
        assert not isinstance(self._items, AsyncIterable), "only AsyncClient is given such"
        try:
            for item in self._items:
                yield _as_request(item)
        except Exception as error:  # noqa: BLE001 - raised where somebody sees it
            self._failure = error

    async def __aiter__(self) -> AsyncIterator[inference_pb2.PredictRequest]:
        if not isinstance(self._items, AsyncIterable):
            for request in self:
                yield request
            return
        try:
            async for item in self._items:
                yield _as_request(item)
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = error

    def raise_failure(self) -> None:
        """Raise what ended the requests before their time."""
        if self._failure is not None:
            raise self._failure


def metadata(*, explain: bool, detect_drift: bool) -> Metadata:
    """What asks for explanation and drift over OpenModel v2."""
    asked = (("omi-explain", explain), ("omi-detect-drift", detect_drift))
    return tuple((key, "true") for key, wanted in asked if wanted)


def _check_items(items: object) -> None:
    if isinstance(items, Mapping):
        raise TypeError("items: expected a list of mappings from names to values, got one mapping")


def _named(inputs: object, argument: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(inputs, Mapping):
        kind = type(inputs).__name__
        raise TypeError(f"{argument} expected a mapping from names to values, got {kind}")
    return inputs.items()


def _as_request(item: Item) -> inference_pb2.PredictRequest:
    if isinstance(item, inference_pb2.PredictRequest):
        return item
    return predict_request(item, argument="items: each")


def _answer(item: model_pb2.OutputItem) -> Answer:
    files = dict(item.output)
    # Chassis says success of an item that failed: the key counts.
    if ERROR_FILE in files or not item.success:
        error = files.get(ERROR_FILE, b"").decode(errors="replace")
        return Answer({}, error or "the server gave no reason")
    return Answer(files)


def _as_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    try:
        return jsontext.encode(value)
    except ValueError as error:
        raise ValueError(f"input {name!r} {error}: send it as bytes, such as .npy") from None
    except TypeError as error:
        raise TypeError(f"input {name!r} cannot be sent as JSON: {error}") from None
