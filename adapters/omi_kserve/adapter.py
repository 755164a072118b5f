"""Starts and stops the KServe interface. Light: what serves is imported when it is constructed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import orjson

from omi_kserve.settings import KServeSettings
from omi_runtime import environment
from omi_runtime.adapter import Mount, Port, Probes
from omi_runtime.environment import SettingsGroup

if TYPE_CHECKING:
    from omi_runtime.transport.http_server import HTTPServer


class KServeAdapter:
    """`INTERFACE=kserve`, or `kfserving` as the Open Model Interface specification has it."""

    settings_group: ClassVar[type[SettingsGroup] | None] = KServeSettings
    # PROTOCOL only declares: both are served. KServe's controller reads the variable too.
    protocols: ClassVar[frozenset[str]] = frozenset({"v1", "v2"})
    default_port: ClassVar[int] = 8080
    port_variables: ClassVar[tuple[str, ...]] = ("HTTP_PORT",)
    # KServe's default readiness probe is a TCP connect: an open port has to mean a ready model.
    opens_before_load: ClassVar[bool] = False
    probes: ClassVar[Probes] = Probes(ready="/v2/health/ready", live="/v2/health/live")
    tools: ClassVar[Mapping[str, str]] = {"manifest": "omi_kserve.manifest:render"}

    def __init__(self, mount: Mount) -> None:
        # The application can only be made around a loaded model, but imported meanwhile.
        from omi_kserve import app  # noqa: PLC0415
        from omi_runtime.transport import http_server  # noqa: PLC0415

        self._app, self._http = app, http_server
        self._settings = environment.read(KServeSettings, mount.environ)
        self._mount = mount
        self._server: HTTPServer | None = None
        self.port = mount.port.number
        self.title = f"INTERFACE={mount.interface} (REST V1 and V2)"

    @classmethod
    def further_ports(cls, port: Port, environ: Mapping[str, str]) -> Mapping[str, Port]:  # noqa: ARG003 - it has none
        """None beside its own."""
        return {}

    async def start(self) -> None:
        """Bind and serve. Raises LoadError if the port is taken."""
        mount = self._mount
        self._server = self._http.HTTPServer(
            self._app.make_app(mount.handler, mount.interface, self._settings),
            mount.settings.host,
            mount.port,
            access_log=mount.settings.access_log,
        )
        self.port = await self._server.start()

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""
        if self._server is not None:
            await self._server.stop(grace)

    def example_request(self) -> str:
        """A curl line for V1, which takes every kind of model."""
        from omi_runtime import examples  # noqa: PLC0415 - it brings numpy

        handler = self._mount.handler
        body = orjson.dumps({"instances": [examples.instance(handler.signature)]}).decode()
        path = f"/v1/models/{handler.name}:predict"
        return f"{examples.curl(self._mount.settings, self.port, path)} -d '{body}'"
