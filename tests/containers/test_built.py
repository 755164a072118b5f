"""What `omi build` makes: layers, labels and annotations, the lock; the same again for the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from clients import process

from containers.images import EPOCH, Images
from containers.podman import Container, attempt, inspect, podman

LABELS = {
    "ml.openmodel.interfaces": '["kfserving","modzy"]',
    "ml.openmodel.protocols": '[["v1","v2"],["v1","v2"]]',
    "ml.openmodel.port": "8080",
    "ml.openml.model_name": "Iris",
    "org.opencontainers.image.title": "Iris",
    "org.opencontainers.image.version": "1.0.0",
    "org.opencontainers.image.authors": "The omi-runtime authors",
    "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
}


@pytest.fixture(scope="module")
def stored(images: Images) -> dict[str, Any]:
    """The iris image as skopeo sees it: its manifest, its configuration."""
    if shutil.which("skopeo") is None:
        pytest.skip("there is no skopeo")
    place = f"containers-storage:{images.model('iris')}"
    told: dict[str, Any] = {}
    for name, option in (("manifest", "--raw"), ("config", "--config")):
        done = process.run("skopeo", "inspect", option, place, seconds=120.0)
        assert done.code == 0, str(done)
        told[name] = json.loads(done.out)
    return told


def test_labels_and_annotations_say_the_same(stored: dict[str, Any]) -> None:
    labels = stored["config"]["config"]["Labels"]
    assert labels.items() >= LABELS.items()
    assert stored["manifest"]["annotations"].items() >= LABELS.items()


def test_layers_are_in_the_order_of_change(images: Images, stored: dict[str, Any]) -> None:
    history = [step for step in stored["config"]["history"] if not step.get("empty_layer")]
    base = len(inspect(images.base)["RootFS"]["Layers"])
    assert len(history) == base + 4
    size = [layer["size"] for layer in stored["manifest"]["layers"]][base:]
    folder, dependencies, runtime, model = size
    assert folder < 10_000
    assert dependencies > 20 * runtime
    assert runtime > model


def test_the_image_holds_what_the_lock_says(images: Images) -> None:
    image = images.model("iris")
    lock = json.loads(podman("run", "--rm", "--entrypoint=cat", image, "/model/omi.lock.json"))
    assert set(lock["files"]) >= {"model.py", "model.yaml", "iris.npz", "requirements.txt"}
    assert "scikit-learn" in lock["packages"]
    assert lock["built"]["at"] == LABELS["org.opencontainers.image.created"]
    assert lock["built"]["base"] == images.base
    with Container(image) as container:
        container.wait_for(lambda: "is ready" in container.log)
        asked = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/').headers)"
        done = attempt("exec", container.id, "python", "-c", asked)
        assert f"omi-model: iris:1.0.0@{lock['model']['digest']}" in done.out, str(done)
        assert container.stop() == 0


def test_nothing_that_builds_is_left(images: Images) -> None:
    image = images.model("iris")
    places = ("/build*", "/installed*", "/root/.cache*", "/runtime*", "/wheels*")
    listing = f"import glob; print([*map(glob.glob, {places})])"
    assert podman("run", "--rm", "--entrypoint=python", image, "-c", listing) == str([[]] * 5)
    # Bytecode is there for everything, for nothing could write it.
    count = (
        "import sysconfig, pathlib; p = pathlib.Path(sysconfig.get_path('purelib'));"
        "print(sum(not list((f.parent / '__pycache__').glob(f.stem + '.*.pyc'))"
        " for f in (p / 'omi_runtime').rglob('*.py')))"
    )
    assert podman("run", "--rm", "--entrypoint=python", image, "-c", count) == "0"


def test_the_same_inputs_make_the_same_image(images: Images) -> None:
    first = images.model("entities")
    again = first.replace(":1.0.0", ":again")
    done = images.omi_build("entities", again, "--no-cache")
    assert f"{again} is entities:1.0.0@sha256:" in done.out
    assert inspect(again)["RootFS"]["Layers"] == inspect(first)["RootFS"]["Layers"]
    assert inspect(again)["Digest"] == inspect(first)["Digest"]


def test_a_failed_build_shows_what_the_builder_said(images: Images, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(images.context("entities"), model)
    (model / "requirements.txt").write_text("no-such-package-for-omi==1.0\n")
    done = process.run(
        process.OMI,
        "build",
        str(model),
        f"--base={images.base}",
        f"--offline={images.wheels}",
        "--builder=podman",
        seconds=120.0,
        SOURCE_DATE_EPOCH=EPOCH,
    )
    assert done.code == 1
    assert "No matching distribution found for no-such-package-for-omi==1.0" in done.out + done.err
    assert done.err.rstrip().endswith("what it said stands above")
