"""Every example's image, on every interface, as hardened as can be: it predicts and ends with 0."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from clients import KServeV1Client, KServeV2Client, ModzyClient, OMIClient
from clients.base import Client, Failure, Spec
from clients.examples import SPECS, expected
from clients.process import EXAMPLES, Finished

from containers.images import Images
from containers.podman import HARDENED, Container, attempt, inspect, podman

INTERFACES: dict[str, tuple[type[Client], ...]] = {
    "omi": (OMIClient,),
    "kserve": (KServeV1Client, KServeV2Client),
    "modzy": (ModzyClient,),
}


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Files that a container can read and write; the Modzy wire names them by their path."""
    tmp_path.chmod(0o777)
    return tmp_path


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("example", SPECS)
def test_expected_answers(images: Images, jobs: Path, example: str, interface: str) -> None:
    spec = SPECS[example]
    items, answers, _ = expected(spec)
    image = images.model(example)
    options = [f"--volume={jobs}:{jobs}"]
    with Container(image, interface, options=options, OMI_DATA_ROOTS=str(jobs)) as container:
        port = container.port
        for wire in INTERFACES[interface]:
            if "bytes" in spec.inputs.values() and not wire.carries_bytes:
                continue
            with wire(port, spec, jobs) as client:
                container.wait_for(client.ready)
                assert client.infer(items) == answers
        assert container.stop() == 0, container.log
        assert "Traceback" not in container.log


@pytest.mark.parametrize("example", ["colours", "entities"])
def test_jobs_are_read_and_written_in_data_alone(images: Images, jobs: Path, example: str) -> None:
    """In an image of each kind: by its own Dockerfile, and by omi build."""
    image = images.model(example)
    field, name = {"colours": ("image.png", "flag.png"), "entities": ("text.txt", "README.md")}[
        example
    ]
    given, answer = jobs / "in", jobs / "out"
    given.mkdir()
    (given / field).write_bytes((EXAMPLES / example / name).read_bytes())
    with Container(image, "modzy", options=[f"--volume={jobs}:/data"]) as container:

        def run(source: str, target: str) -> httpx.Response:
            job = {"type": "file", "input": source, "output": target}
            return httpx.post(f"http://127.0.0.1:{container.port}/run", json=job, timeout=60)

        container.wait_for(lambda: "listens" in container.log)
        done = run("/data/in", "/data/out")
        assert done.status_code == 200, done.text
        assert (answer / "results.json").is_file()
        for source, target in (("/data/in", "/tmp/out"), ("/etc", "/data/other")):
            refused = run(source, target)
            assert refused.status_code == 400
            assert "outside of OMI_DATA_ROOTS=/data" in refused.text


@pytest.mark.parametrize("example", ["colours", "entities"])
def test_a_volume_at_data_is_any_users(images: Images, example: str) -> None:
    image = images.model(example)
    options = (*HARDENED, "--rm", "--volume=/data", "--entrypoint=touch")
    podman("run", *options, image, "/data/file")


def test_the_image_knows_what_to_do_without_being_told(images: Images) -> None:
    image = images.model("colours")
    content = inspect(image)
    config = content["Config"]
    assert config["Entrypoint"] == ["omi"]
    assert config["Cmd"] == ["serve"]
    assert config["User"] == "10001:0"
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert "8080/tcp" in config["ExposedPorts"]
    assert content["Healthcheck"]["Test"] == ["CMD", "omi", "health"]
    described = podman("run", "--rm", *HARDENED, "--network=none", image, "describe")
    assert described.startswith("Colours 1.0.0")


@pytest.mark.parametrize("interface", INTERFACES)
def test_health_is_the_interfaces_own_word(images: Images, interface: str) -> None:
    # As another user than the image's, in the network of nobody.
    with Container(images.model("colours"), interface, options=["--network=none"]) as container:
        container.wait_for(lambda: container.health().code == 0)
        send(container, "SIGSTOP")
        unwell = podman_exec(container, "--timeout=1")
        assert unwell.code == 1
        assert "not ready" in unwell.err
        send(container, "SIGCONT")
        assert podman_exec(container).out == f"{interface}: ready\n"
        assert container.stop() == 0


def send(container: Container, name: str) -> None:
    """Send a signal to the process that serves, which is the child of the container's first."""
    code = f"import os, signal as s; os.kill(int(open('/proc/1/task/1/children').read()), s.{name})"
    podman("exec", container.id, "python", "-c", code)


def podman_exec(container: Container, *arguments: str) -> Finished:
    return attempt("exec", container.id, "omi", "health", *arguments)


def test_without_a_model_there_is_a_line_that_says_so(images: Images) -> None:
    done = attempt("run", "--rm", "--network=none", images.runtime)
    assert done.code == 2
    assert "has no model.py" in done.err


@pytest.mark.parametrize("interface", ["omi", "kserve"])
def test_a_changed_file_is_named_and_ends_the_container(images: Images, interface: str) -> None:
    image = images.model("colours")
    changed = images.context("colours") / "changed.py"
    changed.write_text((images.context("colours") / "model.py").read_text() + "# harmless\n")
    options = [f"--volume={changed}:/model/model.py:ro"]
    with Container(image, interface, options=options) as container:
        assert container.wait() == 3
        assert "model.py was changed" in container.log
    with Container(image, interface, options=options, OMI_VERIFY="0") as container:
        container.wait_for(lambda: container.health().code == 0)


CALLER = """
import socket, urllib.request
from omi_runtime import Model
class Caller(Model):
    version = "1.0.0"
    def predict(self, text: str) -> str:
        return urllib.request.urlopen("http://192.0.2.1/" + text, timeout=1).read().decode()
"""


def test_a_model_that_calls_out_is_refused_and_named(images: Images, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(CALLER)
    tmp_path.chmod(0o755)
    spec = Spec(str(tmp_path), "caller", {"text": "text"}, {"output": "text"})
    options = [f"--volume={tmp_path}:/model:ro"]
    with Container(images.runtime, options=options) as container:
        with KServeV1Client(container.port, spec, tmp_path) as client:
            container.wait_for(client.ready)
            (outcome,) = client.infer([{"text": "weights"}])
        assert isinstance(outcome, Failure)
        assert "/model/model.py, line 7 in predict" in outcome.message
        assert "192.0.2.1:80" in outcome.message
        assert "there is no omi.lock.json" in container.log
        assert container.stop() == 0


STUBBORN = """
import re
from omi_runtime import Model
class Stubborn(Model):
    version = "1.0.0"
    def predict(self, text: str) -> str:
        return str(re.match("(a+)+$", text))
"""


def test_a_model_that_keeps_the_lock_does_not_outlive_the_grace(
    images: Images, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text(STUBBORN)
    tmp_path.chmod(0o755)
    spec = Spec(str(tmp_path), "stubborn", {"text": "text"}, {"output": "text"})
    options = [f"--volume={tmp_path}:/model:ro"]
    with Container(images.runtime, options=options, OMI_GRACE="0.5") as container:
        with KServeV1Client(container.port, spec, tmp_path) as client:
            container.wait_for(client.ready)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"http://127.0.0.1:{container.port}/v1/models/stubborn:predict",
                json={"instances": ["a" * 99 + "b"]},
                timeout=2,
            )
        assert container.stop() == 1, container.log
        assert "keeps the interpreter's lock" in container.log
