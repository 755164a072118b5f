"""The Modzy interface: REST v1 of Modzy's container specification, as tables of jobs and answers.

A job is `{"type": "file", "input": <directory>, "output": <directory>}`. Every answer is exactly
`{"statusCode", "status", "message"}`, and what is wrong with a job is told in the order in which
the specification checks it.
"""

import itertools
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from golden_files import ANYTHING, Answer, announce, matches, send
from golden_servers import Gate, Serve, Server

PATIENCE = 60.0
JSON = "application/json"
NO_TYPE = None


def told(code: int, phrase: str, message: str) -> str:
    """A whole body; in the message `…` stands for any text."""
    text = json.dumps({"statusCode": code, "status": phrase, "message": message})
    return text.replace('": ', '":').replace(', "', ',"').replace("\\u2026", ANYTHING)


READY = told(200, "OK", "ready")
SUCCESS = told(200, "OK", "success")
EXITING = told(202, "Accepted", "exiting")
BAD_REQUEST, UNSUPPORTED, UNPROCESSABLE, FAILED = (
    (400, "Bad Request"),
    (415, "Unsupported Media Type"),
    (422, "Unprocessable Entity"),
    (500, "Internal Server Error"),
)


def assert_told(answer: Answer, expected: str) -> None:
    text = answer.body.decode()
    assert matches(expected, text), f"expected {expected}\n     got {text}"
    assert answer.status == answer.json()["statusCode"]
    assert answer.headers["content-type"] == JSON


@dataclass(frozen=True)
class Job:
    """The directories of one job."""

    input: Path
    output: Path

    @property
    def body(self) -> dict[str, Any]:
        return {"type": "file", "input": str(self.input), "output": str(self.output)}

    def give(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.input / name).write_bytes(data)

    def got(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.output.iterdir()}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "in").mkdir()
    return Job(tmp_path / "in", tmp_path / "out")


def run(server: Server, body: dict[str, Any] | bytes, content_type: str | None = JSON) -> Answer:
    headers = {} if content_type is None else {"content-type": content_type}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(server.address, "POST", "/run", data, headers)


def result(value: str) -> dict[str, bytes]:
    """The file that holds everything that is not bytes."""
    text = '{"data":{"result":%s,"explanation":null,"drift":null}}'
    return {"results.json": (text % value).encode()}


# By title: the model, the input files, and the output files.
JOBS: dict[str, tuple[str, dict[str, bytes], dict[str, bytes]]] = {
    "a tensor as JSON": ("Total", {"values.json": b"[1, 2]"}, result("3")),
    "a tensor as CSV": ("Total", {"values.csv": b"1,2\n"}, result("3")),
    "a tensor as bytes": ("Total", {"values.bin": b"\x01\0\0\0\x02\0\0\0"}, result("3")),
    "without an extension it is JSON": ("Total", {"values": b"[1, 2]"}, result("3")),
    "the exact name wins over an extension": (
        "Total",
        {"values": b"[1, 2]", "values.json": b"[30, 40]", "values.csv": b"?"},
        result("3"),
    ),
    "other files are ignored": (
        "Total",
        {"values.json": b"[1, 2]", "values.xml": b"", "readme.txt": b"\xff", ".values": b""},
        result("3"),
    ),
    "text": ("Words", {"text.txt": "naïve".encode()}, result('"NAÏVE"')),
    "an empty file": ("Words", {"text": b""}, result('""')),
    "JSON": (
        "Document",
        {"document.json": b'{"a":1}'},
        result('{"keys":["a"],"document":{"a":1}}'),
    ),
    "bytes are a file of the output's own name": (
        "Blob",
        {"blob.png": b"\0\xff"},
        result("null") | {"mirrored": b"\xff\0"},
    ),
    "several inputs and outputs": (
        "Shop",
        {"prices.json": b"[1.5, 2.25]", "customer.txt": b"Ann", "stamp": b"\xff"},
        result('{"sum":3.75,"receipt":{"lines":2,"note":"for Ann"}}') | {"scan": b"\xff"},
    ),
    "an optional input may be missing": (
        "Shop",
        {"prices.json": b"[]", "customer.txt": b"Bob"},
        result('{"sum":0.0,"receipt":{"lines":0,"note":"for Bob"}}') | {"scan": b"unstamped"},
    ),
}


