"""hadolint has nothing to say of the Dockerfiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clients.process import ROOT

from omi_runtime.image import cuda
from omi_runtime.image.context import Contents, dockerfile
from omi_runtime.image.facts import Facts

HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(path: Path) -> str:
    done = subprocess.run([HADOLINT, path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_runtimes_own() -> None:
    assert lint(ROOT / "docker" / "Dockerfile") == ""


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("wheels", [True, False])
@pytest.mark.parametrize("version", ["", "12.8"])
def test_a_models(tmp_path: Path, *, hashed: bool, wheels: bool, version: str) -> None:
    facts = Facts("", dirty=False, training=None, run="", epoch=None)
    labels = {"org.opencontainers.image.title": 'a "b" $c'}
    folder = tmp_path if wheels else None
    choice = cuda.choose(version, "", "python:3.12-slim")
    contents = Contents(tmp_path, labels, facts, choice, folder)
    path = tmp_path / "Dockerfile"
    path.write_text(dockerfile(contents, hashed=hashed))
    assert lint(path) == ""


def test_a_fault_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM python\nCMD python -m http.server\n")
    assert "DL3006" in lint(path)
