"""Node's gRPC client, `@grpc/grpc-js`, whose HTTP/2 is nghttp2's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from clients import process
from clients.process import ROOT, TESTS
from environments import FOLDER, PEERS

PACKAGES = ("@grpc/grpc-js@1.14.0", "@grpc/proto-loader@0.8.0")


@pytest.fixture(scope="module")
def modules() -> Path:
    """The packages, in a folder that is made once, as `environments` makes others."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node, or no npm")
    folder = FOLDER / "grpc-js-1.14.0"
    if not (folder / "complete").exists():
        if os.environ.get("INTEROP") != "make":
            pytest.skip(f"there is no {' '.join(PACKAGES)}: make interop")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder]
        done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / "complete").touch()
    return folder / "node_modules"


def test_grpc_js(modules: Path, servers: Any) -> None:
    model = TESTS / "interop" / "peers" / "echo_models.py"
    limit = str(30 * 1024 * 1024)
    server = servers(INTERFACE="omi", OMI_MODEL=f"{model}:Echo", OMI_MAX_REQUEST_BYTES=limit)
    port = str(server.port("omi"))
    server.wait_for_log("is ready")
    script, protos = PEERS / "grpc_js_client.js", ROOT / "protos"
    done = process.run("node", str(script), port, str(protos), NODE_PATH=str(modules))
    assert done.code == 0, done
    said = json.loads(done.out)
    # Whichever clock is first: the client's, or the server's, which tells it as Run does.
    assert said.pop("late") in (["DEADLINE_EXCEEDED", 0], ["OK", 504])
    assert said == {
        "small": {"code": "OK", "details": "", "status": 200, "echo": ["one"], "id": "from-node"},
        "large": ["OK", True],
        "too large": ["RESOURCE_EXHAUSTED", True, "OK"],
        "many": True,
        "cancelled": "CANCELLED",
        "stream": 4,
        "after": "OK",
    }
