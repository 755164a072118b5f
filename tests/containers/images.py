"""The images that the tests run, each built once for all test processes, without a network."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from clients import process
from clients.process import EXAMPLES, OMI, ROOT, Finished

from containers.podman import BASE, PREFIX, SCRIPTS, attempt, podman

BUILD_SECONDS = 600.0
RUNTIME = f"{PREFIX}-runtime"
MODELS = {"iris": "scikit-learn\n", "colours": "pillow\n", "entities": ""}
"""The examples, and the requirements that their images need beside the runtime."""

WRITTEN = ("colours",)
"""Those that have a Dockerfile of their own; the others are for omi build."""

EPOCH = "1700000000"
"""The time that images bear."""

DOCKERFILE = f"""\
FROM {RUNTIME}
COPY . /model
RUN pip install --no-cache-dir -r /model/requirements.txt
RUN omi lock /model
LABEL ml.openml.model_name="My model"
"""
"""A model's own Dockerfile, as docker/Dockerfile and the documentation have it."""


class Images:
    """Builds images in a folder that all test processes share.

    Args:
        folder: where wheels and contexts are kept; builds are done one at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, make: Callable[[], None]) -> None:
        """Do something that one of the test processes does for all."""
        done = self.folder / f"{name}.done"
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make()
                done.touch()

    @property
    def wheels(self) -> Path:
        """A folder with all wheels that the images are made of."""
        folder = self.folder / "wheels"
        self.once("wheels", lambda: _download(folder))
        return folder

    @property
    def base(self) -> str:
        """The base image."""

        def make() -> None:
            if attempt("image", "exists", BASE).code != 0:
                assert SCRIPTS is not None
                subprocess.run([SCRIPTS / "base-image.sh", BASE], check=True, capture_output=True)

        self.once("base", make)
        return BASE

    @property
    def runtime(self) -> str:
        """The image of docker/Dockerfile."""
        arguments = (f"--build-arg=BASE_IMAGE={self.base}", f"--file={ROOT / 'docker/Dockerfile'}")
        self.wheels  # noqa: B018 - made before the lock is taken
        self.once("runtime", lambda: self.build(ROOT, RUNTIME, *arguments))
        return RUNTIME

    def model(self, name: str) -> str:
        """The image of an example: colours by its own Dockerfile, the others by omi build."""
        tag = f"{PREFIX}-{name}:1.0.0"
        if name in WRITTEN:
            self.runtime  # noqa: B018 - made before the lock is taken
            self.once(name, lambda: self.build(self.context(name), tag))
            return tag
        self.base, self.wheels  # noqa: B018 - made before the lock is taken
        self.once(name, lambda: self.omi_build(name, tag))
        return tag

    def omi_build(self, name: str, tag: str, *arguments: str) -> Finished:
        """Build an example with omi build, without a network."""
        done = process.run(
            OMI,
            "build",
            str(self.context(name)),
            f"--tag={tag}",
            f"--base={BASE}",
            f"--offline={self.folder / 'wheels'}",
            "--builder=podman",
            *arguments,
            seconds=BUILD_SECONDS,
            SOURCE_DATE_EPOCH=EPOCH,
        )
        assert done.code == 0, str(done)
        return done

    def context(self, name: str) -> Path:
        """An example's folder with its requirements and Dockerfile."""
        context = self.folder / name
        if not context.exists():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(EXAMPLES / name, context, ignore=skipped)
            (context / "requirements.txt").write_text(MODELS[name])
            if name in WRITTEN:
                (context / "Dockerfile").write_text(DOCKERFILE)
        return context

    def build(self, context: Path, tag: str, *arguments: str) -> None:
        """podman build, without a network, of packages that lie in `wheels`."""
        settings = self.folder / "pip.conf"  # a model's own Dockerfile takes no arguments
        settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        podman(
            "build",
            "--network=none",
            "--format=docker",  # which keeps HEALTHCHECK
            "--timestamp=0",
            f"--volume={self.folder / 'wheels'}:/wheels:ro",
            f"--volume={settings}:/etc/pip.conf:ro",
            f"--tag={tag}",
            *arguments,
            str(context),
            seconds=BUILD_SECONDS,
        )


def _download(folder: Path) -> None:
    """What the runtime depends on, what builds its wheel, and what the examples need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += [text.strip() for text in MODELS.values() if text]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    done = process.run(*command, f"--dest={folder}", *wanted, seconds=BUILD_SECONDS)
    assert done.code == 0, str(done)
