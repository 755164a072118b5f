"""`docker/compose.yaml`: one image, and the three interfaces side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clients import Client, KServeV1Client, ModzyClient, OMIClient, process, until
from clients.examples import SPECS, expected
from clients.process import ROOT

from containers.images import Images
from containers.podman import PATIENCE, podman

FILE = ROOT / "docker" / "compose.yaml"
COMPOSE = Path(sys.executable).with_name("podman-compose")
PROJECT = "omi-test-compose"
PORTS = {"omi": 45000, "kserve": 8080, "modzy": 8081}
WIRES: dict[str, type[Client]] = {
    "omi": OMIClient,
    "kserve": KServeV1Client,
    "modzy": ModzyClient,
}


@pytest.fixture
def services(images: Images, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """All of them up: the file's own, but for the ports of the machine, which others may have."""
    content = yaml.safe_load(FILE.read_text())
    services: dict[str, Any] = content["services"]
    published = {name: service["ports"] for name, service in services.items()}
    assert published == {name: [f"{port}:8080"] for name, port in PORTS.items()}
    _build(images, services["omi"], tmp_path)
    for service in services.values():
        service["ports"] = ["127.0.0.1::8080"]
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump(content))
    command = (str(COMPOSE), "--project-name", PROJECT, "--file", str(path))
    try:
        done = process.run(*command, "up", "--detach", "--no-build", seconds=PATIENCE)
        assert done.code == 0, str(done)
        yield services
    finally:
        process.run(*command, "down", "--timeout", "0", seconds=PATIENCE)


def test_three_interfaces_of_one_image(services: dict[str, Any], tmp_path: Path) -> None:
    items, answers, _ = expected(SPECS["iris"])
    for name in services:
        container = f"{PROJECT}_{name}_1"
        port = int(podman("port", container, "8080").rpartition(":")[2])
        with WIRES[name](port, SPECS["iris"], tmp_path) as client:
            until(client.ready, f"{name} is ready", PATIENCE)
            if name != "modzy":  # whose files would have to be in the container
                assert client.infer(items) == answers
        config = podman("inspect", "--format={{.HostConfig.ReadonlyRootfs}}", container)
        assert config == "true"
    for name in services:
        podman("stop", f"{PROJECT}_{name}_1")
        assert podman("wait", f"{PROJECT}_{name}_1") == "0"


def _build(images: Images, service: dict[str, Any], folder: Path) -> None:
    """The image, by the file's own Dockerfile and from its context, without a network."""
    podman("tag", images.runtime, "localhost/omi-runtime")
    build = service["build"]
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(build["dockerfile_inline"])
    context = (FILE.parent / build["context"]).resolve()
    images.build(context, f"localhost/{service['image']}", f"--file={dockerfile}")
