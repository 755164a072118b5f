"""Where the requests of one method come in and go out: both transports tell it, and nobody else.

From here on a request's log lines carry its id; here it is counted, and gets its line in the log.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from omi_runtime.handler import ModelHandler
from omi_runtime.request import WORKED_ON, RequestContext

logger = logging.getLogger("omi_runtime.access")

CANCELLED: Final = "CANCELLED"
OK: Final = "OK"

_UNTOLD: Final = frozenset({OK, CANCELLED, "OVERLOADED", "MODEL_NOT_READY"})
"""What has no line of its own unless OMI_ACCESS_LOG asks for one: what is well, and what would
drown the log when there is most to do. The metrics have it."""


class Endpoint:
    """One method of one interface.

    Args:
        handler: the core.
        interface: as `INTERFACE` names it.
        method: in the interface's own words.
        probe: it only asks how the server is, so that the log has no line of it.
    """

    __slots__ = ("_handler", "_probe", "_tells_all", "_tracer", "received", "sent", "traffic")

    def __init__(
        self, handler: ModelHandler, interface: str, method: str, *, probe: bool = False
    ) -> None:
        self._handler = handler
        self._probe = probe
        self._tells_all = handler.settings.access_log
        self._tracer = None if probe else handler.tracer
        self.traffic = handler.metrics.traffic(interface, method)
        self.received = self.traffic.received
        self.sent = self.traffic.sent

    def begin(self, request: RequestContext) -> None:
        """A request has come; call it in the request's own task."""
        WORKED_ON.set((request,))
        self.traffic.came()
        if self._tracer is not None:
            self._tracer.begin(request)

    def end(self, request: RequestContext) -> None:
        """It has its answer, and `request.code` says which; or its caller has gone."""
        code = request.code = request.code or CANCELLED
        seconds = time.monotonic() - request.started
        self.traffic.went(code, seconds)
        if self._tracer is not None:
            self._tracer.end(request, self._handler.name)
        if not self._probe and (self._tells_all or code not in _UNTOLD):
            self._log(request, code, seconds)

    def _log(self, request: RequestContext, code: str, seconds: float) -> None:
        """Who asked what of whom, how it ended and how long it took: never what was sent."""
        fields = {
            "interface": request.interface,
            "method": request.method,
            "model": self._handler.name,
            "code": code,
            "ms": round(seconds * 1000, 2),
        }
        logger.info(
            "%(interface)s %(method)s of %(model)s: %(code)s in %(ms)s ms",
            fields,
            extra={"omi_fields": fields},
        )
