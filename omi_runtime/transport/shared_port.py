"""Ports that several workers share: a socket for each of them, which outlives it.

The supervisor makes the sockets of every place, bound and not listening, and keeps them: workers
inherit them with the fork. Each listens on the one of its own place when it is ready, and the
system spreads connections over the sockets that listen. When a worker is gone, its socket still
listens, and what the system has queued there waits: until another worker, which adopts it, takes
that too, or until the supervisor silences it because there is nobody.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from omi_runtime.adapter import Choice, Port
from omi_runtime.transport.sockets import bind

if TYPE_CHECKING:
    from omi_runtime.transport.listener import Listener


class SharedPort:
    """One port's sockets, by place.

    The port is bound as if for one alone, so that one in use is noticed, and made to share
    afterwards: there is no moment at which another server, which would not be noticed later, could
    get it. From then on only who asks to share gets it too.

    Attributes:
        port: what an adapter gets.
        listener: what accepts in this worker, if anything does.

    Args:
        host: `OMI_HOST`.
        port: what to bind.
        places: how many workers there are.

    Raises:
        SettingsError, LoadError: see `bind`.
    """

    def __init__(self, host: str, port: Port, places: int) -> None:
        self._holder = bind(host, replace(port, shared=False))
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port = replace(
            port, number=int(self._holder.getsockname()[1]), shared=True, by_place=self
        )
        self._sockets = [bind(host, self.port) for _ in range(places)]
        self.listener: Listener | None = None
        self._place = 0
        self._left: Callable[[int], None] | None = None

    def silence(self, place: int) -> None:
        """In the supervisor: have a place refuse connections until a worker listens there again."""
        with suppress(OSError):  # it does not listen
            self._sockets[place].shutdown(socket.SHUT_RDWR)

    # --- in a worker ---

    def take(self, place: int, left: Callable[[int], None]) -> None:
        """This process is the worker of that place; `left` is told the port that it leaves."""
        self._place, self._left = place, left

    def own(self) -> socket.socket:
        """The socket of this worker's place, as `socket` gives it."""
        return self.socket(self._place)

    def socket(self, place: int) -> socket.socket:
        """A descriptor of a place's socket, to be closed by whoever asked for it."""
        return self._sockets[place].dup()

    def leave(self) -> None:
        """Keep no descriptor, and say so: what this worker listened to is for others."""
        for sock in (self._holder, *self._sockets):
            sock.close()
        if self._left is not None:
            self._left(self.port.number)


class SharedPorts:
    """All ports that the workers share.

    Args:
        host: `OMI_HOST`.
        places: how many workers there are.
    """

    def __init__(self, host: str, places: int) -> None:
        self._host = host
        self._places = places
        self._ports: list[SharedPort] = []

    def hold(self, choice: Choice) -> Choice:
        """The same interface with the ports that its workers are to bind.

        Raises:
            SettingsError, LoadError: see `bind`.
        """
        further = {kind: self.share(port) for kind, port in choice.further_ports.items()}
        return replace(choice, port=self.share(choice.port), further_ports=further)

    def share(self, port: Port) -> Port:
        """The same port, to be shared; with a number if the system was to choose one.

        Raises:
            SettingsError, LoadError: see `bind`.
        """
        shared = SharedPort(self._host, port, self._places)
        self._ports.append(shared)
        return shared.port

    def silence(self, place: int, number: int | None = None) -> None:
        """Have a place refuse connections, on one port or on all."""
        for shared in self._ports:
            if number is None or number == shared.port.number:
                shared.silence(place)

    # --- in a worker ---

    def take(self, place: int, left: Callable[[int], None]) -> None:
        """This process is the worker of that place; `left` is told the ports that it leaves."""
        for shared in self._ports:
            shared.take(place, left)

    def adopt(self, place: int) -> None:
        """Accept what comes to another place too."""
        for listener in self._listeners():
            listener.adopt(place)

    def release(self, place: int) -> None:
        """Leave another place to its own worker again."""
        for listener in self._listeners():
            listener.release(place)

    def _listeners(self) -> list[Listener]:
        return [shared.listener for shared in self._ports if shared.listener is not None]
