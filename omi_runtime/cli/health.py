"""`omi health`: whether the server of this environment can infer; an image's HEALTHCHECK."""

from __future__ import annotations

import os

import click

from omi_runtime import environment
from omi_runtime.adapter import Choice, choose_adapters, load_tool
from omi_runtime.cli import seconds
from omi_runtime.cli.loaded import fail
from omi_runtime.errors import SettingsError, StartupError
from omi_runtime.settings import EVERY_ADDRESS, Settings
from omi_runtime.transport.probes import Endpoint, Unhealthy


@click.command("health")
@seconds.option("--timeout", 5.0, "Seconds that an answer may take.")
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
    host = EVERY_ADDRESS.get(settings.host, settings.host)
    check(Endpoint(host, choice.port.number, timeout, settings.tls_cert, settings.tls_key))
