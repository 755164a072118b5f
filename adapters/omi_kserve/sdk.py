"""`OMI_KSERVE_SERVER=sdk`: the same handler inside KServe's own ModelServer.

For those who need what only that server does; and what the differential tests compare with. It
runs on a thread of its own, with its own event loop, and asks the handler on the process's. Needs
the extra `kserve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

import kserve
import kserve.errors
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as theirs
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from omi_kserve import convert_pb, convert_v1, convert_v2, raw_contents
from omi_kserve.served import card_of
from omi_runtime import casting
from omi_runtime.adapter import Mount, Port
from omi_runtime.batch import Batch
from omi_runtime.errors import ErrorCode, LoadError, NotOffered, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.transport.sockets import bind

logger = logging.getLogger(__name__)

T = TypeVar("T")

STARTING_SECONDS: Final = 60.0
"""How long the server may take to listen; most of it is the SDK's own set-up."""

EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - it is only compared with
"""What the SDK's servers bind; it has no argument for it."""

_POLL_SECONDS: Final = 0.05


class HandlerModel(kserve.Model):  # type: ignore[misc]  # the SDK has no types where it is absent
    """The handler as a model of the SDK: V1 by its dictionaries, V2 by its messages.

    Args:
        handler: with the model loaded.
        loop: where the handler lives.
    """

    def __init__(self, handler: ModelHandler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(handler.name)
        self._handler = handler
        self._loop = loop
        self.ready = True

    async def healthy(self) -> bool:
        """Whether the model can infer."""
        return self._handler.ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """The inputs, for the metadata."""
        inputs: list[dict[str, Any]] = self._metadata()["inputs"]
        return inputs

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs, for the metadata."""
        outputs: list[dict[str, Any]] = self._metadata()["outputs"]
        return outputs

    async def predict(self, payload: Any, _headers: Mapping[str, str] | None = None) -> Any:
        """A prediction, of V1 or of V2."""
        if isinstance(payload, kserve.InferRequest):
            return await self._ask(self._infer_v2(payload))
        return await self._ask(self._infer_v1(payload, NOTHING_MORE))

    async def explain(self, payload: Any, _headers: Mapping[str, str] | None = None) -> Any:
        """Predictions and explanations, of V1."""
        if not self._handler.explains:
            raise NotImplementedError(f"model {self._handler.name} has no explain")
        return await self._ask(self._infer_v1(payload, Wanted(explanation=True)))

    def _metadata(self) -> dict[str, Any]:
        return convert_v2.model_metadata(card_of(self._handler), self._handler.signature)

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The answer from the handler's loop, or the SDK's own error."""
        asked = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return await asyncio.wrap_future(asked)
        except OMIError as error:
            raise _as_theirs(error) from None

    async def _infer_v1(self, payload: Any, wanted: Wanted) -> Any:
        handler = self._handler
        items = convert_v1.read_request(orjson.dumps(payload), handler.signature)
        if isinstance(items, Batch):
            result = await handler.infer(items, wanted)
        else:
            result = await handler.infer_rows(items, wanted)
        body = convert_v1.write_response(
            result,
            handler.signature,
            handler.name,
            handler.settings.nan,
            explanations=wanted.explanation,
        )
        return orjson.loads(body)

    async def _infer_v2(self, payload: Any) -> Any:
        handler = self._handler
        for tensor in payload.inputs:
            if isinstance(tensor.data, list):  # REST's may be nested, which their messages are not
                tensor.data = casting.unnest(tensor.data)[1]
        # Their messages and ours are the same on the wire.
        asked = raw_contents.read(payload.to_grpc().SerializeToString())
        request = convert_pb.read_request(asked, handler.signature)
        result = await handler.infer(request.batch, request.wanted)
        outputs = convert_v2.write_outputs(request, result, handler.signature, handler.name)
        response = convert_pb.write_response(
            request, outputs, card_of(handler), raw=bool(asked.contents)
        )
        answer = theirs.ModelInferResponse.FromString(b"".join(raw_contents.write(response)))
        return kserve.InferResponse.from_grpc(answer)


class SDKServer:
    """KServe's ModelServer around the handler, started and stopped by the adapter.

    It listens on every address, whatever `OMI_HOST` says, and has limits of its own.
    """

    title = "KServe's ModelServer"

    def __init__(self, mount: Mount, grpc_port: Port | None) -> None:
        self._mount = mount
        self._rest_port = mount.port
        self._grpc_port = grpc_port
        self._server: _ModelServer | None = None

    async def start(self) -> tuple[int, int]:
        """Serve; returns the ports of REST and of gRPC, 0 if that is off.

        Raises:
            LoadError: a port is taken, or the server ended instead of listening.
        """
        mount = self._mount
        if mount.settings.host != EVERY_ADDRESS:
            logger.warning(
                "KServe's ModelServer listens on every address: OMI_HOST=%s has no effect on it",
                mount.settings.host,
            )
        rest = _free(mount.settings.host, self._rest_port)
        grpc = _free(mount.settings.host, self._grpc_port) if self._grpc_port else 0
        self._server = _ModelServer(
            http_port=rest,
            grpc_port=grpc,
            enable_grpc=bool(grpc),
            grace_period=int(mount.settings.grace),
        )
        model = HandlerModel(mount.handler, asyncio.get_running_loop())
        threading.Thread(target=self._server.run, args=(model,), name="kserve", daemon=True).start()
        for port in (rest, grpc):
            if port:
                await self._listening(port)
        return rest, grpc

    async def stop(self, grace: float) -> None:
        """Ask the server to end and wait for that, for up to `grace` seconds."""
        if self._server is None:
            return
        self._server.end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.ended.wait(), grace)

    async def _listening(self, port: int) -> None:
        """Wait until the port takes connections; the SDK has no word for it."""
        deadline = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < deadline:
            if self._server is None or self._server.ended.is_set():
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            writer.close()
            return
        raise LoadError(f"KServe's ModelServer does not listen on port {port}; see the log")