@pytest.mark.parametrize("title", JOBS)
def test_job(title: str, serve: Serve, job: Job) -> None:
    model, files, answers = JOBS[title]
    job.give(files)
    assert_told(run(serve(model, "modzy"), job.body), SUCCESS)
    assert job.got() == answers


# By title: the model, the input files, and how the job is refused.
REFUSED: dict[str, tuple[str, dict[str, bytes], tuple[int, str], str]] = {
    "no input file": (
        "Total",
        {},
        BAD_REQUEST,
        "input 'values' is missing in '…/in': expected a file called values or values.json or …",
    ),
    "only one of two input files": (
        "Shop",
        {"prices": b"[1]"},
        BAD_REQUEST,
        "input 'customer' is missing in '…/in': expected a file called customer or customer.…",
    ),
    "an extension that is not read": (
        "Total",
        {"values.xml": b"<a/>"},
        BAD_REQUEST,
        "input 'values' is missing in '…/in': expected a file called values or values.json or …",
    ),
    "no JSON": ("Total", {"values": b"[1, 2"}, UNPROCESSABLE, "values: is not JSON: …"),
    "the wrong shape": (
        "Total",
        {"values.json": b"[1, 2, 3]"},
        UNPROCESSABLE,
        "values: has shape [3], expected [2]",
    ),
    "no UTF-8": ("Words", {"text": b"\xff"}, UNPROCESSABLE, "text: is not UTF-8: …"),
    "JSON of the wrong kind": (
        "Document",
        {"document": b"[]"},
        UNPROCESSABLE,
        "document: expected an object",
    ),
    "refused by the author": (
        "Words",
        {"text": b"refuse"},
        UNPROCESSABLE,
        "this word is refused",
    ),
    "at which the model fails": (
        "Words",
        {"text": b"raise"},
        FAILED,
        "words: RuntimeError: this word is too much",
    ),
    "whose answer JSON cannot hold": (
        "Decimals",
        {"word": b"nan"},
        FAILED,
        "decimals: output 'number' holds NaN, …",
    ),
}


@pytest.mark.parametrize("title", REFUSED)
def test_refused_job(title: str, serve: Serve, job: Job) -> None:
    model, files, (code, phrase), message = REFUSED[title]
    job.give(files)
    assert_told(run(serve(model, "modzy"), job.body), told(code, phrase, message))
    assert job.got() == {}, "the directory is made, and nothing is left in it"


NO_OBJECT = "the body is no JSON object"
CALLED = "the body is no JSON object and its Content-Type is …"

# A body that is no job: with what type it comes, and how it is refused.
BODIES: list[tuple[bytes, str | None, tuple[int, str], str]] = [
    (b"cats and dogs", "text/plain", UNSUPPORTED, CALLED),
    (b"cats and dogs", JSON, BAD_REQUEST, NO_OBJECT),
    (b"cats and dogs", "Application/JSON; charset=utf-8", BAD_REQUEST, NO_OBJECT),
    (b"cats and dogs", NO_TYPE, UNSUPPORTED, CALLED),
    (b"cats and dogs", "application/x-www-form-urlencoded", UNSUPPORTED, CALLED),
    (b"", JSON, BAD_REQUEST, NO_OBJECT),
    (b"", "text/plain", UNSUPPORTED, CALLED),
    (b"", NO_TYPE, UNSUPPORTED, CALLED),
    (b"[1]", JSON, BAD_REQUEST, NO_OBJECT),
    (b"[1]", "text/plain", UNSUPPORTED, CALLED),
    (b'"file"', JSON, BAD_REQUEST, NO_OBJECT),
    (b"null", JSON, BAD_REQUEST, NO_OBJECT),
    (b'{"type": "file"', JSON, BAD_REQUEST, NO_OBJECT),
    (b'{"type": "\xff"}', JSON, BAD_REQUEST, NO_OBJECT),
    (b"\xff\xd8\xff", "image/jpeg", UNSUPPORTED, CALLED),
    (b"{}", "text/plain", BAD_REQUEST, "type: expected 'file'"),
    (
        # From the conformance test of Modzy's own template.
        b'{"type": "file", "input": "/dev/null", "output": "/dev/null"}',
        "text/plain",
        BAD_REQUEST,
        "output '/dev/null' cannot be made: Not a directory",
    ),
]


