"""`omi predict`: one prediction, without a server or against one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from omi_runtime import environment
from omi_runtime.adapter import load_adapter, load_tool
from omi_runtime.cli import certificates
from omi_runtime.cli.loaded import MODEL_HELP, fail, with_model
from omi_runtime.errors import InvalidInput, OMIError, SettingsError, StartupError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import Item, ItemCodec
from omi_runtime.runner import Wanted
from omi_runtime.settings import Settings
from omi_runtime.tls import ClientCertificates


@click.command("predict", epilog=MODEL_HELP)
@click.argument("model", required=False)
@click.option("--url", help="Ask a server, such as grpc://host:45000, instead of a model here.")
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
@certificates.options
def predict_command(
    model: str | None,
    url: str | None,
    inputs: Sequence[str],
    output: Path | None,
    *,
    explain: bool,
    drift: bool,
    **tls: Path | None,
) -> None:
    """Make one prediction: without a server, through the same core as one's; or with --url.

    The answer is the results.json that the OMI and Modzy interfaces give. Bytes outputs are files
    and need --output. The server of --url speaks what INTERFACE names: omi, unless it is set.
    """
    if url and model:
        raise click.UsageError("give MODEL or --url, not both")
    if any(tls.values()) and not url:
        raise click.UsageError("--ca, --cert and --key are for --url")
    known = certificates.read(**tls)
    wanted = Wanted(explain, drift)
    try:
        item = _read_inputs(inputs)
        if output is not None:
            _make(output)
        answer = _ask_server(url, item, wanted, known) if url else _ask_model(model, item, wanted)
    except OMIError as error:
        click.echo(f"omi: {error.message}", err=True)
        raise SystemExit(1) from None
    except StartupError as error:
        fail(error)
    if output is None:
        _print(answer)
        return
    for name, data in answer.items():
        _write(output / Path(name).name, data)  # a foreign server may say anything


def _ask_model(model: str | None, item: Item, wanted: Wanted) -> dict[str, bytes]:
    async def answer(handler: ModelHandler) -> dict[str, bytes]:
        codec = ItemCodec(handler.signature, handler.name, handler.settings.nan)
        row = codec.decode(item)
        (files,) = codec.encode(await handler.infer_rows([row], wanted))
        if isinstance(files, OMIError):
            raise files
        return files

    return with_model(model, answer)


def _ask_server(
    url: str, item: Item, wanted: Wanted, known: ClientCertificates
) -> dict[str, bytes]:
    settings = environment.read(Settings)
    interface = settings.interface[0]
    predict = load_tool(load_adapter(interface, settings.protocol), "predict")
    if predict is None:
        raise SettingsError(f"INTERFACE={interface!r} has no client for --url: expected omi")
    answer: dict[str, bytes] = predict(
        url,
        item,
        explain=wanted.explanation,
        detect_drift=wanted.drift,
        certificates=known,
        quiet=settings.log_level != "debug",
    )
    return answer


def _print(files: Mapping[str, bytes]) -> None:
    """`results.json`, and the names of the others; a foreign server may have others alone."""
    if "results.json" in files:
        click.echo(files["results.json"])
    others = [name for name in files if name != "results.json"]
    if others:
        click.echo(f"omi: --output DIR would also write {', '.join(others)}", err=True)


def _make(folder: Path) -> None:
    """Make the folder of the answer, before anything is asked whose answer would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--output {str(folder)!r} cannot be made: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        click.echo(f"omi: {str(path)!r} cannot be written: {reason}", err=True)
        raise SystemExit(1) from None
    click.echo(path)


def _read_inputs(texts: Sequence[str]) -> dict[str, bytes]:
    inputs: dict[str, bytes] = {}
    for text in texts:
        name, value = _read_input(text)
        if name in inputs:
            raise SettingsError(f"--input {name} is given twice: give it once")
        inputs[name] = value
    return inputs


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
