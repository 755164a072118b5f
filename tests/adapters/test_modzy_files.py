"""The Modzy interface and the disk: where a job may read and write, and what it may read there."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clients import until
from golden_files import Answer, send
from golden_servers import Serve, Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ANSWERED = {200, 400, 413, 415, 422}


def run(server: Server, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(server.address, "POST", "/run", data, {"content-type": "application/json"})


def job(source: Path | str, target: Path | str, **more: Any) -> dict[str, Any]:
    return {"type": "file", "input": str(source), "output": str(target), **more}


def message(answer: Answer, status: int) -> str:
    content = answer.json()
    assert answer.status == content["statusCode"] == status, content
    return content["message"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` is the root; `canary` beside it must never change."""
    place = tmp_path_factory.mktemp("place")
    (place / "data" / "in").mkdir(parents=True)
    (place / "data" / "in" / "text.txt").write_text("a")
    (place / "data" / "link").symlink_to(place / "canary")
    (place / "data" / "round").symlink_to("in")
    (place / "canary").mkdir()
    (place / "canary" / "text").write_text("secret")
    (place / "canary" / "results.json").write_text("old")
    return place


@pytest.fixture(scope="module")
def confined(serve: Serve, place: Path) -> Server:
    return serve("Words", "modzy", OMI_DATA_ROOTS=str(place / "data"))


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Everything in a folder, with content and time of change."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mtime_ns,
        )
        for path in (folder, *folder.rglob("*"))
    }


@pytest.fixture
def untouched(place: Path) -> Iterator[None]:
    before = state(place / "canary")
    yield
    assert state(place / "canary") == before


def test_inside_the_roots(confined: Server, place: Path, untouched: None) -> None:
    data = place / "data"
    for source, target in (
        (data / "in", data / "out"),
        (data / "round", data / "new" / "deep"),
        (f"{data}/in/../in/.", f"{data}//new/"),
    ):
        assert message(run(confined, job(source, target)), 200) == "success"
        assert json.loads(Path(target, "results.json").read_bytes())["data"]["result"] == "A"


@pytest.mark.parametrize("key", ["input", "output"])
@pytest.mark.parametrize(
    "path",
    ["canary", "canary/new", "data/link", "data/in/../../canary", "data/link/../canary", "", "/"],
)
def test_outside_the_roots(
    key: str, path: str, confined: Server, place: Path, untouched: None
) -> None:
    body = job(place / "data" / "in", place / "data" / "out")
    body[key] = str(place / path) if path != "/" else "/"
    told = message(run(confined, body), 400)
    assert repr(body[key]) in told
    assert f"outside of OMI_DATA_ROOTS={place / 'data'}" in told


def test_an_input_file_that_is_a_link_out(confined: Server, place: Path, untouched: None) -> None:
    source = place / "data" / "linked"
    source.mkdir()
    (source / "text").symlink_to(place / "canary" / "text")
    told = message(run(confined, job(source, place / "data" / "out")), 400)
    assert f"{str(source / 'text')!r} cannot be read" in told
    assert "secret" not in told
    (source / "text").unlink()
    (source / "text").symlink_to("../in/text.txt")
    assert message(run(confined, job(source, place / "data" / "out")), 200)


def test_an_output_file_that_is_a_link_out(confined: Server, place: Path, untouched: None) -> None:
    target = place / "data" / "linking"
    target.mkdir()
    (target / "results.json").symlink_to(place / "canary" / "results.json")
    told = message(run(confined, job(place / "data" / "in", target)), 400)
    place_of_it = repr(str(target / "results.json"))
    assert told == f"{place_of_it} cannot be written: it is a symbolic link, not a file"


