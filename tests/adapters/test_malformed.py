"""Whatever a client sends, it is refused in the interface's own words, soon, and without a trace.

Bodies are cut, broken and made of the wrong things; a model that takes whatever is valid answers
the rest; `make fuzz` sends 10,000 to each interface. No such body may come to a 5xx but those of
the error table that a caller can cause: 501, 503, 504 and a model's own failure. A connection that
hangs ends with an exception of `send`.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus import BODIES
from fuzzing import bounded
from golden_files import Answer, read, send, to_bytes
from golden_servers import Serve, Server
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime.errors import InternalError

OURS = InternalError().message

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from([2**63, 2**64, -1, 0, 1, 1e308, "b64", "", "\0", "é", "NaN"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
content_types = st.sampled_from(
    [
        *(None, "application/json", "application/json; charset=latin-1", "text/plain", "", ";"),
        *("application/x-www-form-urlencoded", "application/octet-stream", "a/b/c+json"),
        "image/png",
    ]
)
# Nested deeper than a parser's stack, and as deep as the parser just allows.
ENDLESS = b"[" * 100_000
DEEP = b"[" * 900 + b"]" * 900


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def broken(bodies: list[bytes]) -> st.SearchStrategy[bytes]:
    """Valid bodies, cut off or with a few bytes in the wrong place."""
    whole = st.sampled_from(bodies)
    cut = st.builds(lambda body, at: body[: at % (len(body) + 1)], whole, st.integers(0, 10_000))
    odd = st.builds(
        lambda body, at, put, over: body[: at % len(body)] + put + body[at % len(body) + over :],
        whole,
        st.integers(0, 10_000),
        st.binary(min_size=1, max_size=3) | st.sampled_from([b"[", b"]", b"}", b'"', b"-", b"e9"]),
        st.integers(0, 3),
    )
    return cut | odd


def requests_of(name: str, model: str) -> list[bytes]:
    """The bodies of a golden file, which one model need not understand."""
    exchanges = [exchange for exchange in read(name) if exchange.model == model and exchange.body]
    return [exchange.body.encode() for exchange in exchanges]


# --------------------------------------------------------------------------------------- KServe

MODELS = ["Everything", "Grid"]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
# What each input of the two models takes; beside it anything else is tried too.
VALID = {
    "prices": st.lists(FINITE, max_size=3),
    "pair": st.lists(st.integers(-60_000, 60_000), min_size=2, max_size=2),
    "count": st.integers(0, 2**64 - 1),
    "flag": st.booleans(),
    "names": st.lists(st.text(max_size=3), max_size=3),
    "customer": st.text(max_size=3),
    "document": st.dictionaries(st.text(max_size=3), values, max_size=2),
    "stamp": st.sampled_from([{"b64": ""}, {"b64": "AAE="}]),
    "grid": st.sampled_from([[[1, 2]], [[0.5]], []]),
}
rarely_wrong = {name: st.one_of(valid, valid, valid, values) for name, valid in VALID.items()}
GOLDEN = ["Shop", "Document", "Names", "Datatypes", "Grid"]  # whose bodies are broken


@pytest.fixture(scope="module", params=MODELS)
def server(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Server]:
    server = serve(request.param, "kserve")
    server.name = request.param.lower()
    yield server
    assert "Traceback" not in server.log


def assert_told(answer: Answer, key: str) -> None:
    """An answer with `key`, or the interface's error with a status that a client can cause."""
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    if answer.status == 200:
        assert key in content
        return
    assert list(content) == ["error"]
    assert content["error"]
    if answer.status == 500:
        assert content["error"] != OURS
    else:
        assert answer.status in (400, 413, 415, 501, 503, 504)


v1_bodies = (
    st.binary(max_size=40)
    | values.map(as_json)
    | st.builds(
        lambda key, instances: as_json({key: instances}),
        st.sampled_from(["instances", "inputs"]),
        values
        | st.lists(values, max_size=4)
        | st.lists(st.fixed_dictionaries({}, optional=VALID), max_size=4)
        | st.lists(st.fixed_dictionaries({}, optional=rarely_wrong), max_size=4),
    )
    | broken([body for model in GOLDEN for body in requests_of("kserve_v1.http", model)])
)


