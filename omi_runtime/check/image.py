"""The rules of an image: what it says of itself, and what it does when it is run.

Source: Open Model Interface specification 1.1 (modzy/openmodelinterface, docs/spec.md), and what
makes a container safe to run anywhere.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson

from omi_runtime.adapter import load_adapter, load_tool
from omi_runtime.check.engine import HARDENED, Container, Engine
from omi_runtime.check.rules import Book, Broken, Level, Outcome, Row, Skipped, expect
from omi_runtime.check.target import Target
from omi_runtime.errors import SettingsError
from omi_runtime.image import labels

MUST, SHOULD = Level.MUST, Level.SHOULD
_BOOK: Final[Book[Image]] = Book()
_rule = _BOOK.rule

_SPECIFICATION: Final = "OMI 1.1"
_HARDENING: Final = "hardening"
_LISTENING: Final = "0A"
"""TCP_LISTEN, as /proc/net/tcp has it."""


@dataclass(frozen=True)
class Image:
    """An image, and how it is to be run.

    Attributes:
        content: as `image inspect` has it.
        max_bytes: the size that it should not exceed.
        start_seconds: how long it may take until it answers.
    """

    engine: Engine
    reference: str
    content: Mapping[str, Any] = field(repr=False)
    max_bytes: int = 10 * 10**9
    start_seconds: float = 120.0

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What a container is started with."""
        return self.content.get("Config") or {}

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Labels, and annotations, which win."""
        return {
            **(self.config.get("Labels") or {}),
            **(self.content.get("Annotations") or {}),
        }

    @cached_property
    def variables(self) -> dict[str, str]:
        """The environment that is set in it."""
        pairs = (text.partition("=") for text in self.config.get("Env") or [])
        return {name: value for name, _, value in pairs}

    @cached_property
    def port(self) -> int:
        """The port that it declares.

        Raises:
            Broken: it declares none.
        """
        text = self.label(labels.PORT)
        expect(text.isdecimal() and 0 < int(text) < 65536, f"{labels.PORT} is {text!r}, no port")
        return int(text)

    @cached_property
    def interfaces(self) -> list[tuple[str, str]]:
        """The pairs of interface and protocol that it declares.

        Raises:
            Broken: they are not declared as they have to be.
        """
        names, protocols = self.json_label(labels.INTERFACES), self.json_label(labels.PROTOCOLS)
        expect(
            isinstance(protocols, list) and len(protocols) == len(names),
            f"{labels.PROTOCOLS} has not a list for each of the {len(names)} interfaces",
        )
        return [
            (name, protocol)
            for name, its_protocols in zip(names, protocols, strict=True)
            for protocol in its_protocols
        ]

    def label(self, name: str) -> str:
        """A label.

        Raises:
            Broken: there is none.
        """
        text = self.labels.get(name, "")
        expect(text, f"there is no label {name}")
        return text

    def json_label(self, name: str) -> Any:
        """A label that holds a JSON list.

        Raises:
            Broken: it is none.
        """
        text = self.label(name)
        try:
            content = orjson.loads(text)
        except ValueError:
            raise Broken(f"{name} is no JSON: {text}") from None
        expect(isinstance(content, list) and content, f"{name} is no list with members: {text}")
        return content


def check(image: Image, *, run: bool = True) -> list[Row]:
    """Apply the rules: first to what it says, then to what it does on each interface, if `run`."""
    rows = _BOOK.apply(image)
    if not run:
        return rows
    try:
        declared = image.interfaces
        _ = image.port
    except Broken:
        return rows  # told already
    for interface, protocol in declared:
        rows += _check_running(image, interface, protocol)
    return rows


# --- what it says ---


@_rule(
    "image.interfaces",
    MUST,
    f"{_SPECIFICATION}, annotations",
    "its interfaces are those that are permitted",
)
def _interfaces(image: Image) -> None:
    names = image.json_label(labels.INTERFACES)
    unknown = [name for name in names if name not in labels.SPECIFIED]
    expect(
        not unknown, f"{labels.INTERFACES}: {unknown} is not among {', '.join(labels.SPECIFIED)}"
    )


@_rule(
    "image.protocols", MUST, f"{_SPECIFICATION}, annotations", "each interface has its protocols"
)
def _protocols(image: Image) -> None:
    wrong = [protocol for _, protocol in image.interfaces if protocol not in ("v1", "v2")]
    expect(not wrong, f"{labels.PROTOCOLS}: {wrong} is neither v1 nor v2")


@_rule("image.port", MUST, f"{_SPECIFICATION}, annotations", "it declares a port")
def _port(image: Image) -> None:
    expect(image.port, "no port")


@_rule("image.name", MUST, f"{_SPECIFICATION}, annotations", "it names its model")
def _name(image: Image) -> None:
    image.label(labels.MODEL_NAME)


@_rule("image.tag", MUST, f"{_SPECIFICATION}, image", "its tag is an id of its own")
def _tag(image: Image) -> None:
    name = image.reference.rpartition("/")[2]
    tag = name.partition("@")[0].partition(":")[2]
    expect("@" in name or tag not in ("", "latest"), f"the tag of {image.reference} tells nothing")


@_rule("image.env", MUST, f"{_SPECIFICATION}, environment", "labels and environment agree")
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


@_rule("image.no-network", SHOULD, _HARDENING, "it listens without a network, on a read-only root")
def _no_network(image: Image) -> None:
    interface, protocol = image.interfaces[0]
    variables = _variables(image, interface, protocol)
    options = (*HARDENED, "--network=none")
    with image.engine.container(image.reference, options, variables) as container:
        tables = Path("/proc", str(container.pid), "net")
        if not container.pid or not tables.is_dir():
            raise Skipped("its processes are not of this machine")
        _await(image, container, lambda: _listens(tables, image.port), "it does not listen")


def _check_running(image: Image, interface: str, protocol: str) -> list[Row]:
    """Run it for one interface and protocol, ask it everything, stop it."""
    title = f"{interface} {protocol}"
    book: Book[Image] = Book()
    rows: list[Row] = []

    @book.rule(
        f"image.{interface}.{protocol}.answers",
        MUST,
        f"{_SPECIFICATION}, compliance",
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
    variables = _variables(image, interface, protocol)
    with image.engine.container(image.reference, options, variables) as container:
        target = Target(
            "127.0.0.1",
            container.port(image.port),
            model=variables["MODEL_NAME"],
            timeout=image.start_seconds,
            stop=True,
        )
        _await(image, container, lambda: _accepts(target), "it does not answer")
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
        f"{_SPECIFICATION}, compliance",
        f"{title} ends with 0 when it is asked to stop",
        Outcome.FAILED if failed else Outcome.PASSED,
        f"it ended with {code}: {container.log}" if failed else "",
    )


def _variables(image: Image, interface: str, protocol: str) -> dict[str, str]:
    return {
        "INTERFACE": interface,
        "PROTOCOL": protocol,
        "HTTP_PORT": str(image.port),
        "MODEL_NAME": image.labels.get(labels.MODEL_NAME, "model"),
    }


def _await(image: Image, container: Container, condition: Any, why: str) -> None:
    deadline = time.monotonic() + image.start_seconds
    while not condition():
        expect(container.running, f"it has ended: {container.log}")
        expect(time.monotonic() < deadline, f"{why} within {image.start_seconds:g} s")
        time.sleep(0.1)


def _listens(tables: Path, port: int) -> bool:
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
