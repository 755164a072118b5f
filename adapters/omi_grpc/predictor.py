"""One item of `openmodel.v2.InferenceService`: from its message to its response, or responses."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from omi_grpc import convert_v2
from omi_grpc._pb import inference_pb2 as pb
from omi_runtime.batch import Result, Row, group_rows
from omi_runtime.errors import DeadlineExceeded, InternalError, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.limits import check_response
from omi_runtime.request import RequestContext
from omi_runtime.runner import Wanted
from omi_runtime.signature import Signature
from omi_runtime.timings import Timings
from omi_runtime.transport.calls import Call

logger = logging.getLogger(__name__)


class Predictor:
    """Asks one loaded model.

    Attributes:
        signature: of the model.
        yields: the model may answer an item with several responses.
    """

    def __init__(self, handler: ModelHandler, signature: Signature) -> None:
        self._handler = handler
        self.signature = signature
        self._codec = ItemCodec(signature, handler.name, handler.settings.nan)
        self._encoder = convert_v2.AnswerEncoder(signature, handler.settings.nan)
        self.yields = signature.streaming

    async def predict(
        self, message: pb.PredictRequest, wanted: Wanted, request: RequestContext
    ) -> pb.PredictResponse:
        """One response; of a model that yields, with the outputs of all its values.

        Raises:
            OMIError: the item failed, or the server cannot answer it.
        """
        results = [result async for result in self._results(message, wanted, request)]
        return self._response(results, message, request)

    async def responses(
        self, message: pb.PredictRequest, wanted: Wanted, call: Call
    ) -> AsyncGenerator[pb.PredictResponse, None]:
        """One response, or one for each value; the last one tells what went wrong.

        Raises:
            DeadlineExceeded: the time of the whole call is over.
        """
        request = call.begin()
        try:
            async for result in self._results(message, wanted, request):
                response = self._response([result], message, request)
                # The transport checks it too, and would end the stream.
                check_response(response.ByteSize(), self._handler.settings)
                yield response
        except OMIError as error:
            if isinstance(error, DeadlineExceeded) and _is_over(call):
                raise
            yield convert_v2.failure(error, message.tags)
        except Exception as error:  # the other items of the stream are to be answered
            logger.exception("PredictStream failed", exc_info=error)
            yield convert_v2.failure(InternalError(), message.tags)

    async def _results(
        self, message: pb.PredictRequest, wanted: Wanted, request: RequestContext
    ) -> AsyncIterator[Result]:
        row = self._decode(message)
        if not self.yields:
            yield await self._handler.infer_rows([row], wanted, request)
            return
        ((part,), _) = group_rows([row])
        async for result in self._handler.infer_stream(part.batch, request):
            yield result

    def _decode(self, message: pb.PredictRequest) -> Row:
        row = self._codec.decode(convert_v2.item_from_message(message))
        if isinstance(row, OMIError):
            raise row
        return row

    def _response(
        self, results: Sequence[Result], message: pb.PredictRequest, request: RequestContext
    ) -> pb.PredictResponse:
        begin = time.perf_counter()
        outputs = [output for result in results for output in self._encoder.outputs(result)]
        response = convert_v2.answer(outputs, message.tags)
        if results:
            convert_v2.set_extras(response, results[-1])
        convert_v2.set_timings(
            response,
            sum((result.timings or Timings() for result in results), Timings()),
            encoding=time.perf_counter() - begin,
            total=time.monotonic() - request.started,
        )
        return response


def _is_over(call: Call) -> bool:
    """Whether the call's own deadline is, all but what two clocks may differ."""
    remaining = call.remaining()
    return remaining is not None and remaining < 0.1
