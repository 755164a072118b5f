"""The V2 route that infers; those that only tell of server and model are in `rest_info`."""

from __future__ import annotations

from typing import Final

from omi_kserve.convert_json import read_json
from omi_kserve.convert_plain import PlainV2
from omi_kserve.convert_v2 import write_outputs
from omi_kserve.convert_v2_request import (
    HEADER_LENGTH,
    BodyRequest,
    read_content,
    read_request,
)
from omi_kserve.convert_v2_response import Body, write_response
from omi_runtime.batch import Result
from omi_runtime.handler import ModelHandler
from omi_runtime.runner import NOTHING_MORE
from omi_runtime.transport.http import Request, Response, check_json_media_type

_BINARY_TYPE: Final = (b"content-type", b"application/octet-stream")

_LARGE: Final = 262_144
"""Bytes of tensors from which on they are sent as they lie; measured, docs/decisions/0011."""


class V2Routes:
    """`infer` of the one model, with and without its version in the path."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler
        self._plain: PlainV2 | None = None

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{model}[/versions/{version}]/infer."""
        header_length = request.headers.get(HEADER_LENGTH)
        handler = self._handler
        plain = self._plain
        if plain is None or plain.signature is not handler.signature:  # loaded again
            assert handler.card is not None, "it comes with the signature"
            plain = PlainV2(handler.signature, handler.card, handler.settings.nan)
            self._plain = plain
        if header_length is None:
            check_json_media_type(request)
            asked = await request.read(_read_json, plain)
        else:  # tensors are taken as they lie, which takes no time
            asked = read_request(await request.body(), header_length, plain.signature)
        infer = asked.infer
        if infer.wanted is not NOTHING_MORE:
            infer.check_offered(
                handler.name, explains=handler.explains, detects_drift=handler.detects_drift
            )
        result = await handler.infer(infer.batch, infer.wanted, request.context)
        if header_length is None:
            return await request.write(self._write, plain, asked, result)
        return self._write(plain, asked, result)

    def _write(self, plain: PlainV2, asked: BodyRequest, result: Result) -> Response:
        body = plain.write(asked.infer, result) if asked.plain else None
        if body is not None:
            return Response(200, body)
        outputs = write_outputs(asked.infer, result, plain.signature, plain.card.name)
        return _response(write_response(asked, outputs, plain.card, self._handler.settings.nan))


def _read_json(body: bytes, plain: PlainV2) -> BodyRequest:
    content = read_json(body)
    infer = plain.read(content)
    return (
        read_content(content, plain.signature) if infer is None else BodyRequest(infer, plain=True)
    )


def _response(body: Body) -> Response:
    if not body.binary:
        return Response(200, body.json)
    headers = [_BINARY_TYPE, (HEADER_LENGTH, b"%d" % len(body.json))]
    if sum(map(len, body.binary)) >= _LARGE:
        return Response(200, body.json, headers, body.binary)
    return Response(200, b"".join([body.json, *body.binary]), headers)
