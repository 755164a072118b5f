"""The parent of a process that serves alone: it ends what cannot end itself any more.

While native code or a regular expression holds the interpreter's lock and does not give it back,
nothing of Python runs in its process: no handler of a signal, no other thread, no loop. So the
signals go to a process that only waits. It imports next to nothing, and forks before anything else
is imported. A container's first process is then one that passes signals on and collects orphans.

Where there are several workers, their supervisor does the same for them.
"""

from __future__ import annotations

import math
import os
import selectors
import time
from collections.abc import Mapping
from functools import cache
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

from omi_runtime.processes import (
    EXIT_CUT_OFF,
    EXIT_STOPPED,
    MARGIN_SECONDS,
    Guarded,
    Line,
    describe_end,
    ended,
    fork,
    kill,
)
from omi_runtime.wakeup import Wakeup

if TYPE_CHECKING:
    import logging

_BY_SIGNAL: Final = 128
"""What a shell adds to the number of the signal that ended a process."""


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether one process serves alone, on a system that forks."""
    if not hasattr(os, "fork"):
        return False
    try:
        return int(environ.get("OMI_WORKERS") or 1) == 1
    except ValueError:  # which the settings will say
        return True


def guard() -> int | Guarded:
    """Become two processes: returns the exit code in the one that called, `Guarded` in the other.

    So the stack of the one that serves holds nothing of this, and it ends as any other does.
    """
    wakeup = Wakeup()
    pid, line = fork(wakeup.close)
    return Guarded(line) if pid == 0 else _Guard(pid, line, wakeup).run()


class _Guard:
    """Waits for the end of one child, and sees to it that it comes once a stop is asked for."""

    def __init__(self, pid: int, line: Line, wakeup: Wakeup) -> None:
        self._pid = pid
        self._line = line
        self._wakeup = wakeup
        self._selector = selectors.DefaultSelector()
        self._patience: float | None = None
        self._due = math.inf
        self._stopping = self._signalled = self._late = False
        self._killed: str | None = None
        self._code: int | None = None

    def run(self) -> int:
        """Wait; returns the exit code, which is the child's if it has one."""
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signals)
        self._selector.register(self._line, selectors.EVENT_READ, self._hear)
        while self._code is None:
            left = self._due - time.monotonic()
            for key, _ in self._selector.select(None if left == math.inf else max(0.0, left)):
                key.data()
            for pid, code in ended():
                if pid == self._pid:
                    self._code = code
            if self._code is None and time.monotonic() >= self._due:
                self._on_time()
        return self._outcome(self._code)

    def _hear(self) -> None:
        for word, rest in self._line.heard():
            if word == "patience":
                self._patience = float(rest)
            elif word == "stopping":
                self._stop(rest)
        if self._line.ended:
            self._selector.unregister(self._line)

    def _on_signals(self) -> None:
        for name in self._wakeup.stops():
            if self._signalled or self._patience is None:
                self._kill(f"{name} again: stopping at once")
            else:  # it may follow a shutdown over the wire
                self._stop(name)
            self._signalled = True

    def _stop(self, reason: str) -> None:
        if not self._stopping:
            self._stopping = True
            self._due = time.monotonic() + (self._patience or 0.0)
            self._line.tell("stop", reason)

    def _on_time(self) -> None:
        """The child has had its time, and then a margin."""
        if not self._late:
            self._late = True
            self._due += MARGIN_SECONDS
            _logger()  # imports what telling of the end takes, while there is nothing else to do
            return
        self._kill(
            f"process {self._pid} has not stopped in the {self._patience:g}s of OMI_DRAIN_DELAY "
            "and OMI_GRACE, and was cut off: the model may be in native code, or in a regular "
            "expression, that keeps the interpreter's lock"
        )

    def _kill(self, why: str) -> None:
        self._killed = self._killed or why
        self._due = math.inf
        kill(self._pid)

    def _outcome(self, code: int) -> int:
        """The exit code, and a line in the log if the child could not write it itself."""
        if code >= 0:
            return code
        if self._killed is None:
            hint = ", which nobody may have sent: is memory short?" if -code == SIGKILL else ""
            _logger().error(f"process {self._pid}, which served, {describe_end(code)}{hint}")
            return _BY_SIGNAL - code
        if self._patience is None:
            return EXIT_STOPPED  # nothing had been served yet
        _logger().error(self._killed)
        return EXIT_CUT_OFF


@cache
def _logger() -> logging.Logger:
    """Logs as the settings say; what that needs is imported only now."""
    import logging  # noqa: PLC0415

    from omi_runtime import environment, logs  # noqa: PLC0415
    from omi_runtime.settings import Settings  # noqa: PLC0415

    settings = environment.read(Settings, os.environ)
    logs.configure(settings.log_level, settings.log_format)
    return logging.getLogger(__name__)
