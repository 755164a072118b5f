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
