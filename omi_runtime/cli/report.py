"""What the commands print, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omi_runtime import environment
from omi_runtime.adapter import choose_adapters, metrics_port, settings_groups
from omi_runtime.card import ModelCard
from omi_runtime.environment import SettingsGroup
from omi_runtime.settings import Settings
from omi_runtime.signature import Field, Signature, Tensor


def configuration(environ: Mapping[str, str]) -> str:
    """Every setting's effective value and where it comes from, a line each.

    Raises:
        SettingsError: one is not valid.
    """
    settings = environment.read(Settings, environ)
    choices, _ = choose_adapters(settings, environ)
    groups: list[type[SettingsGroup]] = [Settings, *settings_groups(choices)]
    rows = [row for group in groups for row in _rows(group, environ)]
    for choice in choices:
        ports = {"": choice.port} | {f", {kind}": p for kind, p in choice.further_ports.items()}
        for kind, port in ports.items():
            rows.append((f"port of {choice.interface}{kind}", str(port.number), port.origin))
    if side := metrics_port(settings, choices):
        rows.append(("port of the metrics", str(side.number), side.origin))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}".rstrip()
        for name, value, source in rows
    )


def card_as_dict(card: ModelCard, signature: Signature) -> dict[str, Any]:
    """The card with the signature's fields, for JSON."""
    return {
        **card.as_dict(),
        "signature": {
            "inputs": [_field_as_dict(field) for field in signature.inputs],
            "outputs": [_field_as_dict(field) for field in signature.outputs],
        },
    }


def card_as_text(card: ModelCard, signature: Signature) -> str:
    """The card for a person to read."""
    lines = [f"{card.title} {card.version}".strip(), f"  served as  {card.name}"]
    facts = {
        "author": card.author,
        "source": card.source,
        "tags": ", ".join(card.tags),
        "memory": card.resources.ram,
        "batch": f"up to {card.features.max_batch_size}" if _batched(card) else "",
        "offers": ", ".join(_extras(card)),
    }
    lines += [f"  {name:<9}  {value}" for name, value in facts.items() if value]
    lines += ["", card.summary] if card.summary else []
    lines += ["", card.details] if card.details else []
    for title, fields in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        lines += ["", f"{title}:"]
        lines += [f"  {field.name:<16} {_form(field)}" for field in fields]
    return "\n".join(lines)


def _rows(group: type[SettingsGroup], environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    values = environment.read(group, environ)
    rows = []
    for name, item in environment.declared(group).items():
        is_set = bool(environ.get(item.variable))
        value = _text(getattr(values, name)) if is_set else item.default_text
        rows.append((item.variable, value, "environment" if is_set else "default"))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _batched(card: ModelCard) -> bool:
    return card.features.max_batch_size > 1


def _extras(card: ModelCard) -> list[str]:
    offers = {"explanation": card.features.explainable, "drift": card.features.drift}
    return [name for name, offered in offers.items() if offered]


def _form(field: Field) -> str:
    marker = field.marker
    form = type(marker).__name__.lower()
    if isinstance(marker, Tensor):
        form = f"tensor {marker.datatype} {list(marker.shape)}"
    elif form == "bytes":
        form = f"bytes {', '.join(marker.media_types)}"
    optional = "" if field.required else "  (optional)"
    described = f"  {marker.description}" if marker.description else ""
    return form + optional + described


def _field_as_dict(field: Field) -> dict[str, Any]:
    marker = field.marker
    content: dict[str, Any] = {
        "name": field.name,
        "kind": type(marker).__name__.lower(),
        "required": field.required,
        "media_types": marker.media_types,
        "description": marker.description,
    }
    if isinstance(marker, Tensor):
        content |= {"datatype": marker.datatype, "shape": marker.shape}
    return content
