"""`omi manifest`: what a platform wants to be given to run a model's image."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Final

import click

from omi_runtime import environment
from omi_runtime.adapter import (
    GROUP,
    ManifestRequest,
    choose_adapters,
    load_adapter,
    load_tool,
    settings_groups,
)
from omi_runtime.card import ModelCard
from omi_runtime.cli.loaded import MODEL_HELP, fail, with_model
from omi_runtime.environment import SettingsGroup
from omi_runtime.errors import SettingsError, StartupError
from omi_runtime.handler import ModelHandler
from omi_runtime.settings import Settings

KUBERNETES: Final = "kubernetes"
"""The kind of manifest that belongs to no interface and has all of them."""

_OF_THE_IMAGE: Final = {"INTERFACE", "OMI_MODEL", "OMI_HOST"}
"""Variables that are not carried over: the image says where its model lies."""

_LONGEST_NAME: Final = 50  # of 63 characters; KServe appends `-predictor`


@click.command("manifest", epilog=MODEL_HELP)
@click.argument("kind", metavar="NAME")
@click.argument("model", required=False)
@click.option("--image", default="", help="The reference of the model's image.")
@click.option("--name", default="", help="What to call it there; by default, as the model.")
def manifest_command(kind: str, model: str | None, image: str, name: str) -> None:
    """Print what a platform is given to run a model: NAME is kubernetes, kserve or modzy.

    Settings are those of this command's own environment: OMI_GRACE=60 omi manifest kubernetes …
    makes a container that has it too. kubernetes is for the interfaces that INTERFACE names.
    """

    async def rendered(handler: ModelHandler) -> str:
        return render(request_for(interface, handler, image, name))

    try:
        interface, render = _renderer(kind)
        text = with_model(model, rendered)
    except StartupError as error:
        fail(error)
    click.echo(text, nl=False)


def request_for(
    interface: str | None, handler: ModelHandler, image: str, name: str
) -> ManifestRequest:
    """What a manifest is made from, as this environment has it.

    Args:
        interface: one that the container has to speak, or None for those that INTERFACE names.
        handler: with the model loaded.
        image: as on the command line.
        name: as on the command line; empty for the model's.

    Raises:
        SettingsError: a variable or the name is not valid.
    """
    card, environ = handler.card, os.environ
    assert card is not None, "it is there once the model has loaded"
    settings = environment.read(Settings, environ)
    if interface is not None:
        settings = replace(settings, interface=_with_first(interface, settings.interface))
    choices, _ = choose_adapters(settings, environ)
    groups: list[type[SettingsGroup]] = [Settings, *settings_groups(choices)]
    declared = [s.variable for group in groups for s in environment.declared(group).values()]
    return ManifestRequest(
        card,
        handler.signature,
        settings,
        choices,
        {v: environ[v] for v in declared if environ.get(v) and v not in _OF_THE_IMAGE},
        image,
        _checked_name(name) if name else _name_of(card),
    )


def _renderer(kind: str) -> tuple[str | None, Callable[[ManifestRequest], str]]:
    """The interface that a kind of manifest belongs to, if any, and the function that makes it."""
    if kind == KUBERNETES:
        from omi_runtime import kubernetes  # noqa: PLC0415 - yaml and pydantic

        return None, kubernetes.render
    names = sorted(point.name for point in entry_points(group=GROUP) if "." not in point.name)
    adapters = {name: load_adapter(name) for name in names}
    render = load_tool(adapters[kind], "manifest") if kind in adapters else None
    if render is None:
        offered = [name for name in names if "manifest" in adapters[name].tools]
        raise SettingsError(
            f"NAME={kind!r} is no manifest: expected one of {', '.join([*offered, KUBERNETES])}"
        )
    return kind, render


def _with_first(interface: str, interfaces: Sequence[str]) -> tuple[str, ...]:
    """The interface first, then what INTERFACE names beside it; alone if that does not name it."""
    adapter = load_adapter(interface)
    others = [name for name in interfaces if load_adapter(name) is not adapter]
    return (interface,) if len(others) == len(interfaces) else (interface, *others)


def _name_of(card: ModelCard) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", card.name.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    return _checked_name(slug if slug[:1].isalpha() else f"model-{slug}".strip("-"))


def _checked_name(name: str) -> str:
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= _LONGEST_NAME:
        return name
    raise SettingsError(
        f"--name {name!r} is not valid: expected lower-case letters, digits and dashes, beginning "
        f"with a letter, at most {_LONGEST_NAME}"
    )
