"""A worker process, from both sides: `Child` is the supervisor's, `Worker` the process's own.

Between them is a line, a socket pair that carries words:

    up     ready              the model has loaded and every port is open
           stopping REASON    this worker stops, because of a signal or of a caller's request
           left PORT          it takes no new connections there any more
    down   stop REASON        finish what is in flight and end
           adopt PLACE        take also the connections of a worker that is gone
           release PLACE      leave them to that place's new worker

The end of the line says that the other side is gone. The worker's stderr is a pipe to the
supervisor, which passes it on and remembers the last lines.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from omi_runtime.adapter import Port
    from omi_runtime.board import Page
    from omi_runtime.loading import Loader
    from omi_runtime.transport.shared_port import SharedPorts

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""What a supervisor listens to."""

LAST_LINES: Final = 20
"""How many lines of a worker's stderr are remembered for the case that it crashes."""

LONG_LINE: Final = 64 * 1024
"""Bytes without an end of line that are passed on all the same."""


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


class Worker:
    """This process is a worker: its end of the line, and what sets it apart.

    Attributes:
        page: where it counts, which the other workers can read; a successor takes it over.
        side_port: for metrics and probes, shared by all workers; None is none.
        pioneer: no worker has been ready yet. Only then do ports open before the load where the
            interface wants it, and does a failed load wait for somebody to ask for another.
        loader: gives the model that was loaded before the fork; None if this process is to load it.
    """

    def __init__(
        self,
        line: Line,
        *,
        page: Page,
        ports: SharedPorts,
        side_port: Port | None,
        pioneer: bool,
        loader: Loader | None,
    ) -> None:
        self._line = line
        self.page = page
        self._ports = ports
        self.side_port = side_port
        self.pioneer = pioneer
        self.loader = loader

    @property
    def opens_early(self) -> bool:
        """Whether ports may open before the model has loaded."""
        return self.pioneer and self.loader is None

    def listen(self, stop: Callable[[str], None]) -> None:
        """Do what the supervisor says, on the running loop.

        Args:
            stop: called with the reason when it says so, or dies.
        """
        import asyncio  # noqa: PLC0415 - a supervisor has no loop

        loop = asyncio.get_running_loop()

        def read() -> None:
            for word, rest in self._line.heard():
                if word == "stop":
                    stop(rest)
                elif word == "adopt":
                    self._ports.adopt(int(rest))
                elif word == "release":
                    self._ports.release(int(rest))
            if self._line.ended:
                loop.remove_reader(self._line.fileno())
                stop("the supervisor is gone")

        loop.add_reader(self._line.fileno(), read)

    def tell_ready(self) -> None:
        """The model has loaded and every port is open."""
        self._line.tell("ready")

    def tell_left(self, port: int) -> None:
        """This process takes no new connections on that port any more."""
        self._line.tell("left", str(port))

    def tell_stopping(self, reason: str) -> None:
        """This process has been asked to stop, by whom the supervisor may not know."""
        self._line.tell("stopping", reason)


class Child:
    """A worker process as its supervisor sees it.

    Attributes:
        pid: of the process.
        line: the supervisor's end.
        stderr: the reading end of the pipe, non-blocking.
        last_lines: of its stderr.
        ready_since: a time of `time.monotonic`; None until it is ready.
        leaving: it has said that it stops.
    """

    def __init__(self, pid: int, line: Line, stderr: int) -> None:
        self.pid = pid
        self.line = line
        self.stderr = stderr
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.ready_since: float | None = None
        self.leaving = False
        self._partial = b""

    def pass_on(self) -> bool:
        """Write what stands in its stderr to ours, whole lines; False at its end."""
        with suppress(BlockingIOError):
            while chunk := os.read(self.stderr, LONG_LINE):
                self._write(chunk)
            return False
        return True

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """The process has ended: take what it has left in the pipe, and close."""
        self.pass_on()
        if self._partial:
            self._write(b"\n")
        self.line.close()
        os.close(self.stderr)

    def abandon(self) -> None:
        """In another child: close what is the supervisor's alone."""
        self.line.close()
        os.close(self.stderr)

    def _write(self, data: bytes) -> None:
        whole, end, rest = (self._partial + data).rpartition(b"\n")
        if len(rest) > LONG_LINE:
            whole, end, rest = whole + end + rest, b"", b""
        self._partial = rest
        text = whole + end
        self.last_lines.extend(text.decode(errors="replace").splitlines())
        with suppress(OSError):  # nobody reads ours
            while text:
                text = text[os.write(2, text) :]


def end_at_once(*_: object) -> None:
    """A signal handler for as long as there is nothing to finish."""
    os._exit(0)


def fork(make: Callable[[Line], Worker], leave: Callable[[], None]) -> Child | Worker:
    """Become two processes: a `Child` in the one that called, a `Worker` in the new one.

    Args:
        make: makes the worker around its end of the line.
        leave: called in the new process, to let go of what is the supervisor's.
    """
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal between the fork and the new process's own handlers would wake the supervisor.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end_at_once)  # until `serve` has its own way to stop
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            leave()
            ours.close()
            os.dup2(writing, 2)
            os.close(writing)
            os.close(reading)
            return make(Line(theirs))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    theirs.close()
    os.close(writing)
    os.set_blocking(reading, False)
    return Child(pid, Line(ours), reading)
