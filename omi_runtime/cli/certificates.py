"""The options of a command that asks a server over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from omi_runtime.tls import ClientCertificates

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def options(command: F) -> F:
    """Gives a command `--ca`, `--cert` and `--key`: parameters `ca`, `cert`, `key`, for `read`."""
    for name, text in (
        ("--key", "The key of --cert, PEM, without a password."),
        ("--cert", "A certificate of one's own, PEM, for servers that ask for one."),
        ("--ca", "Who signed the server's certificate, PEM, instead of whom the system trusts."),
    ):
        command = click.option(name, type=_FILE, help=text)(command)
    return command


def read(ca: Path | None, cert: Path | None, key: Path | None) -> ClientCertificates:
    """The files' contents.

    Raises:
        click.UsageError: a file is not what it should be, or one of a pair is missing.
    """
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (ssl.SSLError, ValueError) as error:
            raise click.UsageError(f"--ca {ca}: expected PEM certificates ({error})") from None
    if (cert is None) != (key is None):
        raise click.UsageError("--cert and --key belong together: one of them is missing")
    if cert is not None:
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise click.UsageError(
                f"--cert {cert}, --key {key}: expected a PEM certificate and its key ({error})"
            ) from None
    return ClientCertificates(
        *(None if path is None else path.read_bytes() for path in (ca, cert, key))
    )
