"""The routes `/status`, `/run` and `/shutdown`, with Modzy's codes and texts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from omi_modzy import job as jobs
from omi_modzy.errors import answer, error_answer
from omi_runtime.errors import NotOffered, OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.signature import Signature
from omi_runtime.transport.http import (
    Dispatcher,
    Receive,
    Request,
    Response,
    Route,
    Scope,
    Send,
    respond,
)


def make_app(
    handler: ModelHandler, interface: str, *, allow_shutdown: bool, debug: bool
) -> Dispatcher:
    """All routes around the handler.

    Args:
        handler: the core.
        interface: as `INTERFACE` names it.
        allow_shutdown: `OMI_ALLOW_SHUTDOWN`.
        debug: answer errors with `technicalInformation`.
    """
    routes = ModzyRoutes(handler, allow_shutdown=allow_shutdown)
    table: dict[str, dict[str, Route]] = {
        "/status": {"GET": Route("status", routes.status)},
        "/run": {"POST": Route("run", routes.run)},
        "/shutdown": {"POST": Route("shutdown", routes.shutdown)},
    }
    return Dispatcher(
        handler,
        interface,
        table,
        _NotRouted(table),
        lambda error: error_answer(error, debug=debug),
    )


class ModzyRoutes:
    """Answers the three routes through the handler."""

    def __init__(self, handler: ModelHandler, *, allow_shutdown: bool) -> None:
        self._handler = handler
        self._allow_shutdown = allow_shutdown
        self._codec: ItemCodec | None = None

    async def status(self, _request: Request) -> Response:
        """200 once the model has loaded; after a failed load, loads again."""
        await self._handler.become_ready()
        return answer(200, "ready")

    async def run(self, request: Request) -> Response:
        """One job: the files of one item in, the files of its answer out."""
        job = jobs.read_job(await request.body(), request.media_type)
        # Files may lie on a network's disk: they are no work for the event loop.
        if not self._handler.ready:
            # The specification's order: a bad output directory is told before a failed load.
            await asyncio.to_thread(jobs.make_output_directory, job)
            await self._handler.reload_if_failed(request.context)
        signature = self._handler.signature
        codec = self._item_codec(signature)
        files = await asyncio.to_thread(jobs.open_job, job, signature, codec)
        result = await self._handler.infer_rows([codec.decode(files)], request=request.context)
        (output,) = codec.encode(result)
        if isinstance(output, OMIError):
            raise output
        await asyncio.to_thread(jobs.write_files, job, output)
        return answer(200, "success")

    async def shutdown(self, _request: Request) -> Response:
        """202, then the process drains and exits 0."""
        if not self._allow_shutdown:
            raise NotOffered("/shutdown is switched off by OMI_ALLOW_SHUTDOWN")
        self._handler.lifecycle.request_stop("POST /shutdown")
        return answer(202, "exiting")

    def _item_codec(self, signature: Signature) -> ItemCodec:
        if self._codec is None:
            self._codec = ItemCodec(signature, self._handler.name, self._handler.settings.nan)
        return self._codec


class _NotRouted:
    """404 and 405 in the interface's own shape."""

    def __init__(self, routes: Mapping[str, Mapping[str, Route]]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        allowed = self._routes.get(path)
        if allowed is None:
            await respond(send, answer(404, f"no route {path}: {_ROUTES}"))
            return
        response = answer(405, f"{method} {path}: this route takes {', '.join(allowed)}")
        response.headers = [*response.headers, (b"allow", ", ".join(allowed).encode())]
        await respond(send, response)


_ROUTES: Final = "there are GET /status, POST /run and POST /shutdown"
