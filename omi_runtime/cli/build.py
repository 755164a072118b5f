"""`omi build`: from a model's folder to an image."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from omi_runtime import provenance
from omi_runtime.cli.loaded import fail
from omi_runtime.errors import SettingsError, StartupError

BASE: Final = "python:3.12-slim"

_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("build")
@click.argument("model", type=_FOLDER)
@click.option(
    "--tag", "-t", default="", help="The image's reference; a tag is added if it has none."
)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Only write the context."
)
@click.option("--base", default=BASE, show_default=True, help="The base image.")
@click.option("--cuda", is_flag=True, help="Have NVIDIA's runtime bring a GPU in.")
@click.option(
    "--offline", type=_FOLDER, metavar="WHEELS", help="Build without a network, from wheels."
)
@click.option("--platform", default="", help="Such as linux/arm64, as the builder takes it.")
@click.option(
    "--build-arg", "arguments", multiple=True, metavar="NAME=VALUE", help="For the builder."
)
@click.option(
    "--builder", default="", help="docker, podman or buildah; by default the first that works."
)
@click.option("--no-cache", is_flag=True, help="Build every layer anew.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["oci", "docker"]),
    default="oci",
    show_default=True,
    help="Of podman and buildah.",
)
def build_command(
    model: Path,
    *,
    tag: str,
    output: Path | None,
    base: str,
    offline: Path | None,
    platform: str,
    arguments: Sequence[str],
    builder: str,
    form: str,
    cuda: bool,
    no_cache: bool,
) -> None:
    """Build the image of a model: MODEL is its folder, with model.py and maybe requirements.txt.

    The image speaks every interface, verifies the model's files when it starts, and needs neither
    privileges nor a network. With no tag given it gets one that tells which model it is: MLflow's
    id of the run, or a digest of the model's files.
    """
    from omi_runtime import loading  # noqa: PLC0415 - with numpy
    from omi_runtime.image import builder as builders  # noqa: PLC0415
    from omi_runtime.image import context as contexts  # noqa: PLC0415
    from omi_runtime.image import facts as all_facts  # noqa: PLC0415
    from omi_runtime.image.labels import labels  # noqa: PLC0415

    try:
        _, card = loading.read_card(str(model))
        facts = all_facts.gather(model)
        marks = labels(card, revision=facts.revision, created=facts.created, base=base)
        contents = contexts.Contents(model, marks, facts, base, offline, cuda)
        with tempfile.TemporaryDirectory(prefix="omi-build-") as scratch:
            folder = Path(scratch) if output is None else _empty(output)
            digest = contexts.write(contents, folder)
            order = builders.Order(
                folder,
                reference(tag or _slug(card.name), facts.run or digest),
                base,
                marks,
                facts.epoch,
                offline is not None,
                form,
                platform,
                arguments,
                no_cache,
            )
            if output is not None:
                name = builder or "docker"
                click.echo(builders.as_shell(builders.command(name, order)))
                return
            name = builders.find(builder)
            code = builders.run(name, order)
    except StartupError as error:
        fail(error)
    if code != 0:
        click.echo(f"omi: {name} build ended with {code}; what it said stands above", err=True)
        raise SystemExit(1)
    click.echo(f"{order.tag} is {provenance.identity(card.name, card.version, digest)}")


def reference(name: str, unique: str) -> str:
    """The image's reference, with a tag: its own, or what is unique to the model."""
    if "@" in name:
        raise SettingsError(f"--tag {name!r} has a digest, which only a built image has")
    if ":" in name.rpartition("/")[2]:
        return name
    return f"{name}:{unique.replace(':', '-')[:128]}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SettingsError(f"--output {str(folder)!r} is not empty")
    return folder
