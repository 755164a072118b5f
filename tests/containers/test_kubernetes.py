"""The manifests that `omi manifest` prints, run by `podman kube play`: they answer, and end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from clients import process
from clients.process import EXAMPLES, OMI, until

from containers.images import Images
from containers.podman import PATIENCE, attempt, podman


@pytest.mark.parametrize("interface", ["omi", "kserve", "modzy"])
def test_a_deployment_answers(images: Images, tmp_path: Path, interface: str) -> None:
    if shutil.which("catatonit") is None:
        pytest.skip("there is no catatonit, which podman's pods need")
    # podman's pods take names and ports of the whole machine.
    name = f"omi-test-{interface}-{os.getpid()}"
    with process.reserved_port() as port:
        pass
    done = process.run(
        OMI,
        "manifest",
        "kubernetes",
        str(EXAMPLES / "iris"),
        f"--image={images.model('iris')}",
        f"--name={name}",
        INTERFACE=interface,
        HTTP_PORT=str(port),
        OMI_DRAIN_DELAY="0.1",
    )
    assert done.code == 0, str(done)
    manifest = tmp_path / "deployment.yaml"
    manifest.write_text(done.out)
    container = f"{name}-pod-0-{name}"
    try:
        podman("kube", "play", str(manifest))
        (content,) = json.loads(podman("inspect", container))
        assert content["HostConfig"]["ReadonlyRootfs"] is True
        assert not content["EffectiveCaps"]
        networks = content["NetworkSettings"]["Networks"]
        address = next(network["IPAddress"] for network in networks.values())
        until(
            lambda: attempt("exec", container, "omi", "health").code == 0,
            f"{container} is ready",
            PATIENCE,
        )
        check = (OMI, "check", "server", f"{address}:{port}", f"--interface={interface}")
        checked = process.run(*check, seconds=PATIENCE)
        assert checked.code == 0, str(checked)
        podman("stop", "--time=30", container)
        assert podman("inspect", "--format={{.State.ExitCode}}", container) == "0"
    finally:
        attempt("kube", "down", str(manifest))
