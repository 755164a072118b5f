"""The commands of `omi`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click
import orjson

from omi_runtime import __version__, launch
from omi_runtime.cli import report
from omi_runtime.cli.loaded import MODEL_HELP, fail, with_model
from omi_runtime.cli.manifest import manifest_command
from omi_runtime.errors import InvalidInput, OMIError, StartupError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.runner import Wanted


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
        raise SystemExit(launch.main())
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


@omi.command(epilog=MODEL_HELP)
@click.argument("model", required=False)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input's value as its file would hold it, or @FILE, whose extension tells the form.",
)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write files.")
@click.option("--explain", is_flag=True, help="Ask for an explanation too.")
@click.option("--drift", is_flag=True, help="Ask for drift too.")
def predict(
    model: str | None,
    inputs: Sequence[str],
    output: Path | None,
    *,
    explain: bool,
    drift: bool,
) -> None:
    """Make one prediction, through the same core as a server's but without one.

    The answer is the results.json that the OMI and Modzy interfaces give. Bytes outputs are files
    and need --output.
    """

    async def answer(handler: ModelHandler) -> dict[str, bytes]:
        codec = ItemCodec(handler.signature, handler.name, handler.settings.nan)
        row = codec.decode(dict(_read_input(text) for text in inputs))
        (files,) = codec.encode(await handler.infer_rows([row], Wanted(explain, drift)))
        if isinstance(files, OMIError):
            raise files
        return files

    try:
        files = with_model(model, answer)
    except OMIError as error:
        click.echo(f"omi: {error.message}", err=True)
        raise SystemExit(1) from None
    if output is None:
        click.echo(files.pop("results.json"))
        if files:
            click.echo(f"omi: --output DIR would also write {', '.join(files)}", err=True)
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (output / name).write_bytes(data)
        click.echo(output / name)


def _read_input(text: str) -> tuple[str, bytes]:
    """`name=value` or `name=@file` → the file's name as a wire would have it, and its content."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--input {text!r}: expected NAME=VALUE or NAME=@FILE")
    if not value.startswith("@"):
        return name, value.encode()
    path = Path(value[1:])
    try:
        return name + path.suffix.lower(), path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"--input {text!r}: {error.strerror}") from None


omi.add_command(manifest_command)