@bounded(share=10)
@given(
    body=v1_bodies,
    content_type=content_types,
    verb=st.sampled_from(["predict", "predict", "predict", "explain"]),
)
def test_v1(body: bytes, content_type: str | None, verb: str, server: Server) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    path = f"/v1/models/{server.name}:{verb}"
    assert_told(send(server.address, "POST", path, body, headers), "predictions")


V1_DEEP = {
    "endless": ENDLESS,
    "body": DEEP,
    "instances": b'{"instances": %b}' % DEEP,
    "unknown": b'{"instances": [{"a": %b}]}' % DEEP,
    "strings": b'{"instances": [{"names": %b}]}' % DEEP,
    "numbers": b'{"instances": [{"grid": %b}]}' % DEEP,
    "one of two": b'{"instances": [{"prices": %b, "customer": "a"}]}' % DEEP,
}


@pytest.mark.parametrize("what", V1_DEEP)
def test_v1_deep(what: str, server: Server) -> None:
    path = f"/v1/models/{server.name}:predict"
    assert_told(send(server.address, "POST", path, V1_DEEP[what]), "predictions")


@pytest.mark.parametrize("what", BODIES)
def test_known_to_be_hard(what: str, server: Server) -> None:
    for path, key in (
        (f"v1/models/{server.name}:predict", "predictions"),
        (f"v2/models/{server.name}/infer", "outputs"),
    ):
        assert_told(send(server.address, "POST", f"/{path}", BODIES[what]), key)


sizes = st.integers(-2, 4) | st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64]) | values
shapes = values | st.lists(sizes, max_size=4)
datatypes = values | st.sampled_from(["BOOL", "INT8", "UINT64", "FP16", "FP64", "BF16", "BYTES"])
names = values | st.sampled_from([*VALID])
parameters = values | st.dictionaries(st.text(max_size=4), values, max_size=2)
numbers = st.lists(st.integers(-300, 300) | st.floats() | st.booleans(), max_size=8)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "shape": shapes,
        "datatype": datatypes,
        "data": values | numbers | st.lists(numbers, max_size=3) | st.lists(st.text(max_size=3)),
        "parameters": parameters,
    },
)
DATATYPES = {
    "prices": "FP64",
    "pair": "FP16",
    "count": "UINT64",
    "flag": "BOOL",
    "grid": "FP32",
    **dict.fromkeys(["names", "customer", "document", "stamp"], "BYTES"),
}
# Each names and types one input rightly, so that the rest of it is looked at.
half_right = st.builds(
    lambda named, tensor: tensor | {"name": named[0], "datatype": named[1]},
    st.sampled_from([*DATATYPES.items()]),
    tensors,
)
# A shape and as many elements, of one kind.
filled = st.lists(st.integers(0, 3), max_size=3).flatmap(
    lambda shape: (
        st.sampled_from([FINITE, st.integers(), st.booleans(), st.text(max_size=3)])
        .flatmap(lambda kind: st.lists(kind, min_size=math.prod(shape), max_size=math.prod(shape)))
        .map(lambda data: {"shape": shape, "data": data})
    )
)
nearly_right = st.builds(lambda tensor, rest: tensor | rest, half_right, filled)
v2_bodies = (
    st.binary(max_size=40)
    | values.map(as_json)
    | st.fixed_dictionaries(
        {"inputs": values | st.lists(tensors | half_right | nearly_right | values, max_size=3)},
        optional={
            "id": values,
            "parameters": parameters,
            "outputs": values | st.lists(tensors, max_size=2),
        },
    ).map(as_json)
    | st.lists(half_right | nearly_right, min_size=1, max_size=2).map(
        lambda inputs: as_json({"inputs": inputs})
    )
    | broken([body for model in GOLDEN for body in requests_of("kserve_v2.http", model)])
)


