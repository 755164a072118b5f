"""Starts and stops the Modzy interface. Light: what serves is imported when it is constructed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import ClassVar

import orjson

from omi_runtime import environment
from omi_runtime.adapter import Mount, Port, Probes
from omi_runtime.environment import SettingsGroup
from omi_runtime.jobsettings import JobSettings


class ModzyAdapter:
    """`INTERFACE=modzy`, with `PROTOCOL` unset or `v1`."""

    settings_group: ClassVar[type[SettingsGroup] | None] = JobSettings
    protocols: ClassVar[frozenset[str]] = frozenset({"v1"})
    default_port: ClassVar[int] = 8080
    port_variables: ClassVar[tuple[str, ...]] = ("PSC_MODEL_PORT", "HTTP_PORT")
    opens_before_load: ClassVar[bool] = True
    serves_metrics: ClassVar[bool] = True
    probes: ClassVar[Probes] = Probes(ready="/status")
    tools: ClassVar[Mapping[str, str]] = {
        "check": "omi_modzy.check:check",
        "health": "omi_modzy.health:check",
        "manifest": "omi_modzy.manifest:render",
    }

    def __init__(self, mount: Mount) -> None:
        from omi_modzy.routes import make_app  # noqa: PLC0415
        from omi_runtime.transport.http_server import HTTPServer  # noqa: PLC0415

        settings = mount.settings
        own = environment.read(JobSettings, mount.environ)
        app = make_app(mount.handler, mount.interface, own)
        self._mount = mount
        self._server = HTTPServer(app, settings.host, mount.port)
        self.port = mount.port.number
        self.title = f"INTERFACE={mount.interface} (REST)"

    @classmethod
    def further_ports(cls, port: Port, environ: Mapping[str, str]) -> Mapping[str, Port]:  # noqa: ARG003 - it has none
        """None beside its own."""
        return {}

    async def start(self) -> None:
        """Bind and serve. Raises LoadError if the port is taken."""
        self.port = await self._server.start()

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""
        await self._server.stop(grace)

    def example_request(self) -> str:
        """Writes the input, posts the job, shows the answer."""
        from omi_runtime import examples  # noqa: PLC0415 - it brings numpy

        files = examples.files(self._mount.handler.signature)
        writes = [
            f"printf %b {shlex.quote(_octal(data))} > /tmp/omi-in/{shlex.quote(name)}"
            for name, data in files.items()
        ]
        job = {"type": "file", "input": "/tmp/omi-in", "output": "/tmp/omi-out"}  # noqa: S108
        curl = examples.curl(self._mount.settings, self.port, "/run")
        return " && ".join(
            [
                "mkdir -p /tmp/omi-in",
                *writes,
                f"{curl} -d '{orjson.dumps(job).decode()}'",
                "cat /tmp/omi-out/results.json",
            ]
        )


def _octal(data: bytes) -> str:
    """Bytes as `printf %b` reads them in every shell."""
    printable = range(0x20, 0x7F)
    return "".join(
        chr(byte) if byte in printable and chr(byte) not in "\\'" else f"\\0{byte:03o}"
        for byte in data
    )
