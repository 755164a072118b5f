"""Models in the style of Modzy's Python template: served as they are, on every interface."""

import base64
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from clients.process import OMI
from clients.process import run as run_command
from golden_files import Answer, send
from golden_servers import Serve, Server
from omi_grpc._pb import model_pb2 as pb

from omi_runtime.errors import LoadError
from omi_runtime.flavors.modzy_files import find
from omi_runtime.flavors.modzy_template import load_metadata

# As in the template: its own layout, its imports, the names from model.yaml.
MODEL = """
import json
from flask_psc_model import ModelBase, load_metadata
from model_lib.words import loud

class Shouter(ModelBase):
    metadata = load_metadata(__file__)
    input_filenames = list(metadata.inputs)
    output_filenames = list(metadata.outputs)

    def __init__(self):
        self.version = self.metadata.version

    def run(self, input_path, options_path, output_path, copy_path):
        with open(input_path, encoding="utf-8") as stream:
            text = stream.read()
        with open(options_path) as stream:
            options = json.load(stream)
        if text == "value":
            raise ValueError(f"cannot read {input_path}")
        if text == "missing file":
            open(input_path + ".index")
        if text == "unreadable":
            raise OSError(5, "cannot be read", input_path)
        if text == "nameless":
            raise OSError("not an image")
        if text == "beast":
            raise RuntimeError("the beast")
        if text == "nothing":
            return
        with open(output_path, "w") as stream:
            json.dump({"data": {"result": loud(text) + options["end"]}}, stream)
        with open(copy_path, "wb") as stream:
            stream.write(text.encode()[::-1])
"""
CARD = """
specification: '0.3'
type: file
version: 1.2.3
name: The Shouter
inputs:
  input.txt: {acceptedMediaTypes: [text/plain], maxSize: 1M}
  options.json: {acceptedMediaTypes: [application/json]}
outputs:
  results.json: {mediaType: application/json}
  copy.bin: {mediaType: application/octet-stream}
timeout: {status: 20s, run: 20s}
"""
OPTIONS = b'{"end": "!"}'
RESULT = b'{"data": {"result": "A!"}}'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("template")
    (folder / "model_lib").mkdir()
    (folder / "model_lib" / "__init__.py").touch()
    (folder / "model_lib" / "model.py").write_text(MODEL)
    (folder / "model_lib" / "words.py").write_text("loud = str.upper\n")
    (folder / "model.yaml").write_text(CARD)
    return str(folder)


def run(server: Server, folder: Path, text: str, target: Path) -> Answer:
    folder.mkdir(exist_ok=True)
    (folder / "input.txt").write_text(text)
    (folder / "options.json").write_bytes(OPTIONS)
    body = json.dumps({"type": "file", "input": str(folder), "output": str(target)}).encode()
    return send(server.address, "POST", "/run", body, {"content-type": "application/json"})


