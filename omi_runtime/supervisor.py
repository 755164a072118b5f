"""Several worker processes on the same ports: who starts, watches over and ends them.

The supervisor serves nothing and owns no thread. It holds the ports, so that nobody else gets
them, and a socket of each for every worker (SO_REUSEPORT), on which the worker listens: the system
spreads connections over them. So a port refuses connections when no worker is there, and a worker
that dies takes only its own connections with it.

The first worker, the pioneer, starts alone: what is wrong with a model is told once. When it is
ready, the others follow. A worker that ends unasked is replaced, each time a little later; when one
place loses its worker too often in a row, everything ends with exit code 3.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from omi_runtime import logs
from omi_runtime.adapter import Choice, Port, metrics_port
from omi_runtime.board import Board
from omi_runtime.errors import LoadError, SettingsError, StartupError
from omi_runtime.handover import Handover
from omi_runtime.places import CRASHES, Place
from omi_runtime.processes import (
    EXIT_CUT_OFF,
    EXIT_SECONDS,
    MARGIN_SECONDS,
    Line,
    as_told,
    describe_end,
    end_at_once,
    kill,
    reap,
    wait_until,
)
from omi_runtime.settings import Settings
from omi_runtime.transport.shared_port import SharedPorts
from omi_runtime.wakeup import Wakeup
from omi_runtime.worker import Child, Worker, fork_worker

if TYPE_CHECKING:
    from omi_runtime.loading import Loader

logger = logging.getLogger(__name__)

TRIAL_SECONDS: Final = 60.0
"""How long a preloaded model's first prediction may take if OMI_TIMEOUT sets no limit."""

EXIT_FAILED: Final = LoadError.exit_code


