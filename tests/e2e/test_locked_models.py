"""`omi lock` and what comes of it: verified files, and answers that say which model gave them."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from clients.omi import channel_to
from clients.process import EXAMPLES, OMI, run, until
from omi_grpc._pb import model_pb2 as pb

from omi_runtime.provenance import LOCK_FILE, SBOM_FILE


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """The entities example in a folder of its own, locked."""
    folder = tmp_path / "entities"
    shutil.copytree(EXAMPLES / "entities", folder, ignore=shutil.ignore_patterns("__pycache__"))
    facts = tmp_path / "facts.json"
    facts.write_text('{"code": {"revision": "abc"}, "training": {"run": "17"}, "base": "slim"}')
    done = run(OMI, "lock", str(folder), "--facts", str(facts), SOURCE_DATE_EPOCH="86400")
    assert done.code == 0, str(done)
    assert done.out.strip() == identity(folder)
    return folder


def lock_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / LOCK_FILE).read_bytes())
    return content


def identity(folder: Path) -> str:
    return f"entities:1.0.0@{lock_of(folder)['model']['digest']}"


def test_a_lock_says_what_is_there_and_where_it_is_from(locked: Path) -> None:
    lock = lock_of(locked)
    assert set(lock["files"]) == {"README.md", "expected.json", "model.py"}
    assert lock["code"] == {"revision": "abc"}
    assert lock["training"] == {"run": "17"}
    assert lock["built"]["base"] == "slim"
    assert lock["built"]["at"] == "1970-01-02T00:00:00Z"
    assert lock["packages"]["numpy"]
    before = (locked / LOCK_FILE).read_bytes(), (locked / SBOM_FILE).read_bytes()
    assert run(OMI, "lock", str(locked), SOURCE_DATE_EPOCH="86400").code == 0
    assert lock_of(locked)["files"] == json.loads(before[0])["files"]


def test_the_bill_of_materials_lists_packages_and_files(locked: Path) -> None:
    bill = json.loads((locked / SBOM_FILE).read_bytes())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    lock = lock_of(locked)
    kinds = [component["type"] for component in bill["components"]]
    assert kinds.count("library") == len(lock["packages"])
    assert kinds.count("file") == len(lock["files"])
    purls = {component.get("purl") for component in bill["components"]}
    assert f"pkg:pypi/numpy@{lock['packages']['numpy']}" in purls
    assert bill["metadata"]["component"]["name"] == "entities"
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(set(references)) == len(references)


def test_every_answer_over_http_says_which_model_gave_it(servers: Any, locked: Path) -> None:
    server = servers(INTERFACE="kserve,modzy", OMI_MODEL=locked, OMI_VERIFY="1", PSC_MODEL_PORT="0")
    for interface, paths in (
        ("kserve", ("/v2", "/nothing", "/v1/models/other", "/v2/models/entities/infer")),
        ("modzy", ("/status", "/nothing", "/run")),
    ):
        port = server.port(interface)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for path in paths:
                for answer in (client.get(path), client.post(path, content=b"{")):
                    assert answer.headers.get_list("omi-model") == [identity(locked)], answer
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"this is no HTTP\r\n\r\n")
            assert f"omi-model: {identity(locked)}\r\n".encode() in connection.recv(10_000)
    metadata = httpx.get(f"http://127.0.0.1:{server.port('kserve')}/v2/models/entities").json()
    assert metadata["properties"]["omi-model"] == identity(locked)


def test_a_model_that_is_loaded_again_may_be_another(servers: Any, locked: Path) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=locked, OMI_VERIFY="1", OMI_ADMIN="1")
    before = identity(locked)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port('kserve')}", timeout=60) as client:
        assert client.get("/v2").headers.get_list("omi-model") == [before]
        (locked / "weights").write_text("others")
        assert run(OMI, "lock", str(locked)).code == 0
        assert client.post("/v2/repository/models/entities/load").status_code == 200
        assert identity(locked) != before
        assert client.get("/v2").headers.get_list("omi-model") == [identity(locked)]


def test_a_version_that_is_loaded_takes_the_paths_of_the_one_before(
    servers: Any, locked: Path
) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=locked, OMI_ADMIN="1")
    source = (locked / "model.py").read_text()
    base = "/v2/models/entities/versions"
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["Bern"]}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port('kserve')}", timeout=60) as client:
        for version, other in (("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")):
            (locked / "model.py").write_text(source.replace('"1.0.0"', f'"{version}"'))
            assert client.post("/v2/repository/models/entities/load").status_code == 200
            answer = client.post(f"{base}/{version}/infer", json={"inputs": [tensor]})
            assert (answer.status_code, answer.json().get("model_version")) == (200, version)
            assert (
                client.post(f"{base}/{other}/infer", json={"inputs": [tensor]}).status_code == 404
            )


def test_every_answer_over_grpc_says_which_model_gave_it(servers: Any, locked: Path) -> None:
    server = servers(INTERFACE="omi", OMI_MODEL=locked, OMI_VERIFY="1", OMI_ALLOW_SHUTDOWN="0")
    with channel_to(server.port("omi")) as channel:

        def call(method: str, request: Any, response: Any) -> tuple[Any, grpc.Call]:
            stub = channel.unary_unary(
                f"/{method}", type(request).SerializeToString, response.FromString
            )
            answer, its_call = stub.with_call(request, timeout=30)
            return answer, its_call

        status, its_call = call("ModzyModel/Status", pb.StatusRequest(), pb.StatusResponse)
        assert status.model_info.source == identity(locked)
        assert ("omi-model", identity(locked)) in its_call.trailing_metadata()
        _, its_call = call("ModzyModel/Run", pb.RunRequest(), pb.RunResponse)
        assert ("omi-model", identity(locked)) in its_call.trailing_metadata()
        with pytest.raises(grpc.RpcError) as refused:
            call("ModzyModel/Shutdown", pb.ShutdownRequest(), pb.ShutdownResponse)
        assert ("omi-model", identity(locked)) in refused.value.trailing_metadata()


def test_without_a_lock_an_answer_names_the_version(servers: Any) -> None:
    server = servers(INTERFACE="kserve", OMI_MODEL=EXAMPLES / "entities", MODEL_NAME="mine")
    answer = httpx.get(f"http://127.0.0.1:{server.port('kserve')}/v2/models/mine", timeout=30)
    assert answer.headers["omi-model"] == "mine:1.0.0"
    assert "omi-model" not in answer.json().get("properties", {})


@pytest.mark.parametrize(
    ("interface", "more"),
    [
        ("omi", {}),
        ("kserve", {}),
        ("modzy", {}),
        ("kserve", {"OMI_WORKERS": "2"}),
        ("omi", {"OMI_WORKERS": "2", "OMI_PRELOAD": "1"}),
    ],
)
def test_a_changed_file_ends_the_process_at_once(
    servers: Any, locked: Path, interface: str, more: dict[str, str]
) -> None:
    (locked / "model.py").write_text("raise SystemExit('imported')\n")
    server = servers(INTERFACE=interface, OMI_MODEL=locked, OMI_VERIFY="1", **more)
    assert server.wait() == 3
    assert "model.py was changed" in server.log
    assert "imported" not in server.log


@pytest.mark.parametrize(
    "command",
    [
        ("describe",),
        ("predict", "--input", "text=Bern"),
        ("run", "--input", "{job}", "--output", "{job}/out"),
        ("manifest", "kserve", "--image", "entities:1.0.0"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_loads_the_model_verifies_it(
    locked: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "text.txt").write_text("Bern")
    ask = [OMI, *(word.format(job=job) for word in command)]
    assert run(*ask, OMI_MODEL=str(locked), OMI_VERIFY="1").code == 0
    with (locked / "model.py").open("a") as stream:
        stream.write("print('imported')\n")
    done = run(*ask, OMI_MODEL=str(locked), OMI_VERIFY="1")
    assert (done.code, done.out) == (3, ""), str(done)
    assert done.err == f"omi: {locked} is not as omi.lock.json has it: model.py was changed\n"
    done = run(*ask, OMI_MODEL=str(locked))
    assert (done.code, done.out.split()[0]) == (0, "imported"), str(done)


def test_what_makes_the_lock_takes_the_files_as_they_are(locked: Path, tmp_path: Path) -> None:
    before = identity(locked)
    (locked / "weights").write_text("others")
    built = run(OMI, "build", str(locked), "--output", str(tmp_path / "context"), OMI_VERIFY="1")
    assert built.code == 0, str(built)
    assert run(OMI, "lock", str(locked), OMI_VERIFY="1").code == 0
    assert identity(locked) != before


TEMPLATE = """
class Reverse:
    input_filenames = ["input.txt"]
    output_filenames = ["results.json"]
    def run(self, source, target):
        with open(source) as given, open(target, "w") as answer:
            answer.write('"' + given.read()[::-1] + '"')
