"""Every environment variable of the core, described once.

Only the names that the Open Model Interface specification and Modzy fixed are without the prefix
`OMI_`. Variables that belong to one wire are declared by its adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omi_runtime.environment import (
    BYTES,
    COUNT,
    PORT,
    SECONDS,
    SWITCH,
    parse_choice,
    parse_number,
    parse_port,
    parse_switch,
    setting,
)
from omi_runtime.nan import NanPolicy

MOST_BYTES = 250 * 1024 * 1024
"""Both ways, as Modzy's gRPC template and Chassis have it."""


def _interfaces(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(text)
    return names


EVERY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared
"""What `OMI_HOST` is where it means every address of the machine, and where to reach that."""


@dataclass(frozen=True)
class Settings:
    """The core's settings, as the process was started with them."""

    interface: tuple[str, ...] = setting(
        "INTERFACE",
        ("omi",),
        _interfaces,
        "names of interfaces, comma-separated",
        "Which interface to speak: omi, kserve (alias kfserving) or modzy; several, separated by "
        "commas, are mounted around one model.",
        default_text="omi",
    )
    protocol: str = setting(
        "PROTOCOL",
        "",
        parse_choice("v1", "v2"),
        "v1 or v2",
        "The interface's sub-protocol. modzy: v1 is REST, v2 is gRPC (the same as omi). kserve: "
        "both are served whatever it says. omi: v2.",
        default_text="the interface's own",
    )
    model_name: str = setting(
        "MODEL_NAME", "", str, "a name", "The name to serve.", default_text="the model's name"
    )
    http_port: int | None = setting(
        "HTTP_PORT",
        None,
        parse_port,
        PORT,
        "The port of the interface named first; 0 lets the system choose.",
        default_text="8080; omi: 45000",
    )
    psc_model_port: int | None = setting(
        "PSC_MODEL_PORT",
        None,
        parse_port,
        PORT,
        "Modzy's name for the port; wins over HTTP_PORT for omi and modzy.",
        default_text="HTTP_PORT's",
    )
    model: str = setting(
        "OMI_MODEL",
        "",
        str,
        "a directory with model.py, a file, file.py:Class or package.module:Class",
        "Which model: a directory with model.py, a file, file.py:Class or package.module:Class.",
        default_text="/model if it exists, else the current directory",
    )
    host: str = setting("OMI_HOST", "0.0.0.0", str, "an address", "The address to bind.")  # noqa: S104 - a container listens on every address
    workers: int = setting(
        "OMI_WORKERS",
        1,
        parse_number(int, 1),
        COUNT,
        "Processes that serve, on the same ports.",
    )
    preload: bool = setting(
        "OMI_PRELOAD",
        False,
        parse_switch,
        SWITCH,
        "Whether the model is loaded once, before the workers are forked, and its memory shared.",
        default_text="off",
    )
    metrics_port: int | None = setting(
        "OMI_METRICS_PORT",
        None,
        parse_port,
        PORT,
        "The port of /metrics, /livez and /readyz for interfaces that do not have them; 0 is off.",
        default_text="9090; off where the interface has /metrics",
    )
    threads: int | None = setting(
        "OMI_THREADS",
        None,
        parse_number(int, 1),
        COUNT,
        "Threads that call predict, for a model that declares thread_safe or an async predict.",
        default_text="the usable CPUs; 32 for async models",
    )
    max_batch_size: int | None = setting(
        "OMI_MAX_BATCH_SIZE",
        None,
        parse_number(int, 1),
        COUNT,
        "Lowers the model's own max_batch_size; it cannot raise it.",
        default_text="the model's",
    )
    batch_delay_ms: float = setting(
        "OMI_BATCH_DELAY_MS",
        0.0,
        parse_number(float, 0, 60_000),
        "milliseconds from 0 to 60000",
        "How long a batch waits for company before it goes to the model, in milliseconds.",
        default_text="0",
    )
    queue_size: int = setting(
        "OMI_QUEUE_SIZE",
        1024,
        parse_number(int, 1),
        COUNT,
        "Items admitted and not yet answered; beyond, callers are told that the server is busy.",
    )
    timeout: float = setting(
        "OMI_TIMEOUT",
        60.0,
        parse_number(float, 0),
        SECONDS,
        "How long a request may take, where model.yaml's timeout.run says nothing and the caller "
        "allows no less; 0 is no limit.",
        default_text="60 s",
    )
    load_timeout: float = setting(
        "OMI_LOAD_TIMEOUT",
        600.0,
        parse_number(float, 0),
        SECONDS,
        "How long a load may take, where model.yaml's timeout.status says nothing; 0 is no limit.",
        default_text="600 s",
    )
    load_grace: float = setting(
        "OMI_LOAD_GRACE",
        30.0,
        parse_number(float, 0),
        SECONDS,
        "After a failed load, how long omi and modzy wait for a Status that loads the model.",
        default_text="30 s",
    )
    drain_delay: float = setting(
        "OMI_DRAIN_DELAY",
        0.0,
        parse_number(float, 0),
        SECONDS,
        "After a stop is asked for, how long to go on accepting while routers catch up.",
        default_text="0 s",
    )
    grace: float = setting(
        "OMI_GRACE",
        30.0,
        parse_number(float, 0),
        SECONDS,
        "How long a stop waits for what is in flight before it cuts it off.",
        default_text="30 s",
    )
    max_request_bytes: int = setting(
        "OMI_MAX_REQUEST_BYTES",
        MOST_BYTES,
        parse_number(int, 1),
        BYTES,
        "The largest request that is read, in bytes, also after decompression.",
        default_text="262144000 (250 MiB)",
    )
    max_response_bytes: int = setting(
        "OMI_MAX_RESPONSE_BYTES",
        MOST_BYTES,
        parse_number(int, 1),
        BYTES,
        "The largest answer that is given, in bytes, before compression.",
        default_text="262144000 (250 MiB)",
    )
    nan: NanPolicy = setting(
        "OMI_NAN",
        NanPolicy.ERROR,
        NanPolicy,
        "error, null or string",
        "What becomes of NaN and infinity in JSON answers.",
    )
    error_detail: str = setting(
        "OMI_ERROR_DETAIL",
        "full",
        parse_choice("full", "generic"),
        "full or generic",
        "generic keeps the texts of the model's exceptions out of answers; the log has them.",
    )
    allow_shutdown: bool = setting(
        "OMI_ALLOW_SHUTDOWN",
        True,
        parse_switch,
        SWITCH,
        "Whether the interfaces' shutdown routes and calls are offered.",
        default_text="on",
    )
    admin: bool = setting(
        "OMI_ADMIN",
        False,
        parse_switch,
        SWITCH,
        "Whether the model can be loaded and unloaded over the wire.",
        default_text="off",
    )
    tls_cert: str = setting(
        "OMI_TLS_CERT",
        "",
        str,
        "a PEM file",
        "The server's certificate with its chain, a PEM file: both transports then speak TLS.",
        default_text="no TLS",
    )
    tls_key: str = setting(
        "OMI_TLS_KEY",
        "",
        str,
        "a PEM file",
        "The certificate's private key without a password, a PEM file.",
        default_text="no TLS",
    )
    tls_client_ca: str = setting(
        "OMI_TLS_CLIENT_CA",
        "",
        str,
        "a PEM file",
        "Who has to have signed a client's certificate, a PEM file; others are refused.",
        default_text="anybody",
    )
    verify: bool = setting(
        "OMI_VERIFY",
        False,
        parse_switch,
        SWITCH,
        "Whether the model's files have to be those that omi.lock.json lists.",
        default_text="off; in images on",
    )
    offline: bool = setting(
        "OMI_OFFLINE",
        False,
        parse_switch,
        SWITCH,
        "Whether Python's sockets are refused what leaves the machine, and hubs' libraries are "
        "told to stay offline.",
        default_text="off; in images on",
    )
    log_level: str = setting(
        "OMI_LOG_LEVEL",
        "info",
        parse_choice("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "The least severe messages that are logged.",
    )
    log_format: str = setting(
        "OMI_LOG_FORMAT",
        "text",
        parse_choice("text", "json"),
        "text or json",
        "How log lines look; json is one object a line.",
    )
    access_log: bool = setting(
        "OMI_ACCESS_LOG",
        False,
        parse_switch,
        SWITCH,
        "Whether every request is logged, those that ask for health, metrics or a page apart.",
        default_text="off",
    )

    def model_source(self) -> str:
        """`OMI_MODEL`, or its default."""
        return self.model or ("/model" if Path("/model").is_dir() else ".")
