"""Rows for people, and for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import orjson

from omi_runtime.check.rules import Outcome, Row

_MARKS: Final = {Outcome.PASSED: "ok", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "-"}


def as_text(subject: str, rows: Sequence[Row]) -> str:
    """A line for each rule, with what was found below it where it is not kept."""
    width = max((len(row.id) for row in rows), default=0)
    lines = [subject]
    for row in rows:
        mark = _MARKS[row.outcome]
        lines.append(f"  {mark:<4}  {row.level:<6}  {row.id:<{width}}  {row.title}  [{row.clause}]")
        if row.note:
            lines += textwrap.wrap(
                row.note, 96, initial_indent=" " * 16, subsequent_indent=" " * 16
            )
    return "\n".join([*lines, summary(rows)])


def as_json(subject: str, rows: Sequence[Row]) -> str:
    """An object with the rows and the counts."""
    counts = Counter(row.outcome.value for row in rows)
    content = {
        "subject": subject,
        "passed": not any(row.fatal for row in rows),
        "counts": {outcome.value: counts[outcome.value] for outcome in Outcome},
        "rows": [asdict(row) for row in rows],
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()


def summary(rows: Sequence[Row]) -> str:
    """How many of each."""
    counts = Counter(row.outcome for row in rows)
    fatal = sum(row.fatal for row in rows)
    return (
        f"{counts[Outcome.PASSED]} kept, {counts[Outcome.FAILED]} broken ({fatal} of them MUST), "
        f"{counts[Outcome.SKIPPED]} do not apply"
    )
