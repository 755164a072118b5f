"""Binding a port, with an error that an operator can act on."""

from __future__ import annotations

import errno
import socket

from omi_runtime.adapter import Port
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


def cannot_bind(host: str, port: Port, error: OSError) -> LoadError:
    """One line saying why a port cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return LoadError(f"{port} is in use: stop what listens there, or choose another port")
    return LoadError(f"{port} on OMI_HOST={host} cannot be bound: {error.strerror}")
