"""Driving docker, podman or buildah, whichever is there; what they print is the user's to see."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from omi_runtime.errors import SettingsError

BUILDERS: Final = ("docker", "podman", "buildah")


@dataclass(frozen=True)
class Order:
    """What is to be built.

    Attributes:
        context: the folder.
        tag: the image's reference.
        base: the base image.
        annotations: of the image.
        epoch: the time that it bears, in seconds; None is now.
        offline: build without a network.
        form: `oci`, which has annotations, or `docker`, which has a health check; podman and
            buildah have to choose.
        platform: as the builder takes it, or empty.
        arguments: further `--build-arg`s, as `NAME=VALUE`.
        no_cache: build every layer anew.
    """

    context: Path
    tag: str
    base: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    offline: bool = False
    form: str = "oci"
    platform: str = ""
    arguments: Sequence[str] = ()
    no_cache: bool = False


def find(wanted: str = "") -> str:
    """The builder to use.

    Raises:
        SettingsError: it is not there, or none is.
    """
    names = (wanted,) if wanted else BUILDERS
    for name in names:
        if shutil.which(name) and (wanted or _works(name)):
            return name
    if wanted:
        raise SettingsError(f"--builder {wanted}: there is no such program here")
    raise SettingsError(
        f"there is none of {', '.join(BUILDERS)} here that works: --output DIR writes the context, "
        "to be built elsewhere"
    )


def command(builder: str, order: Order) -> list[str]:
    """The command line that builds."""
    words = [builder, "build", f"--tag={order.tag}", f"--build-arg=BASE_IMAGE={order.base}"]
    words += [f"--build-arg={argument}" for argument in order.arguments]
    if order.platform:
        words.append(f"--platform={order.platform}")
    if order.offline:
        words.append("--network=none")
    if order.no_cache:
        words.append("--no-cache")
    if order.epoch is not None:
        words.append(f"--build-arg=SOURCE_DATE_EPOCH={order.epoch}")
    words += _own_words(builder, order)
    return [*words, str(order.context)]


def run(builder: str, order: Order) -> int:
    """Build; returns the builder's exit code. Its output and errors are shown as they come."""
    return subprocess.run(command(builder, order), check=False).returncode  # noqa: S603 - no shell


def as_shell(words: Sequence[str]) -> str:
    """A command line to paste."""
    return shlex.join(words)


def _own_words(builder: str, order: Order) -> list[str]:
    annotations = [f"--annotation={key}={text}" for key, text in order.annotations.items()]
    if builder == "docker":
        # Docker's own store of images has no annotations; that of containerd has.
        return annotations if _docker_annotates() else []
    words = ["--layers", f"--format={order.form}"]
    if order.epoch is not None:
        words.append(f"--timestamp={order.epoch}")
    return words + (annotations if order.form == "oci" else [])


def _works(name: str) -> bool:
    """Whether it can build: docker is a client, and may have no server."""
    return name != "docker" or _output("docker", "version", "--format={{.Server.Version}}") != ""


def _docker_annotates() -> bool:
    return "containerd" in _output("docker", "info", "--format={{.DriverStatus}}")


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    return done.stdout.strip() if done.returncode == 0 else ""