@pytest.mark.parametrize(("body", "content_type", "status", "message"), BODIES)
def test_body(
    body: bytes, content_type: str | None, status: tuple[int, str], message: str, serve: Serve
) -> None:
    assert_told(run(serve("Words", "modzy"), body, content_type), told(*status, message))


@pytest.mark.parametrize("content_type", [NO_TYPE, "text/plain", "image/png", "?"])
def test_the_content_type_of_a_job_does_not_matter(
    content_type: str | None, serve: Serve, job: Job
) -> None:
    job.give({"text": b"a"})
    assert_told(run(serve("Words", "modzy"), job.body, content_type), SUCCESS)


# One fault of a job: what is changed in its body or its files, and how that is told.
Change = Callable[[Job, dict[str, Any]], None]
FAULTS: dict[str, tuple[Change, str]] = {
    "type": (
        lambda _job, body: body.update(type="stream"),
        told(*BAD_REQUEST, "type: expected 'file'"),
    ),
    "input": (
        lambda _job, body: body.update(input=7),
        told(*BAD_REQUEST, "input: expected the path of a directory"),
    ),
    "output": (
        lambda _job, body: body.update(output=None),
        told(*BAD_REQUEST, "output: expected the path of a directory"),
    ),
    "output directory": (
        lambda _job, body: body.update(output="/dev/null/out"),
        told(*BAD_REQUEST, "output '/dev/null/out' cannot be made: Not a directory"),
    ),
    "missing file": (
        lambda job, _body: (job.input / "customer").unlink(),
        told(*BAD_REQUEST, "input 'customer' is missing in …"),
    ),
    "invalid content": (
        lambda job, _body: (job.input / "prices").write_bytes(b"["),
        told(*UNPROCESSABLE, "prices: is not JSON: …"),
    ),
}
# Two changes of one key: the body would hold only the later.
EXCLUSIVE = ({"output", "output directory"},)


@pytest.mark.parametrize(
    "faults",
    [
        *(pair for pair in itertools.combinations(FAULTS, 2) if set(pair) not in EXCLUSIVE),
        *((fault,) for fault in FAULTS),
        ("type", "input", "output", "missing file", "invalid content"),
    ],
    ids=" before ".join,
)
def test_of_several_faults_the_first_in_the_order_is_told(
    faults: tuple[str, ...], serve: Serve, job: Job
) -> None:
    job.give({"prices": b"[1]", "customer": b"Ann"})
    body = job.body
    for fault in faults:
        FAULTS[fault][0](job, body)
    assert_told(run(serve("Shop", "modzy"), body), FAULTS[faults[0]][1])


@pytest.mark.parametrize("key", ["type", "input", "output"])
def test_a_key_that_is_missing(key: str, serve: Serve, job: Job) -> None:
    body = job.body
    del body[key]
    assert_told(run(serve("Words", "modzy"), body), told(*BAD_REQUEST, f"{key}: expected …"))


