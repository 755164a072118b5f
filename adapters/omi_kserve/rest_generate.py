"""The routes of the generate extension: `generate`, and `generate_stream` as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from omi_kserve.convert_generate import GenerateRequest, TextFields, read_request, write_response
from omi_kserve.errors import error_response
from omi_runtime.batch import Result
from omi_runtime.errors import NotOffered
from omi_runtime.handler import ModelHandler
from omi_runtime.request import RequestContext
from omi_runtime.transport.http import (
    Request,
    Response,
    StreamingResponse,
    check_json_media_type,
)

_EVENTS: Final = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))


class GenerateRoutes:
    """`generate` and `generate_stream` of the one model, with and without its version."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler

    async def generate(self, request: Request) -> Response:
        """POST /v2/models/{model}[/versions/{version}]/generate."""
        asked, fields = await self._read(request)
        result = await self._handler.infer(asked.batch, request=request.context)
        result.raise_error()
        return Response(200, self._write(asked, fields, result))

    async def generate_stream(self, request: Request) -> StreamingResponse:
        """POST /v2/models/{model}[/versions/{version}]/generate_stream.

        What goes wrong before there is anything to send is an answer like any other's.
        """
        asked, fields = await self._read(request)
        events = self._events(asked, fields, request.context)
        await anext(events)
        return StreamingResponse(200, events, _EVENTS)

    async def _read(self, request: Request) -> tuple[GenerateRequest, TextFields]:
        check_json_media_type(request)
        signature = self._handler.signature
        fields = TextFields.of(signature)
        if fields is None:
            raise NotOffered(f"model {self._handler.name} does not generate text from text")
        return read_request(await request.body(), fields, signature), fields

    def _write(self, asked: GenerateRequest, fields: TextFields, result: Result) -> bytes:
        assert self._handler.card is not None, "it comes with the signature"
        return write_response(asked, result, fields, self._handler.card)

    async def _events(
        self, asked: GenerateRequest, fields: TextFields, context: RequestContext
    ) -> AsyncGenerator[bytes, None]:
        """Nothing when there is something to send, or an error; then the events."""
        results = self._handler.infer_stream(asked.batch, context)
        begun = False
        try:
            result = await anext(results, None)
            begun = True
            yield b""
            while result is not None:
                yield _event(self._write(asked, fields, result))
                result = await anext(results, None)
        except Exception as error:
            if not begun:
                raise
            context.failed(error)
            yield _event(error_response(error).body)
        finally:
            await results.aclose()


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data
