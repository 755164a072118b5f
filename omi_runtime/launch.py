"""From the environment to an exit code: settings → interfaces → one process, or workers.

What stands here is all that a supervisor of workers imports: what serves, numpy included, is
imported by the process that serves.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence

from omi_runtime import environment, logs, tls
from omi_runtime.adapter import Choice, choose_adapters
from omi_runtime.errors import SettingsError, StartupError
from omi_runtime.machine import limit_numeric_threads, usable_cpus
from omi_runtime.processes import Guarded
from omi_runtime.settings import Settings

logger = logging.getLogger(__name__)


def main(guarded: Guarded | None = None) -> int:
    """Serve until asked to stop; returns the exit code, 0 to 3.

    Args:
        guarded: the line to the parent that watches over this process, if there is one.
    """
    environ = os.environ
    try:
        settings = environment.read(Settings, environ)
        limit_numeric_threads(_numeric_threads(settings))  # before anything imports numpy
        choices, warnings = choose_adapters(settings, environ)
        tls.check(settings)
        if settings.offline:
            from omi_runtime import offline  # noqa: PLC0415 - only then

            offline.enforce(allowed=[settings.host])
        _check(settings)
    except StartupError as error:
        return logs.fail(error)
    packages = {choice.adapter.__module__.partition(".")[0] for choice in choices}
    logs.configure(
        settings.log_level,
        settings.log_format,
        packages=packages,
    )
    for warning in warnings:
        logger.warning(warning)
    if settings.workers > 1:
        return _supervise(settings, choices, environ)
    from omi_runtime import serve  # noqa: PLC0415 - it brings numpy

    if guarded is not None:
        guarded.tell_patience(settings.drain_delay + settings.grace)
    return serve.run(settings, choices, environ, guarded)


def _supervise(settings: Settings, choices: Sequence[Choice], environ: Mapping[str, str]) -> int:
    """Returns the supervisor's exit code, and in each of its workers the worker's."""
    from omi_runtime.supervisor import Supervisor  # noqa: PLC0415 - one process needs none
    from omi_runtime.worker import Worker  # noqa: PLC0415

    supervisor = Supervisor(settings, choices)
    outcome = supervisor.run()
    if not isinstance(outcome, Worker):
        return outcome
    from omi_runtime import serve  # noqa: PLC0415 - it brings numpy

    return serve.run(settings, supervisor.choices, environ, outcome)


def _numeric_threads(settings: Settings) -> int:
    """How many threads each process's numeric libraries get; one where they are to be forked."""
    if settings.workers == 1:
        return usable_cpus()
    return 1 if settings.preload else max(1, usable_cpus() // settings.workers)


def _check(settings: Settings) -> None:
    if settings.workers == 1:
        from omi_runtime import sources  # noqa: PLC0415 - it brings numpy

        sources.find_source(settings.model_source())
    elif not (hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT")):
        raise SettingsError(
            f"OMI_WORKERS={settings.workers} is not valid: expected 1, for this system has no fork "
            "or no SO_REUSEPORT"
        )
