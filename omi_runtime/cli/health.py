"""`omi health`: whether the server of this environment can infer; an image's HEALTHCHECK."""

from __future__ import annotations

import os
from typing import Final

import click

from omi_runtime import environment
from omi_runtime.adapter import Choice, choose_adapters, load_tool
from omi_runtime.cli.loaded import fail
from omi_runtime.cli.seconds import Seconds
from omi_runtime.errors import SettingsError, StartupError
from omi_runtime.settings import Settings
from omi_runtime.transport.probes import Endpoint, Unhealthy

_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what OMI_HOST may be


@click.command("health")
@click.option(
    "--timeout",
    type=Seconds(),
    default=5.0,
    show_default=True,
    help="Seconds that an answer may take.",
)
def health_command(timeout: float) -> None:
    """Ask the server that this environment's settings make, on this machine, if it is ready.

    Each interface that INTERFACE names is asked in its own protocol. Ends with 0 if all are ready,
    else with 1 and the reason.
    """
    try:
        settings = environment.read(Settings, os.environ)
        choices, _ = choose_adapters(settings, os.environ)
        for choice in choices:
            _ask(choice, settings, timeout)
            click.echo(f"{choice.interface}: ready")
    except StartupError as error:
        fail(error)
    except Unhealthy as error:
        click.echo(f"omi: not ready: {error}", err=True)
        raise SystemExit(1) from None


def _ask(choice: Choice, settings: Settings, timeout: float) -> None:
    check = load_tool(choice.adapter, "health")
    if check is None:
        raise SettingsError(f"INTERFACE={choice.interface} cannot be asked for its health")
    if not choice.port.number:
        raise SettingsError(
            f"{choice.port.origin}=0 lets the system choose a port: nobody knows it"
        )
    host = _EVERY_ADDRESS.get(settings.host, settings.host)
    check(Endpoint(host, choice.port.number, timeout, settings.tls_cert, settings.tls_key))
