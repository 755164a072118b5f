"""`omi check`: whether an image, or a running server, keeps the specifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import click

from omi_runtime.adapter import load_adapter, load_tool
from omi_runtime.check import report
from omi_runtime.check.rules import Row
from omi_runtime.check.target import Target
from omi_runtime.cli import seconds
from omi_runtime.cli.loaded import fail
from omi_runtime.errors import SettingsError, StartupError

_JSON: Final = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group("check")
def check_command() -> None:
    """Hold an image or a running server, ours or anyone's, to the specifications.

    Ends with 1 if a MUST is broken.
    """


@check_command.command("image")
@click.argument("image")
@click.option("--engine", default="", help="podman or docker; by default the first that works.")
@click.option("--no-run", is_flag=True, help="Only look at it.")
@click.option("--max-size", default=10_000, show_default=True, help="MB that it should not exceed.")
@seconds.option("--start-timeout", 120.0, "Seconds until it answers.")
@_JSON
def check_image(
    image: str, *, engine: str, no_run: bool, max_size: int, start_timeout: float, as_json: bool
) -> None:
    """Check an image: what it says of itself, and what it does on each interface it declares."""
    from omi_runtime.check import engine as engines  # noqa: PLC0415
    from omi_runtime.check import image as images  # noqa: PLC0415
    from omi_runtime.check.inspected import Image  # noqa: PLC0415

    try:
        chosen = engines.find(engine)
        content = chosen.inspect(image)
        subject = Image(chosen, image, content, max_size * 10**6, start_timeout)
        rows = images.check(subject, run=not no_run)
    except StartupError as error:
        fail(error)
    _finish(image, rows, as_json=as_json)


@check_command.command("server")
@click.argument("url")
@click.option("--interface", required=True, help="omi, kserve, modzy or another that is installed.")
@click.option("--protocol", default="", help="v1 or v2; by default all that the interface has.")
@click.option("--model", default="", help="The name served, where it cannot be found out.")
@seconds.option("--timeout", 10.0, "Seconds that an answer may take.")
@click.option("--shutdown", is_flag=True, help="In the end, ask it to stop.")
@_JSON
def check_server(
    url: str,
    *,
    interface: str,
    protocol: str,
    model: str,
    timeout: float,
    shutdown: bool,
    as_json: bool,
) -> None:
    """Check a running server: URL is http://host:port, grpc://host:port or host:port."""
    try:
        rules = load_tool(load_adapter(interface, protocol), "check")
        if rules is None:
            raise SettingsError(f"--interface {interface}: it has no rules to be checked by")
        host, port = _address(url)
        rows = rules(Target(host, port, model, timeout, shutdown), protocol)
    except StartupError as error:
        fail(error)
    _finish(url, rows, as_json=as_json)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "://" in url else f"//{url}")
    if parts.scheme in ("https", "grpcs"):
        raise SettingsError(
            f"{url!r}: TLS is not supported here: expected a port without it, as http://host:port "
            "or grpc://host:port"
        )
    try:
        if parts.hostname and parts.port and parts.scheme in ("", "http", "grpc"):
            return parts.hostname, parts.port
    except ValueError:  # the port is none
        pass
    raise SettingsError(f"{url!r} is no server: expected http://host:port or grpc://host:port")


def _finish(subject: str, rows: Sequence[Row], *, as_json: bool) -> None:
    click.echo((report.as_json if as_json else report.as_text)(subject, rows))
    raise SystemExit(1 if any(row.fatal for row in rows) else 0)
