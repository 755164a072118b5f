"""The side port's server: the standard library's, bounded, and with the runtime's log for its own.

It is imported when somebody comes: see `side_port`.
"""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

logger = logging.getLogger(__name__)

SLOW_SECONDS: Final = 10.0
"""How long a client may take to say what it wants, or to go on taking its answer."""
MOST_AT_ONCE: Final = 16
"""Connections, each on a thread of its own. Beyond, the oldest makes way: closing the newest would
leave a probe without an answer as soon as some others have nothing to say."""


class SideServer(ThreadingMixIn, WSGIServer):
    """Answers on a socket that listens already.

    Args:
        sock: that socket.
        app: what answers.
    """

    daemon_threads = True

    def __init__(self, sock: socket.socket, app: WSGIApplication) -> None:
        address = sock.getsockname()[:2]
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        # What binding would set, after asking a name server for this machine's name.
        self.server_name, self.server_port = address
        self.setup_environ()
        self.set_app(app)
        self._room = threading.Semaphore(MOST_AT_ONCE)
        self._open: dict[socket.socket, None] = {}  # in the order in which they came
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, of which there are only so many."""
        if not self._room.acquire(blocking=False):
            with self._lock, suppress(OSError, StopIteration):
                next(iter(self._open)).shutdown(socket.SHUT_RDWR)
            self._room.acquire()
        with self._lock:
            self._open[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there are no threads to be had
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, to the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def shutdown_request(self, request: Any) -> None:
        """A connection is done with."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - stdlib's
        """Clients go when they want, and nobody has to mend that."""
        logger.debug("a request to the side port broke off: %r", sys.exception())


class _Handler(WSGIRequestHandler):
    timeout = SLOW_SECONDS
    default_request_version = "HTTP/1.0"  # also of what cannot be read, whose answer has a head too
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(explain)s\n"

    def handle(self) -> None:
        """One request; what the library has to say of it is for the log."""
        self._said = io.StringIO()
        super().handle()
        if said := self._said.getvalue():
            logger.debug("a request to the side port failed: %s", said)

    def get_stderr(self) -> Any:
        """Where WSGI's errors go."""
        return self._said

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Nothing: these are probes."""
