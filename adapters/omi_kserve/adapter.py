"""Starts and stops the KServe interface. Light: what serves is imported when it is constructed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Protocol

import orjson

from omi_kserve.settings import KServeSettings
from omi_runtime import environment
from omi_runtime.adapter import Mount, Port, Probes
from omi_runtime.environment import SettingsGroup
from omi_runtime.errors import SettingsError
from omi_runtime.settings import Settings

GRPC_PORT: Final = 8081
"""KServe's own default too."""


class KServeAdapter:
    """`INTERFACE=kserve`, or `kfserving` as the Open Model Interface specification has it."""

    settings_group: ClassVar[type[SettingsGroup] | None] = KServeSettings
    # PROTOCOL only declares: both are served. KServe's controller reads the variable too.
    protocols: ClassVar[frozenset[str]] = frozenset({"v1", "v2"})
    default_port: ClassVar[int] = 8080
    port_variables: ClassVar[tuple[str, ...]] = ("HTTP_PORT",)
    # KServe's default readiness probe is a TCP connect: an open port has to mean a ready model.
    opens_before_load: ClassVar[bool] = False
    serves_metrics: ClassVar[bool] = True
    probes: ClassVar[Probes] = Probes(ready="/v2/health/ready", live="/v2/health/live")
    tools: ClassVar[Mapping[str, str]] = {
        "check": "omi_kserve.check:check",
        "health": "omi_kserve.health:check",
        "manifest": "omi_kserve.manifest:render",
    }

    def __init__(self, mount: Mount) -> None:
        # The services can only be made around a loaded model, but imported meanwhile.
        settings = environment.read(KServeSettings, mount.environ)
        grpc_port = mount.further_ports.get("grpc")
        make = _sdk if settings.server == "sdk" else _native
        self._servers: Servers = make(mount, settings, grpc_port)
        self._mount = mount
        self.port = mount.port.number
        self.title = f"INTERFACE={mount.interface} ({self._servers.title})"

    @classmethod
    def further_ports(cls, port: Port, environ: Mapping[str, str]) -> Mapping[str, Port]:
        """The port of V2 over gRPC, unless it is switched off."""
        chosen = environment.read(KServeSettings, environ).grpc_port
        if chosen is not None:
            return {"grpc": Port(chosen, "OMI_GRPC_PORT")} if chosen else {}
        # Whoever lets the system choose one port means all.
        number = GRPC_PORT if port.number else 0
        return {"grpc": Port(number, "the default; set OMI_GRPC_PORT to change it")}

    async def start(self) -> None:
        """Bind and serve. Raises LoadError if a port is taken."""
        self.port, grpc_port = await self._servers.start()
        spoken = self._servers.title + (f"; gRPC V2 on port {grpc_port}" if grpc_port else "")
        self.title = f"INTERFACE={self._mount.interface} ({spoken})"

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""
        await self._servers.stop(grace)

    def example_request(self) -> str:
        """A curl line for V1, which takes every kind of model."""
        from omi_runtime import examples  # noqa: PLC0415 - it brings numpy

        handler = self._mount.handler
        body = orjson.dumps({"instances": [examples.instance(handler.signature)]}).decode()
        path = f"/v1/models/{handler.name}:predict"
        return f"{examples.curl(self._mount.settings, self.port, path)} -d '{body}'"


class Servers(Protocol):
    """What serves: this runtime's own servers, or KServe's."""

    title: str

    async def start(self) -> tuple[int, int]:
        """Bind and serve; returns the ports of REST and of gRPC, 0 if that is off."""

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""


def _native(mount: Mount, settings: KServeSettings, grpc_port: Port | None) -> Servers:
    from omi_kserve.native import NativeServers  # noqa: PLC0415 - it brings the web framework

    return NativeServers(mount, settings, grpc_port)


def _sdk(mount: Mount, _settings: KServeSettings, grpc_port: Port | None) -> Servers:
    _check_sdk_can(mount.settings)
    try:
        from omi_kserve.sdk import SDKServer  # noqa: PLC0415 - it brings the SDK
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("kserve"):
            raise
        raise SettingsError(
            "OMI_KSERVE_SERVER='sdk' needs KServe's SDK: pip install 'omi-runtime[kserve]'"
        ) from None
    return SDKServer(mount, grpc_port)


def _check_sdk_can(settings: Settings) -> None:
    """Refuse what KServe's ModelServer would leave out in silence."""
    if settings.workers > 1:
        raise SettingsError(
            "OMI_KSERVE_SERVER='sdk' serves from one process: expected OMI_WORKERS=1, not "
            f"{settings.workers}"
        )
    asked = {
        "OMI_TLS_CERT": settings.tls_cert,
        "OMI_TLS_KEY": settings.tls_key,
        "OMI_TLS_CLIENT_CA": settings.tls_client_ca,
    }
    if names := [name for name, value in asked.items() if value]:
        raise SettingsError(
            f"OMI_KSERVE_SERVER='sdk' serves without TLS, but {', '.join(names)} asks for it: "
            "expected OMI_KSERVE_SERVER=native, or these unset and TLS in front of the server"
        )
