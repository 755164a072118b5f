"""`omi lock`: the last line of a model's Dockerfile."""

from __future__ import annotations

from pathlib import Path

import click

from omi_runtime import provenance
from omi_runtime.cli.loaded import MODEL_HELP, fail
from omi_runtime.errors import StartupError


@click.command("lock", epilog=MODEL_HELP)
@click.argument("model", default="/model")
@click.option(
    "--facts",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A JSON file with what is only known outside: code, training, base.",
)
def lock_command(model: str, facts: Path | None) -> None:
    """Write omi.lock.json and omi.sbom.json beside a model, in the image that will run it.

    The lock has the digest of every file of the model; with OMI_VERIFY=1 they are verified
    whenever the model starts.
    """
    from omi_runtime import loading  # noqa: PLC0415 - with numpy
    from omi_runtime.image import lock as locks  # noqa: PLC0415

    try:
        found, card = loading.read_card(model)
        digest = locks.lock(found.directory, card, locks.read_facts(facts))
    except StartupError as error:
        fail(error)
    click.echo(provenance.identity(card.name, card.version, digest))
