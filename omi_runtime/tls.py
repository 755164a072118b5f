"""The certificates of `OMI_TLS_CERT`, `OMI_TLS_KEY` and `OMI_TLS_CLIENT_CA`, as they are now.

Who renews certificates replaces files; nobody tells the process. So the files are looked at when a
client connects, which costs a few microseconds beside the handshake's milliseconds, and needs no
timer. Connections that are open keep what they began with.
"""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from omi_runtime.errors import SettingsError
from omi_runtime.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """What the files held when they were read.

    Attributes:
        context: for the standard library's servers.
        certificate: PEM, the chain from the server's own.
        key: PEM.
        client_ca: PEM, who has to have signed a client's certificate; None asks for none.
    """

    context: ssl.SSLContext
    certificate: bytes
    key: bytes
    client_ca: bytes | None


@dataclass(frozen=True)
class ClientCertificates:
    """What a client is given, in PEM; with None it trusts whom the system does, and shows nothing.

    Attributes:
        ca: who has to have signed the server's certificate.
        certificate: the client's own, with its chain.
        key: that certificate's, without a password.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None


class Certificates:
    """Gives the certificates as the files hold them now. May be used from every thread.

    Args:
        settings: the paths.
        alpn: the protocol that is spoken, by its name in TLS.

    Raises:
        SettingsError: a file cannot be read or is not what it should be; names the variable.
    """

    def __init__(self, settings: Settings, alpn: str) -> None:
        self._settings = settings
        self._alpn = alpn
        self._lock = threading.Lock()
        self._state = self._look()
        self._loaded = self._read()

    def current(self) -> Loaded:
        """The certificates; those from before, if the files now hold something useless."""
        with self._lock:
            state = self._look()
            if state != self._state:
                self._state = state
                try:
                    self._loaded = self._read()
                    logger.info("the TLS certificates have changed and are read again")
                except SettingsError as error:
                    logger.error("the former TLS certificates stay in use: %s", error)  # noqa: TRY400 - one line says it
            return self._loaded

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stat(path) for path in self._paths()]

    def _paths(self) -> list[str]:
        settings = self._settings
        paths = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        return [path for path in paths if path]

    def _read(self) -> Loaded:
        settings = self._settings
        certificate = _content("OMI_TLS_CERT", settings.tls_cert)
        key = _content("OMI_TLS_KEY", settings.tls_key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([self._alpn])
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError(
                f"OMI_TLS_CERT={settings.tls_cert!r} and OMI_TLS_KEY={settings.tls_key!r} are not "
                f"valid: expected a PEM certificate and its PEM key without a password ({error})"
            ) from None
        client_ca = None
        if settings.tls_client_ca:
            client_ca = _content("OMI_TLS_CLIENT_CA", settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(settings.tls_client_ca)
            except ssl.SSLError as error:
                raise SettingsError(
                    f"OMI_TLS_CLIENT_CA={settings.tls_client_ca!r} is not valid: expected PEM "
                    f"certificates ({error})"
                ) from None
        return Loaded(context, certificate, key, client_ca)


def check(settings: Settings) -> None:
    """See that TLS can be served, if it is asked for.

    Raises:
        SettingsError: it cannot; names the variable.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("OMI_TLS_CERT and OMI_TLS_KEY belong together: one of them is not set")
    if settings.tls_client_ca and not settings.tls_cert:
        raise SettingsError(
            "OMI_TLS_CLIENT_CA needs OMI_TLS_CERT and OMI_TLS_KEY: they are not set"
        )
    if settings.tls_cert:
        Certificates(settings, "http/1.1")


def server_context(settings: Settings, alpn: str) -> ssl.SSLContext:
    """A context that shows every new client the certificates that the files hold then."""
    certificates = Certificates(settings, alpn)

    def choose(connection: ssl.SSLObject, _name: str | None, used: ssl.SSLContext) -> None:
        # Called for every handshake, whether or not the client names a server.
        current = certificates.current().context
        if current is not used:
            connection.context = current

    context = certificates.current().context
    context.sni_callback = choose
    return context


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{variable}={path!r} is not valid: expected a PEM file ({error.strerror})"
        ) from None
