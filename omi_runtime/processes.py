"""A process and the one that it was forked from: the fork, what they tell one another, the end.

Between them is a line, a socket pair that carries words:

    up     patience SECONDS   a stop may take this long from now on: something serves
           stopping REASON    this process stops, because of a signal or of a caller's request
           stopped CODE       nothing is left but the interpreter's own exit, with this code
    down   stop REASON        finish what is in flight and end

The end of the line says that the other side is gone. A `Worker` has further words.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

EXIT_STOPPED: Final = 0
EXIT_CUT_OFF: Final = 1

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""What a process listens to that watches over others."""

MARGIN_SECONDS: Final = 0.85
"""How much longer than OMI_DRAIN_DELAY and OMI_GRACE a child may take to stop.

All is over within a second of the grace. A child that can end itself needs little more than
`serve.CLOSING_SECONDS`.
"""

EXIT_SECONDS: Final = 5.0
"""How long the interpreter's own exit may take where no stop sets a time: after a failed load."""

_LONGEST_WAIT: Final = 3600.0
"""Selectors take no more than some weeks, and settings do."""


class Word(NamedTuple):
    """What came over the line: a word and what follows it."""

    word: str
    rest: str


class Line:
    """One end of the line."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._partial = b""
        self.ended = False

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    def tell(self, word: str, rest: str = "") -> None:
        """Send a word; nothing happens if the other side is gone."""
        with suppress(OSError):  # a few bytes: the socket's buffer has room for them
            self._sock.send(f"{word} {' '.join(rest.split())}\n".encode())

    def heard(self) -> list[Word]:
        """What has come since, without waiting for more."""
        try:
            while data := self._sock.recv(4096):
                self._partial += data
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        *lines, self._partial = self._partial.split(b"\n")
        parts = [line.decode(errors="replace").partition(" ") for line in lines]
        return [Word(word, rest) for word, _, rest in parts]

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


class Guarded:
    """This process has a parent that watches over it: its end of the line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def listen(self, stop: Callable[[str], None]) -> None:
        """Do what the parent says, on the running loop.

        Args:
            stop: called with the reason when it says so, or dies.
        """
        import asyncio  # noqa: PLC0415 - the parent has no loop

        loop = asyncio.get_running_loop()

        def read() -> None:
            for word, rest in self._line.heard():
                if word == "stop":
                    stop(rest)
                else:
                    self._on_word(word, rest)
            if self._line.ended:
                loop.remove_reader(self._line.fileno())
                stop("its parent process is gone")

        loop.add_reader(self._line.fileno(), read)

    def tell_patience(self, seconds: float) -> None:
        """Something serves here from now on, which may take this long to stop."""
        self._line.tell("patience", str(seconds))

    def tell_stopping(self, reason: str) -> None:
        """This process has been asked to stop, by whom the parent may not know."""
        self._line.tell("stopping", reason)

    def tell_stopped(self, code: int) -> None:
        """Nothing is left to do here but to exit with this code."""
        self._line.tell("stopped", str(code))

    def _on_word(self, word: str, rest: str) -> None:
        """A word that is not for every child."""


def open_standard_streams() -> None:
    """Have something at 0, 1 and 2 where that is closed, so that no socket gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def end_at_once(*_: object) -> None:
    """A signal handler for as long as there is nothing to finish."""
    os._exit(EXIT_STOPPED)


def fork(leave: Callable[[], None]) -> tuple[int, Line]:
    """Become two processes; returns the new one's pid, which is 0 there, and an end of the line.

    Args:
        leave: called in the new process, to let go of what is the parent's.
    """
    ours, theirs = socket.socketpair()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # which one that was closed from the start is
            stream.flush()
    # A signal between the fork and the new process's own handlers would wake the parent.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end_at_once)  # until `serve` has its own way to stop
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            leave()
            ours.close()
            return 0, Line(theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    theirs.close()
    return pid, Line(ours)


def wait_until(moment: float) -> float | None:
    """How long a selector is to wait until a time of `time.monotonic`; maybe less, but not more."""
    if moment == math.inf:
        return None
    return min(max(0.0, moment - time.monotonic()), _LONGEST_WAIT)


def kill(pid: int) -> None:
    """End a child at once, if it has not ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def reap() -> Iterator[tuple[int, int]]:
    """Who has ended, and how: a pid and an exit code, below 0 for a signal.

    A container's first process also inherits what others leave behind.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def as_told(code: int, stopped: int | None) -> int:
    """An exit code, or that which the process had said it would have, nothing being left to do.

    A signal that comes during the interpreter's own exit, when Python has taken its handlers back,
    or that has to end such an exit, changes nothing about how the process has stopped.
    """
    if stopped is not None and -code in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        return stopped
    return code


def describe_end(code: int) -> str:
    """How a process has ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"ended by signal {-code}"
