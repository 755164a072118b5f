"""The side port: `/metrics`, `/livez` and `/readyz` for interfaces that have no place for them.

A small WSGI application on the standard library's server, on threads of its own: it answers while
the event loop is busy, and tells by that alone that the process lives.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from omi_runtime.adapter import Port
from omi_runtime.errors import LoadError
from omi_runtime.exposition import scrape
from omi_runtime.handler import ModelHandler
from omi_runtime.transport.sockets import bind

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)


class SidePort:
    """One port's server, open until the process ends: probes are answered while it stops.

    Args:
        handler: the core.
        host: `OMI_HOST`.
        port: what to bind.
        required: somebody asked for this port, so that it is an error if it is taken.
    """

    def __init__(self, handler: ModelHandler, host: str, port: Port, *, required: bool) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._required = required

    def open(self, *, tells: bool) -> None:
        """Bind, and answer from now on; if it `tells`, with a warning where that is not expected.

        Raises:
            LoadError: the port is taken, and was asked for.
        """
        try:
            sock = bind(self._host, self._port)
        except LoadError as error:
            if self._required:
                raise
            logger.warning("no metrics: %s; OMI_METRICS_PORT=0 does without", error)
            return
        sock.setblocking(True)
        sock.listen()
        threading.Thread(target=self._serve, args=[sock], name="omi-side-port", daemon=True).start()
        address, number = sock.getsockname()[:2]
        logger.info("metrics and probes listen on %s port %d", self._host, number)
        if tells and self._handler.settings.tls_cert and not ip_address(address).is_loopback:
            logger.warning(
                "metrics and probes on port %d speak plain HTTP to anybody: OMI_TLS_CERT is for "
                "the interfaces' ports alone; OMI_METRICS_PORT=0 closes this one",
                number,
            )

    def _serve(self, sock: socket.socket) -> None:
        # Imported when somebody comes: until then it would take from the time to start.
        select.select([sock], [], [])
        from omi_runtime.transport.side_server import SideServer  # noqa: PLC0415

        SideServer(sock, self._answer).serve_forever()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request (WSGI)."""
        answer = {"/metrics": self._metrics, "/livez": self._livez, "/readyz": self._readyz}.get(
            environ["PATH_INFO"]
        )
        if answer is None:
            status, content_type, body = "404 Not Found", _TEXT, b"/metrics, /livez, /readyz\n"
        elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, content_type, body = "405 Method Not Allowed", _TEXT, b"GET\n"
        else:
            try:
                status, content_type, body = answer(environ.get("HTTP_ACCEPT", ""))
            except Exception:
                logger.exception("%s failed", environ["PATH_INFO"])
                status, content_type, body = "500 Internal Server Error", _TEXT, b"see the log\n"
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _metrics(self, accept: str) -> _Answer:
        content_type, body = scrape(self._handler, accept)
        return "200 OK", content_type, body

    def _livez(self, _accept: str) -> _Answer:
        return "200 OK", _TEXT, b"live\n"

    def _readyz(self, _accept: str) -> _Answer:
        if self._handler.ready:
            return "200 OK", _TEXT, b"ready\n"
        return "503 Service Unavailable", _TEXT, b"not ready\n"


_Answer = tuple[str, str, bytes]
_TEXT: Final = "text/plain; charset=utf-8"
