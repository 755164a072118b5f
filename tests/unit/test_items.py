"""Named files: which names mean which input, and what an answer's files hold."""

from typing import Any

import numpy as np
import orjson
import pytest

from omi_runtime.batch import Result
from omi_runtime.datatypes import object_array
from omi_runtime.errors import InferenceFailed, InvalidInput, OMIError, UnsupportedMediaType
from omi_runtime.items import ItemCodec
from omi_runtime.jsontext import NanPolicy, fragment
from omi_runtime.signature import Bytes, Field, Json, Marker, Signature, Tensor, Text

OUT = {"output": Text()}


def codec(
    inputs: dict[str, Marker], outputs: dict[str, Marker] = OUT, optional: tuple[str, ...] = ()
) -> ItemCodec:
    signature = Signature(
        tuple(Field(name, m, name, required=name not in optional) for name, m in inputs.items()),
        tuple(Field(name, m, name) for name, m in outputs.items()),
    )
    return ItemCodec(signature, "model", NanPolicy.ERROR)


def refusal(decoded: Any) -> OMIError:
    assert isinstance(decoded, OMIError)
    return decoded


NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
NPY = NPY.ljust(127) + b"\n" + np.array([1, 2], "<f4").tobytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("pair", b"[1, 2]"),
        ("pair.json", b"[1, 2]"),
        ("pair.csv", b"1,2\n"),
        ("pair.npy", NPY),
        ("pair.bin", np.array([1, 2], "<f4").tobytes()),
    ],
)
def test_a_tensor_comes_by_its_name_or_with_an_extension(name: str, data: bytes) -> None:
    row = codec({"pair": Tensor("FP32", [2])}).decode({name: data})
    assert not isinstance(row, OMIError)
    assert list(row) == ["pair"]
    assert row["pair"].tolist() == [1, 2]


def test_other_names_are_ignored() -> None:
    items = codec({"a": Text(), "b": Bytes("image/png")})
    files = {"a.txt": b"x", "b.png": b"\0", "c": b"", "notes.txt": b"\xff", "": b""}
    assert items.decode(files) == {"a": "x", "b": b"\0"}


def test_an_exact_name_wins_over_anothers_name_with_an_extension() -> None:
    items = codec({"a": Json(), "a.json": Text()})
    assert items.decode({"a": b"1", "a.json": b"text"}) == {"a": 1, "a.json": "text"}


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({}, InvalidInput, "input 'a' is missing: send one of a, a.txt, a.json"),
        (
            {"aa": b""},
            InvalidInput,
            "input 'a' is missing: send one of a, a.txt, a.json; there is no input 'aa'",
        ),
        ({"a.png": b""}, UnsupportedMediaType, "a: 'a.png' is not read here; send one of a, a.txt"),
        ({"A": b"", "a.TXT": b""}, UnsupportedMediaType, "a: 'a.TXT' is not read here"),
        ({"ab": b""}, InvalidInput, "input 'a' is missing"),
        ({"a": b"", "a.txt": b""}, InvalidInput, "a: given twice, once as 'a.txt'"),
        ({"a": b"\xff"}, InvalidInput, "a: is not UTF-8"),
        ({"a": b"", "n": b"x"}, InvalidInput, "n: is not JSON"),
    ],
)
def test_an_item_that_does_not_fit_is_answered_with_its_error(
    files: dict[str, bytes], code: type[OMIError], message: str
) -> None:
    error = refusal(codec({"a": Text(), "n": Tensor("INT8")}, optional=("n",)).decode(files))
    assert type(error) is code
    assert error.message.startswith(message)


def test_an_optional_input_may_be_left_out() -> None:
    items = codec({"a": Text(), "n": Tensor("INT8")}, optional=("n",))
    assert items.decode({"a": b"x"}) == {"a": "x"}
    assert items.decode({"a": b"x", "n": b"1"}) == {"a": "x", "n": 1}


def test_the_names_under_which_an_input_may_come_have_the_exact_one_first() -> None:
    items = codec({"a": Text(), "b": Json()})
    for field in items.signature.inputs:
        assert items.file_names(field)[0] == field.name
    assert items.file_names(items.signature.inputs[0]) == ["a", "a.txt", "a.json"]


