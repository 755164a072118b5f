"""The rules of an image: what it says of itself, and what it does when it is run.

Source: Open Model Interface specification 1.1 (modzy/openmodelinterface, docs/spec.md), and what
makes a container safe to run anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from omi_runtime.check.engine import HARDENED
from omi_runtime.check.inspected import Image
from omi_runtime.check.rules import Book, Broken, Level, Row, Skipped, expect
from omi_runtime.check.running import (
    SPECIFICATION,
    check_running,
    listens,
    variables_of,
    wait_until,
)
from omi_runtime.image import labels

MUST, SHOULD = Level.MUST, Level.SHOULD
_BOOK: Final[Book[Image]] = Book()
_rule = _BOOK.rule
_RUN: Final[Book[Image]] = Book()
"""The rules for which it has to be run."""

_HARDENING: Final = "hardening"


def check(image: Image, *, run: bool = True) -> list[Row]:
    """Apply the rules: first to what it says, then to what it does on each interface, if `run`."""
    rows = _BOOK.apply(image)
    if not run:
        return rows
    rows += _RUN.apply(image)
    try:
        declared = image.interfaces
        _ = image.port
    except Broken:
        return rows  # told already
    for interface, protocol in declared:
        rows += check_running(image, interface, protocol)
    return rows


# --- what it says ---


@_rule(
    "image.interfaces",
    MUST,
    f"{SPECIFICATION}, annotations",
    "its interfaces are those that are permitted",
)
def _interfaces(image: Image) -> None:
    names = image.json_label(labels.INTERFACES)
    unknown = [name for name in names if name not in labels.SPECIFIED]
    expect(
        not unknown, f"{labels.INTERFACES}: {unknown} is not among {', '.join(labels.SPECIFIED)}"
    )


@_rule("image.protocols", MUST, f"{SPECIFICATION}, annotations", "each interface has its protocols")
def _protocols(image: Image) -> None:
    wrong = [protocol for _, protocol in image.interfaces if protocol not in ("v1", "v2")]
    expect(not wrong, f"{labels.PROTOCOLS}: {wrong} is neither v1 nor v2")


@_rule("image.port", MUST, f"{SPECIFICATION}, annotations", "it declares a port")
def _port(image: Image) -> None:
    expect(image.port, "no port")


@_rule("image.name", MUST, f"{SPECIFICATION}, annotations", "it names its model")
def _name(image: Image) -> None:
    image.label(labels.MODEL_NAME)


@_rule("image.tag", MUST, f"{SPECIFICATION}, image", "its tag is an id of its own")
def _tag(image: Image) -> None:
    name = image.reference.rpartition("/")[2]
    tag = name.partition("@")[0].partition(":")[2]
    expect("@" in name or tag not in ("", "latest"), f"the tag of {image.reference} tells nothing")


@_rule("image.env", MUST, f"{SPECIFICATION}, environment", "labels and environment agree")
def _env(image: Image) -> None:
    port = image.variables.get("HTTP_PORT")
    expect(port in (None, str(image.port)), f"HTTP_PORT={port}, and {labels.PORT} {image.port}")
    interface = image.variables.get("INTERFACE")
    names = image.json_label(labels.INTERFACES)
    expect(
        interface in (None, *names),
        f"INTERFACE={interface} is not among {labels.INTERFACES} {names}",
    )


@_rule("image.expose", SHOULD, "OCI image", "the port is exposed")
def _expose(image: Image) -> None:
    exposed = list(image.config.get("ExposedPorts") or {})
    expect(f"{image.port}/tcp" in exposed, f"exposed: {', '.join(exposed) or 'none'}")


@_rule("image.user", SHOULD, _HARDENING, "its user is a number, and not root")
def _user(image: Image) -> None:
    user = str(image.config.get("User") or "").partition(":")[0]
    expect(user.isdecimal() and int(user) != 0, f"its user is {user or 'root'!r}")


@_rule(
    "image.entrypoint", SHOULD, "OCI image", "no shell stands between the signals and the program"
)
def _entrypoint(image: Image) -> None:
    words = [*(image.config.get("Entrypoint") or []), *(image.config.get("Cmd") or [])]
    expect(words, "it has neither an entry point nor a command")
    shell = Path(words[0]).name in ("sh", "bash", "dash") and "-c" in words[1:2]
    expect(not shell, f"it starts a shell: {' '.join(words)[:100]}")


@_rule("image.size", SHOULD, _HARDENING, "it is no larger than it has to be")
def _size(image: Image) -> None:
    size = int(image.content.get("Size") or 0)
    expect(size <= image.max_bytes, f"{size / 1e6:.0f} MB of {image.max_bytes / 1e6:.0f}")


# --- what it does ---


@_RUN.rule(
    "image.no-network", SHOULD, _HARDENING, "it listens without a network, on a read-only root"
)
def _no_network(image: Image) -> None:
    interface, protocol = image.interfaces[0]
    variables = variables_of(image, interface, protocol)
    options = (*HARDENED, "--network=none")
    with image.engine.container(image.reference, options, variables) as container:
        tables = Path("/proc", str(container.pid), "net")
        if not container.pid or not tables.is_dir():
            raise Skipped("its processes are not of this machine")
        wait_until(image, container, lambda: listens(tables, image.port), "it does not listen")
