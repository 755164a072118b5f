"""Clients of OMI servers: ours, and those built with Chassis or from Modzy's template.

    with Client("localhost:45000") as client:
        for answer in client.run([{"measurements": [5.1, 3.5, 1.4, 0.2]}]):
            print(answer.result)

`status`, `run` and `shutdown` speak `ModzyModel`, which every OMI server has; `predict` and
`stream` speak `openmodel.v2.InferenceService`. A call that fails raises `grpc.RpcError`, an input
that cannot be sent ValueError or TypeError; an item that fails says so in its answer. A server that
is UNAVAILABLE, for it starts, is asked again.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from omi_grpc import client_messages as messages
from omi_grpc._pb import inference_pb2, model_pb2
from omi_grpc.client_messages import Answer, Inputs, Item, NotLoaded, PredictionFailed

__all__ = ["Answer", "AsyncClient", "Client", "Inputs", "NotLoaded", "PredictionFailed"]

C = TypeVar("C")
R = TypeVar("R", bound=Message)

PATIENCE: Final = 10.0
"""Seconds for which a server that is UNAVAILABLE is tried again, as Chassis's client has it."""
TIMEOUT: Final = 60.0
"""Seconds that a call may take."""

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 1.0
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that starts is tried as often as the calls are, and not once in two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class _Base(ABC, Generic[C]):
    """What the two clients have in common; `C` is their kind of channel.

    Args:
        target: `host:port`, `grpc://host:port`, or `grpcs://host:port` for TLS.
        timeout: seconds that each call may take, each try on its own; None is no limit.
        patience: seconds for which a server that is UNAVAILABLE is tried again; 0 is not at all.
        credentials: for TLS with certificates of one's own.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = TIMEOUT,
        patience: float = PATIENCE,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        scheme, _, address = target.rpartition("://")
        if scheme not in ("", "grpc", "grpcs") or not address:
            raise ValueError(f"target {target!r}: expected host:port, grpc://… or grpcs://…")
        if scheme == "grpcs" and credentials is None:
            credentials = grpc.ssl_channel_credentials()
        self._channel = self._connect(address.rstrip("/"), credentials)
        self._timeout = timeout
        self._patience = patience
        self._initialized = False

    @staticmethod
    @abstractmethod
    def _connect(address: str, credentials: grpc.ChannelCredentials | None) -> C:
        """A channel of this client's kind."""

    def _delays(self) -> Iterator[float]:
        """How long to wait before each further try, until patience is over."""
        end, delay = time.monotonic() + self._patience, _FIRST_DELAY
        while (left := end - time.monotonic()) > 0:
            yield min(delay, left)
            delay = min(2 * delay, _LONGEST_DELAY)

    def _settle(self, status: model_pb2.StatusResponse) -> model_pb2.StatusResponse:
        self._initialized = status.status_code == 200
        return status


