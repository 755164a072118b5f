"""The environment variables of the KServe interface."""

from __future__ import annotations

from dataclasses import dataclass

from omi_runtime.environment import PORT, SWITCH, parse_choice, parse_port, parse_switch, setting


@dataclass(frozen=True)
class KServeSettings:
    """What only this interface reads. The names without `OMI_` are KServe's own server's."""

    grpc_port: int | None = setting(
        "OMI_GRPC_PORT",
        None,
        parse_port,
        PORT,
        "The port of V2 over gRPC; 0 is off.",
        default_text="8081; a free one where HTTP_PORT is 0",
    )
    server: str = setting(
        "OMI_KSERVE_SERVER",
        "native",
        parse_choice("native", "sdk"),
        "native or sdk",
        "Which server answers: this runtime's own, or KServe's ModelServer around the same model, "
        "which needs the extra `kserve`.",
    )
    v1_base64: bool = setting(
        "OMI_V1_BASE64",
        False,
        parse_switch,
        SWITCH,
        "Whether a V1 instance that is a string is base64 of the model's first input, as in images "
        "that Chassis built.",
        default_text="off",
    )
    event_type: str = setting(
        "CE_TYPE",
        "io.kserve.inference.response",
        str,
        "a type of CloudEvents",
        "The type of the CloudEvent that answers one.",
    )
    event_source: str = setting(
        "CE_SOURCE",
        "",
        str,
        "a source of CloudEvents",
        "The source of the CloudEvent that answers one.",
        default_text="io.kserve.inference. and the name served",
    )
    event_merge: bool = setting(
        "CE_MERGE",
        False,
        parse_switch,
        SWITCH,
        "Whether the CloudEvent that answers one keeps its other attributes.",
        default_text="off",
    )
