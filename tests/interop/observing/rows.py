"""Which function tells which row."""

from __future__ import annotations

from collections.abc import Callable

from observing.sides import Side

Observe = Callable[[Side], str]

ROWS: dict[str, Observe] = {}
"""What observes a row, by what the row is about."""


def row(about: str) -> Callable[[Observe], Observe]:
    """Names the row whose cells the function tells."""

    def add(observe: Observe) -> Observe:
        assert about not in ROWS, about
        ROWS[about] = observe
        return observe

    return add
