"""The `docker run` lines of the README, run as they stand."""

from __future__ import annotations

import json
import re
import shlex

import httpx
from clients.process import ROOT

from containers.images import Images
from containers.podman import HARDENED, Container, attempt, podman

README = (ROOT / "README.md").read_text()
LINES = [
    shlex.split(line.replace("$PWD", str(ROOT)))
    for line in re.findall(r"^docker run (.*)$", README, re.MULTILINE)
]


def test_a_server(images: Images) -> None:
    *options, image = LINES[0]
    assert image == "omi-runtime"
    options.remove("--rm")
    assert options[:2] == ["-p", "8080:8080"]
    with Container(images.runtime, options=options[2:]) as container:
        request = re.search(
            r"^\$ curl -s localhost:8080(\S+entities\S+) -d '(.*)'\n(.*)$", README, re.MULTILINE
        )
        assert request is not None
        path, body, answer = request.groups()
        address = f"http://127.0.0.1:{container.port}"
        container.wait_for(lambda: "listens" in container.log)
        assert httpx.post(address + path, content=body).json() == json.loads(answer)
        assert container.stop() == 0


def test_a_command(images: Images) -> None:
    *options, image, command = LINES[1]
    assert (image, command) == ("omi-runtime", "describe")
    assert podman("run", *options, images.runtime, command).startswith("entities 1.0.0")
    assert len(LINES) == 2


def test_omi_serve_is_said_twice(images: Images) -> None:
    """`docker run IMAGE serve`, and `docker run IMAGE` alone, do the same."""
    for command in ((), ("serve",)):
        done = attempt("run", "--rm", *HARDENED, "--network=none", images.runtime, *command)
        assert done.code == 2
        assert "has no model.py" in done.err
