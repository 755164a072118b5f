"""An image under inspection: what it says of itself, as its engine tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from omi_runtime.check.engine import Engine
from omi_runtime.check.rules import Broken, expect
from omi_runtime.image import labels


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
        is_port = text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536
        expect(is_port, f"{labels.PORT} is {text!r}, no port")
        return int(text)

    @cached_property
    def interfaces(self) -> list[tuple[str, str]]:
        """The pairs of interface and protocol that it declares.

        Raises:
            Broken: they are not declared as they have to be.
        """
        names, protocols = self.json_label(labels.INTERFACES), self.json_label(labels.PROTOCOLS)
        expect(_are_texts(names), f"{labels.INTERFACES}: {names} are not all names")
        expect(
            len(protocols) == len(names),
            f"{labels.PROTOCOLS} has {len(protocols)} members for {len(names)} interfaces: "
            "expected a list of protocols for each",
        )
        for name, its_protocols in zip(names, protocols, strict=True):
            expect(
                isinstance(its_protocols, list) and its_protocols and _are_texts(its_protocols),
                f"{labels.PROTOCOLS}: {name} has {_json(its_protocols)}: expected a list of at "
                'least one protocol, such as ["v1"]',
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
        expect(text, f"there is no label {name}: a line of a Dockerfile adds it, LABEL {name}=…")
        return text

    def json_label(self, name: str) -> list[Any]:
        """A label that holds a JSON list.

        Raises:
            Broken: it is none.
        """
        text = self.label(name)
        try:
            content = orjson.loads(text)
        except ValueError:
            raise Broken(f"{name} is no JSON: {text}") from None
        if not isinstance(content, list) or not content:
            raise Broken(f"{name} is no list with members: {text}")
        return content


def _are_texts(members: list[Any]) -> bool:
    return all(isinstance(member, str) for member in members)


def _json(content: Any) -> str:
    return orjson.dumps(content).decode()
