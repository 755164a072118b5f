"""`omi build`: from a model's folder to an image."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from omi_runtime import provenance
from omi_runtime.cli.loaded import fail
from omi_runtime.errors import LoadError, SettingsError, StartupError

if TYPE_CHECKING:
    from omi_runtime.card import ModelCard

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
@click.option("--base", default="", help=f"The base image; {BASE}.")
@click.option(
    "--cuda",
    default="",
    metavar="VERSION",
    help="Have NVIDIA's runtime bring a GPU in, and CUDA's libraries of that version from NVIDIA's "
    "image as the base; wheels: they come with the model's packages.",
)
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
    cuda: str,
    no_cache: bool,
) -> None:
    """Build the image of a model: MODEL is its folder, with model.py and maybe requirements.txt.

    The image speaks every interface, verifies the model's files when it starts, and needs neither
    privileges nor a network. With no tag given it gets one that tells which model it is: MLflow's
    id of the run, or a digest of the model's files.
    """
    from omi_runtime.image import builder as builders  # noqa: PLC0415 - with numpy
    from omi_runtime.image import context as contexts  # noqa: PLC0415
    from omi_runtime.image import cuda as gpus  # noqa: PLC0415
    from omi_runtime.image import facts as all_facts  # noqa: PLC0415
    from omi_runtime.image.labels import labels  # noqa: PLC0415

    try:
        choice = gpus.choose(cuda, base, BASE)
        card = _card(model)
        facts = all_facts.gather(model)
        marks = labels(card, revision=facts.revision, created=facts.created, base=choice.base)
        contents = contexts.Contents(model, marks, facts, choice, offline)
        with tempfile.TemporaryDirectory(prefix="omi-build-") as scratch:
            folder = Path(scratch) if output is None else _empty(output, model)
            digest = contexts.write(contents, folder)
            order = builders.Order(
                folder,
                reference(tag or _slug(card.name), facts.run or digest),
                choice.base,
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


def _card(model: Path) -> ModelCard:
    """The model's card, for which it is imported here.

    Raises:
        SettingsError, LoadError: see `loading.read_card`.
    """
    from omi_runtime import loading  # noqa: PLC0415 - with numpy

    try:
        return loading.read_card(str(model))[1]
    except LoadError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        requirements = model / "requirements.txt"
        what = f"-r {requirements}" if requirements.is_file() else error.__cause__.name
        raise LoadError(
            f"{error}; omi build imports the model for what the image says of it: "
            f"pip install {what}"
        ) from error.__cause__


def reference(name: str, unique: str) -> str:
    """The image's reference, with a tag: its own, or what is unique to the model."""
    if "@" in name:
        raise SettingsError(f"--tag {name!r} has a digest, which only a built image has")
    if ":" in name.rpartition("/")[2]:
        return name
    return f"{name}:{unique.replace(':', '-')[:128]}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def _empty(folder: Path, model: Path) -> Path:
    """The folder for the context, made if it is missing.

    Raises:
        SettingsError: something is in it, it is a part of what is copied there, or cannot be made.
    """
    told = f"--output {str(folder)!r}"
    if folder.resolve().is_relative_to(model.resolve()):
        raise SettingsError(
            f"{told} lies in the model's folder, which is copied there: expected one outside of it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(f"{told} is not empty")
    except OSError as error:
        raise SettingsError(f"{told} cannot be written to: {error.strerror}") from None
    return folder
