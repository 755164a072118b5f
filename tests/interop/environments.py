"""Virtual environments for the software of others, whose dependencies clash with ours.

Each lies in a folder of `.interop/`, named after what is in it, and is made once. Whether one may
be made is said by the environment variable INTEROP: `make interop` sets it to `make`. Otherwise a
test that needs one that is not there is skipped.

    @pytest.fixture(scope="module")
    def chassis() -> Environment:
        return environments.require("chassis", "chassisml==1.5.0")

    def test_something(chassis: Environment) -> None:
        done = chassis.run(str(PEERS / "chassis_client.py"), "45000")
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import tomllib
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients import process
from clients.process import ROOT, Finished

FOLDER = ROOT / ".interop"

PEERS = Path(__file__).with_name("peers")
"""Scripts that run in such environments, and so import nothing of ours or of the tests."""

PATIENCE = 60.0
"""Seconds for what a peer does; much of it is importing."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that is there, with all that was asked for."""

    directory: Path

    @property
    def python(self) -> str:
        """Its interpreter, the first word of a command."""
        return str(self.directory / "bin" / "python")

    def run(self, *arguments: str, seconds: float = PATIENCE, **variables: str) -> Finished:
        """Run its interpreter to the end, without any setting of ours but those given."""
        return process.run(self.python, *arguments, seconds=seconds, **variables)


def require(
    name: str, *requirements: str, project: bool = False, alone: Sequence[str] = ()
) -> Environment:
    """The environment that holds these requirements; skips the test if it may not be made.

    Args:
        name: what it is for; any environment may have its own.
        requirements: as pip takes them; pin what the test is about.
        project: with this project too, editable, and what it depends on.
        alone: requirements installed without what they depend on.
    """
    contents = [*requirements, "alone", *alone]
    contents += [_installed_from_the_project()] if project else []
    environment = Environment(FOLDER / f"{name}-{digest(*contents)}")
    complete = environment.directory / "complete"
    if complete.exists():
        return environment
    if os.environ.get("INTEROP") != "make":
        pytest.skip(f"there is no environment {name} ({', '.join(requirements)}): make interop")
    with _locked(name):
        if not complete.exists():
            venv.create(environment.directory, clear=True, with_pip=True)
            editable = ["--editable", str(ROOT)] if project else []
            _install(environment, *requirements, *editable)
            if alone:
                _install(environment, "--no-deps", *alone)
            complete.touch()
    return environment


def digest(*contents: str) -> str:
    """What the names of folders tell their contents by."""
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:12]


def _installed_from_the_project() -> str:
    """What an editable installation has beside the sources, which it has always as they are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return json.dumps([project[key] for key in ("dependencies", "entry-points", "scripts")])


def _install(environment: Environment, *arguments: str) -> None:
    command = [environment.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pip install {' '.join(arguments)}:\n{done.stderr}"


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """While no other test process makes the same environment."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kserve_sdk() -> Environment:
    """KServe's SDK, its clients and Triton's, beside this project."""
    return require("kserve", "kserve==0.21.0", "tritonclient[grpc,http]==2.73.0", project=True)
