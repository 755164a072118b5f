"""`omi run`: jobs of files without a server."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.process import OMI, PATIENCE, Finished, environment, run

MODEL = '''
from pathlib import Path
from typing import Annotated
import numpy as np
from omi_runtime import Bytes, InvalidInput, Model, Tensor
from typing import TypedDict

class Answer(TypedDict):
    total: Annotated[float, Tensor("FP32")]
    picture: Annotated[bytes, Bytes("image/png")]

class Totals(Model):
    """Add numbers."""
    max_batch_size = 8

    def predict(
        self, values: Annotated[np.ndarray, Tensor("FP32", [2])]
    ) -> Answer:
        if (values == 13).any():
            raise InvalidInput("thirteen is refused")
        with (Path(__file__).parent / "calls").open("a") as calls:
            calls.write(f"{len(values)}\\n")
        return {"total": values.sum(axis=1), "picture": [b"png"] * len(values)}

    def explain(self, values: Annotated[np.ndarray, Tensor("FP32", [2])]) -> list:
        return [{"largest": float(row.max())} for row in values]
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").write_text(MODEL)
    (tmp_path / "in").mkdir()
    return tmp_path


def omi_run(place: Path, *options: str, **settings: str) -> Finished:
    folders = ["--input", str(place / "in"), "--output", str(place / "out")]
    return run(OMI, "run", str(place / "model"), *folders, *options, **settings)


def put(place: Path, name: str, *values: float) -> None:
    folder = place / "in" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "values.json").write_text(json.dumps(values))


def result(place: Path, name: str = "") -> dict:
    folder = place / "out" / name
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"results.json", "picture"}
    assert (folder / "picture").read_bytes() == b"png"
    return json.loads((folder / "results.json").read_bytes())["data"]


def predicted(place: Path) -> list[int]:
    """How many items each call of predict had."""
    calls = place / "model" / "calls"
    return [int(line) for line in calls.read_text().split()] if calls.exists() else []


def test_one_job(place: Path) -> None:
    put(place, "", 1, 2)
    done = omi_run(place, "--explain")
    assert (done.code, done.out, done.err) == (0, "", ""), done
    assert result(place) == {"result": {"total": 3.0}, "explanation": {"largest": 2}, "drift": None}
    put(place, "", 3, 4)
    assert omi_run(place).code == 0
    assert result(place) == {"result": {"total": 7.0}, "explanation": None, "drift": None}


def test_a_job_that_fails_is_told_and_changes_nothing(place: Path) -> None:
    put(place, "", 1, 2)
    assert omi_run(place).code == 0
    put(place, "", 13, 2)
    done = omi_run(place)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"omi: {place / 'in'}: thirteen is refused\n"
    assert result(place)["result"] == {"total": 3.0}
    (place / "in" / "values.json").unlink()
    assert "input 'values' is missing" in omi_run(place).err


def test_each_subfolder_is_a_job_and_they_are_predicted_together(place: Path) -> None:
    for number in range(40):
        put(place, f"job{number}", number + 100, 0.5)
    (place / "in" / ".hidden").mkdir()
    (place / "in" / "notes.txt").touch()
    done = omi_run(place, "--each")
    assert (done.code, done.out, done.err) == (0, "", "omi: 40 done\n"), done
    for number in range(40):
        assert result(place, f"job{number}")["result"] == {"total": number + 100.5}
    assert sum(predicted(place)) == 40
    assert max(predicted(place)) > 1, "batched through the engine"
    assert {path.name for path in (place / "out").iterdir()} == {f"job{n}" for n in range(40)}


def test_run_again_it_goes_on_where_it_stopped(place: Path) -> None:
    put(place, "a", 1, 1)
    put(place, "b", 13, 1)
    put(place, "c", 3, 1)
    first = omi_run(place, "--each")
    assert first.code == 1
    assert first.err == (f"omi: {place / 'in' / 'b'}: thirteen is refused\nomi: 2 done, 1 failed\n")
    (place / "out" / "c" / "picture").unlink()  # as if it had been ended there
    put(place, "b", 2, 1)
    put(place, "d", 4, 1)
    (place / "model" / "calls").unlink()
    second = omi_run(place, "--each")
    assert (second.code, second.err) == (0, "omi: 3 done, 1 done before\n")
    assert sum(predicted(place)) == 3
    third = omi_run(place, "--each")
    assert (third.code, third.err) == (0, "omi: 0 done, 4 done before\n")
    assert omi_run(place, "--each", "--again").err == "omi: 4 done\n"
    assert [result(place, name)["result"]["total"] for name in "abcd"] == [2, 3, 4, 5]


def test_the_output_may_lie_in_the_input(place: Path) -> None:
    put(place, "a", 1, 1)
    folders = ["--input", str(place / "in"), "--output", str(place / "in" / "out"), "--each"]
    for expected in ("omi: 1 done\n", "omi: 0 done, 1 done before\n"):
        assert run(OMI, "run", str(place / "model"), *folders).err == expected


def test_nothing_to_do(place: Path) -> None:
    (place / "in" / "values.json").write_text("[1, 2]")
    done = omi_run(place, "--each")
    told = f"omi: 0 done: {place / 'in'} has no subfolders, which are the jobs\n"
    assert (done.code, done.err) == (0, told)


def test_again_is_for_each(place: Path) -> None:
    put(place, "", 1, 2)
    done = omi_run(place, "--again")
    told = "omi: --again is for --each: a single job is run whatever is there\n"
    assert (done.code, done.out, done.err) == (2, "", told)
    assert not (place / "out").exists()


def test_the_roots_hold_for_it_too(place: Path) -> None:
    put(place, "a", 1, 2)
    put(place / "elsewhere", "b", 3, 4)
    (place / "in" / "b").symlink_to(place / "elsewhere" / "in" / "b")
    (place / "out").mkdir()
    (place / "out" / "c").symlink_to(place / "elsewhere")
    put(place, "c", 5, 6)
    done = omi_run(place, "--each", OMI_DATA_ROOTS=f"{place / 'in'}:{place / 'out'}")
    assert done.code == 1
    b, c, end = done.err.splitlines()
    outside = f"it is {str(place / 'elsewhere' / 'in' / 'b')!r}, outside of OMI_DATA_ROOTS"
    assert b.startswith(f"omi: {place / 'in' / 'b'}: input")
    assert outside in b
    assert c.startswith(f"omi: {place / 'in' / 'c'}: output {str(place / 'out' / 'c')!r} cannot be")
    assert end == "omi: 1 done, 2 failed"
    assert result(place, "a")["result"] == {"total": 3}
    assert [path.name for path in (place / "elsewhere").iterdir()] == ["in"]


def test_roots_that_are_none_are_told_before_the_load(place: Path) -> None:
    done = omi_run(place, OMI_DATA_ROOTS="data")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("omi: OMI_DATA_ROOTS='data' is not valid: expected absolute paths")


def test_the_card_holds_for_it_too(place: Path) -> None:
    (place / "model" / "model.yaml").write_text(
        "specification: '0.4'\n"
        "inputs: {values.json: {acceptedMediaTypes: [application/json], maxSize: 10}}\n"
    )
    put(place, "a", 1, 2)
    put(place, "b", 100000, 200000)
    (place / "in" / "c").mkdir()
    (place / "in" / "c" / "values.csv").write_text("1,2")
    done = omi_run(place, "--each", OMI_ENFORCE_CARD="on")
    b, c = (place / "in" / name for name in "bc")
    too_large = "'values.json' has 16 bytes, more than the 10 that the model's card allows"
    of_another_type = "'values.csv' is text/csv; the model's card accepts application/json"
    assert done.code == 1
    assert done.err.splitlines() == [
        f"omi: {b}: values: {too_large}",
        f"omi: {c}: values: {of_another_type}",
        "omi: 1 done, 2 failed",
    ]
    assert omi_run(place, "--each").err == "omi: 2 done, 1 done before\n"


MEASURED = """
import re
from pathlib import Path
from typing import Annotated
import numpy as np
from omi_runtime import Model, Tensor

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

