"""Accepting connections on the event loop, on one port, alone or as one of several workers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from omi_runtime.adapter import Port
from omi_runtime.transport.sockets import bind

BACKLOG: Final = 2048
"""How many connections the system queues for this process, if it allows so many."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """One port's listening socket; in one of several workers also those of workers that are gone.

    What was queued for a worker that has died, and what comes to its socket until another takes its
    place, goes to the survivor that the supervisor tells to `adopt` it.

    Attributes:
        number: of the port.

    Args:
        host: `OMI_HOST`.
        port: what to bind.

    Raises:
        SettingsError, LoadError: see `sockets.bind`.
    """

    def __init__(self, host: str, port: Port) -> None:
        self._shared = port.by_place
        self._sock = bind(host, port) if self._shared is None else self._shared.own()
        self.number = int(self._sock.getsockname()[1])
        self._make: ProtocolFactory | None = None
        self._tls: ssl.SSLContext | None = None
        self._accepting: dict[socket.socket, asyncio.Server] = {}
        self._adopted: dict[int, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def accept(self, make: ProtocolFactory, tls: ssl.SSLContext | None = None) -> None:
        """Take connections from now on.

        Args:
            make: the protocol that talks over a new one.
            tls: for TLS.
        """
        self._make, self._tls = make, tls
        await self._accept_from(self._sock)
        if self._shared is not None:
            self._shared.listener = self

    def adopt(self, place: int) -> None:
        """Take also what comes to another worker's place."""
        if self._shared is None or self._closed or place in self._adopted:
            return
        sock = self._adopted[place] = self._shared.socket(place)
        task = asyncio.ensure_future(self._accept_from(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def release(self, place: int) -> None:
        """Leave a place to its own worker again."""
        sock = self._adopted.pop(place, None)
        if sock is not None:
            self._stop(sock)

    def close(self) -> None:
        """Take no new connections; those that are open go on."""
        if self._closed:
            return
        self._closed = True
        for sock in (self._sock, *self._adopted.values()):
            self._stop(sock)
        if self._shared is not None:
            self._shared.leave()

    async def _accept_from(self, sock: socket.socket) -> None:
        assert self._make is not None, "it accepts"
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._make, sock=sock, ssl=self._tls, backlog=BACKLOG)
        if sock is self._sock or sock in self._adopted.values():
            self._accepting[sock] = server
        else:  # it has been released meanwhile
            server.close()

    def _stop(self, sock: socket.socket) -> None:
        server = self._accepting.pop(sock, None)
        if server is not None:
            server.close()
        sock.close()
