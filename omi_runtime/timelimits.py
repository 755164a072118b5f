"""How long a request and a load may take: what model.yaml says, or else the operator."""

from __future__ import annotations

import math
from typing import NamedTuple

from omi_runtime.card import ModelCard
from omi_runtime.errors import LoadError
from omi_runtime.quantities import parse_span
from omi_runtime.settings import Settings


class TimeLimit(NamedTuple):
    """A limit.

    Attributes:
        seconds: infinity for none.
        origin: who says so, for messages.
    """

    seconds: float
    origin: str


def run_limit(card: ModelCard | None, settings: Settings) -> TimeLimit:
    """Of a request: `timeout.run`, else `OMI_TIMEOUT`."""
    if card is not None and card.timeout_run:
        return TimeLimit(_seconds(card.timeout_run), "timeout.run of model.yaml")
    return TimeLimit(settings.timeout or math.inf, "limit of OMI_TIMEOUT")


def load_limit(card: ModelCard | None, settings: Settings) -> TimeLimit:
    """Of a load: `timeout.status`, as soon as that is known, else `OMI_LOAD_TIMEOUT`."""
    if card is not None and card.timeout_status:
        return TimeLimit(_seconds(card.timeout_status), "timeout.status of model.yaml")
    return TimeLimit(settings.load_timeout or math.inf, "limit of OMI_LOAD_TIMEOUT")


def load_took_too_long(card: ModelCard | None, settings: Settings) -> LoadError:
    """What is said of a load that is not over in time."""
    name = (card.name if card else settings.model_name) or settings.model_source()
    seconds, origin = load_limit(card, settings)
    return LoadError(f"model {name} did not load within {seconds:g} s, the {origin}")


def _seconds(span: str) -> float:
    return parse_span(span) or math.inf
