"""The `omi` command, as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from clients import MODELS
from clients.process import EXAMPLES, OMI, run

import omi_runtime

IRIS = str(EXAMPLES / "iris")
TOTALS = f"{MODELS}:Totals"
GREETING = f"{MODELS}:Greeting"


def test_version() -> None:
    done = run(OMI, "--version")
    assert (done.code, done.out) == (0, f"omi-runtime {omi_runtime.__version__}\n")


def test_help_lists_the_commands() -> None:
    done = run(OMI, "--help")
    assert done.code == 0
    for command in ("serve", "describe", "predict", "manifest", "run"):
        assert f"\n  {command} " in done.out


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["serve", "one", "two"], ["serve", "--nonsense"]], ids=" ".join
)
def test_what_is_no_command_is_refused(arguments: list[str]) -> None:
    done = run(OMI, *arguments)
    assert done.code == 2, str(done)
    assert "Usage: omi" in done.err
    assert "Traceback" not in done.err


def test_predict_iris() -> None:
    done = run(OMI, "predict", IRIS, "--input", "measurements=[5.1,3.5,1.4,0.2]")
    assert done.code == 0, str(done)
    assert json.loads(done.out) == {"data": {"result": 0, "explanation": None, "drift": None}}
    assert done.err == ""


def test_predict_with_an_explanation_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "Pair.CSV").write_text("7.0,3.5\n")
    file = f"pair=@{tmp_path / 'Pair.CSV'}"
    done = run(OMI, "predict", "--explain", "--drift", "--input", file, OMI_MODEL=TOTALS)
    assert done.code == 0, str(done)
    assert json.loads(done.out)["data"] == {
        "result": 10.5,
        "explanation": {"first": 7.0, "second": 3.5},
        "drift": None,
    }


def test_predict_bytes() -> None:
    flag = EXAMPLES / "colours" / "flag.png"
    done = run(OMI, "predict", str(flag.parent), "--input", f"image=@{flag}")
    assert done.code == 0, str(done)
    assert json.loads(done.out)["data"]["result"]["width"] == 60


def test_predict_writes_files(tmp_path: Path) -> None:
    (tmp_path / "seal").write_bytes(b"\xff\x00")
    inputs = [f"--input={pair}" for pair in ("name=Zoë", "times=2", f"seal=@{tmp_path / 'seal'}")]
    target = tmp_path / "new" / "out"
    done = run(OMI, "predict", GREETING, *inputs, "--output", str(target))
    assert done.code == 0, str(done)
    assert done.out.split() == [str(target / "results.json"), str(target / "seal")]
    assert (target / "seal").read_bytes() == b"\xff\x00\xff\x00"
    result = json.loads((target / "results.json").read_bytes())["data"]["result"]
    assert result == {"text": "Zoë Zoë", "facts": {"length": 3, "times": 2}}


def test_predict_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "results.json").mkdir(parents=True)
    for place, code, told in (
        ("file/inner", 2, f"--output '{tmp_path}/file/inner' cannot be made: Not a directory"),
        ("taken", 1, f"'{tmp_path}/taken/results.json' cannot be written: Is a directory"),
    ):
        inputs = ("--input", "measurements=[5.1,3.5,1.4,0.2]")
        done = run(OMI, "predict", IRIS, *inputs, "--output", str(tmp_path / place))
        assert (done.code, done.out, done.err) == (code, "", f"omi: {told}\n")


def test_predict_says_what_it_does_not_print() -> None:
    done = run(OMI, "predict", GREETING, "--input", "name=Ada")
    assert done.code == 0, str(done)
    assert json.loads(done.out)["data"]["result"]["text"] == "Ada"
    assert "--output" in done.err
    assert "seal" in done.err


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([], "'pair' is missing"),
        (["pair=[1]"], "shape"),
        (["pair=cats"], "pair: is not JSON"),
        (["pair=[-1,5]"], "pair: 5 is refused"),
        (["pair=[-2,5]"], "RuntimeError: the model broke on 5"),
        (["pair=[-3,5]"], "OMI_NAN"),
        (["pair.xml=<pair/>"], "pair.xml"),
    ],
    ids=str,
)
def test_predict_refuses(inputs: list[str], told: str, marks: Path) -> None:
    arguments = [word for value in inputs for word in ("--input", value)]
    done = run(OMI, "predict", TOTALS, *arguments, MARKS=str(marks))
    assert done.code == 1, str(done)
    assert done.out == ""
    last = done.err.splitlines()[-1]
    assert last.startswith("omi: ")
    assert told in last
    assert (marks / "closed").exists(), "the model is closed all the same"


@pytest.mark.parametrize(
    ("inputs", "code", "told"),
    [
        (["pair"], 1, "omi: --input 'pair': expected NAME=VALUE or NAME=@FILE\n"),
        (["pair=@/no/file"], 1, "omi: --input 'pair=@/no/file': No such file or directory\n"),
        (["pair=[1,2]", "pair=[1,2]"], 2, "omi: --input pair is given twice: give it once\n"),
    ],
    ids=str,
)
def test_predict_refuses_before_it_loads(
    inputs: list[str], code: int, told: str, marks: Path
) -> None:
    arguments = [word for value in inputs for word in ("--input", value)]
    done = run(OMI, "predict", TOTALS, *arguments, MARKS=str(marks))
    assert (done.code, done.out, done.err) == (code, "", told)
    assert list(marks.iterdir()) == []


@pytest.mark.parametrize("command", ["predict", "describe"])
def test_a_model_that_does_not_load(command: str, marks: Path) -> None:
    done = run(OMI, command, f"{MODELS}:Failing", MARKS=str(marks))
    assert done.code == 3, str(done)
    assert "RuntimeError: the weights are missing" in done.err
    assert done.err.splitlines()[-1].startswith("omi: model failing did not load")
    done = run(OMI, command, "no-such-model")
    assert done.code == 2, str(done)
    assert done.err.startswith("omi: OMI_MODEL='no-such-model'")


def test_describe_for_a_person() -> None:
    done = run(OMI, "describe", IRIS)
    assert done.code == 0, str(done)
    title, served, *_ = done.out.splitlines()
    assert title == "Iris 1.0.0"
    assert served.split() == ["served", "as", "iris"]
    for words in ("Names the species", "tensor FP32 [4]", "tensor INT64 []", "up to 256"):
        assert words in done.out
    assert done.err == ""


def test_describe_for_a_program() -> None:
    done = run(OMI, "describe", "--json", MODEL_NAME="renamed", OMI_MODEL=GREETING)
    assert done.code == 0, str(done)
    card = json.loads(done.out)
    assert card["name"] == "renamed"
    assert card["version"] == "0.1.0"
    inputs = card["signature"]["inputs"]
    assert [(field["name"], field["kind"], field["required"]) for field in inputs] == [
        ("name", "text", True),
        ("times", "tensor", False),
        ("seal", "bytes", False),
    ]
    assert inputs[1]["datatype"] == "INT64"
    outputs = [field["name"] for field in card["signature"]["outputs"]]
    assert outputs == ["text", "facts", "seal"]


def test_print_config_tells_every_value_and_where_it_comes_from() -> None:
    variables = {"INTERFACE": "modzy", "PSC_MODEL_PORT": "1234", "OMI_NAN": "null"}
    done = run(OMI, "serve", "--print-config", **variables)
    assert done.code == 0, str(done)
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()}
    assert rows["INTERFACE"] == ["modzy", "environment"]
    assert rows["OMI_NAN"] == ["null", "environment"]
    assert rows["OMI_GRACE"] == ["30", "s", "default"]
    assert rows["OMI_ALLOW_SHUTDOWN"] == ["on", "default"]
    assert "port of modzy" in done.out
    assert done.out.splitlines()[-1].split() == ["port", "of", "modzy", "1234", "PSC_MODEL_PORT"]


def test_print_config_takes_the_model_as_serve_does() -> None:
    done = run(OMI, "serve", IRIS, "--print-config")
    assert done.code == 0, str(done)
    (row,) = [line for line in done.out.splitlines() if line.startswith("OMI_MODEL")]
    assert IRIS in row


def test_the_module_is_the_command() -> None:
    """`python -m omi_runtime` is `omi serve`, with its arguments."""
    module = run(sys.executable, "-m", "omi_runtime", "--print-config", OMI_NAN="null")
    assert module.code == 0, str(module)
    assert module.out == run(OMI, "serve", "--print-config", OMI_NAN="null").out
    refused = run(sys.executable, "-m", "omi_runtime", INTERFACE="foo")
    assert refused.code == 2
    assert refused.err == run(OMI, "serve", INTERFACE="foo").err
