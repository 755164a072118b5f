"""docker or podman, as an image is looked at and run with them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from omi_runtime.check.rules import Broken
from omi_runtime.errors import SettingsError

ENGINES: Final = ("podman", "docker")
HARDENED: Final = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)


@dataclass(frozen=True)
class Engine:
    """The program that runs containers."""

    name: str

    def inspect(self, image: str) -> Mapping[str, Any]:
        """What an image says of itself.

        Raises:
            SettingsError: there is no such image here.
        """
        done = self._run("image", "inspect", image)
        if done.returncode != 0:
            raise SettingsError(f"image {image!r}: {done.stderr.strip() or 'it is not here'}")
        content: Mapping[str, Any] = orjson.loads(done.stdout)[0]
        return content

    @contextlib.contextmanager
    def container(
        self, image: str, options: Sequence[str], variables: Mapping[str, str]
    ) -> Iterator[Container]:
        """Run an image in the background, and remove the container in the end.

        Raises:
            Broken: it cannot be started.
        """
        given = [f"--env={name}={text}" for name, text in variables.items()]
        done = self._run("run", "--detach", *options, *given, image)
        if done.returncode != 0:
            raise Broken(f"it cannot be started: {done.stderr.strip()[-500:]}")
        identifier = done.stdout.split()[-1]
        try:
            yield Container(self, identifier)
        finally:
            self._run("rm", "--force", identifier)

    def ask(self, *words: str) -> str:
        """What the program prints, empty if it fails."""
        done = self._run(*words)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - no shell
            [self.name, *words], capture_output=True, text=True, check=False
        )


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    id: str

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.engine.ask("inspect", "--format={{.State.Running}}", self.id) == "true"

    @property
    def pid(self) -> int:
        """Its first process on this machine; 0 if it is not of this machine."""
        text = self.engine.ask("inspect", "--format={{.State.Pid}}", self.id)
        return int(text) if text.isdecimal() else 0

    @property
    def log(self) -> str:
        """The last that it has said."""
        done = self.engine._run("logs", "--tail=5", self.id)  # noqa: SLF001 - the other half of it
        return (done.stdout + done.stderr).strip()[-500:]

    def port(self, number: int) -> int:
        """Where this machine reaches one of its ports.

        Raises:
            Broken: it has ended.
        """
        text = self.engine.ask("port", self.id, f"{number}/tcp")
        if not text:
            raise Broken(f"it has ended: {self.log}")
        return int(text.splitlines()[0].rpartition(":")[2])

    def stop(self) -> None:
        """Ask it to end, as Kubernetes does, and end it after 20 seconds."""
        self.engine.ask("stop", "--time=20", self.id)

    def exit_code(self) -> int:
        """Wait for the end."""
        return int(self.engine.ask("wait", self.id) or -1)


def find(wanted: str = "") -> Engine:
    """The engine to use.

    Raises:
        SettingsError: none is there that works.
    """
    for name in (wanted,) if wanted else ENGINES:
        if shutil.which(name) and Engine(name).ask("info"):
            return Engine(name)
    raise SettingsError(f"there is no {wanted or ' or '.join(ENGINES)} here that works")
