"""What is known of a model only where its image is built: the code's revision, the training."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from omi_runtime.errors import LoadError

TRAINING_FILE: Final = "training.json"
"""Beside a model: whatever its author wants to be known of its training."""

MLFLOW_FILE: Final = "MLmodel"


@dataclass(frozen=True)
class Facts:
    """What goes into the lock and the labels.

    Attributes:
        revision: the commit that the model's folder is at; empty if it is in no repository.
        dirty: the folder has changes that are not committed.
        training: as `training.json` or MLflow has it, or None.
        run: MLflow's id of the run that the model came from, or empty.
        epoch: the time that the image is to bear, in seconds; None is that of its building.
    """

    revision: str
    dirty: bool
    training: Any
    run: str
    epoch: int | None

    def for_lock(self, base: str) -> dict[str, Any]:
        """What `omi lock --facts` takes."""
        code = {"revision": self.revision, "dirty": self.dirty} if self.revision else None
        return {"code": code, "training": self.training, "base": base}

    @property
    def created(self) -> str:
        """The time as RFC 3339 has it, or empty."""
        if self.epoch is None:
            return ""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.epoch))


def gather(directory: Path) -> Facts:
    """The facts of a model's folder.

    Raises:
        LoadError: a file that holds some cannot be read.
    """
    revision = _git(directory, "rev-parse", "HEAD")
    dirty = bool(_git(directory, "status", "--porcelain", "--", "."))
    run, training = _mlflow(directory / MLFLOW_FILE)
    own = directory / TRAINING_FILE
    if own.is_file():
        try:
            training = orjson.loads(own.read_bytes())
        except ValueError as error:
            raise LoadError(f"{own} is no JSON: {error}") from None
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch and revision and not dirty:
        epoch = _git(directory, "log", "-1", "--format=%ct", "--", ".")
    return Facts(revision, dirty, training, run, int(epoch) if epoch.isdecimal() else None)


def _git(directory: Path, *arguments: str) -> str:
    """What git says; empty if there is no git, or no repository."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            ["git", "-C", directory, *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _mlflow(path: Path) -> tuple[str, Any]:
    """The run's id and what else MLflow's file says of a model's making."""
    if not path.is_file():
        return "", None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        return "", None
    told = ("run_id", "model_id", "model_uuid", "mlflow_version", "utc_time_created")
    training = {f"{key}": str(content[key]) for key in told if content.get(key)}
    return str(content.get("run_id") or ""), training or None
