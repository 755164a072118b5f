"""From the environment to an exit code: settings → interfaces → one process, or workers.

What stands here is all that a supervisor of workers imports: what serves, numpy included, is
imported by the process that serves.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from omi_runtime import environment, logs, tls
from omi_runtime.adapter import choose_adapters
from omi_runtime.errors import StartupError
from omi_runtime.machine import limit_numeric_threads, usable_cpus
from omi_runtime.settings import Settings

logger = logging.getLogger(__name__)


def main(environ: Mapping[str, str] | None = None) -> int:
    """Serve until asked to stop; returns the exit code (ARCHITECTURE: 0, 1, 2 or 3)."""
    environ = os.environ if environ is None else environ
    limit_numeric_threads(usable_cpus())  # before anything imports numpy
    try:
        settings = environment.read(Settings, environ)
        choices, warnings = choose_adapters(settings, environ)
        tls.check(settings)
        from omi_runtime import loading, serve  # noqa: PLC0415 - they bring numpy

        loading.check_source(settings.model_source())
    except StartupError as error:
        return logs.fail(error)
    packages = {choice.adapter.__module__.partition(".")[0] for choice in choices}
    logs.configure(
        settings.log_level,
        settings.log_format,
        access_log=settings.access_log,
        packages=packages,
    )
    for warning in warnings:
        logger.warning(warning)
    return serve.run(settings, choices, environ)
