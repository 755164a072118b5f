"""podman as the tests drive it: images, and containers that are stopped with their test.

Whatever a test runs is as hardened as it can be: no privileges, a read-only root with a `/tmp`, a
limit of memory and of processes, a user that the image does not know.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from clients import process
from clients.process import ROOT, Finished

PREFIX = "localhost/omi-test"
BASE = "localhost/python:3.11-slim"
"""What shared/containers/base-image.sh makes of this machine's Python, without a registry."""

SCRIPTS = next(
    (p / "shared/containers" for p in ROOT.parents if (p / "shared/containers").is_dir()), None
)
_CONF = Path.home() / ".cache/omi-runtime/containers.conf"
if _CONF.is_file():  # what setup.sh has written there
    os.environ.setdefault("CONTAINERS_CONF", str(_CONF))

PATIENCE = 120.0
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=12345:0",
    "--memory=512m",
    "--memory-swap=512m",
    "--pids-limit=128",
)


def podman(*arguments: str, seconds: float = PATIENCE) -> str:
    """Run podman, which has to succeed; returns what it prints."""
    done = attempt(*arguments, seconds=seconds)
    assert done.code == 0, f"podman {' '.join(arguments)}\n{done}"
    return done.out.strip()


def attempt(*arguments: str, seconds: float = PATIENCE) -> Finished:
    """Run podman to its end, whatever that is."""
    return process.run("podman", *arguments, seconds=seconds)


def missing() -> str:
    """Why containers cannot be run here; empty if they can."""
    try:
        done = attempt("info")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"podman does not run here: {error}"
    if done.code != 0:
        return f"podman does not run here: {done.err.strip().splitlines()[-1]}"
    if SCRIPTS is None and attempt("image", "exists", BASE).code != 0:
        return f"there is no image {BASE}, nor shared/containers, which makes it"
    return ""


def inspect(image: str) -> dict[str, Any]:
    """An image's configuration."""
    content: dict[str, Any] = json.loads(podman("image", "inspect", image))[0]
    return content


class Container:
    """A container that serves, on a port of this machine's loopback.

    Args:
        image: of the model.
        interface: `INTERFACE`.
        options: of `podman run`, after those that harden it.
        command: after the image's name.
        variables: its environment.
    """

    def __init__(
        self,
        image: str,
        interface: str = "kserve",
        *,
        options: Sequence[str] = (),
        command: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.interface = interface
        given = [f"--env={name}={value}" for name, value in variables.items()]
        self.id = podman(
            "run",
            "--detach",
            *HARDENED,
            "--publish=127.0.0.1::8080",
            f"--env=INTERFACE={interface}",
            *given,
            *options,
            image,
            *command,
        ).splitlines()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        attempt("rm", "--force", "--time=0", self.id)

    @property
    def port(self) -> int:
        """Where this machine reaches the container's port 8080."""
        return int(podman("port", self.id, "8080").rpartition(":")[2])

    @property
    def log(self) -> str:
        """All that it has said."""
        done = attempt("logs", self.id)
        return done.out + done.err

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return podman("inspect", "--format={{.State.Running}}", self.id) == "true"

    def health(self) -> Finished:
        """Run the image's own health check."""
        return attempt("healthcheck", "run", self.id)

    def wait_for(self, condition: Callable[[], bool]) -> Self:
        """Wait until something is true of it, while it runs."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.running, f"the container has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"not within {PATIENCE:g} s:\n{self.log}"
        return self

    def stop(self) -> int:
        """Stop it as Kubernetes does; returns the exit code."""
        podman("stop", "--time=20", self.id)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return int(podman("wait", self.id))
