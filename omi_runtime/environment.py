"""How environment variables are described and read; `settings.py` has the core's own.

A group of settings is a frozen dataclass whose fields are made by `setting`. An adapter declares a
group of its own and reads it with the same `read`. An empty value counts as unset.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, TypeVar

from omi_runtime.errors import SettingsError

_METADATA_KEY: Final = "omi_setting"


@dataclass(frozen=True)
class Setting:
    """One environment variable.

    Attributes:
        parse: text → value; raises ValueError if it is not valid.
        valid: what a valid value looks like, for the error.
        description: one sentence.
        default_text: what the default is, in words.
    """

    variable: str
    parse: Callable[[str], Any]
    valid: str
    description: str
    default_text: str


class SettingsGroup(Protocol):
    """A frozen dataclass whose fields are made by `setting`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


G = TypeVar("G", bound=SettingsGroup)


def setting(
    variable: str,
    default: Any,
    parse: Callable[[str], Any],
    valid: str,
    description: str,
    *,
    default_text: str | None = None,
) -> Any:
    """A dataclass field that is read from an environment variable."""
    described = str(default) if default_text is None else default_text
    declared = Setting(variable, parse, valid, description, described)
    return dataclasses.field(default=default, metadata={_METADATA_KEY: declared})


def declared(group: type[SettingsGroup]) -> dict[str, Setting]:
    """The settings of a group, by the name of their field."""
    return {field.name: field.metadata[_METADATA_KEY] for field in dataclasses.fields(group)}


def read(group: type[G], environ: Mapping[str, str] = os.environ) -> G:
    """Read a group from the environment.

    Raises:
        SettingsError: a value is not valid; one line naming variable, value and what is valid.
    """
    values: dict[str, Any] = {}
    for name, item in declared(group).items():
        text = environ.get(item.variable, "")
        if not text:
            continue
        try:
            values[name] = item.parse(text)
        except ValueError:
            raise SettingsError(
                f"{item.variable}={text!r} is not valid: expected {item.valid}{_hint(text)}"
            ) from None
    return group(**values)


def check_names(
    known: Iterable[str], environ: Mapping[str, str], others: Callable[[], Iterable[str]]
) -> None:
    """Refuse an `OMI_*` variable that nothing here reads: a misspelt one would be ignored.

    `others` gives the names that installed but unselected adapters read; it is only asked when
    there is an unknown name, for it imports those adapters. Variables that Kubernetes injects for
    a service whose name begins with omi are let through.

    Raises:
        SettingsError: names the variable and the nearest valid name.
    """
    names = set(known)
    suspects = [
        name
        for name, value in environ.items()
        if name.startswith("OMI_") and name not in names and not _is_injected(name, value)
    ]
    if not suspects:
        return
    names |= set(others())
    for name in sorted(set(suspects) - names):
        nearest = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.0)
        raise SettingsError(
            f"{name}={environ[name]!r} is no setting: did you mean {nearest[0]}? "
            "`omi serve --print-config` lists all"
        )


_INJECTED_NAME: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT$|_PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?$"
)
_INJECTED_VALUE: Final = re.compile(r"^(tcp|udp|sctp)://")


def _is_injected(name: str, value: str) -> bool:
    return bool(_INJECTED_NAME.search(name) or _INJECTED_VALUE.match(value))


def _hint(text: str) -> str:
    if _INJECTED_VALUE.match(text):
        return (
            " (Kubernetes injects such a value for a service of that name: rename the service, or "
            "set enableServiceLinks: false)"
        )
    return ""


def parse_switch(text: str) -> bool:
    """`1`, `true`, `yes`, `on` and their opposites."""
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def parse_port(text: str) -> int:
    """A TCP port; 0 lets the system choose one."""
    port: int = parse_number(int, 0, 65535)(text)
    return port


def parse_number(kind: type[Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """A parser of numbers from low to high."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high or value == math.inf:
            raise ValueError(text)
        return value

    return parse


def parse_choice(*choices: str) -> Callable[[str], str]:
    """A parser of one of some words, in either case."""

    def parse(text: str) -> str:
        word = text.lower()
        if word not in choices:
            raise ValueError(text)
        return word

    return parse


SWITCH: Final = "on or off"
PORT: Final = "a port number from 0 to 65535"
SECONDS: Final = "seconds, 0 or more"
COUNT: Final = "a whole number, 1 or more"
BYTES: Final = "a whole number of bytes, 1 or more"
