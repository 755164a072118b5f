"""Signals as something that a selector waits for, seen to between other things."""

from __future__ import annotations

import signal
import socket

from omi_runtime.processes import SIGNALS


class Wakeup:
    """Catches the signals of a process that watches over others; readable when one has come."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        """For a selector."""
        return self._reading.fileno()

    def stops(self) -> list[str]:
        """The names of the signals that have come and ask for a stop."""
        numbers = self._reading.recv(256)
        return [signal.Signals(number).name for number in numbers if number != signal.SIGCHLD]

    def close(self) -> None:
        """In another process, which has handlers of its own."""
        self._reading.close()
        self._writing.close()
