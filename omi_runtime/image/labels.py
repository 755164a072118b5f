"""What an image says of itself: the labels of Open Model Interface 1.1, and OCI's.

Its prefixes differ (`ml.openmodel`, and `ml.openml` for the name), and it knows interfaces by the
names `kfserving` and `modzy` alone (openmodelinterface, docs/spec.md). Images carry the same as
annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final
from urllib.parse import urlsplit

import orjson

from omi_runtime.adapter import GROUP, load_adapter
from omi_runtime.card import ModelCard

INTERFACES: Final = "ml.openmodel.interfaces"
PROTOCOLS: Final = "ml.openmodel.protocols"
PORT: Final = "ml.openmodel.port"
MODEL_NAME: Final = "ml.openml.model_name"

SPECIFIED: Final = ("kfserving", "modzy")
"""The interfaces that the specification permits."""

SERVED_PORT: Final = 8080
"""`HTTP_PORT` of the images, whatever the interface."""

_OCI: Final = "org.opencontainers.image."


def protocols(interface: str) -> list[str]:
    """The values of `PROTOCOL` that an interface takes, by whichever adapter."""
    further = {
        point.name.partition(".")[2]
        for point in entry_points(group=GROUP)
        if point.name.startswith(f"{interface}.")
    }
    return sorted(load_adapter(interface).protocols | further)


def labels(
    card: ModelCard, *, revision: str = "", created: str = "", base: str = ""
) -> dict[str, str]:
    """The labels of a model's image; those that nothing is known for are left out.

    Args:
        card: the model's.
        revision: of the code that the image was made from.
        created: when, as RFC 3339 has it.
        base: the reference of the base image.
    """
    source = card.source if urlsplit(card.source).scheme in ("http", "https", "ssh", "git") else ""
    described: Mapping[str, str] = {
        "title": card.title,
        "description": card.summary,
        "version": card.version,
        "authors": card.author,
        "source": source,
        "revision": revision,
        "created": created,
        "base.name": base,
    }
    return {
        INTERFACES: _json(list(SPECIFIED)),
        PROTOCOLS: _json([protocols(interface) for interface in SPECIFIED]),
        PORT: str(SERVED_PORT),
        MODEL_NAME: card.title,
        **{_OCI + name: text for name, text in described.items() if text},
    }


def _json(content: object) -> str:
    return orjson.dumps(content).decode()
