"""A job's files: read by name, and written whole or not at all, even if the process is killed."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omi_runtime import drafts
from omi_runtime.batch import Result
from omi_runtime.errors import InferenceFailed, InvalidInput, InvalidRequest
from omi_runtime.folders import Roots
from omi_runtime.items import ItemCodec
from omi_runtime.jobfiles import MAP_FROM, Job, JobFiles, make_output
from omi_runtime.jsontext import fragment
from omi_runtime.nan import NanPolicy
from omi_runtime.signature import Bytes, Field, Json, Signature, Tensor, Text

SIGNATURE = Signature.of(
    {"values": Tensor("FP32", [-1]), "note": Text()}, {"sum": Json(), "scan": Bytes()}
)


ANYWHERE = Roots()


def job_files(signature: Signature = SIGNATURE, roots: Roots = ANYWHERE) -> JobFiles:
    return JobFiles(signature, ItemCodec(signature, "model", NanPolicy.ERROR), roots)


def write(job: Job, result: Result, roots: Roots = ANYWHERE) -> None:
    make_output(job, roots)
    for _ in job_files(roots=roots).write(job, result):
        pass


def answer(text: str) -> Result:
    return Result({"sum": [fragment(text, NanPolicy.ERROR)], "scan": [text.encode()]}, 1)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "in").mkdir()
    return Job(str(tmp_path / "in"), str(tmp_path / "out"))


def put(job: Job, name: str, data: bytes) -> Path:
    path = Path(job.input, name)
    path.write_bytes(data)
    return path


def got(job: Job) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(job.output).iterdir()}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def expected(text: str) -> dict[str, bytes]:
    data = {"data": {"result": {"sum": text}, "explanation": None, "drift": None}}
    return {"results.json": json.dumps(data).replace(" ", "").encode(), "scan": text.encode()}


def test_read(job: Job) -> None:
    put(job, "values.bin", np.array([1, 2.5], "<f4").tobytes())
    put(job, "note", b"hello")
    row = job_files().read(job)
    assert row["values"].tolist() == [1, 2.5]
    assert row["note"] == "hello"
    assert Path(job.output).is_dir(), "the specification makes it before it looks for the inputs"


def test_a_file_that_is_wrong_inside_is_an_invalid_input(job: Job) -> None:
    put(job, "values.json", b"[1, ")
    put(job, "note", b"")
    with pytest.raises(InvalidInput, match="values: is not JSON"):
        job_files().read(job)


@pytest.mark.parametrize("name", ["values.bin", "values.npy"])
def test_a_large_tensor_is_mapped_and_not_copied(name: str, job: Job) -> None:
    signature = Signature.of({"values": Tensor("UINT8", [-1])}, {"output": Text()})
    path = Path(job.input, name)
    head = b""
    if name.endswith("npy"):
        np.save(path, np.zeros(0, np.uint8))
        head = path.read_bytes().replace(b"(0,), }       ", b"(%d,), }" % MAP_FROM)[:128]
        head = head[:-1].ljust(127) + b"\n"
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + MAP_FROM)
    before = anonymous_memory()
    array = job_files(signature).read(job)["values"]
    assert array.shape == (MAP_FROM,)
    assert not array.flags.writeable
    assert int(array.sum()) == 0
    assert anonymous_memory() - before < MAP_FROM / 4


def anonymous_memory() -> int:
    """Bytes of this process that are not pages of files."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def test_large_bytes_and_text_are_read_whole(job: Job) -> None:
    signature = Signature.of({"blob": Bytes(), "text": Text()}, {"output": Text()})
    data = bytes(range(128)) * (MAP_FROM // 128) + b"end"
    put(job, "blob", data)
    put(job, "text", data)
    row = job_files(signature).read(job)
    assert row["blob"] == data
    assert type(row["blob"]) is bytes
    assert row["text"] == data.decode()


def test_write_and_replace(job: Job) -> None:
    for text in ("first-and-longer", "second"):
        write(job, answer(text))
        assert got(job) == expected(text)


def test_a_failed_item_writes_nothing(job: Job) -> None:
    write(job, answer("older"))
    with pytest.raises(InferenceFailed, match="no"):
        write(job, Result.failed([InferenceFailed("no")]))
    assert got(job) == expected("older")


def without_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_UNNAMED", 0)


def test_write_where_the_file_system_has_no_unnamed_files(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_unnamed_files(monkeypatch)
    test_write_and_replace(job)


@pytest.fixture(params=["unnamed", "named"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the file system has files without a name."""
    if request.param == "named":
        without_unnamed_files(monkeypatch)


@pytest.fixture(params=["anywhere", "confined"])
def roots(request: pytest.FixtureRequest, job: Job) -> Roots:
    return Roots([str(Path(job.output).parent)]) if request.param == "confined" else ANYWHERE


@pytest.mark.usefixtures("either_way")
def test_a_write_that_fails_leaves_nothing_behind(
    roots: Roots, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(job, answer("older"))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidRequest, match="/out/scan' cannot be written: No space left"):
        write(job, answer("newer"), roots)
    assert got(job) == expected("older")


@pytest.mark.usefixtures("either_way")
def test_a_write_that_is_given_up_before_it_waits_for_the_disk_leaves_nothing_behind(
    roots: Roots, job: Job
) -> None:
    write(job, answer("older"))
    open_before = open_files()
    begun = job_files(roots=roots).write(job, answer("newer"))
    next(begun)
    assert {name: data for name, data in got(job).items() if name[0] != "."} == expected("older")
    del begun
    assert got(job) == expected("older")
    assert open_files() == open_before


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder of somebody without root's rights, whose rights the test then has."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


NOBODY = 65534


def test_what_may_not_be_read_or_written(nobody: Path) -> None:
    job = Job(str(nobody), str(nobody / "out"))
    put(job, "values.json", b"[1]")
    note = put(job, "note", b"a")
    note.chmod(0)
    with pytest.raises(InvalidRequest, match=f"'{note}' cannot be read: Permission denied"):
        job_files().read(job)
    note.chmod(0o600)
    Path(job.output).chmod(0o500)
    with pytest.raises(InvalidRequest, match="/out/scan' cannot be written: Permission denied"):
        write(job, answer("a"))
    assert got(job) == {}
    Path(job.output).chmod(0o300)
    write(job, answer("a"))
    Path(job.output).chmod(0o700)
    assert got(job) == expected("a"), "to write, a folder need not be read"


def test_what_a_killed_process_left_is_taken_away_by_a_later_job(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(job, answer("older"))
    left = Path(job.output, ".scan.new")
    left.write_bytes(b"half")
    write(job, answer("old"))
    assert got(job) == expected("old") | {".scan.new": b"half"}, "somebody may be at it still"
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 100)
    write(job, answer("new"))
    assert got(job) == expected("new")


def test_a_draft_that_another_job_took_for_left_over_is_not_published(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_unnamed_files(monkeypatch)
    write(job, answer("older"))
    slow = job_files().write(job, answer("slow"))
    next(slow)
    Path(job.output, ".scan.new").unlink()
    Path(job.output, ".scan.new").write_bytes(b"half of ano")
    with pytest.raises(InvalidRequest, match=r"somebody else made '\.scan\.new' meanwhile"):
        for _ in slow:
            pass
    assert got(job) == expected("older") | {".scan.new": b"half of ano"}


def test_optional_inputs_do_not_excuse_a_folder_that_is_missing(job: Job) -> None:
    note, output = Field("note", Text(), "note", required=False), Field("output", Text(), "output")
    signature = Signature((note,), (output,))
    for roots in (ANYWHERE, Roots([str(Path(job.input).parent)])):
        assert job_files(signature, roots).read(job) == {}
        put(job, "file", b"")
        for wrong in ("none", "in/file"):
            place = str(Path(job.input).parent / wrong)
            with pytest.raises(InvalidRequest, match="'note' is missing in"):
                job_files(signature, roots).read(Job(place, job.output))


# Writes a job over and over, each time in a process that is killed before its n-th system call.
STEPS = """
import os, shutil, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_jobfiles import Job, answer, drafts, expected, got, write

if sys.argv[3] == "named":
    drafts._UNNAMED = 0
job = Job(sys.argv[2], sys.argv[2] + "/out")

def killed_before(step):
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    calls = 0
    def count(_frame, event, function):
        nonlocal calls
        if event == "c_call" and getattr(function, "__module__", "") == "posix":
            calls += 1
            if calls == step:
                sys.setprofile(None)
                os.kill(os.getpid(), signal.SIGKILL)
    new = answer("new")
    sys.setprofile(count)
    write(job, new)
    os._exit(0)

step = 0
while True:
    step += 1
    shutil.rmtree(job.output, ignore_errors=True)
    if sys.argv[4] == "replacing":
        write(job, answer("old"))
    killed = killed_before(step)
    found = got(job) if os.path.isdir(job.output) else {}
    hidden = [name for name in found if name.startswith(".")]
    for name, content in found.items():
        if name not in hidden:
            old = [expected("old")[name]] if sys.argv[4] == "replacing" else []
            assert content in [*old, expected("new")[name]], (step, name, content)
    if sys.argv[4] == "replacing":
        assert set(expected("old")) <= set(found), (step, found)
    if found.get("results.json") == expected("new")["results.json"]:
        assert found["scan"] == b"new", "results.json comes last"
    if sys.argv[3] == "unnamed" and sys.argv[4] == "making":
        assert not hidden, (step, hidden)
    if not killed:
        assert found == expected("new"), found
        break
print(step)
"""


@pytest.mark.parametrize("way", ["unnamed", "named"])
@pytest.mark.parametrize("what", ["making", "replacing"])
def test_killed_before_any_step_the_old_file_or_the_new_one_is_there_whole(
    way: str, what: str, tmp_path: Path
) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", STEPS, here, str(tmp_path), way, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10, "it was killed at every step of two files"