def test_roots_are_absolute(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="OMI_DATA_ROOTS='data' is not valid: expected"):
        serve("Words", "modzy", OMI_DATA_ROOTS="data")


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a FIFO": (os.mkfifo, "it is a FIFO, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a …, not a file"),
    "a folder": (Path.mkdir, "it is a folder, not a file"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file(kind: str, serve: Serve, tmp_path: Path) -> None:
    make, words = ODD[kind]
    make(tmp_path / "text")
    make(tmp_path / "results.json")
    server = serve("Words", "modzy")
    told = message(run(server, job(tmp_path, tmp_path / "out")), 400)
    start = f"{str(tmp_path / 'text')!r} cannot be read: it is a"
    assert told.startswith(start), told
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text").write_text("a")
    told = message(run(server, job(tmp_path / "in", tmp_path)), 400)
    assert told.startswith(f"{str(tmp_path / 'results.json')!r} cannot be written: it is a"), told
    assert words.partition("…")[0] in told


def test_a_place_that_is_read_only(serve: Serve, tmp_path: Path) -> None:
    """/proc is that for everybody, root too: nothing can be made there, nor written."""
    (tmp_path / "text").write_text("a")
    server = serve("Words", "modzy")
    told = message(run(server, job(tmp_path, "/proc/omi")), 400)
    assert told.startswith("output '/proc/omi' cannot be made: ")
    told = message(run(server, job(tmp_path, "/proc")), 400)
    assert told.startswith("'/proc/results.json' cannot be written: ")


NAMES = ["data", "canary", "in", "out", "link", "round", "..", ".", "", "text.txt", "results.json"]
PATHS = st.one_of(
    st.lists(st.sampled_from([*NAMES, "a" * 300, "\0", "new", "dev", "é", "~", "%2e%2e"])).map(
        "/".join
    ),
    st.text(max_size=40),
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]))


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_job_touches_what_is_outside(
    data: st.DataObject, confined: Server, place: Path, untouched: None
) -> None:
    def path() -> Any:
        anchor = data.draw(st.sampled_from([f"{place}/data/", f"{place}/", "/", ""]))
        return data.draw(st.one_of(PATHS.map(lambda rest: anchor + rest), VALUES))

    body = {
        "type": data.draw(st.one_of(st.just("file"), st.just("file"), VALUES)),
        "input": path(),
        "output": path(),
        **data.draw(st.dictionaries(st.sampled_from(["explain", "detectDrift", "x"]), VALUES)),
    }
    raw = json.dumps(body).encode()
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(raw)))
        raw = raw[:cut] + data.draw(st.binary(max_size=3)) + raw[cut:]
    before = state(place / "canary")
    answer = run(confined, raw)
    assert answer.status in ANSWERED, answer.body
    assert set(answer.json()) == {"statusCode", "status", "message"}
    assert state(place / "canary") == before
    assert {path.name for path in place.iterdir()} == {"data", "canary"}


def test_an_input_of_a_gibibyte_does_not_double_in_memory(serve: Serve, tmp_path: Path) -> None:
    size = 2**30
    with (tmp_path / "values.bin").open("wb") as stream:
        stream.truncate(size)
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x07")
    server = serve("Census", "modzy")
    assert message(run(server, job(tmp_path, tmp_path)), 200)
    (tmp_path / "values.bin").unlink()
    seen = json.loads((tmp_path / "results.json").read_bytes())["data"]["result"]
    assert seen["total"] == 7
    assert seen["peak"] < 1.3 * size


def test_jobs_that_write_to_one_folder_at_once(serve: Serve, tmp_path: Path) -> None:
    server = serve("Words", "modzy")
    words = [f"word{n}" * n for n in range(1, 9)]
    for word in words:
        (tmp_path / word).mkdir()
        (tmp_path / word / "text").write_text(word)
    target = tmp_path / "out"
    with ThreadPoolExecutor(8) as callers:
        answers = callers.map(lambda word: run(server, job(tmp_path / word, target)), words * 8)
        assert [message(answer, 200) for answer in answers]
    result = json.loads((target / "results.json").read_bytes())["data"]["result"]
    assert result.lower() in words
    assert [path.name for path in target.iterdir()] == ["results.json"]


def test_a_server_that_is_killed_leaves_whole_outputs(tmp_path: Path) -> None:
    words = {"short": "a" * 10, "long": "b" * 200_000}
    for name, text in words.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(text)
    server = Server(f"{Path(__file__).with_name('models.py')}:Words", "modzy", tmp_path)
    target = tmp_path / "out"
    assert message(run(server, job(tmp_path / "short", target)), 200)

    done: list[str] = []

    def write_until_it_is_gone(name: str) -> None:
        while True:
            try:
                run(server, job(tmp_path / name, target))
            except OSError:
                return
            done.append(name)

    with ThreadPoolExecutor(4) as callers:
        for name in [*words, *words]:
            callers.submit(write_until_it_is_gone, name)
        until(lambda: len(done) >= 100, "a hundred jobs are done")
        os.kill(server.serving, signal.SIGKILL)
        assert server.wait() == 128 + signal.SIGKILL
    result = json.loads((target / "results.json").read_bytes())["data"]["result"]
    assert result.lower() in words.values()