@pytest.mark.parametrize(
    ("name", "marker", "told"),
    [
        ("config.json", Bytes(), "send config.json"),
        ("config.json", Bytes("application/json"), "send config.json"),
        ("scan", Bytes(), "send one of scan, scan.bin"),
        ("scan", Bytes("text/plain"), "send one of scan, scan.bin, scan.txt"),
        ("scan", Bytes("image/png"), "send one of scan, scan.bin, scan.png"),
    ],
)
def test_of_many_names_an_error_tells_the_usual_ones(name: str, marker: Bytes, told: str) -> None:
    error = refusal(codec({name: marker}).decode({}))
    assert error.message == f"input {name!r} is missing: {told}"


# --- answers ---


def data(files: Any) -> Any:
    assert set(files) >= {"results.json"}
    content = orjson.loads(files["results.json"])
    assert list(content) == ["data"]
    assert list(content["data"]) == ["result", "explanation", "drift"]
    return content["data"]


def test_the_single_output_is_the_bare_result() -> None:
    items = codec({"a": Text()}, {"species": Tensor("INT64")})
    (files,) = items.encode(Result({"species": np.array([2])}, 1))
    assert files == {"results.json": b'{"data":{"result":2,"explanation":null,"drift":null}}'}
    assert items.output_files == ["results.json"]


def test_several_outputs_are_an_object() -> None:
    items = codec({"a": Text()}, {"n": Tensor("FP32", [2]), "t": Text(), "j": Json()})
    json = [fragment({"k": None}, NanPolicy.ERROR)]
    (files,) = items.encode(Result({"n": np.array([[1, 0.5]], "<f4"), "t": ["ü"], "j": json}, 1))
    assert data(files)["result"] == {"n": [1, 0.5], "t": "ü", "j": {"k": None}}


def test_bytes_are_files_of_their_own() -> None:
    items = codec({"a": Text()}, {"mask": Bytes("image/png"), "label": Text()})
    assert items.output_files == ["results.json", "mask"]
    (files,) = items.encode(Result({"mask": [b"\0png"], "label": ["cat"]}, 1))
    assert isinstance(files, dict)
    assert files["mask"] == b"\0png"
    # An object although only one is left: with the file the model has two outputs.
    assert data(files)["result"] == {"label": "cat"}


def test_the_result_is_null_if_there_are_only_bytes() -> None:
    items = codec({"a": Text()}, {"mask": Bytes()})
    (files,) = items.encode(Result({"mask": [b""]}, 1))
    assert data(files)["result"] is None


def test_yielded_files_are_joined() -> None:
    items = codec({"a": Text()}, {"audio": Bytes()})
    (files,) = items.encode(Result({"audio": [[b"a", b"b"]]}, 1))
    assert isinstance(files, dict)
    assert files["audio"] == b"ab"


def test_explanation_and_drift_are_null_where_they_failed() -> None:
    items = codec({"a": Text()})
    why = [fragment([1], NanPolicy.ERROR), InferenceFailed("no")]
    first, second = items.encode(Result({"output": ["x", "y"]}, 2, {}, why, why[::-1]))
    assert data(first) == {"result": "x", "explanation": [1], "drift": None}
    assert data(second) == {"result": "y", "explanation": None, "drift": [1]}


@pytest.mark.parametrize(
    ("marker", "column", "error", "message"),
    [
        (
            Tensor("FP32"),
            np.array([1, np.nan, 3], "<f4"),
            InferenceFailed,
            "model: output 'output' holds NaN",
        ),
        (
            Tensor("BYTES"),
            object_array([b"1", b"\xff", b"3"]),
            InvalidInput,
            "output: holds bytes that are not UTF-8",
        ),
    ],
)
def test_one_item_that_cannot_be_told_fails_alone(
    marker: Marker, column: Any, error: type[OMIError], message: str
) -> None:
    items = codec({"a": Text()}, {"output": marker})
    broken = Result({"output": column}, 3)
    first, second, third = items.encode(broken)
    assert type(second) is error
    assert second.message.startswith(message)
    assert str(data(first)["result"])[0] == "1"
    assert str(data(third)["result"])[0] == "3"


def test_failed_items_are_answered_with_their_errors_in_place() -> None:
    error = InvalidInput("no")
    first, second = codec({"a": Text()}).encode(Result({"output": [None, "x"]}, 2, {0: error}))
    assert first is error
    assert data(second)["result"] == "x"
    assert codec({"a": Text()}).encode(Result.failed([error])) == [error]
