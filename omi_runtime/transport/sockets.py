"""Binding a port, with an error that an operator can act on."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

from omi_runtime.adapter import Choice, Port
from omi_runtime.errors import LoadError, SettingsError


def bind(host: str, port: Port) -> socket.socket:
    """A listening-ready TCP socket, of the address family that the host needs.

    A shared port may be bound by every process that has the same user and says so too.

    Raises:
        SettingsError: the host is no address.
        LoadError: the port is taken or the address is not this machine's; names what set them.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port.number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise SettingsError(
            f"OMI_HOST={host!r} is not valid: expected an address of this machine, such as 0.0.0.0 "
            f"({error.strerror})"
        ) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    # A restarted server may take the port of its predecessor's lingering connections.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port.shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise cannot_bind(host, port, error) from None
    sock.setblocking(False)
    return sock


class HeldPorts:
    """Ports that workers share, held by a process that does not listen on them.

    A port is bound as if for one alone, so that one in use is noticed, and made to share
    afterwards: there is no moment at which another server, which would not be noticed later, could
    get it. From then on only who asks to share gets it too.

    Args:
        host: `OMI_HOST`.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._sockets: list[socket.socket] = []

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
        sock = bind(self._host, replace(port, shared=False))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._sockets.append(sock)
        return replace(port, number=int(sock.getsockname()[1]), shared=True)

    def close(self) -> None:
        """In a worker, which has sockets of its own."""
        for sock in self._sockets:
            sock.close()


def cannot_bind(host: str, port: Port, error: OSError) -> LoadError:
    """One line saying why a port cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return LoadError(f"{port} is in use: stop what listens there, or choose another port")
    return LoadError(f"{port} on OMI_HOST={host} cannot be bound: {error.strerror}")