# --- explanation and drift ---


@pytest.mark.parametrize("explain", [True, False, None])
@pytest.mark.parametrize("drift", [True, False, None])
def test_explanation_and_drift(
    explain: bool | None, drift: bool | None, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "values.json").write_text("[1, 2]")
    asked = job(tmp_path, tmp_path / "out", explain=explain, detectDrift=drift)
    assert message(run(serve("Total", "modzy"), asked), 200)
    assert json.loads((tmp_path / "out" / "results.json").read_bytes())["data"] == {
        "result": 3,
        "explanation": {"largest": 2} if explain else None,
        "drift": 0.5 if drift else None,
    }


def test_a_model_without_them_answers_null(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a")
    asked = job(tmp_path, tmp_path, explain=True, detectDrift=True)
    assert message(run(serve("Words", "modzy"), asked), 200)
    content = json.loads((tmp_path / "results.json").read_bytes())
    assert content == {"data": {"result": "A", "explanation": None, "drift": None}}


@pytest.mark.parametrize("key", ["explain", "detectDrift"])
@pytest.mark.parametrize("value", [1, "true", [], {}])
def test_a_switch_that_is_none(key: str, value: Any, serve: Serve, tmp_path: Path) -> None:
    told = message(run(serve("Words", "modzy"), job(tmp_path, tmp_path) | {key: value}), 400)
    assert told == f"{key}: expected true or false"


# --- OMI_ENFORCE_CARD ---

LIMITED = """
from typing import Annotated
import numpy as np
from omi_runtime import Bytes, Model, Tensor

class Limited(Model):
    def predict(
        self,
        image: Annotated[bytes, Bytes("image/png", "image/jpeg")],
        numbers: Annotated[np.ndarray | None, Tensor("UINT8", [-1])] = None,
    ) -> Annotated[int, Tensor("INT64")]:
        return len(image)
"""
CARD = """
specification: "0.4"
version: 1.0.0
inputs:
  image.png: {acceptedMediaTypes: [image/png, image/jpeg], maxSize: 1K}
  numbers: {acceptedMediaTypes: [application/json], maxSize: 10}
"""
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
GIF = b"GIF89a"
TOO_LARGE = "image: 'image' has 1025 bytes, more than the 1K that the model's card allows"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("limited")
    (folder / "model.py").write_text(LIMITED)
    (folder / "model.yaml").write_text(CARD)
    return str(folder)


@pytest.mark.parametrize(
    ("files", "status", "told"),
    [
        ({"image": b"?" * 1024}, 200, "success"),
        ({"image": b"?" * 1025}, 413, TOO_LARGE),
        ({"image.png": PNG}, 200, "success"),
        ({"image.jpg": JPEG}, 200, "success"),
        ({"image.png": JPEG}, 200, "success"),
        (
            {"image.png": GIF},
            415,
            "image: 'image.png' is image/gif; the model's card accepts image/png, image/jpeg",
        ),
        ({"image": PNG, "numbers.json": b"[1]"}, 200, "success"),
        (
            {"image": PNG, "numbers.json": b"[1, 2, 3, 4]"},
            413,
            "numbers: 'numbers.json' has 12 bytes, more than the 10 that the model's card allows",
        ),
        (
            {"image": PNG, "numbers.csv": b"1,2"},
            415,
            "numbers: 'numbers.csv' is text/csv; the model's card accepts application/json",
        ),
    ],
)
def test_a_file_that_the_card_does_not_allow(  # noqa: PLR0917 - a row of the table, and fixtures
    files: dict[str, bytes], status: int, told: str, limited: str, serve: Serve, tmp_path: Path
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    asked = job(tmp_path, tmp_path / "out")
    assert message(run(serve(limited, "modzy", OMI_ENFORCE_CARD="1"), asked), status) == told
    assert message(run(serve(limited, "modzy"), asked), 200) == "success"