class _ModelServer(kserve.ModelServer):  # type: ignore[misc]  # as above
    """The SDK's server on a thread that is not the main one: signals are the process's own."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # The servers are made with this; stopping asks the registered models themselves.
        self.model_repository_extension = _FixedRepository(self.registered_models)
        self.ended = asyncio.Event()
        self._outer = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, model: kserve.Model) -> None:
        """Serve until told to end; on the server's own thread."""
        try:
            self.start([model])
        finally:
            self._outer.call_soon_threadsafe(self.ended.set)

    def setup_event_loop(self) -> None:
        """The loop does not exist yet, and keeps its defaults."""

    def register_signal_handler(self) -> None:
        """The process has its own."""

    def end(self) -> None:
        """Ask both servers to drain and to end; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await super()._serve()

    def _end(self) -> None:
        self.stop(signal.SIGTERM)
        # uvicorn would have seen the signal itself.
        self._rest_server._server.should_exit = True  # noqa: SLF001 - there is no other way


class _FixedRepository(ModelRepositoryExtension):  # type: ignore[misc]  # as above
    """The SDK's, which anybody may ask to unload the model, and nobody to load it again."""

    async def load(self, model_name: str) -> None:
        """Refuse: the model is loaded, and stays so."""
        raise _not_offered(f"loading {model_name!r}")

    async def unload(self, model_name: str) -> None:
        """Refuse, whatever `OMI_ADMIN` says."""
        raise _not_offered(f"unloading {model_name!r}")


def _not_offered(what: str) -> Exception:
    return _as_theirs(
        NotOffered(
            f"{what} is not offered with OMI_KSERVE_SERVER=sdk: the native server has it, with "
            "OMI_ADMIN=on"
        )
    )


def _free(host: str, port: Port) -> int:
    """The port's number, chosen by the system if need be, and nobody's at this moment."""
    with bind(host, port) as sock:
        number: int = sock.getsockname()[1]
        return number


def _as_theirs(error: OMIError) -> Exception:
    """The SDK's error that its table maps to the status nearest to ours."""
    theirs_of = _THEIRS.get(error.code, kserve.errors.InferenceError)
    found: Exception = theirs_of(error.message)
    # Their gRPC server answers with it, though not all of their errors have one.
    found.reason = str(found)  # type: ignore[attr-defined]
    return found


_THEIRS: Final[Mapping[ErrorCode, type[Exception]]] = {
    ErrorCode.INVALID_REQUEST: kserve.errors.InvalidInput,
    ErrorCode.INVALID_INPUT: kserve.errors.InvalidInput,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: kserve.errors.InvalidInput,
    ErrorCode.MODEL_NOT_READY: kserve.errors.ServerNotReady,
    ErrorCode.OVERLOADED: kserve.errors.ServerNotReady,
    ErrorCode.DEADLINE_EXCEEDED: kserve.errors.ServerNotReady,
    ErrorCode.NOT_OFFERED: NotImplementedError,
}
"""Any other is an InferenceError."""
