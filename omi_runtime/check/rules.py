"""A rule, what comes of it, and the running of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Level(StrEnum):
    """How much a rule weighs, in RFC 2119's words."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Outcome(StrEnum):
    """What came of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Broken(Exception):
    """A rule is not kept; the message says what was found and what was expected."""


class Skipped(Exception):
    """A rule says nothing here; the message says why."""


@dataclass(frozen=True)
class Rule(Generic[T]):
    """One rule.

    Attributes:
        id: such as `omi.run.count`.
        level: MUST or SHOULD.
        clause: what document has it, and where.
        title: the rule, in a sentence.
        check: raises Broken or Skipped.
        protocol: the value of `PROTOCOL` that it belongs to, if not to all.
    """

    id: str
    level: Level
    clause: str
    title: str
    check: Callable[[T], None]
    protocol: str = ""


@dataclass(frozen=True)
class Row:
    """What came of one rule, and why."""

    id: str
    level: Level
    clause: str
    title: str
    outcome: Outcome
    note: str = ""

    @property
    def fatal(self) -> bool:
        """Whether a MUST has failed."""
        return self.outcome is Outcome.FAILED and self.level is Level.MUST


class Book(Generic[T]):
    """The rules of one subject, in the order in which they are applied; filled by its decorator."""

    def __init__(self) -> None:
        self.rules: list[Rule[T]] = []

    def rule(
        self, identifier: str, level: Level, clause: str, title: str, *, protocol: str = ""
    ) -> Callable[[Callable[[T], None]], Callable[[T], None]]:
        """Enter a function as the rule's check."""

        def enter(check: Callable[[T], None]) -> Callable[[T], None]:
            self.rules.append(Rule(identifier, level, clause, title, check, protocol))
            return check

        return enter

    def apply(self, subject: T, protocols: Iterable[str] = ()) -> list[Row]:
        """What comes of the rules, of those of some protocols if any are named."""
        wanted = {"", *protocols}
        return [
            _apply(rule, subject)
            for rule in self.rules
            if rule.protocol in wanted or wanted == {""}
        ]


def expect(condition: object, found: str) -> None:
    """Break the rule, with what was found, unless something is so."""
    if not condition:
        raise Broken(found)


def _apply(rule: Rule[T], subject: T) -> Row:
    outcome, note = Outcome.PASSED, ""
    try:
        rule.check(subject)
    except Broken as error:
        outcome, note = Outcome.FAILED, str(error)
    except Skipped as error:
        outcome, note = Outcome.SKIPPED, str(error)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's server answers is a finding
        outcome, note = Outcome.FAILED, f"{type(error).__name__}: {error}"
    return Row(rule.id, rule.level, rule.clause, rule.title, outcome, note)