def test_the_outputs_are_what_the_model_wrote_and_nothing_else(
    template: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(template, "modzy")
    assert run(server, tmp_path / "in", "a", tmp_path / "out").status == 200
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert written == {"results.json": RESULT, "copy.bin": b"a"}


FAILURES = [
    ("value", 422, "cannot read input.txt"),
    ("unreadable", 400, "[Errno 5] cannot be read: 'input.txt'"),
    ("nameless", 400, "not an image"),
    (
        "missing file",
        500,
        "shouter: FileNotFoundError: [Errno 2] No such file or directory: '…input.txt.index'",
    ),
    ("beast", 500, "shouter: RuntimeError: the beast"),
    ("nothing", 500, "shouter: expected output file was not written: 'results.json'"),
]


@pytest.mark.parametrize(("text", "status", "message"), FAILURES)
def test_failures_are_told_as_the_template_does(  # noqa: PLR0917 - a row of the table, and fixtures
    text: str, status: int, message: str, template: str, serve: Serve, tmp_path: Path
) -> None:
    answer = run(serve(template, "modzy"), tmp_path / "in", text, tmp_path / "out")
    assert answer.status == status
    start, _, end = message.partition("…")
    told = answer.json()["message"]
    assert told.startswith(start), told
    assert told.endswith(end), told
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_file_is_told_by_its_own_name(
    template: str, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "input.txt").write_text("a")
    body = json.dumps({"type": "file", "input": str(tmp_path), "output": str(tmp_path)}).encode()
    answer = send(serve(template, "modzy").address, "POST", "/run", body)
    assert answer.status == 400
    assert answer.json()["message"] == (
        f"input 'options.json' is missing in {str(tmp_path)!r}: expected a file called options.json"
    )


def test_the_folders_of_runs_are_taken_away(
    template: str, serve: Serve, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    server = serve(template, "modzy", TMPDIR=str(scratch))
    for text in ("a", "value", "beast", "nothing"):
        run(server, tmp_path / "in", text, tmp_path / "out")
    assert list(scratch.iterdir()) == []


def test_kserve_v1(template: str, serve: Serve) -> None:
    def b64(data: bytes) -> dict[str, str]:
        return {"b64": base64.b64encode(data).decode()}

    server = serve(template, "kserve", MODEL_NAME="shouter")
    instance = {"input.txt": b64(b"a"), "options.json": b64(OPTIONS)}
    body = json.dumps({"instances": [instance]}).encode()
    headers = {"content-type": "application/json"}
    answer = send(server.address, "POST", "/v1/models/shouter:predict", body, headers)
    assert answer.json() == {"predictions": [{"results.json": b64(RESULT), "copy.bin": b64(b"a")}]}
    refused = {"input.txt": b64(b"value"), "options.json": b64(OPTIONS)}
    body = json.dumps({"instances": [refused]}).encode()
    answer = send(server.address, "POST", "/v1/models/shouter:predict", body, headers)
    assert (answer.status, answer.json()) == (400, {"error": "cannot read input.txt"})


def test_omi(template: str, serve: Serve) -> None:
    server = serve(template, "omi", MODEL_NAME="shouter")
    items = [{"input.txt": text, "options.json": OPTIONS} for text in (b"a", b"value")]
    request = pb.RunRequest(inputs=[pb.InputItem(input=item) for item in items])
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(
            "/ModzyModel/Run",
            request_serializer=pb.RunRequest.SerializeToString,
            response_deserializer=pb.RunResponse.FromString,
        )
        good, bad = call(request, timeout=60).outputs
    assert dict(good.output) == {"results.json": RESULT, "copy.bin": b"a"}
    assert good.success
    assert (bad.success, set(bad.output)) == (False, {"error"})
    assert b"cannot read input.txt" in bad.output["error"]


def test_its_manifest_without_a_file_is_that_of_a_model_of_files(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "class Copier:\n"
        "    input_filenames = ['input.txt']\n"
        "    output_filenames = ['results.json']\n"
        "    def run(self, input_path, output_path): ...\n"
    )
    printed = run_command(OMI, "manifest", "modzy", str(tmp_path))
    assert printed.code == 0, printed
    written = yaml.safe_load(printed.out)
    assert (written["specification"], written["type"]) == ("0.3", "file")
    described = run_command(OMI, "describe", "--json", str(tmp_path))
    (tmp_path / "model.yaml").write_text(printed.out)
    assert run_command(OMI, "describe", "--json", str(tmp_path)).out == described.out


def test_the_command_line(template: str, tmp_path: Path) -> None:
    done = run_command(OMI, "describe", template, "--json")
    card = json.loads(done.out)
    assert (card["name"], card["title"], card["version"]) == ("shouter", "The Shouter", "1.2.3")
    assert [file["filename"] for file in card["outputs"]] == ["results.json", "copy.bin"]
    (tmp_path / "in" / "job").mkdir(parents=True)
    (tmp_path / "in" / "job" / "input.txt").write_text("a")
    (tmp_path / "in" / "job" / "options.json").write_bytes(OPTIONS)
    folders = ("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--each")
    for expected in ("omi: 1 done\n", "omi: 0 done, 1 done before\n"):
        assert run_command(OMI, "run", template, *folders).err == expected
    assert (tmp_path / "out" / "job" / "results.json").read_bytes() == RESULT


# --- what is such a class, without importing it ---

STYLE = """
raise RuntimeError("imported")
class {name}:
    input_filenames = "one.txt"
    output_filenames: list = ["two.txt"]
    def run(self, source, target): ...
"""
OTHER = "class Other:\n    def run(self): ...\n"


@pytest.mark.parametrize(
    ("text", "suffix", "name"),
    [
        (STYLE.format(name="One"), "", "one"),
        (STYLE.format(name="One") + OTHER, "", "one"),
        (STYLE.format(name="One") + STYLE.format(name="TwoWords"), ":TwoWords", "two-words"),
        (STYLE.format(name="One") + STYLE.format(name="Two"), "", None),
        (STYLE.format(name="One"), ":Other", None),
        (OTHER, "", None),
        ("output_filenames = (", "", None),
        ("# output_filenames \xff", "", None),
    ],
)
def test_find(text: str, suffix: str, name: str | None, tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_bytes(text.encode("latin-1"))
    for source in (f"{file}{suffix}", *([str(tmp_path)] if not suffix else [])):
        found = find(source)
        assert (found and found.name) == name


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert find(str(tmp_path)) is None
    assert find(str(tmp_path / "none.py")) is None
    assert find("no.such.module:Class") is None


def load(folder: Path, body: str) -> Any:
    (folder / "template_model.py").write_text(body)
    found = find(str(folder / "template_model.py"))
    assert found
    model = found()
    model.load()
    return model


def test_the_classs_own_exceptions(tmp_path: Path) -> None:
    model = load(
        tmp_path,
        """
class Own:
    input_filenames = "one.txt"
    output_filenames = "two.txt"
    validation_exception_class = KeyError
    io_exception_class = ZeroDivisionError
    def run(self, source, target):
        with open(source) as stream:
            text = stream.read()
        raise {"key": KeyError, "value": ValueError, "zero": ZeroDivisionError}[text](text)
""",
    )
    kinds = {b"key": "InvalidInput", b"value": "ValueError", b"zero": "InvalidRequest"}
    for text, kind in kinds.items():
        with pytest.raises(Exception, match=text.decode()) as raised:
            model.predict(**{"one.txt": text})
        assert type(raised.value).__name__ == kind


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="hold texts, not \\[7\\]"):
        load(tmp_path, STYLE.format(name="X").replace("raise", "# ").replace('"one.txt"', "[7]"))


def test_metadata_is_found_above_and_has_attributes(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("inputs: {a.txt: {maxSize: 5M}}\ntags: [{x: 1}]\n")
    (tmp_path / "inner").mkdir()
    metadata = load_metadata(str(tmp_path / "inner" / "model.py"))
    assert list(metadata.inputs) == ["a.txt"]
    assert metadata.inputs["a.txt"].maxSize == "5M"
    assert metadata.tags[0].x == 1
    with pytest.raises(AttributeError, match="no outputs"):
        _ = metadata.outputs
    with pytest.raises(OSError, match=r"no other\.yaml"):
        load_metadata(str(tmp_path), "other.yaml")
