"""A worker process, from both sides: `Child` is the supervisor's, `Worker` the process's own.

The line between them carries these words beside those of `processes`:

    up     ready              the model has loaded and every port is open
           left PORT          this worker takes no new connections there any more
    down   adopt PLACE        take also the connections of a worker that is gone
           release PLACE      leave them to that place's new worker

The worker's stderr is a pipe to the supervisor, which passes it on and remembers the last lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from omi_runtime.processes import Guarded, Line, fork

if TYPE_CHECKING:
    from omi_runtime.adapter import Port
    from omi_runtime.board import Page
    from omi_runtime.loading import Loader
    from omi_runtime.transport.shared_port import SharedPorts

LAST_LINES: Final = 20
"""How many lines of a worker's stderr are remembered for the case that it crashes."""

LONG_LINE: Final = 64 * 1024
"""Bytes without an end of line that are passed on all the same."""


class Worker(Guarded):
    """This process is one of several workers: what sets it apart.

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
        super().__init__(line)
        self.page = page
        self._ports = ports
        self.side_port = side_port
        self.pioneer = pioneer
        self.loader = loader

    @property
    def opens_early(self) -> bool:
        """Whether ports may open before the model has loaded."""
        return self.pioneer and self.loader is None

    def tell_ready(self) -> None:
        """The model has loaded and every port is open."""
        self._line.tell("ready")

    def tell_left(self, port: int) -> None:
        """This process takes no new connections on that port any more."""
        self._line.tell("left", str(port))

    def _on_word(self, word: str, rest: str) -> None:
        if word == "adopt":
            self._ports.adopt(int(rest))
        elif word == "release":
            self._ports.release(int(rest))


class Child:
    """A worker process as its supervisor sees it.

    Attributes:
        pid: of the process.
        line: the supervisor's end.
        stderr: the reading end of the pipe, non-blocking.
        last_lines: of its stderr.
        ready_since: a time of `time.monotonic`; None until it is ready.
        leaving: it has said that it stops.
        stopped: the exit code that it has said it will end with, nothing being left to do.
    """

    def __init__(self, pid: int, line: Line, stderr: int) -> None:
        self.pid = pid
        self.line = line
        self.stderr = stderr
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.ready_since: float | None = None
        self.leaving = False
        self.stopped: int | None = None
        self._partial = b""

    def pass_on(self) -> bool:
        """Write what stands in its stderr to ours, whole lines; False at its end."""
        with suppress(BlockingIOError):
            while chunk := os.read(self.stderr, LONG_LINE):
                self._write(chunk)
            return False
        return True

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


def fork_worker(make: Callable[[Line], Worker], leave: Callable[[], None]) -> Child | Worker:
    """Become two processes: a `Child` in the one that called, a `Worker` in the new one.

    Args:
        make: makes the worker around its end of the line.
        leave: called in the new process, to let go of what is the supervisor's.
    """
    reading, writing = os.pipe()
    try:
        pid, line = fork(leave)
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        os.dup2(writing, 2)
        os.close(writing)
        os.close(reading)
        return make(line)
    os.close(writing)
    os.set_blocking(reading, False)
    return Child(pid, line, reading)
