"""The `openmodel.v2.InferenceService` service: one item a request, with typed answers.

Messages and methods are those of a draft that was never released (protos/README.md). What goes
wrong with one item is told in its response; what concerns the server is a gRPC status, which
callers know how to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from omi_grpc import convert_v2
from omi_grpc._pb import inference_pb2 as pb
from omi_grpc.errors import ITEM_CODES, TABLE
from omi_grpc.predictor import Predictor
from omi_runtime.errors import ModelNotReady, NotOffered, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.request import RequestContext
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.transport.calls import Call, Method, Service
from omi_runtime.transport.streams import Ordered

EXPLAIN_KEY: Final = "omi-explain"
DRIFT_KEY: Final = "omi-detect-drift"
"""Call metadata that asks for explanation and drift with the value `true`: the messages cannot."""

LOOK_AHEAD: Final = 256
LOOK_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""The most requests of one stream, and their bytes, that are read ahead of the answers."""


class InferenceServicer:
    """Answers `openmodel.v2.InferenceService` calls through the handler.

    Args:
        handler: the core.
        stopping: set when the server stops: streams end when nothing more comes on them.
        allow_shutdown: `OMI_ALLOW_SHUTDOWN`.
    """

    def __init__(
        self, handler: ModelHandler, stopping: asyncio.Event, *, allow_shutdown: bool = True
    ) -> None:
        self._handler = handler
        self._stopping = stopping
        self._allow_shutdown = allow_shutdown
        self._predictor: Predictor | None = None

    def service(self) -> Service:
        """What the transport is given to offer the service."""
        return Service(
            "openmodel.v2.InferenceService",
            {
                "Status": Method(self.status, pb.StatusRequest, probe=True),
                "GetContainerInfo": Method(self.container_info, pb.ContainerInfoRequest),
                "Predict": Method(self.predict, pb.PredictRequest),
                "PredictStream": Method(
                    self.predict_stream,
                    pb.PredictRequest,
                    streams_requests=True,
                    streams_responses=True,
                ),
                "Shutdown": Method(self.shutdown, pb.ShutdownRequest),
            },
            {code: wire.grpc_status for code, wire in TABLE.items()},
        )

    async def status(self, _request: pb.StatusRequest, _call: Call) -> pb.StatusResponse:
        """OK once the model has loaded; a load that failed is tried again.

        Raises:
            ModelNotReady: it failed again, or the process is stopping.
        """
        await self._handler.become_ready()
        return pb.StatusResponse(status=pb.StatusResponse.OK)

    async def container_info(
        self, _request: pb.ContainerInfoRequest, call: Call
    ) -> pb.OpenModelContainerInfo:
        """The card in short, also of a model that failed to load.

        Raises:
            ModelNotReady: not even the model's module could be imported.
        """
        try:
            await self._handler.loaded(call.context)
        except ModelNotReady:
            if self._handler.card is None:
                raise
        assert self._handler.card is not None, "it comes before the load"
        return convert_v2.container_info(self._handler.card)

    async def predict(self, request: pb.PredictRequest, call: Call) -> pb.PredictResponse:
        """One item; what concerns it alone is told in the response."""
        predictor = await self._loaded(call.context)
        try:
            return await predictor.predict(request, _wanted(call), call.context)
        except OMIError as error:
            if error.code not in ITEM_CODES:
                raise
            return convert_v2.failure(error, request.tags)

    async def predict_stream(
        self, requests: AsyncIterator[pb.PredictRequest], call: Call
    ) -> AsyncIterator[pb.PredictResponse]:
        """Any number of items, answered in order; an error ends one answer, not the stream.

        A model that does not yield works on several requests ahead of the answers, so that they
        can be one batch; one that yields is at one request at a time.
        """
        predictor = await self._loaded(call.context)
        wanted = _wanted(call)
        ordered = Ordered(
            requests,
            lambda request: predictor.responses(request, wanted, call),
            ahead=0 if predictor.yields else min(2 * self._handler.at_once, LOOK_AHEAD),
            size=pb.PredictRequest.ByteSize,
            room=LOOK_AHEAD_BYTES,
            stopping=self._stopping,
        )
        async with aclosing(ordered.answers()) as responses:
            async for response in responses:
                yield response

    async def shutdown(self, _request: pb.ShutdownRequest, _call: Call) -> pb.ShutdownResponse:
        """Answers, then the process drains and exits 0."""
        if not self._allow_shutdown:
            raise NotOffered("Shutdown is switched off by OMI_ALLOW_SHUTDOWN")
        self._handler.lifecycle.request_stop("Shutdown")
        return pb.ShutdownResponse()

    async def _loaded(self, context: RequestContext) -> Predictor:
        signature = await self._handler.loaded(context)
        if self._predictor is None or self._predictor.signature is not signature:  # loaded again
            self._predictor = Predictor(self._handler, signature)
        return self._predictor


def _wanted(call: Call) -> Wanted:
    asked = [call.metadata.get(key) == "true" for key in (EXPLAIN_KEY, DRIFT_KEY)]
    return Wanted(*asked) if any(asked) else NOTHING_MORE
