"""Starts and stops the OMI interface. Light: what serves is imported when it is constructed."""

from __future__ import annotations

import asyncio
import base64
import shlex
from collections.abc import Mapping
from typing import ClassVar

import orjson

from omi_runtime.adapter import Mount, Port, Probes
from omi_runtime.environment import SettingsGroup


class OMIAdapter:
    """`INTERFACE=omi`, and `INTERFACE=modzy` with `PROTOCOL=v2`."""

    settings_group: ClassVar[type[SettingsGroup] | None] = None
    protocols: ClassVar[frozenset[str]] = frozenset({"v2"})
    default_port: ClassVar[int] = 45000
    port_variables: ClassVar[tuple[str, ...]] = ("PSC_MODEL_PORT", "HTTP_PORT")
    opens_before_load: ClassVar[bool] = True
    serves_metrics: ClassVar[bool] = False
    probes: ClassVar[Probes] = Probes()
    tools: ClassVar[Mapping[str, str]] = {
        "check": "omi_grpc.check:check",
        "health": "omi_grpc.health:check",
        "predict": "omi_grpc.ask:run_files",
    }

    def __init__(self, mount: Mount) -> None:
        from omi_grpc.servicer import ModzyModelServicer  # noqa: PLC0415
        from omi_grpc.servicer_v2 import InferenceServicer  # noqa: PLC0415
        from omi_runtime.transport.grpc import GRPCServer  # noqa: PLC0415

        allow_shutdown = mount.settings.allow_shutdown
        self._stopping = asyncio.Event()
        first = ModzyModelServicer(mount.handler, allow_shutdown=allow_shutdown)
        second = InferenceServicer(mount.handler, self._stopping, allow_shutdown=allow_shutdown)
        self._mount = mount
        self._server = GRPCServer(
            [first.service(), second.service()],
            mount.handler,
            mount.interface,
            mount.settings.host,
            mount.port,
        )
        self.port = mount.port.number
        self.title = f"INTERFACE={mount.interface} (gRPC)"

    @classmethod
    def further_ports(cls, port: Port, environ: Mapping[str, str]) -> Mapping[str, Port]:  # noqa: ARG003 - it has none
        """None beside its own."""
        return {}

    async def start(self) -> None:
        """Bind and serve. Raises LoadError if the port is taken."""
        self.port = await self._server.start()

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""
        self._stopping.set()
        await self._server.stop(grace)

    def example_request(self) -> str:
        """A grpcurl line; protobuf's JSON has bytes as base64."""
        from omi_runtime import examples  # noqa: PLC0415 - it brings numpy

        files = examples.files(self._mount.handler.signature)
        item = {name: base64.b64encode(data).decode() for name, data in files.items()}
        body = orjson.dumps({"inputs": [{"input": item}]}).decode()
        grpcurl = examples.grpcurl(self._mount.settings)
        address = shlex.quote(examples.address(self._mount.settings, self.port))
        return f"{grpcurl} -d '{body}' {address} ModzyModel/Run"