def test_a_failed_load_is_told_between_the_directories_and_the_files(
    serve: Serve, job: Job, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    server = serve("Fragile", "modzy", FRAGILE_KEY=str(key), OMI_LOAD_GRACE="300")
    not_loaded = told(*FAILED, "model fragile did not load: LookupError: the key is missing")
    assert_told(send(server.address, "GET", "/status"), not_loaded)
    for fault in ("type", "input", "output", "output directory"):
        change, expected = FAULTS[fault]
        body = job.body
        change(job, body)
        assert_told(run(server, body), expected)
    assert_told(run(server, job.body), not_loaded)
    job.give({"text": b"\xff"})
    assert_told(run(server, job.body), not_loaded)
    # The model is loaded again for whoever asks: here for a job.
    key.touch()
    assert_told(run(server, job.body), told(*UNPROCESSABLE, "text: is not UTF-8: …"))
    job.give({"text": b"a"})
    assert_told(run(server, job.body), SUCCESS)
    assert_told(send(server.address, "GET", "/status"), READY)


def test_status(serve: Serve) -> None:
    server = serve("Words", "modzy")
    for _ in range(2):
        assert_told(send(server.address, "GET", "/status"), READY)


@pytest.mark.parametrize("path", ["/", "/run/", "/predict", "/v1/models", "/docs", "/openapi.json"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_route_that_is_not_there(method: str, path: str, serve: Serve) -> None:
    expected = told(
        404, "Not Found", f"no route {path}: there are GET /status, POST /run and POST /shutdown"
    )
    assert_told(send(serve("Words", "modzy").address, method, path), expected)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/status", "GET"),
        ("GET", "/run", "POST"),
        ("PUT", "/run", "POST"),
        ("GET", "/shutdown", "POST"),
    ],
)
def test_a_method_that_is_not_there(method: str, path: str, allowed: str, serve: Serve) -> None:
    answer = send(serve("Words", "modzy").address, method, path)
    expected = told(405, "Method Not Allowed", f"{method} {path}: this route takes {allowed}")
    assert_told(answer, expected)
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("method", ["BREW", "post", "GETS", "DESCRIBE"])
def test_a_method_that_is_not_known(method: str, serve: Serve) -> None:
    answer = send(serve("Words", "modzy").address, method, "/run")
    assert_told(answer, told(501, "Not Implemented", f"{method} is no method that is known here"))


def test_a_known_method_that_no_route_takes(serve: Serve) -> None:
    answer = send(serve("Words", "modzy").address, "PROPFIND", "/run")
    assert_told(answer, told(405, "Method Not Allowed", "PROPFIND /run: this route takes POST"))


def test_shutdown_is_answered_and_then_the_process_ends_well(serve: Serve) -> None:
    server = serve("Words", "modzy", MODEL_NAME="ending")
    assert_told(send(server.address, "POST", "/shutdown"), EXITING)
    assert server.wait() == 0


def test_shutdown_may_be_switched_off(serve: Serve) -> None:
    server = serve("Words", "modzy", OMI_ALLOW_SHUTDOWN="off")
    expected = told(501, "Not Implemented", "…OMI_ALLOW_SHUTDOWN")
    assert_told(send(server.address, "POST", "/shutdown"), expected)
    assert_told(send(server.address, "GET", "/status"), READY)


def test_a_full_queue_is_told_with_a_time_to_come_back(serve: Serve, gate: Gate, job: Job) -> None:
    server = serve("Gate", "modzy", OMI_QUEUE_SIZE="1")
    job.give({"path": str(gate.path).encode()})
    with gate.occupied(lambda: run(server, job.body)) as first:
        refused = run(server, job.body)
        assert_told(refused, told(503, "Service Unavailable", "…OMI_QUEUE_SIZE is 1…"))
        assert refused.headers["retry-after"] == "1"
        assert job.got() == {}
    assert_told(first.result(), SUCCESS)


def test_a_run_that_takes_too_long_writes_nothing(serve: Serve, gate: Gate, job: Job) -> None:
    server = serve("Gate", "modzy")
    job.give({"path": str(gate.path).encode()})
    data = json.dumps(job.body).encode()
    with gate.occupied(lambda: run(server, job.body)) as first:
        late = send(server.address, "POST", "/run", data, {"x-request-timeout": "0.2"})
        expected = "not answered within 0.2 s, the limit that the caller set"
        assert_told(late, told(504, "Gateway Timeout", expected))
        assert job.got() == {}
    assert_told(first.result(), SUCCESS)


def test_a_body_over_the_limit_is_refused_before_it_is_sent(serve: Serve) -> None:
    answer = announce(serve("Words", "modzy").address, "/run", 2**40)
    message = "the request is larger than 262144000 bytes, which OMI_MAX_REQUEST_BYTES allows"
    assert_told(answer, told(413, "Request Entity Too Large", message))


def test_technical_information_is_only_for_those_who_debug(serve: Serve, job: Job) -> None:
    debugging = serve("Words", "modzy", OMI_LOG_LEVEL="debug")
    job.give({"text": b"refuse"})
    answer = run(debugging, job.body).json()
    assert answer.pop("technicalInformation").startswith("Traceback (most recent call last):")
    assert answer == run(serve("Words", "modzy"), job.body).json()
    job.give({"text": b"a"})
    assert_told(run(debugging, job.body), SUCCESS)
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/run", 405)):
        answer = send(debugging.address, method, path).json()
        assert answer["statusCode"] == status
        assert answer.pop("technicalInformation").endswith(f"Refused: {answer['message']}\n")
        assert answer == send(serve("Words", "modzy").address, method, path).json()


def test_the_output_directory_is_made_with_its_parents(serve: Serve, job: Job) -> None:
    job.give({"text": b"a"})
    output = job.output / "deeper" / "still"
    assert_told(run(serve("Words", "modzy"), job.body | {"output": str(output)}), SUCCESS)
    (path,) = output.iterdir()
    assert path.read_bytes() == result('"A"')["results.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644, "others may read the result"


def test_input_and_output_may_be_one_directory(serve: Serve, job: Job) -> None:
    job.give({"text": b"a"})
    body = job.body | {"output": str(job.input)}
    assert_told(run(serve("Words", "modzy"), body), SUCCESS)
    assert Job(job.input, job.input).got() == {"text": b"a"} | result('"A"')


def test_an_existing_output_is_replaced_only_by_a_success(serve: Serve, job: Job) -> None:
    server = serve("Words", "modzy")
    job.output.mkdir()
    before = {"results.json": b"older and longer " * 100, "other": b"file"}
    for name, data in before.items():
        (job.output / name).write_bytes(data)
    for text, code in ((b"refuse", 422), (b"raise", 500), (b"\xff", 422)):
        job.give({"text": text})
        assert run(server, job.body).status == code
        assert job.got() == before
    job.give({"text": b"a"})
    assert_told(run(server, job.body), SUCCESS)
    assert job.got() == {"other": b"file"} | result('"A"')


def test_outputs_are_written_all_or_none(serve: Serve, job: Job) -> None:
    """A directory stands where the second file should go: the first keeps its content too."""
    job.give({"prices": b"[1]", "customer": b"Ann"})
    (job.output / "scan").mkdir(parents=True)
    results = job.output / "results.json"
    results.write_bytes(b"older")
    expected = told(*BAD_REQUEST, "'…/out/scan' cannot be written: it is a folder, not a file")
    assert_told(run(serve("Shop", "modzy"), job.body), expected)
    assert results.read_bytes() == b"older"
    assert {path.name for path in job.output.iterdir()} == {"results.json", "scan"}


@pytest.mark.parametrize("key", ["input", "output"])
@pytest.mark.parametrize(
    "path",
    ["/" + "a/" * 3000, "/" + "a" * 300, "/" + "a/" * 1800, "\0", "/\0"],
    ids=["too long", "too long a name", "too deep", "NUL", "NUL inside"],
)
def test_a_path_that_cannot_be(key: str, path: str, serve: Serve, job: Job) -> None:
    job.give({"text": b"a"})
    answer = run(serve("Words", "modzy"), job.body | {key: f"{job.output}{path}"})
    assert_told(answer, told(*BAD_REQUEST, ANYTHING))
    assert not job.output.exists() or job.got() == {}


def test_a_directory_where_an_input_file_should_be(serve: Serve, job: Job) -> None:
    (job.input / "text").mkdir()
    answer = run(serve("Words", "modzy"), job.body)
    expected = "'…/in/text' cannot be read: it is a folder, not a file"
    assert_told(answer, told(*BAD_REQUEST, expected))


def test_a_limit_of_time_that_is_none(serve: Serve, job: Job) -> None:
    job.give({"text": b"a"})
    data = json.dumps(job.body).encode()
    server = serve("Words", "modzy")
    answer = send(server.address, "POST", "/run", data, {"x-request-timeout": "soon"})
    text = "X-Request-Timeout 'soon' is no number of seconds above 0: write for example 2.5"
    assert_told(answer, told(400, "Bad Request", text))
