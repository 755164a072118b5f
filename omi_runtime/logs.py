"""Log lines, to stderr: text for people, or one JSON object a line for collectors.

Only the loggers of this runtime and of its servers are configured: what a model's author does with
the root logger stays as it is.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

import orjson

from omi_runtime.errors import StartupError
from omi_runtime.request import current_request

_SERVER_LOGGERS: Final = ("uvicorn", "grpc", "asyncio")  # KServe's own server has the first two


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO omi_runtime.serve: [request id] message`."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(request)s%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The first line; what it is about stands before the message."""
        request_id = current_request().id
        record.request = f"[{request_id}] " if request_id else ""
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """`{"time":…,"level":…,"logger":…,"message":…}`, one line.

    Of a request also `request_id`; where one has been answered also `interface`, `method`, `model`,
    `code` and `ms`; `exception` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current_request().id:
            line["request_id"] = request_id
        line |= getattr(record, "omi_fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def fail(error: StartupError) -> int:
    """Say why the process cannot start, on one line; returns the exit code."""
    print(f"omi: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - logs may not be set up
    return error.exit_code


def configure(level: str, form: str, *, packages: Iterable[str] = ()) -> None:
    """Set up the runtime's loggers.

    Args:
        packages: of the adapters that serve, whose loggers are the runtime's too.
        level: of `OMI_LOG_LEVEL`.
        form: `text` or `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    own = level.upper()
    servers = own if own == "DEBUG" else "WARNING"
    levels = dict.fromkeys(("omi_runtime", *packages), own) | dict.fromkeys(
        _SERVER_LOGGERS, servers
    )
    levels["uvicorn.access"] = "CRITICAL"  # ours says more, and of gRPC too
    for name, its_level in levels.items():
        logger = logging.getLogger(name)
        logger.setLevel(its_level)
        logger.handlers = [handler]
        logger.propagate = False
