"""The commands of `omi`."""

from __future__ import annotations

import os

import click
import orjson

from omi_runtime import __version__
from omi_runtime.cli import report, serve
from omi_runtime.cli.build import build_command
from omi_runtime.cli.check import check_command
from omi_runtime.cli.health import health_command
from omi_runtime.cli.loaded import MODEL_HELP, fail, with_model
from omi_runtime.cli.lock import lock_command
from omi_runtime.cli.manifest import manifest_command
from omi_runtime.cli.predict import predict_command
from omi_runtime.cli.run import run_command
from omi_runtime.errors import StartupError
from omi_runtime.handler import ModelHandler


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="omi-runtime", message="%(prog)s %(version)s")
def omi() -> None:
    """Serve a model over the interface that INTERFACE names: omi, kserve or modzy."""


@omi.command("serve", epilog=MODEL_HELP)
@click.argument("model", required=False)
@click.option("--print-config", is_flag=True, help="Print every effective setting and stop.")
def serve_command(model: str | None, *, print_config: bool) -> None:
    """Serve a model. Environment variables say how; --print-config lists them."""
    if model is not None:
        os.environ["OMI_MODEL"] = model
    if not print_config:
        raise SystemExit(serve())
    try:
        click.echo(report.configuration(os.environ))
    except StartupError as error:
        fail(error)


@omi.command(epilog=MODEL_HELP)
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def describe(model: str | None, *, as_json: bool) -> None:
    """Print the model's card: who made it, what it takes, gives and needs."""

    async def card_of(handler: ModelHandler) -> str:
        card, signature = handler.card, handler.signature
        assert card is not None
        if as_json:
            content = report.card_as_dict(card, signature)
            return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
        return report.card_as_text(card, signature)

    click.echo(with_model(model, card_of))


omi.add_command(build_command)
omi.add_command(check_command)
omi.add_command(health_command)
omi.add_command(lock_command)
omi.add_command(predict_command)
omi.add_command(manifest_command)
omi.add_command(run_command)
