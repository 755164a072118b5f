"""Tests with real containers: each is marked `container`, and skipped where podman cannot run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containers import podman
from containers.images import Images

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("container")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Images:
    """The images, in a folder that all processes of this run share.

    CONTAINER_IMAGES names a folder that outlives the run, for work on what is not in an image.
    """
    reason = podman.missing()
    if reason:
        pytest.skip(reason)
    if kept := os.environ.get("CONTAINER_IMAGES"):
        return Images(Path(kept))
    folder = tmp_path_factory.getbasetemp()
    return Images((folder if worker_id == "master" else folder.parent) / "images")