"""


def test_a_model_of_modzys_template_is_locked_as_a_whole(servers: Any, tmp_path: Path) -> None:
    """Its class is a folder deeper, its other files are not; and it has no model.yaml."""
    folder = tmp_path / "reverse"
    (folder / "model_lib").mkdir(parents=True)
    (folder / "model_lib" / "model.py").write_text(TEMPLATE)
    (folder / "weights.txt").write_text("1 2 3")
    built = run(OMI, "build", str(folder), "--output", str(tmp_path / "context"))
    locked = run(OMI, "lock", str(folder))
    assert locked.code == 0, str(locked)
    assert set(lock_of(folder)["files"]) == {"model_lib/model.py", "weights.txt"}
    digest = lock_of(folder)["model"]["digest"]
    assert locked.out.strip() == f"reverse:0.0.0@{digest}"
    assert digest.replace(":", "-") in built.out, "the identity that omi build tells"
    asked = {"OMI_MODEL": str(folder), "OMI_VERIFY": "1"}
    assert run(OMI, "predict", "--input", "input.txt=abc", **asked).out == '"cba"\n'
    (folder / "weights.txt").write_text("4 5 6")
    server = servers(INTERFACE="modzy", **asked)
    assert server.wait() == 3
    assert f"{folder} is not as omi.lock.json has it: weights.txt was changed" in server.log


def test_a_model_named_as_a_module_is_verified_before_its_package_is_imported(
    tmp_path: Path,
) -> None:
    package = tmp_path / "flowers"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(EXAMPLES / "entities" / "model.py", package / "model.py")
    asked = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "OMI_VERIFY": "1"}
    name = "flowers.model:Entities"
    assert run(OMI, "lock", name, **asked).code == 0
    assert run(OMI, "describe", name, **asked).code == 0
    (package / "__init__.py").write_text("print('imported')\n")
    done = run(OMI, "describe", name, **asked)
    assert (done.code, done.out) == (3, ""), str(done)
    assert done.err == f"omi: {package} is not as omi.lock.json has it: __init__.py was changed\n"


def test_a_verified_model_may_be_started_again(servers: Any, locked: Path) -> None:
    for _ in range(2):
        server = servers(INTERFACE="omi", OMI_MODEL=locked, OMI_VERIFY="1")
        server.wait_for_log("is ready")
        server.signal()
        assert server.wait() == 0


def test_health_is_asked_in_each_interfaces_own_protocol(servers: Any, locked: Path) -> None:
    """On a port that is not known beforehand, `omi health` is told it as the server was not."""
    for interface in ("omi", "kserve", "modzy"):
        server = servers(INTERFACE=interface, OMI_MODEL=locked)
        port = str(server.port(interface))
        ask = {"INTERFACE": interface, "HTTP_PORT": port}
        until(lambda ask=ask: run(OMI, "health", **ask).code == 0, f"{interface} is ready")
        assert run(OMI, "health", **ask).out == f"{interface}: ready\n"
        server.signal()
        assert server.wait() == 0
        done = run(OMI, "health", "--timeout=2", **ask)
        assert done.code == 1
        assert done.err.startswith("omi: not ready: ")


def test_what_cannot_be_asked_for_its_health(locked: Path) -> None:
    done = run(OMI, "health", HTTP_PORT="0")
    assert (done.code, done.err) == (
        2,
        "omi: HTTP_PORT=0 lets the system choose a port: nobody knows it\n",
    )


def test_what_cannot_be_locked(tmp_path: Path, locked: Path) -> None:
    assert run(OMI, "lock", str(tmp_path / "nothing")).code == 2
    (locked / "link").symlink_to("model.py")
    done = run(OMI, "lock", str(locked))
    assert done.code == 3
    assert "link is a symbolic link" in done.err
    bad = tmp_path / "facts.json"
    bad.write_text("[]")
    done = run(OMI, "lock", str(locked), "--facts", str(bad))
    assert (done.code, done.err) == (3, f"omi: {bad} holds no JSON object\n")


def test_offline_is_in_force_before_the_model_is_imported(servers: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import urllib.request\nurllib.request.urlopen('http://192.0.2.1/weights')\n"
    )
    server = servers(INTERFACE="kserve", OMI_MODEL=tmp_path, OMI_OFFLINE="1")
    assert server.wait() == 3
    assert "model.py, line 2 in <module> wants to connect to 192.0.2.1:80" in server.log
    done = run(OMI, "describe", str(tmp_path), OMI_OFFLINE="1")
    assert done.code == 3
    assert "192.0.2.1:80" in done.err
