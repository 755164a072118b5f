"""The context of a build: a folder with the Dockerfile and everything that it copies.

    Dockerfile
    requirements/     the model's requirements.txt, and what it names
    pins.txt          the same as constraints, if they have hashes
    runtime.txt       what the runtime requires
    wheels/           packages, for a build without a network; else empty
    wheels.txt        their digests: what is only mounted makes no layer anew
    runtime/          the runtime's wheel
    model/            the model's files
    facts.json        for omi lock

Files get one mode and one time, so that the same inputs give the same layers.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from omi_runtime import provenance
from omi_runtime.errors import LoadError
from omi_runtime.image import cuda, requirements, wheel
from omi_runtime.image.facts import Facts

LEFT_OUT: Final = (
    ".*",
    "*.pyc",
    "__pycache__",
    "node_modules",
    "venv",
    "Dockerfile",
    provenance.LOCK_FILE,
    provenance.SBOM_FILE,
)
"""What of a model's folder is not its own, as patterns; hidden files may hold secrets."""

_PIP: Final = "pip install --no-cache-dir --no-compile --no-warn-script-location --user"
_PYTHON: Final = "ARG PYTHON_IMAGE={}\n\nFROM ${{PYTHON_IMAGE}} AS python\n"


@dataclass(frozen=True)
class Contents:
    """What a context is made of.

    Attributes:
        directory: the model's folder.
        labels: of the image.
        facts: of the model.
        choice: of the base image.
        wheels: a folder of wheels for a build without a network, or None.
    """

    directory: Path
    labels: Mapping[str, str]
    facts: Facts
    choice: cuda.Choice
    wheels: Path | None = None


def write(contents: Contents, folder: Path) -> str:
    """Write the context into a folder; returns the digest of the model's files.

    Raises:
        LoadError: a file of the model cannot be copied, or there are no wheels.
    """
    model = folder / "model"
    ignored = shutil.ignore_patterns(*LEFT_OUT)
    wanted = requirements.read(contents.directory)
    try:
        shutil.copytree(contents.directory, model, ignore=ignored)
        wanted.copy(folder / "requirements", ignored)
    except (OSError, shutil.Error) as error:
        raise LoadError(f"the model's files cannot be copied: {error}") from None
    for name in ("wheels", "runtime"):
        (folder / name).mkdir()
    if contents.wheels is not None:
        _copy_wheels(contents.wheels, folder / "wheels")
    packages = provenance.digest_files(folder / "wheels")
    wheel.pack(folder / "runtime")
    files = {
        "pins.txt": "".join(f"{line}\n" for line in wanted.pins) if wanted.hashed else "",
        "wheels.txt": "".join(f"{digest}  {name}\n" for name, digest in packages.items()),
        "runtime.txt": "".join(f"{line}\n" for line in wheel.requirements()),
        "facts.json": orjson.dumps(contents.facts.for_lock(contents.choice.base)).decode(),
        "Dockerfile": dockerfile(contents, hashed=wanted.hashed),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    _level(folder, contents.facts.epoch or 0)
    return provenance.digest_of(provenance.digest_files(model))


def dockerfile(contents: Contents, *, hashed: bool) -> str:
    """The Dockerfile of a model; the model's packages are checked against hashes if it has any."""
    template = Path(__file__).with_name("Dockerfile").read_text(encoding="utf-8")
    choice = contents.choice
    variables = cuda.VARIABLES if choice.gpu else {}
    labels = " \\\n      ".join(f"{key}={_quoted(text)}" for key, text in contents.labels.items())
    return (
        template.replace("@INSTALL@", _install(contents, hashed=hashed))
        .replace(
            "@VARIABLES@", "".join(f"    {key}={text} \\\n" for key, text in variables.items())
        )
        .replace("@LABELS@", labels)
        .replace("@PYTHON_ARG@", "PYTHON_IMAGE" if choice.python else "BASE_IMAGE")
        .replace("@PYTHON@", _PYTHON.format(choice.python) if choice.python else "")
        .replace("@OWN@", cuda.ON_CUDA if choice.python else "")
    )


def _install(contents: Contents, *, hashed: bool) -> str:
    pip = f"{_PIP} --find-links /wheels{' --no-index' if contents.wheels is not None else ''}"
    if not hashed:
        return f"    {pip} \\\n      -r requirements.txt -r ../runtime.txt"
    # With hashes pip wants them for every package; those of the runtime's have none, and may not
    # move what the model has pinned.
    return (
        f"    {pip} --require-hashes -r requirements.txt \\\n"
        f" && {pip} -c ../pins.txt -r ../runtime.txt"
    )


def _quoted(text: str) -> str:
    """A label's value as a Dockerfile takes it, without variables in it."""
    escaped = re.sub(r'(["\\$])', r"\\\1", " ".join(text.split()))
    return f'"{escaped}"'


def _copy_wheels(source: Path, target: Path) -> None:
    wheels = sorted(source.glob("*.whl"))
    if not wheels:
        raise LoadError(f"--offline {source}: there are no wheels in it")
    for path in wheels:
        shutil.copyfile(path, target / path.name)


def _level(folder: Path, epoch: int) -> None:
    """One mode and one time for everything, readable by whichever user."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch))