class Supervisor:
    """Keeps `OMI_WORKERS` processes serving until asked to stop.

    Args:
        settings: the core's.
        choices: the interfaces; after `run`, with the ports that the workers share.
    """

    def __init__(self, settings: Settings, choices: Sequence[Choice]) -> None:
        self._settings = settings
        self.choices = choices
        self._places = [Place(number) for number in range(1, settings.workers + 1)]
        self._selector = selectors.DefaultSelector()
        self._ports = SharedPorts(settings.host, settings.workers)
        self._handover = Handover(self._places, self._ports)
        self._side_port: Port | None = None
        self._board = Board(settings.workers)
        self._loader: Loader | None = None
        self._proven = False
        self._stopping_until: float | None = None
        self._signalled = False
        self._code = 0
        self._failure: LoadError | None = None
        self._last_lines: list[str] = []

    def run(self) -> int | Worker:
        """Supervise; returns the exit code.

        In each new process it returns too: the `Worker` that this process now is. So a worker's
        stack holds nothing of the supervisor, and it ends as any other program does.
        """
        try:
            self._prepare()
        except StartupError as error:
            return logs.fail(error)
        self._wakeup = Wakeup()
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signals)
        logger.info("process %d supervises %d workers", os.getpid(), len(self._places))
        self._places[0].due = 0.0
        outcome = self._turn()
        while outcome is None:
            outcome = self._turn()
        return outcome

    @property
    def _stopping(self) -> bool:
        return self._stopping_until is not None

    def _prepare(self) -> None:
        """Hold the ports, and load the model if it is to be shared; a signal ends that at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end_at_once)
        self.choices = [self._ports.hold(choice) for choice in self.choices]
        self._side_port = self._hold_side_port()
        if self._settings.preload:
            from omi_runtime.preload import preload  # noqa: PLC0415 - it brings numpy

            self._loader = preload(self._settings)

    def _hold_side_port(self) -> Port | None:
        port = metrics_port(self._settings, self.choices)
        try:
            return port and self._ports.share(port)
        except LoadError as error:
            if self._settings.metrics_port is not None:
                raise
            logger.warning("no metrics: %s; OMI_METRICS_PORT=0 does without", error)
            return None

    def _turn(self) -> int | Worker | None:
        """Start what is due, wait until something happens and see to it; the outcome, if any."""
        for place in self._places:
            if place.due is not None and place.due <= time.monotonic():
                worker = self._start(place)
                if worker is not None:
                    return worker
        if self._stopping_until is not None and not any(place.child for place in self._places):
            return self._finish()
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._reap()
        self._watch_time()
        return None

    def _start(self, place: Place) -> Worker | None:
        """A new process for a place; what it returns in that process is for `run` to return."""
        place.due = None
        try:
            forked = fork_worker(partial(self._worker, place), self._leave)
        except OSError as error:
            self._lost(place, f"could not be started: {error}")
            return None
        if isinstance(forked, Worker):
            return forked
        place.child = forked
        if self._loader is not None:
            place.trial_until = time.monotonic() + (self._settings.timeout or TRIAL_SECONDS)
        self._selector.register(forked.line, selectors.EVENT_READ, lambda: self._hear(place))
        self._selector.register(forked.stderr, selectors.EVENT_READ, lambda: self._relay(forked))
        logger.debug("worker %d is process %d", place.number, forked.pid)
        return None

    def _worker(self, place: Place, line: Line) -> Worker:
        worker = Worker(
            line,
            page=self._board.pages[place.index],
            ports=self._ports,
            side_port=self._side_port,
            pioneer=not self._proven,
            loader=self._loader,
        )
        self._ports.take(place.index, worker.tell_left)
        return worker

    def _leave(self) -> None:
        """In a new process: let go of what is the supervisor's."""
        self._selector.close()
        self._wakeup.close()
        for place in self._places:
            if place.child is not None:
                place.child.abandon()

    # --- what workers say ---

    def _hear(self, place: Place) -> None:
        child = place.child
        if child is None:
            return
        for word, rest in child.line.heard():
            if word == "ready":
                self._is_ready(place, child)
            elif word == "stopping":
                child.leaving = True
                # A signal was meant for that process; a caller does not know that there are more.
                if rest not in signal.Signals.__members__:
                    self._stop(rest)
            elif word == "stopped":
                child.stopped = int(rest)
                if not self._stopping:
                    place.gone_by = time.monotonic() + EXIT_SECONDS
            elif word == "left":
                self._handover.left(child, int(rest), for_good=self._stopping)
        if child.line.ended:
            self._forget(child.line)

    def _is_ready(self, place: Place, child: Child) -> None:
        child.ready_since = time.monotonic()
        place.trial_until = math.inf
        logger.info("worker %d is ready: %s", place.number, self._readiness())
        self._handover.taken(place)
        if self._proven:
            return
        self._proven = True
        if self._stopping_until is None:
            for other in self._places:
                other.due = 0.0 if other.child is None else None

    def _relay(self, child: Child) -> None:
        if not child.pass_on():
            self._forget(child.stderr)

    def _forget(self, source: Line | int) -> None:
        with suppress(KeyError):
            self._selector.unregister(source)

    def _readiness(self) -> str:
        ready = sum(place.ready for place in self._places)
        return f"{ready} of {len(self._places)} are ready"

    # --- how workers end ---

    def _reap(self) -> None:
        for pid, code in reap():
            for place in self._places:
                if place.child is not None and place.child.pid == pid:
                    self._ended(place, place.child, code)

    def _ended(self, place: Place, child: Child, code: int) -> None:
        self._hear(place)  # it may have said why
        self._handover.left(child, for_good=self._stopping)
        self._forget(child.line)
        self._forget(child.stderr)
        child.close()
        place.vacate()
        code = as_told(code, child.stopped)
        if self._stopping_until is not None:
            self._code = self._code or (code if code >= 0 else EXIT_CUT_OFF)
        elif not self._proven and code in (SettingsError.exit_code, EXIT_FAILED):
            # It has said why, and another would say the same.
            self._code = code
            self._stopping_until = math.inf
        elif child.leaving and code == 0:
            logger.info("worker %d has left; another takes its place", place.number)
            place.due = time.monotonic()
        else:
            self._lost(place, describe_end(code), child.last_lines)

    def _lost(self, place: Place, how: str, last_lines: Sequence[str] = ()) -> None:
        """A worker has crashed: another takes its place, unless that happens too often."""
        pause = place.crashed()
        if pause is None:
            why = f"worker {place.number} {how}, the last of {CRASHES} in a row: giving up"
            self._give_up(why, last_lines)
            return
        logger.error(
            "worker %d %s: another starts in %gs; %s", place.number, how, pause, self._readiness()
        )

    def _give_up(self, why: str, last_lines: Sequence[str] = ()) -> None:
        self._failure = LoadError(why)
        self._last_lines = list(last_lines)
        self._code = EXIT_FAILED
        self._stop("giving up")

    def _finish(self) -> int:
        if self._failure is not None:
            if self._last_lines:
                logger.error("its last lines were:\n%s", "\n".join(self._last_lines))
            logs.fail(self._failure)
        elif self._code == 0:
            logger.info("all workers have stopped")
        return self._code

    # --- time and signals ---

    def _patience(self) -> float | None:
        """Until when nothing is to be done unless something happens; None is for ever."""
        times = [place.due for place in self._places if place.due is not None]
        for place in self._places:
            times += (place.trial_until, place.gone_by)  # infinite where nobody is
        times += [math.inf if self._stopping_until is None else self._stopping_until]
        return wait_until(min(times))

    def _watch_time(self) -> None:
        now = time.monotonic()
        if self._stopping_until is not None and now >= self._stopping_until:
            logger.error("workers that have not stopped in time are cut off")
            self._kill()
        for place in self._places:
            if place.child is not None and now >= place.trial_until:
                self._hangs(place, place.child)
            elif place.child is not None and now >= place.gone_by:
                logger.error("worker %d had stopped, but did not exit: cut off", place.number)
                place.gone_by = math.inf
                kill(place.child.pid)

    def _hangs(self, place: Place, child: Child) -> None:
        """The model does not answer in a process that was forked after it had been loaded."""
        place.trial_until = math.inf
        kill(child.pid)
        why = (
            f"worker {place.number} did not answer a first prediction within "
            f"{self._settings.timeout or TRIAL_SECONDS:g}s: with OMI_PRELOAD=on the model is "
            "loaded before the workers are forked, and what has started threads by then, such as "
            "OpenMP, waits for them for ever: leave OMP_NUM_THREADS and the like unset, start no "
            "threads in load(), or set OMI_PRELOAD=off; OMI_TIMEOUT sets the time"
        )
        if self._proven:
            logger.error(why)
        else:
            self._give_up(why)

    def _stop(self, reason: str) -> None:
        """Have every worker finish what is in flight and end."""
        if self._stopping_until is not None:
            return
        settings = self._settings
        self._stopping_until = (
            time.monotonic() + settings.drain_delay + settings.grace + MARGIN_SECONDS
        )
        logger.info("stopping all workers (%s)", reason)
        for place in self._places:
            place.due = None
            if place.child is not None:
                place.child.line.tell("stop", reason)

    def _kill(self) -> None:
        """Have no patience any more."""
        left = [place.child for place in self._places if place.child is not None]
        if any(child.stopped is None for child in left):
            self._code = self._code or EXIT_CUT_OFF
        self._stopping_until = math.inf
        for child in left:
            kill(child.pid)

    def _on_signals(self) -> None:
        for name in self._wakeup.stops():
            if self._signalled:
                logger.error("%s again: stopping at once", name)
                self._kill()
            else:  # it may follow a shutdown over the wire
                self._signalled = True
                self._stop(name)
