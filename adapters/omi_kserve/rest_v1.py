"""The V1 routes that predict; those that only tell of the model are in `rest_info`."""

from __future__ import annotations

from collections.abc import Awaitable

from omi_kserve import convert_v1
from omi_kserve.convert_json import read_json
from omi_kserve.convert_plain import PlainV1
from omi_runtime.batch import Batch, Result, Row
from omi_runtime.errors import NotOffered, OMIError
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
        self._plain: PlainV1 | None = None

    def predict(self, request: Request) -> Awaitable[Response]:
        """POST /v1/models/{model}:predict."""
        return self._infer(request, NOTHING_MORE)

    async def explain(self, request: Request) -> Response:
        """POST /v1/models/{model}:explain: predictions and explanations; 501 if it has none."""
        if not self._handler.explains:
            raise NotOffered(f"model {self._handler.name} has no explain")
        return await self._infer(request, Wanted(explanation=True))

    async def _infer(self, request: Request, wanted: Wanted) -> Response:
        check_json_media_type(request)
        handler = self._handler
        signature = handler.signature
        plain = self._plain
        if plain is None or plain.signature is not signature:  # loaded again
            plain = self._plain = PlainV1(signature, handler.settings.nan)
        items = await request.read(self._read, plain)
        result: Result
        if isinstance(items, Batch):
            result = await handler.infer(items, wanted, request.context)
        else:
            result = await handler.infer_rows(items, wanted, request.context)
        return Response(200, await request.write(self._write, plain, result, wanted))

    def _read(self, body: bytes, plain: PlainV1) -> Batch | list[Row | OMIError]:
        content = read_json(body)
        batch = None if self._bare_base64 else plain.read(content)
        if batch is not None:
            return batch
        return convert_v1.read_content(content, plain.signature, bare_base64=self._bare_base64)

    def _write(self, plain: PlainV1, result: Result, wanted: Wanted) -> bytes:
        body = plain.write(result) if wanted is NOTHING_MORE else None
        if body is not None:
            return body
        handler, nan = self._handler, self._handler.settings.nan
        return convert_v1.write_response(
            result, plain.signature, handler.name, nan, explanations=wanted.explanation
        )
