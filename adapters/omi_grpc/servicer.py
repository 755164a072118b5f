"""The `ModzyModel` service: Status, Run, Shutdown.

Messages, texts and codes: Modzy's gRPC model template; where its behaviour and Chassis's are faults
(no reply before a Status, zero outputs after a failed batch, success on an item that failed), ours
is what the messages promise: N outputs for N inputs, always.
"""

from __future__ import annotations

import logging
from typing import Final

from omi_grpc import convert
from omi_grpc._pb import model_pb2 as pb
from omi_grpc.errors import TABLE
from omi_runtime.errors import InternalError, ModelNotReady, NotOffered, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.lifecycle import State
from omi_runtime.memory import overloaded
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.signature import Signature
from omi_runtime.transport.calls import Call, Method, Service

logger = logging.getLogger(__name__)

_STOPPING: Final = (503, "Model is shutting down.")
_NOT_READY: Final = {
    State.FAILED: (500, "Model Failed to Initialize."),
    State.UNLOADING: (503, "Model is unloaded."),
    State.UNLOADED: (503, "Model is unloaded."),
}
"""What a Status says of a model that cannot infer; that the server stops, if nothing is here."""


class ModzyModelServicer:
    """Answers `ModzyModel` calls through the handler.

    Args:
        handler: the core.
        allow_shutdown: `OMI_ALLOW_SHUTDOWN`.
    """

    def __init__(self, handler: ModelHandler, *, allow_shutdown: bool = True) -> None:
        self._handler = handler
        self._allow_shutdown = allow_shutdown
        self._codec: ItemCodec | None = None
        self._was_initialized = False

    def service(self) -> Service:
        """What the transport is given to offer the service."""
        return Service(
            "ModzyModel",
            {
                "Status": Method(self.status, pb.StatusRequest, probe=True),
                "Run": Method(self.run, pb.RunRequest),
                "Shutdown": Method(self.shutdown, pb.ShutdownRequest),
            },
            {code: wire.grpc_status for code, wire in TABLE.items()},
        )

    async def status(self, _request: pb.StatusRequest, _call: Call) -> pb.StatusResponse:
        """200 once the model has loaded, else 500 or 503: the card is filled either way."""
        handler = self._handler
        try:
            await handler.become_ready()
        except ModelNotReady:
            code, why = _NOT_READY.get(handler.lifecycle.state, _STOPPING)
            return convert.status_response(code, why, handler.card)
        first, self._was_initialized = not self._was_initialized, True
        done = "Model Initialized Successfully." if first else "Model Already Initialized."
        return convert.status_response(200, done, handler.card)

    async def run(self, request: pb.RunRequest, call: Call) -> pb.RunResponse:
        """One output for each input, in order; what concerns one item is told in that item."""
        try:
            signature = self._handler.signature_if_loaded
            codec = self._item_codec(signature or await self._handler.loaded(call.context))
            # An item's map invents a value for a missing key; the codec asks only for what it has.
            rows = [codec.decode(item.input) for item in request.inputs]
            result = await self._handler.infer_rows(rows, _wanted(request), call.context)
            return convert.run_response(codec.encode(result))
        except Exception as error:  # noqa: BLE001 - N inputs get N outputs, whatever happens
            return self._all_failed(request, overloaded(error), call)

    async def shutdown(self, _request: pb.ShutdownRequest, _call: Call) -> pb.ShutdownResponse:
        """Answers, then the process drains and exits 0."""
        if not self._allow_shutdown:
            raise NotOffered("Shutdown is switched off by OMI_ALLOW_SHUTDOWN")
        self._handler.lifecycle.request_stop("Shutdown")
        return pb.ShutdownResponse(
            status_code=200, status="OK", message="Model Shutdown Successfully."
        )

    def _all_failed(self, request: pb.RunRequest, error: Exception, call: Call) -> pb.RunResponse:
        if not isinstance(error, OMIError):
            logger.error("Run failed", exc_info=error)
            error = InternalError()
        call.context.failed(error)
        status = TABLE[error.code].run_status
        outputs = [error] * len(request.inputs)
        if status == 200:
            return convert.run_response(outputs)
        return convert.run_response(outputs, status, error.message)

    def _item_codec(self, signature: Signature) -> ItemCodec:
        if self._codec is None or self._codec.signature is not signature:  # loaded again
            self._codec = ItemCodec(signature, self._handler.name, self._handler.settings.nan)
        return self._codec


def _wanted(request: pb.RunRequest) -> Wanted:
    if not (request.explain or request.detect_drift):
        return NOTHING_MORE
    return Wanted(request.explain, request.detect_drift)
