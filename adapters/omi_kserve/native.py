"""This runtime's own servers of the KServe interface: REST, and V2 over gRPC unless it is off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from omi_kserve import app
from omi_kserve.repository import Repository
from omi_kserve.settings import KServeSettings
from omi_runtime.adapter import Mount, Port
from omi_runtime.transport import http_server

if TYPE_CHECKING:
    from omi_kserve.grpc_v2 import GRPCV2


class NativeServers:
    """Both servers, started and stopped by the adapter.

    Args:
        mount: the adapter's.
        settings: the interface's own.
        grpc_port: what gRPC binds, or None if it is off.
    """

    title = "REST V1 and V2"

    def __init__(self, mount: Mount, settings: KServeSettings, grpc_port: Port | None) -> None:
        self._mount = mount
        self._settings = settings
        self._repository = Repository(mount.handler)
        self._rest: http_server.HTTPServer | None = None
        self._grpc: GRPCV2 | None = None
        if grpc_port is not None:
            from omi_kserve.grpc_v2 import GRPCV2  # noqa: PLC0415 - REST alone does without grpc

            self._grpc = GRPCV2(mount, grpc_port, self._repository)

    async def start(self) -> tuple[int, int]:
        """Bind and serve; returns the ports of REST and of gRPC, 0 if that is off.

        Raises:
            LoadError: a port is taken.
        """
        mount = self._mount
        # Before REST, whose port is the one that platforms look at.
        grpc_port = await self._grpc.start() if self._grpc is not None else 0
        self._rest = http_server.HTTPServer(
            app.make_app(mount.handler, mount.interface, self._settings, self._repository),
            mount.settings.host,
            mount.port,
        )
        return await self._rest.start(), grpc_port

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""
        servers = [server for server in (self._rest, self._grpc) if server is not None]
        await asyncio.gather(*(server.stop(grace) for server in servers))
