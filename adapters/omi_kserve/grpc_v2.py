"""`inference.GRPCInferenceService`: the Open Inference Protocol V2 over gRPC.

With what Triton has beside it: ModelStreamInfer, and the model repository extension.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Final

from omi_kserve import convert_pb, raw_contents
from omi_kserve._pb import open_inference_pb2 as pb
from omi_kserve.convert_v2 import InferRequest, write_outputs
from omi_kserve.errors import GRPC_TABLE
from omi_kserve.raw_contents import RawRequest, RawResponse
from omi_kserve.repository import UNLOAD_PARAMETERS, Repository
from omi_kserve.served import SERVER_NAME, card_of, check_model, extensions
from omi_runtime import __version__
from omi_runtime.adapter import Mount, Port
from omi_runtime.batch import Result
from omi_runtime.errors import InternalError, InvalidInput, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.request import RequestContext
from omi_runtime.transport.calls import Call, Method, Service
from omi_runtime.transport.grpc import GRPCServer
from omi_runtime.transport.status import Status
from omi_runtime.transport.streams import Ordered

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "inference.GRPCInferenceService"

MOST_UNDER_WAY: Final = 64
MOST_BYTES: Final = 16 * 1024 * 1024
"""The most requests of one stream that are answered at once, and their bytes; the next are read as
the first are answered."""

FINAL: Final = "triton_final_response"
ASKS_FOR_FINAL: Final = "triton_enable_empty_final_response"
"""Triton's parameters: of a streamed answer, whether it is the last to its request; of a request,
whether an answer without outputs is to say so where the last value could not."""


class GRPCV2:
    """The server of the service, on a port of its own.

    Args:
        mount: the adapter's.
        port: what to bind.
        repository: of the model.
    """

    def __init__(self, mount: Mount, port: Port, repository: Repository) -> None:
        self._mount = mount
        self._repository = repository
        self._port = port
        self._server: GRPCServer | None = None
        self._servicer: InferenceServicer | None = None

    async def start(self) -> int:
        """Bind and accept, around the loaded model; returns the port.

        Raises:
            LoadError: the port is taken.
        """
        mount = self._mount
        self._servicer = InferenceServicer(mount.handler, self._repository)
        self._server = GRPCServer(
            [self._servicer.service()],
            mount.handler,
            mount.interface,
            mount.settings.host,
            self._port,
        )
        return await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, end idle streams, finish the rest for up to `grace` seconds."""
        if self._server is not None and self._servicer is not None:
            self._servicer.end_streams()
            await self._server.stop(grace)


