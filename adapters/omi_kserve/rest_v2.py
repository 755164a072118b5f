"""The V2 route: infer. `app.py` has those that only tell of the model."""

from __future__ import annotations

from omi_kserve.convert_v2_request import read_request
from omi_kserve.convert_v2_response import write_response
from omi_runtime.errors import NotOffered, UnsupportedMediaType
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import Request, Response, check_json_media_type


class V2Routes:
    """`infer` of the one model, with and without its version in the path."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{model}[/versions/{version}]/infer."""
        if b"inference-header-content-length" in request.headers:
            raise UnsupportedMediaType("binary tensors are not read here: send the data as JSON")
        check_json_media_type(request)
        handler = self._handler
        signature = handler.signature
        asked = read_request(await request.body(), signature)
        if asked.wanted.explanation and not handler.explains:
            raise NotOffered(f"model {handler.name} has no explain")
        if asked.wanted.drift and not handler.detects_drift:
            raise NotOffered(f"model {handler.name} has no drift")
        result = await handler.infer(asked.batch, asked.wanted, request.context)
        assert handler.card is not None
        body = write_response(asked, result, signature, handler.card, handler.settings.nan)
        return Response(200, body)
