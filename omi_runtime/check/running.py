"""What an image does when it is run for one interface: it serves, answers, and ends."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from omi_runtime.adapter import load_adapter, load_tool
from omi_runtime.check.engine import HARDENED, Container
from omi_runtime.check.inspected import Image
from omi_runtime.check.rules import Book, Level, Outcome, Row, Skipped, expect
from omi_runtime.check.target import Target
from omi_runtime.errors import SettingsError
from omi_runtime.image import labels

MUST: Final = Level.MUST
SPECIFICATION: Final = "OMI 1.1"
_LISTENING: Final = "0A"
"""TCP_LISTEN, as /proc/net/tcp has it."""


def check_running(image: Image, interface: str, protocol: str) -> list[Row]:
    """Run it for one interface and protocol, ask it everything, stop it."""
    title = f"{interface} {protocol}"
    book: Book[Image] = Book()
    rows: list[Row] = []

    @book.rule(
        f"image.{interface}.{protocol}.answers",
        MUST,
        f"{SPECIFICATION}, compliance",
        f"{title} answers on the declared port, hardened",
    )
    def _answers(image: Image) -> None:
        with _serving(image, interface, protocol) as (container, target):
            rows.extend(_ask(interface, protocol, target))
            if not any(".shutdown " in row.id and row.outcome is Outcome.PASSED for row in rows):
                container.stop()
            rows.append(_exit(container, title, f"image.{interface}.{protocol}.exit"))

    return [*book.apply(image), *rows]


@contextlib.contextmanager
def _serving(image: Image, interface: str, protocol: str) -> Iterator[tuple[Container, Target]]:
    options = (*HARDENED, f"--publish=127.0.0.1::{image.port}")
    variables = variables_of(image, interface, protocol)
    with image.engine.container(image.reference, options, variables) as container:
        target = Target(
            "127.0.0.1",
            container.port(image.port),
            model=variables["MODEL_NAME"],
            timeout=image.start_seconds,
            stop=True,
        )
        wait_until(image, container, lambda: _accepts(target), "it does not answer")
        yield container, replace(target, timeout=10.0)


def _ask(interface: str, protocol: str, target: Target) -> Sequence[Row]:
    """The rows of the interface's own rules."""
    try:
        rules = load_tool(load_adapter(interface, protocol), "check")
    except SettingsError as error:
        raise Skipped(str(error)) from None
    if rules is None:
        raise Skipped(f"there are no rules for {interface}")
    rows: Sequence[Row] = rules(target, protocol)
    return [replace(row, id=f"{row.id} ({interface} {protocol})") for row in rows]


def _exit(container: Container, title: str, identifier: str) -> Row:
    code = container.exit_code()
    failed = code != 0
    return Row(
        identifier,
        MUST,
        f"{SPECIFICATION}, compliance",
        f"{title} ends with 0 when it is asked to stop",
        Outcome.FAILED if failed else Outcome.PASSED,
        f"it ended with {code}: {container.log}" if failed else "",
    )


def variables_of(image: Image, interface: str, protocol: str) -> dict[str, str]:
    """The environment in which it is to serve one interface."""
    return {
        "INTERFACE": interface,
        "PROTOCOL": protocol,
        "HTTP_PORT": str(image.port),
        "MODEL_NAME": image.labels.get(labels.MODEL_NAME, "model"),
    }


def wait_until(image: Image, container: Container, condition: Any, why: str) -> None:
    """Ask until the answer is yes.

    Raises:
        Broken: it stays no for too long, or the container ends.
    """
    deadline = time.monotonic() + image.start_seconds
    while not condition():
        expect(container.running, f"it has ended: {container.log}")
        expect(time.monotonic() < deadline, f"{why} within {image.start_seconds:g} s")
        time.sleep(0.1)


def listens(tables: Path, port: int) -> bool:
    """Whether somebody listens on a port, by the tables of a network namespace."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (tables / name).read_text().splitlines()[1:]:
                local, _, state = line.split()[1:4]
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def _accepts(target: Target) -> bool:
    """Whether the server itself takes connections.

    An engine's own proxy takes any, and closes it at once where nobody listens behind it.
    """
    try:
        with socket.create_connection((target.host, target.port), 1) as connection:
            connection.settimeout(0.2)
            return connection.recv(1) != b""
    except TimeoutError:
        return True  # it waits for a request
    except OSError:
        return False
