"""The routes `/status`, `/run` and `/shutdown`, with Modzy's codes and texts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from omi_modzy.errors import answer, error_response
from omi_modzy.job import read_job
from omi_runtime.errors import NotOffered
from omi_runtime.folders import Roots
from omi_runtime.handler import ModelHandler
from omi_runtime.jobfiles import JobFiles, job_files, make_output
from omi_runtime.jobsettings import JobSettings
from omi_runtime.threads import Threads
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
from omi_runtime.transport.http_messages import Refused


def make_app(handler: ModelHandler, interface: str, settings: JobSettings) -> Dispatcher:
    """All routes around the handler.

    Args:
        handler: the core.
        interface: as `INTERFACE` names it.
        settings: the interface's own; an error has `technicalInformation` if the core logs at
            debug.
    """
    routes = ModzyRoutes(handler, settings)
    debug = handler.settings.log_level == "debug"
    table: dict[str, dict[str, Route]] = {
        "/status": {"GET": Route("status", routes.status, probe=True)},
        "/run": {"POST": Route("run", routes.run)},
        "/shutdown": {"POST": Route("shutdown", routes.shutdown)},
    }
    return Dispatcher(
        handler,
        interface,
        table,
        _NotRouted(table, debug=debug),
        partial(error_response, debug=debug),
    )


class ModzyRoutes:
    """Answers the three routes through the handler."""

    def __init__(self, handler: ModelHandler, settings: JobSettings) -> None:
        self._handler = handler
        self._settings = settings
        self._roots = Roots(settings.data_roots)
        self._threads = Threads()
        self._files: JobFiles | None = None

    async def status(self, _request: Request) -> Response:
        """200 once the model has loaded; after a failed load, loads again."""
        await self._handler.become_ready()
        return _READY

    async def run(self, request: Request) -> Response:
        """One job: the files of one item in, the files of its answer out."""
        job, wanted = read_job(await request.body(), request.media_type)
        # Files may lie on a network's disk, and be large: they are no work for the event loop.
        if not self._handler.ready:
            # The specification's order: a bad output directory is told before a failed load.
            await self._threads.run(make_output, job, self._roots)
            await self._handler.reload_if_failed(request.context)
        files = self._job_files()
        row = await self._threads.run(files.read, job)
        result = await self._handler.infer_rows([row], wanted, request=request.context)
        await self._threads.run_steps(files.write, job, result)
        return _SUCCESS

    async def shutdown(self, _request: Request) -> Response:
        """202, then the process drains and exits 0."""
        if not self._handler.settings.allow_shutdown:
            raise NotOffered("/shutdown is switched off by OMI_ALLOW_SHUTDOWN")
        self._handler.lifecycle.request_stop("POST /shutdown")
        return answer(202, "exiting")

    def _job_files(self) -> JobFiles:
        """Raises ModelNotReady if the load failed again."""
        signature = self._handler.signature
        if self._files is None or self._files.signature is not signature:  # loaded again
            enforced = self._settings.enforce_card
            self._files = job_files(self._handler, self._roots, enforce_card=enforced)
        return self._files


class _NotRouted:
    """404 and 405 in the interface's own shape."""

    def __init__(self, routes: Mapping[str, Mapping[str, Route]], *, debug: bool) -> None:
        self._routes = routes
        self._debug = debug

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        allowed = self._routes.get(path)
        if allowed is None:
            await respond(send, self._refuse(404, f"no route {path}: {_ROUTES}"))
            return
        response = self._refuse(405, f"{method} {path}: this route takes {', '.join(allowed)}")
        response.headers = [*response.headers, (b"allow", ", ".join(allowed).encode())]
        await respond(send, response)

    def _refuse(self, status: int, message: str) -> Response:
        return error_response(Refused(status, message), debug=self._debug)


_READY: Final = answer(200, "ready")
_SUCCESS: Final = answer(200, "success")
_ROUTES: Final = "there are GET /status, POST /run and POST /shutdown"