@bounded(share=10)
@given(body=v2_bodies, content_type=content_types)
def test_v2(body: bytes, content_type: str | None, server: Server) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    path = f"/v2/models/{server.name}/infer"
    assert_told(send(server.address, "POST", path, body, headers), "outputs")


def tensor(name: str, datatype: str, shape: str, data: bytes) -> bytes:
    head = f'{{"inputs": [{{"name": "{name}", "datatype": "{datatype}", "shape": {shape}, "data": '
    return head.encode() + data + b"}]}"


V2_DEEP = {
    "endless": ENDLESS,
    "body": DEEP,
    "inputs": b'{"inputs": %b}' % DEEP,
    "parameters": b'{"inputs": [], "parameters": %b}' % DEEP,
    "strings": tensor("names", "BYTES", "[1, 1]", DEEP),
    "numbers": tensor("grid", "FP32", "[1, 1, 1]", DEEP),
    "shape": tensor("grid", "FP32", DEEP.decode(), b"[1]"),
    "endless JSON in BYTES": tensor("document", "BYTES", "[1]", b'["%b"]' % ENDLESS),
    "a list in BYTES": tensor("document", "BYTES", "[1]", b'["%b"]' % DEEP),
    "an object in BYTES": tensor("document", "BYTES", "[1]", b'["{\\"a\\": %b}"]' % DEEP),
}


@pytest.mark.parametrize("what", V2_DEEP)
def test_v2_deep(what: str, server: Server) -> None:
    path = f"/v2/models/{server.name}/infer"
    assert_told(send(server.address, "POST", path, V2_DEEP[what]), "outputs")


binary_tensors = st.builds(
    lambda tensor, size: tensor | {"parameters": {"binary_data_size": size}},
    half_right,
    st.integers(-1, 20) | values,
)
binary_bodies = st.builds(
    lambda inputs, data: (as_json({"inputs": inputs}), data),
    st.lists(binary_tensors | nearly_right, min_size=1, max_size=2),
    st.binary(max_size=40),
)
golden_binary = [exchange for exchange in read("kserve_binary.http") if exchange.model in GOLDEN]
lengths = st.integers(-1, 400).map(str) | st.sampled_from(["", " 2", "1e1", "0x10", "²", "9" * 40])


@bounded(share=10)
@given(
    body=binary_bodies | broken([to_bytes(exchange.body) for exchange in golden_binary]),
    length=lengths,
    exact=st.booleans(),
    content_type=content_types,
)
def test_v2_binary(
    body: bytes | tuple[bytes, bytes],
    length: str,
    exact: bool,
    content_type: str | None,
    server: Server,
) -> None:
    if isinstance(body, tuple):
        length = str(len(body[0])) if exact else length
        body = b"".join(body)
    headers = {} if content_type is None else {"content-type": content_type}
    headers["inference-header-content-length"] = length.encode().decode("latin-1")
    answer = send(server.address, "POST", f"/v2/models/{server.name}/infer", body, headers)
    if answer.headers["content-type"] == "application/octet-stream":
        assert answer.status == 200
        assert "outputs" in json.loads(
            answer.body[: int(answer.headers["inference-header-content-length"])]
        )
    else:
        assert_told(answer, "outputs")


event_bodies = (
    st.binary(max_size=40)
    | values.map(as_json)
    | st.fixed_dictionaries(
        {"specversion": st.just("1.0"), "id": st.just("1") | values},
        optional={
            "source": st.just("s") | values,
            "type": st.just("t") | values,
            "data": values | st.just({"instances": []}),
            "data_base64": values | st.just("e30="),
        },
    ).map(as_json)
)


