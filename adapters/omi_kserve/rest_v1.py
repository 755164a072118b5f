"""The V1 routes: predict and explain. `app.py` has those that only tell of the model."""

from __future__ import annotations

from omi_kserve import convert_v1
from omi_runtime.batch import Batch, Result
from omi_runtime.errors import NotOffered
from omi_runtime.handler import ModelHandler
from omi_runtime.runner import NOTHING_MORE, Wanted
from omi_runtime.transport.http import Request, Response, check_json_media_type


class V1Routes:
    """`:predict` and `:explain` of the one model.

    Args:
        handler: the core.
        bare_base64: `OMI_V1_BASE64`.
    """

    def __init__(self, handler: ModelHandler, *, bare_base64: bool = False) -> None:
        self._handler = handler
        self._bare_base64 = bare_base64

    async def predict(self, request: Request) -> Response:
        """POST /v1/models/{model}:predict."""
        return await self._infer(request, NOTHING_MORE)

    async def explain(self, request: Request) -> Response:
        """POST /v1/models/{model}:explain: predictions and explanations; 501 if it has none."""
        if not self._handler.explains:
            raise NotOffered(f"model {self._handler.name} has no explain")
        return await self._infer(request, Wanted(explanation=True))

    async def _infer(self, request: Request, wanted: Wanted) -> Response:
        check_json_media_type(request)
        handler = self._handler
        signature = handler.signature
        items = convert_v1.read_request(
            await request.body(), signature, bare_base64=self._bare_base64
        )
        result: Result
        if isinstance(items, Batch):
            result = await handler.infer(items, wanted, request.context)
        else:
            result = await handler.infer_rows(items, wanted, request.context)
        body = convert_v1.write_response(
            result,
            signature,
            handler.name,
            handler.settings.nan,
            explanations=wanted.explanation,
        )
        return Response(200, body)