class InferenceServicer:
    """Answers calls of the service through the handler, which has loaded its model."""

    def __init__(self, handler: ModelHandler, repository: Repository) -> None:
        self._handler = handler
        self._repository = repository
        self._stopping = asyncio.Event()

    def service(self) -> Service:
        """What the transport is given to offer the service."""
        return Service(
            SERVICE_NAME,
            {
                "ServerLive": Method(self.server_live, pb.ServerLiveRequest, probe=True),
                "ServerReady": Method(self.server_ready, pb.ServerReadyRequest, probe=True),
                "ModelReady": Method(self.model_ready, pb.ModelReadyRequest, probe=True),
                "ServerMetadata": Method(self.server_metadata, pb.ServerMetadataRequest),
                "ModelMetadata": Method(self.model_metadata, pb.ModelMetadataRequest),
                "ModelInfer": Method(
                    self.model_infer,
                    pb.ModelInferRequest,
                    read=raw_contents.read,
                    write=raw_contents.write,
                ),
                "ModelStreamInfer": Method(
                    self.model_stream_infer,
                    pb.ModelInferRequest,
                    streams_requests=True,
                    streams_responses=True,
                ),
                "RepositoryIndex": Method(self.repository_index, pb.RepositoryIndexRequest),
                "RepositoryModelLoad": Method(
                    self.repository_model_load, pb.RepositoryModelLoadRequest
                ),
                "RepositoryModelUnload": Method(
                    self.repository_model_unload, pb.RepositoryModelUnloadRequest
                ),
            },
            {code: Status[name] for code, name in GRPC_TABLE.items()},
        )

    async def server_live(
        self, _request: pb.ServerLiveRequest, _call: Call
    ) -> pb.ServerLiveResponse:
        """Whether the process answers."""
        return pb.ServerLiveResponse(live=self._handler.live)

    async def server_ready(
        self, _request: pb.ServerReadyRequest, _call: Call
    ) -> pb.ServerReadyResponse:
        """Whether the model can infer."""
        return pb.ServerReadyResponse(ready=self._handler.ready)

    async def model_ready(
        self, request: pb.ModelReadyRequest, _call: Call
    ) -> pb.ModelReadyResponse:
        """Whether the model can infer; NOT_FOUND for another."""
        check_model(self._handler, request.name, request.version or None)
        return pb.ModelReadyResponse(ready=self._handler.ready)

    async def server_metadata(
        self, _request: pb.ServerMetadataRequest, _call: Call
    ) -> pb.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=__version__, extensions=extensions(self._handler)
        )

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, _call: Call
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of the model; NOT_FOUND for another."""
        check_model(self._handler, request.name, request.version or None)
        return convert_pb.model_metadata(card_of(self._handler), self._handler.signature)

    async def model_infer(self, request: RawRequest, call: Call) -> RawResponse:
        """One answer, in the form, raw or typed, that the request has."""
        return await self._infer(request, call.context)

    async def model_stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest], call: Call
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """The answers to each request, in order: of a model that yields, one for every value."""
        yields = self._handler.signature.streaming
        ordered = Ordered(
            requests,
            partial(self._each if yields else self._only, call),
            ahead=0 if yields else MOST_UNDER_WAY,
            size=pb.ModelInferRequest.ByteSize,
            room=MOST_BYTES,
            stopping=self._stopping,
        )
        async with aclosing(ordered.answers()) as answers:
            async for response in answers:
                yield response

    async def repository_index(
        self, request: pb.RepositoryIndexRequest, _call: Call
    ) -> pb.RepositoryIndexResponse:
        """The one model, unless only ready ones are asked for and it is not."""
        return pb.RepositoryIndexResponse(models=self._repository.index(only_ready=request.ready))

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, _call: Call
    ) -> pb.RepositoryModelLoadResponse:
        """Load the model, again if it is loaded; with `OMI_ADMIN`."""
        name = _model_name(request)
        self._repository.check_allowed(name)
        self._repository.check_parameters(request.parameters)
        await self._repository.load()
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, _call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload the model when what is in flight is answered; with `OMI_ADMIN`."""
        name = _model_name(request)
        self._repository.check_allowed(name)
        self._repository.check_parameters(request.parameters, UNLOAD_PARAMETERS)
        await self._repository.unload()
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    def end_streams(self) -> None:
        """The server stops: streams in which nothing is under way have to end."""
        self._stopping.set()

    async def _infer(self, asked: RawRequest, context: RequestContext) -> RawResponse:
        request = self._read(asked)
        result = await self._handler.infer(request.batch, request.wanted, context)
        return self._write(asked, request, result)

    async def _only(
        self, call: Call, message: pb.ModelInferRequest
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """The answer of a model that does not yield, as a stream has it."""
        try:
            response = (await self._infer(_asked(message), call.begin())).whole()
        except Exception as error:  # noqa: BLE001 - it ends one answer, not the stream
            yield _failed(message, error)
            return
        response.parameters[FINAL].bool_param = True
        yield pb.ModelStreamInferResponse(infer_response=response)

    async def _each(
        self, call: Call, message: pb.ModelInferRequest
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """The answers of a model that yields."""
        try:
            asked = _asked(message)
            request = self._read(asked)
            if request.batch.n != 1:
                raise InvalidInput(f"a stream of answers is to one item, not to {request.batch.n}")
            async with aclosing(self._handler.infer_stream(request.batch, call.begin())) as values:
                async for result in values:
                    response = self._write(asked, request, result).whole()
                    response.parameters[FINAL].bool_param = False
                    yield pb.ModelStreamInferResponse(infer_response=response)
        except Exception as error:  # noqa: BLE001 - it ends one answer, not the stream
            yield _failed(message, error)
            return
        asks = message.parameters.get(ASKS_FOR_FINAL)
        if asks is not None and asks.bool_param:
            last = convert_pb.write_response(request, [], card_of(self._handler), raw=False).message
            last.parameters[FINAL].bool_param = True
            yield pb.ModelStreamInferResponse(infer_response=last)

    def _read(self, asked: RawRequest) -> InferRequest:
        handler, message = self._handler, asked.message
        check_model(handler, message.model_name, message.model_version or None)
        request = convert_pb.read_request(asked, handler.signature)
        request.check_offered(
            handler.name, explains=handler.explains, detects_drift=handler.detects_drift
        )
        return request

    def _write(self, asked: RawRequest, request: InferRequest, result: Result) -> RawResponse:
        outputs = write_outputs(request, result, self._handler.signature, self._handler.name)
        raw = bool(asked.contents)
        return convert_pb.write_response(request, outputs, card_of(self._handler), raw=raw)


def _asked(message: pb.ModelInferRequest) -> RawRequest:
    """A request of a stream, whose messages are read whole."""
    return RawRequest(message, message.raw_input_contents)


def _model_name(
    request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest,
) -> str:
    """Triton's clients have the name in the second field, KServe's in the first."""
    return request.model_name or request.repository_name


def _failed(message: pb.ModelInferRequest, error: Exception) -> pb.ModelStreamInferResponse:
    if not isinstance(error, OMIError):
        logger.error("an answer of ModelStreamInfer failed", exc_info=error)
        error = InternalError()
    response = pb.ModelStreamInferResponse(error_message=error.message)
    if message.id:  # the only way to tell which of many has failed
        response.infer_response.id = message.id
    return response
