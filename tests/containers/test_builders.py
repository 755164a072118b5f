"""`omi build` by each of the programs that build: podman builds what the other tests run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import KServeV1Client, process, until
from clients.examples import SPECS, expected
from clients.process import OMI, Finished

from containers.images import BUILD_SECONDS, EPOCH, Images
from containers.podman import BASE, PREFIX, Container, inspect, podman


@pytest.fixture(params=["buildah", "docker"])
def builder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The program and the variables that it needs: docker's client asks podman's service."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    if name == "buildah":
        yield name, {}
        return
    place = tmp_path / "podman.sock"
    command = ("podman", "system", "service", "--time=0", f"unix://{place}")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            until(place.exists, "podman's service is there")
            yield name, {"DOCKER_HOST": f"unix://{place}", "DOCKER_BUILDKIT": "0"}
        finally:
            service.terminate()


def build(images: Images, model: Path, tag: str, builder: tuple[str, dict[str, str]]) -> Finished:
    name, variables = builder
    return process.run(
        OMI,
        "build",
        str(model),
        f"--tag={tag}",
        f"--base={images.base}",
        f"--offline={images.wheels}",
        f"--builder={name}",
        seconds=BUILD_SECONDS,
        SOURCE_DATE_EPOCH=EPOCH,
        **variables,
    )


def test_it_builds_what_serves(
    images: Images, tmp_path: Path, builder: tuple[str, dict[str, str]]
) -> None:
    tag = f"{PREFIX}-by-{builder[0]}:1"
    done = build(images, images.context("entities"), tag, builder)
    assert done.code == 0, str(done)
    assert done.out.splitlines()[-1].startswith(f"{tag} is entities:1.0.0@sha256:")
    assert inspect(tag)["Labels"]["ml.openml.model_name"] == "entities"
    items, answers, _ = expected(SPECS["entities"])
    with Container(tag) as container:
        with KServeV1Client(container.port, SPECS["entities"], tmp_path) as client:
            container.wait_for(client.ready)
            assert client.infer(items) == answers
        assert container.stop() == 0


def test_its_error_is_shown_in_full(
    images: Images, tmp_path: Path, builder: tuple[str, dict[str, str]]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(images.context("entities"), model)
    (model / "requirements.txt").write_text("no-such-package-anywhere\n")
    done = build(images, model, f"{PREFIX}-failed:1", builder)
    assert done.code == 1
    assert "no-such-package-anywhere" in done.out + done.err.rpartition("omi: ")[0]
    assert f"omi: {builder[0]} build ended with" in done.err.splitlines()[-1]


def test_cuda_without_a_python_of_its_own(images: Images, tmp_path: Path) -> None:
    """On an image that is as NVIDIA's in this: a system, and no Python."""
    shutil.copy("/sbin/ldconfig", tmp_path)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {images.base}\nCOPY ldconfig /sbin/ldconfig\n"
        "RUN rm -rf /usr/local/bin/* /usr/local/lib/* /usr/lib/*/libsqlite3.so.0\n"
    )
    system, tag = f"{PREFIX}-system", f"{PREFIX}-cuda:1"
    images.build(tmp_path, system)
    done = process.run(
        OMI,
        "build",
        str(images.context("entities")),
        f"--tag={tag}",
        "--cuda=12.8",
        f"--build-arg=BASE_IMAGE={system}",
        f"--build-arg=PYTHON_IMAGE={BASE}",
        f"--offline={images.wheels}",
        "--builder=podman",
        seconds=BUILD_SECONDS,
        SOURCE_DATE_EPOCH=EPOCH,
    )
    assert done.code == 0, str(done)
    base = "nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04"
    assert inspect(tag)["Labels"]["org.opencontainers.image.base.name"] == base
    assert f'"base": "{base}"' in podman(
        "run", "--rm", "--entrypoint=cat", tag, "/model/omi.lock.json"
    )
    with Container(tag, options=["--network=none"]) as container:
        container.wait_for(lambda: "is ready" in container.log)
        asked = "import os, sqlite3; print(os.environ['NVIDIA_VISIBLE_DEVICES'])"
        assert podman("exec", container.id, "python", "-c", asked) == "all"
        assert container.stop() == 0
