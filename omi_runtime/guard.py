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
from contextlib import suppress
from functools import cache
from signal import ITIMER_REAL, SIGALRM, SIGKILL, setitimer, signal
from typing import TYPE_CHECKING, Final

from omi_runtime.processes import (
    EXIT_CUT_OFF,
    EXIT_SECONDS,
    EXIT_STOPPED,
    MARGIN_SECONDS,
    Guarded,
    Line,
    as_told,
    describe_end,
    fork,
    kill,
    reap,
    wait_until,
)
from omi_runtime.wakeup import Wakeup

if TYPE_CHECKING:
    import logging

_BY_SIGNAL: Final = 128
"""What a shell adds to the number of the signal that ended a process."""

WRITING_SECONDS: Final = 0.1
"""How long the log may take for the last line: a pipe may be full that nobody reads."""


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether one process serves alone."""
    try:
        return int(environ.get("OMI_WORKERS") or 1) == 1
    except ValueError:  # which the settings will say
        return True


def guard() -> Guarded:
    """Become two processes; returns in the new one. The one that called waits, and ends with it.

    So the stack of the one that serves holds nothing of this, and it ends as any other does.
    """
    wakeup = Wakeup()
    try:
        pid, line = fork(wakeup.close)
    except OSError as error:
        os._exit(_cannot_fork(error))
    if pid == 0:
        return Guarded(line)
    # Not by the interpreter's own exit, during which a signal would end it, as a signal.
    os._exit(_Guard(pid, line, wakeup).run())


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
        self._stopped: int | None = None
        self._verdict: int | None = None
        self._why = ""

    def run(self) -> int:
        """Wait; returns the exit code, which is the child's if it has one."""
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signals)
        self._selector.register(self._line, selectors.EVENT_READ, self._hear)
        while True:
            for key, _ in self._selector.select(wait_until(self._due)):
                key.data()
            for pid, code in reap():
                if pid == self._pid:
                    self._hear()  # its last words
                    return self._outcome(code)
            if time.monotonic() >= self._due:
                self._on_time()

    def _hear(self) -> None:
        for word, rest in self._line.heard():
            if word == "patience":
                self._patience = float(rest)
            elif word == "stopping":
                self._stop(rest)
            elif word == "stopped":
                self._stopped = int(rest)
                if not self._stopping:
                    self._due = time.monotonic() + EXIT_SECONDS
        if self._line.ended:
            with suppress(KeyError):
                self._selector.unregister(self._line)

    def _on_signals(self) -> None:
        for name in self._wakeup.stops():
            if self._patience is None:
                self._kill(EXIT_STOPPED, "")  # nothing has been served yet
            elif self._signalled:
                code = EXIT_CUT_OFF if self._stopped is None else self._stopped
                self._kill(code, f"{name} again: stopping at once")
            else:  # it may follow a shutdown over the wire
                self._stop(name)
            self._signalled = True

    def _stop(self, reason: str) -> None:
        if not self._stopping and self._stopped is None:
            self._stopping = True
            self._due = time.monotonic() + (self._patience or 0.0)
            self._line.tell("stop", reason)

    def _on_time(self) -> None:
        """The child has had its time, and then a margin."""
        if not self._late:
            self._late = True
            self._due = time.monotonic() + MARGIN_SECONDS
            _logger()  # imports what telling of the end takes, while there is nothing else to do
        elif self._stopped is not None:
            self._kill(
                self._stopped,
                f"process {self._pid} had stopped, but did not exit, and was cut off: a hook of "
                "atexit, a thread or a child process of the model holds it up",
            )
        else:
            self._kill(
                EXIT_CUT_OFF,
                f"process {self._pid} has not stopped in the {self._patience:g}s of "
                "OMI_DRAIN_DELAY and OMI_GRACE, and was cut off: the model may be in native code, "
                "or in a regular expression, that keeps the interpreter's lock",
            )

    def _kill(self, code: int, why: str) -> None:
        """End the child at once, and this process with that code; the first time counts."""
        if self._verdict is None:
            self._verdict, self._why = code, why
        self._due = math.inf
        kill(self._pid)

    def _outcome(self, code: int) -> int:
        """The exit code, and a line in the log if the child could not write it itself."""
        if self._verdict is None:
            code = as_told(code, self._stopped)
        if code >= 0:
            return code
        if self._verdict is None:
            hint = "; if nobody has sent it, memory was short" if -code == SIGKILL else ""
            self._verdict = _BY_SIGNAL - code
            self._why = f"process {self._pid}, which served, {describe_end(code)}{hint}"
        if self._why:
            _tell(self._why, self._verdict)
        return self._verdict


def _tell(message: str, code: int) -> None:
    """Log an error; where nobody takes it, end without."""
    logger = _logger()
    signal(SIGALRM, lambda *_: os._exit(code))
    setitimer(ITIMER_REAL, WRITING_SECONDS)
    logger.error(message)
    setitimer(ITIMER_REAL, 0)


def _cannot_fork(error: OSError) -> int:
    from omi_runtime import logs  # noqa: PLC0415
    from omi_runtime.errors import LoadError  # noqa: PLC0415

    return logs.fail(LoadError(f"no process could be started that serves: {error}"))


@cache
def _logger() -> logging.Logger:
    """Logs as the settings say; what that needs is imported only now."""
    import logging  # noqa: PLC0415

    from omi_runtime import environment, logs  # noqa: PLC0415
    from omi_runtime.errors import SettingsError  # noqa: PLC0415
    from omi_runtime.settings import Settings  # noqa: PLC0415

    try:
        settings = environment.read(Settings, os.environ)
    except SettingsError:  # the child has ended before it could say so
        logs.configure("info", "text")
    else:
        logs.configure(settings.log_level, settings.log_format)
    return logging.getLogger(__name__)
