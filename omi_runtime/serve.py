"""One process that serves: model → adapters → wait for the stop event → drain → exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from omi_runtime import logs, machine, tracing
from omi_runtime.adapter import Adapter, Choice, Mount, metrics_port
from omi_runtime.errors import LoadError, StartupError
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import Lifecycle, State
from omi_runtime.metrics import Metrics
from omi_runtime.processes import EXIT_CUT_OFF, EXIT_STOPPED, Guarded
from omi_runtime.provenance import Tampered
from omi_runtime.settings import Settings
from omi_runtime.worker import Worker

logger = logging.getLogger(__name__)

CLOSING_SECONDS: Final = 0.5
"""What the model always gets to close, beyond the grace if need be."""


def run(
    settings: Settings,
    choices: Sequence[Choice],
    environ: Mapping[str, str],
    guarded: Guarded | None = None,
) -> int:
    """Serve until asked to stop; returns the exit code.

    Args:
        settings: the core's.
        choices: the interfaces.
        environ: where the settings come from.
        guarded: the line to the parent that watches over this process, if there is one; a
            `Worker` if it is one of several.
    """
    machine.keep_freed_memory()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(Process(settings, choices, environ, guarded).run())


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - absent on Windows
    except ImportError:
        return None
    return uvloop.Loop


class Process:
    """One process's way from start to exit."""

    def __init__(
        self,
        settings: Settings,
        choices: Sequence[Choice],
        environ: Mapping[str, str],
        guarded: Guarded | None,
    ) -> None:
        self._settings = settings
        self._choices = choices
        self._environ = environ
        self._guarded = guarded
        self._worker = guarded if isinstance(guarded, Worker) else None
        self._signalled = False

    async def run(self) -> int:
        """Load, serve, wait for the stop event, drain; returns the exit code."""
        self._lifecycle = Lifecycle()
        loads = self._worker.loader if self._worker else None
        metrics = Metrics(self._worker.page) if self._worker else None
        tracer = tracing.start(self._environ, self._settings.model_name or "omi-runtime")
        self._handler = ModelHandler(self._settings, self._lifecycle, loads, metrics, tracer)
        self._catch_signals()
        if self._guarded is not None:
            self._guarded.listen(self._lifecycle.request_stop)
        adapters: list[Adapter] = []
        code = EXIT_STOPPED
        try:
            await self._serve(adapters)
        except StartupError as error:
            code = logs.fail(error)
        drained = await self._drain(adapters, failed=code != EXIT_STOPPED)
        code = code if drained or code else EXIT_CUT_OFF
        if self._guarded is not None:
            self._guarded.tell_stopped(code)
        if not drained or self._handler.running:
            # A thread still runs, the author's or one that reads a file: the interpreter's own exit
            # would wait for it, or tear modules down under it.
            sys.stdout.flush()
            logging.shutdown()
            os._exit(code)
        return code

    async def _serve(self, adapters: list[Adapter]) -> None:
        """Start everything and wait for the stop event, which may come before all has started."""
        load = asyncio.create_task(self._handler.load())
        stop = asyncio.create_task(self._lifecycle.wait_for_stop())
        starting = asyncio.create_task(self._start(adapters, load))
        try:
            await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stop
        finally:
            # A load that is still under way, or has failed beside a port, is nobody's any more.
            for task in (starting, load, stop):
                task.cancel()
            await asyncio.gather(starting, load, stop, return_exceptions=True)

    async def _start(self, adapters: list[Adapter], load: asyncio.Task[None]) -> None:
        """Open the ports, each before or after the load as its adapter says."""
        await asyncio.sleep(0)  # the model's thread begins, while this one imports the adapters
        for choice in self._choices:
            mount = Mount(
                choice.interface,
                choice.port,
                self._handler,
                self._settings,
                self._environ,
                choice.further_ports,
            )
            adapters.append(choice.adapter(mount))
        worker = self._worker
        may_be_early = worker is None or worker.opens_early
        early = [adapter for adapter in adapters if adapter.opens_before_load and may_be_early]
        late = [adapter for adapter in adapters if adapter not in early]
        for adapter in early:
            await self._open(adapter)
        if may_be_early:
            self._open_side_port()
        await self._loaded(load, patient=not late)
        if worker is not None and worker.loader is not None:
            from omi_runtime.preload import try_out  # noqa: PLC0415 - imported already

            await try_out(self._handler)
        for adapter in late:
            await self._open(adapter)
        if not may_be_early:
            self._open_side_port()
        if self._tells:
            for adapter in adapters:
                logger.info("try it: %s", adapter.example_request())
        if worker is not None:
            worker.tell_ready()

    async def _loaded(self, load: asyncio.Task[None], *, patient: bool) -> None:
        """Wait for the load; after a failure, for a Status that loads the model, if patient."""
        grace = self._settings.load_grace
        try:
            await load
        except LoadError as error:
            if not patient or isinstance(error, Tampered):
                raise
            # The author's traceback is logged already, by the handler.
            logger.warning("%s; a Status within OMI_LOAD_GRACE=%gs loads it again", error, grace)
            try:
                async with asyncio.timeout(grace):
                    await self._lifecycle.wait_for(lambda state: state is State.READY)
            except TimeoutError:
                raise error from None
        card = self._handler.card
        assert card is not None
        logger.info(machine.describe())
        logger.info("model %s %s is ready", card.name, card.version)

    async def _drain(self, adapters: Sequence[Adapter], *, failed: bool) -> bool:
        """Not ready at once; finish what is in flight; False if something had to be cut off."""
        self._lifecycle.move(State.DRAINING)
        if self._guarded is not None and not failed:
            self._guarded.tell_stopping(self._lifecycle.stop_reason)
        if not failed:
            logger.info(
                "stopping (%s): up to %gs for what is in flight",
                self._lifecycle.stop_reason,
                self._settings.grace,
            )
            await asyncio.sleep(self._settings.drain_delay)
        now, grace = asyncio.get_running_loop().time, self._settings.grace
        deadline = now() + grace
        was_busy = self._handler.busy
        await asyncio.gather(*(adapter.stop(grace) for adapter in adapters))
        # Servers that are not this runtime's do not tell.
        still_busy = now() >= deadline and (self._handler.busy if grace else was_busy)
        cut_off = self._lifecycle.cut_off or still_busy
        # The model may close even if what was in flight, or the servers' own end, took it all.
        remaining = max(CLOSING_SECONDS, deadline - now())
        closed = await self._handler.close(timeout=min(remaining, 5.0) if failed else remaining)
        if self._handler.tracer is not None:
            self._handler.tracer.close()
        self._lifecycle.move(State.STOPPED)
        if cut_off or not closed:
            logger.error("OMI_GRACE=%gs is over: work was cut off", self._settings.grace)
            return False
        if not failed:
            logger.info("stopped")
        return True

    @property
    def _tells(self) -> bool:
        """Whether it is for this process to say what holds for all workers."""
        return self._worker is None or self._worker.pioneer

    def _open_side_port(self) -> None:
        if self._worker is not None:
            port = self._worker.side_port
        else:
            port = metrics_port(self._settings, self._choices)
        if port is None:
            return
        from omi_runtime.transport.side_port import SidePort  # noqa: PLC0415 - kserve needs none

        required = self._settings.metrics_port is not None
        side_port = SidePort(self._handler, self._settings.host, port, required=required)
        side_port.open(tells=self._tells)

    async def _open(self, adapter: Adapter) -> None:
        await adapter.start()
        logger.info("%s listens on %s port %d", adapter.title, self._settings.host, adapter.port)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        """Stop, and at the second signal at once. The first may follow a shutdown over the wire."""
        if self._signalled:
            logger.error("%s again: stopping at once", number.name)
            logging.shutdown()
            os._exit(EXIT_CUT_OFF)
        self._signalled = True
        self._lifecycle.request_stop(number.name)
