"""Starts and stops the KServe interface. Light: what serves is imported when it is constructed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

import orjson

from omi_kserve.settings import KServeSettings
from omi_runtime import environment
from omi_runtime.adapter import Mount, Port, Probes
from omi_runtime.environment import SettingsGroup

if TYPE_CHECKING:
    from omi_kserve.grpc_v2 import GRPCV2
    from omi_runtime.transport.http_server import HTTPServer

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
    tools: ClassVar[Mapping[str, str]] = {"manifest": "omi_kserve.manifest:render"}

    def __init__(self, mount: Mount) -> None:
        # The services can only be made around a loaded model, but imported meanwhile.
        from omi_kserve import app  # noqa: PLC0415
        from omi_runtime.transport import http_server  # noqa: PLC0415

        self._app, self._http = app, http_server
        self._settings = environment.read(KServeSettings, mount.environ)
        self._mount = mount
        self._server: HTTPServer | None = None
        self._grpc: GRPCV2 | None = None
        grpc_port = mount.further_ports.get("grpc")
        if grpc_port is not None:
            from omi_kserve.grpc_v2 import GRPCV2  # noqa: PLC0415

            self._grpc = GRPCV2(mount, grpc_port)
        self.port = mount.port.number
        self.title = f"INTERFACE={mount.interface} (REST V1 and V2)"

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
        mount = self._mount
        if self._grpc is not None:
            # Before REST, whose port is the one that platforms look at.
            number = await self._grpc.start()
            self.title = f"INTERFACE={mount.interface} (REST V1 and V2; gRPC V2 on port {number})"
        self._server = self._http.HTTPServer(
            self._app.make_app(mount.handler, mount.interface, self._settings),
            mount.settings.host,
            mount.port,
        )
        self.port = await self._server.start()

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""
        servers = [server for server in (self._server, self._grpc) if server is not None]
        await asyncio.gather(*(server.stop(grace) for server in servers))

    def example_request(self) -> str:
        """A curl line for V1, which takes every kind of model."""
        from omi_runtime import examples  # noqa: PLC0415 - it brings numpy

        handler = self._mount.handler
        body = orjson.dumps({"instances": [examples.instance(handler.signature)]}).decode()
        path = f"/v1/models/{handler.name}:predict"
        return f"{examples.curl(self._mount.settings, self.port, path)} -d '{body}'"
