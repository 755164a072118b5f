"""What is imported: only the chosen interface, and nothing that a serving process has no use for.

A server is started as a user starts it, with `-X importtime`, which lists every module that is
imported, when it is; a prediction is made, and the list is read.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from clients import process
from clients.process import Server
from omi_grpc._pb import model_pb2 as pb

Write = Callable[..., Path]

IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)

PLAIN = {
    "model.py": """
        from typing import Annotated
        import numpy as np
        from omi_runtime import Model, Tensor
        class Plain(Model):
            def predict(
                self, x: Annotated[np.ndarray, Tensor("FP32", [2])], facts: dict
            ) -> dict:
                return {"sum": float(x.sum())}
        """
}
YAML = {"model.yaml": "specification: '0.4'\nname: Plain\n"}

WEB = {"fastapi", "starlette", "httptools"}
GRPC_ALONE = {"hpack", "google.protobuf"}
GRPC_CLIENTS = {"grpc"}  # 60 ms and 15 MiB that a server does without
GRPC = {*GRPC_ALONE, "omi_grpc"}
HEAVY = {"pandas", "kserve", "kubernetes", "sklearn", "scipy", "mlflow", "ray", "torch"}
HEAVY |= GRPC_CLIENTS
HEAVY |= {
    "prometheus_client",
    "wsgiref",
    "opentelemetry.sdk",
}  # the first scrape and the side port bring them
CLI = {"click"}
KSERVE = {"omi_kserve"}
TYPED = {"pydantic", "yaml"}
# Says whether OMI_MODEL names a model of KServe's SDK, whatever the interface.
FLAVOR = {"omi_kserve", "omi_kserve.flavor"}


def families(modules: set[str], names: set[str]) -> set[str]:
    """Which of the packages have been imported, or any module of theirs."""
    return {name for name in names if any(f"{m}.".startswith(f"{name}.") for m in modules)}


def served(directory: Path, model: Path, interface: str, **settings: str) -> set[str]:
    """The modules that a server had imported when it had answered a prediction."""
    with Server(
        directory,
        command=(sys.executable, "-X", "importtime", "-m", "omi_runtime"),
        INTERFACE=interface,
        OMI_MODEL=model,
        **settings,
    ) as server:
        request = server.wait_for_log(r"try it: (.*)$")[1]
        if interface == "omi":
            answer = run_request(server.port("omi"), x=b"[1, 2]", facts=b"{}")
        else:
            answer = process.run("sh", "-c", request.replace("/tmp/", f"{directory}/")).out
        assert '"sum"' in answer, answer
        server.signal()
        assert server.wait() == 0
        modules = set(IMPORTED.findall(server.log))
    assert {"omi_runtime.handler", "omi_runtime.runner", "numpy"} <= modules
    return modules


def test_omi_imports_no_web_framework_and_nothing_heavy(tmp_path: Path, write: Write) -> None:
    modules = served(tmp_path, write(**PLAIN), "omi")
    assert families(modules, GRPC) == GRPC
    assert families(modules - FLAVOR, WEB | HEAVY | CLI | TYPED | KSERVE) == set()
    assert families(modules, {"omi_modzy"}) == set()


def test_kserve_imports_nothing_heavy(tmp_path: Path, write: Write) -> None:
    modules = served(tmp_path, write(**PLAIN), "kserve")
    # FastAPI comes with the first request for the document, the page, or what is not there.
    assert families(modules, WEB | GRPC_ALONE) == {"httptools"} | GRPC_ALONE
    assert families(modules, HEAVY | {"yaml", "omi_grpc", "omi_modzy"}) == set()


def test_kserve_over_rest_alone_imports_no_grpc(tmp_path: Path, write: Write) -> None:
    modules = served(tmp_path, write(**PLAIN), "kserve", OMI_GRPC_PORT="0")
    assert families(modules, WEB) == {"httptools"}
    assert families(modules, GRPC | HEAVY | {"yaml", "omi_modzy"}) == set()


def test_modzy_imports_no_framework_and_nothing_heavy(tmp_path: Path, write: Write) -> None:
    modules = served(tmp_path, write(**PLAIN), "modzy")
    assert families(modules - FLAVOR, GRPC | HEAVY | TYPED | KSERVE | {"fastapi"}) == set()


def test_only_a_model_yaml_brings_yaml_and_pydantic(tmp_path: Path, write: Write) -> None:
    modules = served(tmp_path, write(**PLAIN, **YAML), "omi")
    assert families(modules, TYPED) == TYPED
    assert families(modules, WEB | HEAVY) == set()


def run_request(port: int, **files: bytes) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        run = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        response = run(pb.RunRequest(inputs=[pb.InputItem(input=files)]), timeout=30)
    return response.outputs[0].output["results.json"].decode()


def imported(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(IMPORTED.findall(done.stderr))


def test_an_author_imports_no_server() -> None:
    assert "numpy" not in imported("import omi_runtime")
    modules = imported("from omi_runtime import Model")
    assert "omi_runtime.signature" in modules
    foreign = WEB | GRPC | HEAVY | CLI | TYPED | {"omi_kserve", "omi_modzy"}
    assert families(modules, foreign) == set()
    assert not {name for name in modules if name.startswith("omi_runtime.transport")}


@pytest.mark.parametrize("adapter", ["omi_grpc", "omi_kserve", "omi_modzy"])
def test_an_adapters_module_is_light_until_it_serves(adapter: str) -> None:
    modules = imported(f"import {adapter}.adapter")
    assert families(modules, (WEB | GRPC | HEAVY | CLI | TYPED) - {adapter}) == set()


@pytest.mark.parametrize("arguments", ["['serve']", "[]"])
def test_the_program_serves_without_the_library_that_draws_its_help(arguments: str) -> None:
    modules = imported(
        "import os, sys\n"
        "os.environ['INTERFACE'] = 'nothing'\n"
        f"sys.argv[1:] = {arguments}\n"
        "from omi_runtime.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
    )
    assert families(modules, {"click"}) == (set() if "serve" in arguments else {"click"})
