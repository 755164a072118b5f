"""Options that say how long something may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST: Final = 24 * 60 * 60


def option(name: str, default: float, text: str) -> Callable[[F], F]:
    """An option that says how long something may take, in seconds."""
    return click.option(name, type=Seconds(), default=default, show_default=True, help=text)


class Seconds(click.FloatRange):
    """More than none, and a day at most."""

    def __init__(self) -> None:
        super().__init__(min=0, max=_LONGEST, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number.

        Raises:
            click.BadParameter: it is none of these, also if it is NaN, which is in every range.
        """
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds
