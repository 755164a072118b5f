"""The V2 route: infer. `app.py` has those that only tell of the model."""

from __future__ import annotations

from omi_kserve import convert_v2
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import Request, Response, check_json_media_type


class V2Routes:
    """`infer` of the one model, with and without its version in the path."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{model}[/versions/{version}]/infer."""
        check_json_media_type(request)
        handler = self._handler
        signature = handler.signature
        asked = convert_v2.read_request(await request.body(), signature)
        result = await handler.infer(asked.batch)
        assert handler.card is not None
        body = convert_v2.write_response(
            asked, result, signature, handler.card, handler.settings.nan
        )
        return Response(200, body)