class Measured(Model):
    def load(self):
        self.before = peak()

    def predict(
        self, values: Annotated[np.ndarray, Tensor("INT32", [-1, 3])]
    ) -> Annotated[np.ndarray, Tensor("INT64", [2])]:
        return np.array([peak() - self.before, values.sum()])
"""


@pytest.mark.parametrize(
    ("name", "begin", "line", "end"),
    [
        ("values.json", b"[", b"[12345,23456,34567],", b"[1,2,3]]"),
        ("values.csv", b"", b"12345,23456,34567\n", b"1,2,3"),
    ],
)
def test_a_large_text_of_numbers_takes_little_more_than_itself(
    name: str, begin: bytes, line: bytes, end: bytes, place: Path
) -> None:
    (place / "model" / "model.py").write_text(MEASURED)
    size = 24 * 1024 * 1024
    count = size // len(line)
    (place / "in" / name).write_bytes(begin + line * count + end)
    done = omi_run(place)
    assert done.code == 0, done
    answer = json.loads((place / "out" / "results.json").read_bytes())["data"]["result"]
    assert answer[1] == count * (12345 + 23456 + 34567) + 6
    assert answer[0] < 3 * size, f"{answer[0] / size:.1f} times the file's size"


def test_an_input_folder_that_is_not_there(place: Path) -> None:
    (place / "in").rmdir()
    done = omi_run(place)
    assert done.code == 2
    assert "does not exist" in done.err


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_person_who_looks_sees_a_bar(place: Path, terminal: tuple[int, int]) -> None:
    for number in range(3):
        put(place, str(number), number, 1)
    ours, theirs = terminal
    folders = ["--input", str(place / "in"), "--output", str(place / "out"), "--each"]
    subprocess.run(
        [OMI, "run", str(place / "model"), *folders],
        env=environment(TERM="xterm"),
        stderr=theirs,
        timeout=PATIENCE,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    assert "jobs" in shown
    assert "3/3" in shown
    assert "omi: 3 done" in shown
