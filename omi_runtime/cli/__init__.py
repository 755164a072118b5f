"""The `omi` command. `omi serve` alone must start fast, so only the other commands import click."""

from __future__ import annotations

import os
import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `omi` script; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"] and not any(word.startswith("-") for word in arguments[1:2]):
        if len(arguments) == 2:
            os.environ["OMI_MODEL"] = arguments[1]
        if len(arguments) <= 2:
            return serve()
    from omi_runtime.machine import limit_numeric_threads, usable_cpus  # noqa: PLC0415

    limit_numeric_threads(usable_cpus())  # before anything imports numpy
    from omi_runtime.cli.commands import omi  # noqa: PLC0415

    return omi.main(arguments, prog_name="omi")  # ends with SystemExit


def serve() -> int:
    """Serve by the settings of the environment; returns the exit code.

    In a process of its own, if one serves alone: what stands here until then is all that the
    parent imports.
    """
    from omi_runtime import guard, processes  # noqa: PLC0415

    processes.open_standard_streams()
    # Until `serve` has its own way to stop, there is nothing to finish; and as a container's first
    # process this one would not even be ended by the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, processes.end_at_once)
    guarded = guard.guard() if guard.is_wanted(os.environ) else None
    from omi_runtime import launch  # noqa: PLC0415

    return launch.main(guarded)
