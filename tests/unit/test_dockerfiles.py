"""hadolint has nothing to say of the Dockerfiles."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from clients.process import EXAMPLES, ROOT

from omi_runtime.image import cuda, labels
from omi_runtime.image.context import Contents, dockerfile
from omi_runtime.image.facts import Facts
from omi_runtime.loading import read_card

HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(path: Path) -> str:
    done = subprocess.run([HADOLINT, path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_runtimes_own() -> None:
    assert lint(ROOT / "docker" / "Dockerfile") == ""


def test_the_runtimes_own_has_the_labels_that_are_the_same_for_every_model() -> None:
    card = read_card(str(EXAMPLES / "iris"))[1]
    expected = labels.labels(card)
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^LABEL (.*)$", text, re.MULTILINE)
    told = dict(word.split("=", 1) for word in shlex.split(line))
    assert told == {n: expected[n] for n in (labels.INTERFACES, labels.PROTOCOLS, labels.PORT)}


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("wheels", [True, False])
@pytest.mark.parametrize("version", ["", "12.8"])
def test_a_models(tmp_path: Path, *, hashed: bool, wheels: bool, version: str) -> None:
    facts = Facts("", dirty=False, training=None, run="", epoch=None)
    marks = {"org.opencontainers.image.title": 'a "b" $c'}
    folder = tmp_path if wheels else None
    choice = cuda.choose(version, "", "python:3.12-slim")
    contents = Contents(tmp_path, marks, facts, choice, folder)
    path = tmp_path / "Dockerfile"
    path.write_text(dockerfile(contents, hashed=hashed))
    assert lint(path) == ""


def test_a_fault_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM python\nCMD python -m http.server\n")
    assert "DL3006" in lint(path)
