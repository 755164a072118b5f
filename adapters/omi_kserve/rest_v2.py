"""The V2 route: infer. `app.py` has those that only tell of the model."""

from __future__ import annotations

from omi_kserve.convert_v2 import write_outputs
from omi_kserve.convert_v2_request import HEADER_LENGTH, read_request
from omi_kserve.convert_v2_response import Body, write_response
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.http import Request, Response, check_json_media_type

_BINARY_TYPE = (b"content-type", b"application/octet-stream")


class V2Routes:
    """`infer` of the one model, with and without its version in the path."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{model}[/versions/{version}]/infer."""
        header_length = request.headers.get(HEADER_LENGTH)
        if header_length is None:
            check_json_media_type(request)
        handler = self._handler
        signature, card = handler.signature, handler.card
        assert card is not None, "it comes with the signature"
        asked = read_request(await request.body(), header_length, signature)
        asked.infer.check_offered(
            handler.name, explains=handler.explains, detects_drift=handler.detects_drift
        )
        result = await handler.infer(asked.infer.batch, asked.infer.wanted, request.context)
        outputs = write_outputs(asked.infer, result, signature, handler.name)
        return _response(write_response(asked, outputs, card, handler.settings.nan))


def _response(body: Body) -> Response:
    if not body.binary:
        return Response(200, body.json)
    headers = [_BINARY_TYPE, (HEADER_LENGTH, b"%d" % len(body.json))]
    return Response(200, b"".join([body.json, *body.binary]), headers)