class Client(_Base[grpc.Channel]):
    """Synchronous. May be shared by threads; close it, or use it in a `with` statement."""

    @staticmethod
    def _connect(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
        if credentials is None:
            return grpc.insecure_channel(address, _OPTIONS)
        return grpc.secure_channel(address, credentials, _OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> model_pb2.StatusResponse:
        """The model's card and whether it has loaded, for which it waits: `status_code` 200."""
        request = model_pb2.StatusRequest()
        return self._settle(self._call(messages.STATUS, request, model_pb2.StatusResponse))

    def run(
        self, items: Iterable[Inputs], *, explain: bool = False, detect_drift: bool = False
    ) -> list[Answer]:
        """One answer for each item, in order.

        Args:
            items: files by name: bytes, text, or anything else, which is sent as JSON.
            explain: ask for explanations.
            detect_drift: ask for drift.

        Raises:
            NotLoaded: the model failed to load.
            ValueError: there are more or fewer answers than items; or an input that would be sent
                as JSON, which has no word for them, holds NaN or infinity.
            TypeError: an input is of a type that JSON does not know, or `items` are no items.
        """
        request = messages.run_request(items, explain=explain, detect_drift=detect_drift)
        if not self._initialized:
            # Chassis's servers and Modzy's template load the model in a Status and only there.
            messages.check_loaded(self.status())
        response = self._call(messages.RUN, request, model_pb2.RunResponse)
        return messages.answers(response, len(request.inputs))

    def predict(
        self,
        inputs: Inputs,
        tags: Mapping[str, str] | None = None,
        *,
        explain: bool = False,
        detect_drift: bool = False,
    ) -> inference_pb2.PredictResponse:
        """One item over OpenModel v2, with typed outputs; `success` says whether it went well."""
        return self._call(
            messages.PREDICT,
            messages.predict_request(inputs, tags),
            inference_pb2.PredictResponse,
            messages.metadata(explain=explain, detect_drift=detect_drift),
        )

    def stream(self, items: Iterable[Item]) -> Iterator[inference_pb2.PredictResponse]:
        """Items over OpenModel v2, answered in order as they come; there is no limit of time.

        What `items` raises, or an item that cannot be sent, is raised after the answers to those
        before it.

        Args:
            items: inputs, or requests with tags, which tell whose answer a response is.

        Raises:
            ValueError, TypeError: as `run`.
        """
        requests = messages.StreamRequests(items)
        status = inference_pb2.StatusRequest()
        self._call(messages.STATUS_V2, status, inference_pb2.StatusResponse)
        stub = self._channel.stream_stream(
            messages.PREDICT_STREAM, _serialize, inference_pb2.PredictResponse.FromString
        )
        responses = stub(iter(requests))
        try:
            yield from responses
        finally:
            responses.cancel()
        requests.raise_failure()

    def shutdown(self) -> None:
        """Ask the server to finish what it does, and to end."""
        self._call(messages.SHUTDOWN, model_pb2.ShutdownRequest(), model_pb2.ShutdownResponse)

    def _call(
        self, method: str, request: Message, response: type[R], metadata: messages.Metadata = ()
    ) -> R:
        stub = self._channel.unary_unary(method, _serialize, response.FromString)
        delays = self._delays()
        while True:
            try:
                answer: R = stub(request, timeout=self._timeout, metadata=metadata)
                return answer
            except grpc.RpcError as error:
                if (delay := _delay_after(error, delays)) is None:
                    raise
                time.sleep(delay)


class AsyncClient(_Base[grpc.aio.Channel]):
    """The same for asyncio, made on the event loop; close it, or use it in an `async with`."""

    @staticmethod
    def _connect(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        if credentials is None:
            return grpc.aio.insecure_channel(address, _OPTIONS)
        return grpc.aio.secure_channel(address, credentials, _OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def status(self) -> model_pb2.StatusResponse:
        """As `Client.status`."""
        request = model_pb2.StatusRequest()
        return self._settle(await self._call(messages.STATUS, request, model_pb2.StatusResponse))

    async def run(
        self, items: Iterable[Inputs], *, explain: bool = False, detect_drift: bool = False
    ) -> list[Answer]:
        """As `Client.run`."""
        request = messages.run_request(items, explain=explain, detect_drift=detect_drift)
        if not self._initialized:
            messages.check_loaded(await self.status())
        response = await self._call(messages.RUN, request, model_pb2.RunResponse)
        return messages.answers(response, len(request.inputs))

    async def predict(
        self,
        inputs: Inputs,
        tags: Mapping[str, str] | None = None,
        *,
        explain: bool = False,
        detect_drift: bool = False,
    ) -> inference_pb2.PredictResponse:
        """As `Client.predict`."""
        return await self._call(
            messages.PREDICT,
            messages.predict_request(inputs, tags),
            inference_pb2.PredictResponse,
            messages.metadata(explain=explain, detect_drift=detect_drift),
        )

    async def stream(
        self, items: Iterable[Item] | AsyncIterable[Item]
    ) -> AsyncIterator[inference_pb2.PredictResponse]:
        """As `Client.stream`; the items may also come asynchronously."""
        requests = messages.StreamRequests(items)
        status = inference_pb2.StatusRequest()
        await self._call(messages.STATUS_V2, status, inference_pb2.StatusResponse)
        stub = self._channel.stream_stream(
            messages.PREDICT_STREAM, _serialize, inference_pb2.PredictResponse.FromString
        )
        responses = stub(aiter(requests))
        try:
            async for response in responses:
                yield response
        finally:
            responses.cancel()
        requests.raise_failure()

    async def shutdown(self) -> None:
        """As `Client.shutdown`."""
        await self._call(messages.SHUTDOWN, model_pb2.ShutdownRequest(), model_pb2.ShutdownResponse)

    async def _call(
        self, method: str, request: Message, response: type[R], metadata: messages.Metadata = ()
    ) -> R:
        stub = self._channel.unary_unary(method, _serialize, response.FromString)
        delays = self._delays()
        while True:
            try:
                answer: R = await stub(request, timeout=self._timeout, metadata=metadata)
                return answer
            except grpc.RpcError as error:
                if (delay := _delay_after(error, delays)) is None:
                    raise
                await asyncio.sleep(delay)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _delay_after(error: grpc.RpcError, delays: Iterator[float]) -> float | None:
    """How long to wait before the next try; None if there is to be none."""
    return next(delays, None) if error.code() is grpc.StatusCode.UNAVAILABLE else None
