"""`OMI_OFFLINE`: a model that has to come with everything it needs cannot quietly fetch it.

Libraries that load from hubs are told to stay offline, and Python's own sockets are refused what
leaves the machine, by an audit hook, which cannot be removed. It is no wall: code that calls the
system itself, such as uvloop and gRPC in C, is not seen. A network policy is the wall.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import sysconfig
from collections.abc import Iterable, MutableMapping
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import urlsplit

VARIABLES: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "DO_NOT_TRACK": "1",
}
"""What the hubs' libraries read, unless the operator has said otherwise."""

_COLLECTORS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables whose URL the operator wants to be called."""

_CONNECTING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKING_UP: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_HERE: Final = str(Path(__file__).parent)
_LIBRARIES: Final = tuple(
    f"{path}{os.sep}"
    for path in (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), _HERE)
)
_LOADING: Final = str(Path(_HERE, "loading.py"))
_RUNNER: Final = str(Path(_HERE, "runner.py"))
_METHODS: Final = ("_call_predict", "_values", "_extra")
"""Where the runner calls the model."""
_LOCAL_NAMES: Final = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})


class Offline(ConnectionError):
    """A connection that `OMI_OFFLINE` refuses: names the host, and the line that wanted it."""


def enforce(environ: MutableMapping[str, str] = os.environ, *, allowed: Iterable[str] = ()) -> None:
    """Refuse, from now on and for good, what leaves the machine.

    Args:
        environ: gets the hubs' variables; names the collector of traces, which is let through.
        allowed: names that may be looked up beside, such as `OMI_HOST`.
    """
    for name, value in VARIABLES.items():
        environ.setdefault(name, value)
    named = [urlsplit(environ.get(variable, "")).hostname for variable in _COLLECTORS]
    hook = _Hook([*(name for name in named if name), *allowed])
    sys.addaudithook(hook)


class _Hook:
    """What Python calls with every event that it audits: the first line decides for most."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._names = {*_LOCAL_NAMES, socket.gethostname(), *allowed}
        self._outside = [name for name in allowed if not _is_local(name)]
        self._addresses: set[str] = set()
        self._resolving = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket."):
            return
        if event in _CONNECTING:
            address = arguments[1]
            if isinstance(address, tuple) and not self._lets_through(str(address[0])):
                raise _refusal(str(address[0]), address[1])
        elif event in _LOOKING_UP and not self._resolving:
            host = _text(arguments[0])
            if host in self._outside:
                self._resolve(host)
            elif host not in self._names and not _is_address(host):
                raise _refusal(host, arguments[1] if len(arguments) > 1 else None)

    def _lets_through(self, host: str) -> bool:
        return host in self._names or host in self._addresses or _is_local(host)

    def _resolve(self, host: str) -> None:
        """Learn the addresses of a host that may be called, which is about to be."""
        self._resolving = True
        try:
            with contextlib.suppress(OSError):
                self._addresses |= {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        finally:
            self._resolving = False


def _text(host: Any) -> str:
    if isinstance(host, bytes | bytearray):
        return host.decode("latin-1")
    return "" if host is None else str(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    """Whether an address is this machine's: of its loopback, or no particular one."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host in _LOCAL_NAMES
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _refusal(host: str, port: Any) -> Offline:
    where = f"{host}:{port}" if port else host
    return Offline(
        f"OMI_OFFLINE is on, and {_who(sys._getframe(2))} wants to connect to {where}: "  # noqa: SLF001 - there is no other way to the caller
        "bake what it fetches into the image, or set OMI_OFFLINE=0"
    )


def _who(frame: FrameType | None) -> str:
    """The nearest line that is neither Python's nor a library's: the model's.

    A library may connect on a thread of its own: then what the model is at on the others.
    """
    while frame is not None:
        if line := _line(frame):
            return line
        frame = frame.f_back
    threads = sys._current_frames().values()  # noqa: SLF001 - there is no other way to the others
    at_work = sorted({call for call in map(_call, threads) if call})
    return f"a library, during {' and '.join(at_work)}," if at_work else "a library"


def _line(frame: FrameType) -> str:
    code = frame.f_code
    if code.co_filename.startswith((*_LIBRARIES, "<")):
        return ""
    return f"{code.co_filename}, line {frame.f_lineno} in {code.co_name}"


def _call(frame: FrameType | None) -> str:
    """The model's call that a thread is at, with its line if one is there; empty if at none."""
    line = ""
    while frame is not None:
        line = line or _line(frame)
        if call := _method(frame):
            return f"{call}, at {line}" if line else call
        frame = frame.f_back
    return ""


def _method(frame: FrameType) -> str:
    """What of the model this frame of the runtime calls, such as `load of iris`."""
    place, found = (frame.f_code.co_filename, frame.f_code.co_name), frame.f_locals
    if place == (_LOADING, "_load"):
        model_class = found.get("model_class")
        return f"load of {model_class.name}" if model_class else "the import of the model"
    if place[0] != _RUNNER or place[1] not in _METHODS:
        return ""
    method = found["method"].__name__ if "method" in found else "predict"
    return f"{method} of {found['self'].model_name}"