@bounded(share=10)
@given(body=event_bodies, version=st.sampled_from(["", "1.0", "0.3", "2"]))
def test_events(body: bytes, version: str, server: Server) -> None:
    path = f"/v1/models/{server.name}:predict"
    headers = {"content-type": "application/cloudevents+json"}
    if version:
        headers |= {"ce-specversion": version, "ce-id": "1", "ce-source": "s", "ce-type": "t"}
    answer = send(server.address, "POST", path, body, headers)
    if answer.headers["content-type"] == "application/cloudevents+json":
        assert answer.status == 200
        assert "predictions" in answer.json()["data"]
    else:
        assert_told(answer, "predictions")


generate_bodies = (
    st.binary(max_size=40)
    | values.map(as_json)
    | st.fixed_dictionaries(
        {"text_input": st.text(max_size=8) | values},
        optional={"id": values, "parameters": parameters, "more": values},
    ).map(as_json)
    | broken(requests_of("kserve_generate.http", "Tokens"))
)


@bounded(share=10)
@given(body=generate_bodies, content_type=content_types, stream=st.booleans())
def test_generate(body: bytes, content_type: str | None, stream: bool, serve: Serve) -> None:
    server = serve("Words", "kserve")
    headers = {} if content_type is None else {"content-type": content_type}
    path = f"/v2/models/words/generate{'_stream' if stream else ''}"
    answer = send(server.address, "POST", path, body, headers)
    if answer.headers["content-type"] == "text/event-stream":
        assert answer.status == 200
        assert answer.body.startswith(b"data: {")
    else:
        assert_told(answer, "text_output")
    assert "Traceback" not in server.log


@bounded(share=10)
@given(body=st.binary(max_size=40) | values.map(as_json), verb=st.sampled_from(["load", "unload"]))
def test_repository(body: bytes, verb: str, serve: Serve) -> None:
    server = serve("Words", "kserve")
    index = send(server.address, "POST", "/v2/repository/index", body)
    assert index.status in (200, 400)
    assert isinstance(index.json(), list if index.status == 200 else dict)
    refused = send(server.address, "POST", f"/v2/repository/models/words/{verb}", body)
    assert refused.status == 501
    assert "Traceback" not in server.log


# ---------------------------------------------------------------------------------------- Modzy


@pytest.fixture(scope="module")
def words(serve: Serve) -> Iterator[Server]:
    server = serve("Words", "modzy")
    yield server
    assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all paths that a job names: whatever comes of them stays here."""
    directory = tmp_path_factory.mktemp("jobs")
    (directory / "in").mkdir()
    (directory / "in" / "text").write_bytes(b"a")
    return directory


@pytest.mark.parametrize("what", BODIES)
def test_run_known_to_be_hard(what: str, words: Server) -> None:
    answer = send(words.address, "POST", "/run", BODIES[what])
    assert answer.json()["statusCode"] == answer.status
    assert answer.status in (400, 415, 422)


# Strings are only ever names inside of the directory, or what cannot be one.
inside = st.sampled_from(["in", "out", "in/text", "in/text/deeper", "\0", "a" * 300, "a/" * 2500])
paths = inside.map(lambda name: Path("{directory}", name)).map(str) | values.filter(
    lambda value: not isinstance(value, str)
)
jobs = st.fixed_dictionaries(
    {},
    optional={
        "type": values | st.just("file"),
        "input": paths,
        "output": paths,
        "explain": values,
    },
)
full_jobs = st.fixed_dictionaries({"type": st.just("file"), "input": paths, "output": paths})


@bounded(share=1)
@given(
    body=st.binary(max_size=40)
    | (values | jobs | full_jobs).map(as_json)
    | st.sampled_from([ENDLESS, DEEP]),
    end=st.none() | st.integers(0, 60),
    content_type=content_types,
)
def test_run(
    body: bytes, end: int | None, content_type: str | None, words: Server, directory: Path
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    data = body.replace(b"{directory}", str(directory).encode())[:end]
    answer = send(words.address, "POST", "/run", data, headers)
    content = answer.json()
    assert list(content) == ["statusCode", "status", "message"]
    assert content["statusCode"] == answer.status
    assert answer.status in (200, 400, 415, 422, 503, 504)
