"""Markers, fields and signatures: what can be declared, and what is refused at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from omi_runtime import Bytes, InvalidInput, Json, LoadError, Signature, Tensor, Text
from omi_runtime.datatypes import DTYPES
from omi_runtime.signature import Field, Marker


@pytest.mark.parametrize("datatype", DTYPES)
def test_a_tensor_of_every_datatype(datatype: str) -> None:
    tensor = Tensor(datatype, [2, -1])
    assert (tensor.datatype, tensor.shape) == (datatype, (2, -1))
    assert repr(tensor) == f"Tensor({datatype!r}, [2, -1])"
    assert Tensor(datatype).shape == ()


@pytest.mark.parametrize("datatype", ["FP31", "fp32", "", "STRING", "float32"])
def test_a_datatype_that_is_none_is_named_with_those_that_are(datatype: str) -> None:
    with pytest.raises(ValueError, match=rf"datatype '{datatype}' is none of BOOL, UINT8, .*BYTES"):
        Tensor(datatype)


def test_a_dimension_is_a_size_or_minus_one() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, -2\] has a dimension below -1"):
        Tensor("FP32", [2, -2])


sizes = st.lists(st.integers(-1, 3), max_size=4)


@given(declared=sizes, shape=st.lists(st.integers(0, 3), max_size=4))
def test_a_shape_fits_if_every_fixed_dimension_is_its_own(
    declared: list[int], shape: list[int]
) -> None:
    fits = len(declared) == len(shape) and all(
        want in (-1, have) for want, have in zip(declared, shape, strict=False)
    )
    assert Tensor("FP32", declared).accepts_shape(tuple(shape)) is fits


@given(shape=sizes)
def test_a_shape_without_variable_dimensions_fits_itself(shape: list[int]) -> None:
    fixed = tuple(size for size in shape if size != -1)
    assert Tensor("FP32", fixed).accepts_shape(fixed)


def test_markers_say_what_they_are() -> None:
    assert Bytes().media_types == ("application/octet-stream",)
    assert Bytes("image/png", "image/jpeg").media_types == ("image/png", "image/jpeg")
    assert [repr(m) for m in (Bytes("image/png"), Text(), Json())] == [
        "Bytes('image/png')",
        "Text()",
        "Json()",
    ]
    for marker in (
        Tensor("FP32", [4], name="n", description="d", max_size="1M"),
        Bytes("image/png", name="n", description="d", max_size="1M"),
        Text(name="n", description="d", max_size="1M"),
        Json(name="n", description="d", max_size="1M"),
    ):
        assert (marker.name, marker.description, marker.max_size) == ("n", "d", "1M")


@pytest.mark.parametrize("name", ["error", "results.json", "", ".hidden", "a/b", "../a"])
@pytest.mark.parametrize("kind", ["input", "output"])
def test_names_that_the_wires_need_themselves_are_refused(name: str, kind: str) -> None:
    sides: dict[str, dict[str, Marker]] = {"input": {"a": Text()}, "output": {"b": Text()}}
    sides[kind] = {name: Text()}
    with pytest.raises(LoadError, match=f"{kind} name '{name}' cannot be used: choose another"):
        Signature.of(sides["input"], sides["output"])


def test_two_fields_cannot_share_a_name() -> None:
    twice = (Field("a", Text(), "a"), Field("a", Text(), "b"))
    with pytest.raises(LoadError, match="two inputs are called 'a': give one another name="):
        Signature(twice, (Field("a", Text(), "a"),))
    with pytest.raises(LoadError, match="two outputs are called 'a'"):
        Signature((), twice)


def test_there_has_to_be_an_output() -> None:
    with pytest.raises(LoadError, match="the signature has no output"):
        Signature.of({"a": Text()}, {})


def test_an_input_and_an_output_may_share_a_name() -> None:
    signature = Signature.of({"a": Text(), "b": Json()}, {"a": Text()})
    assert signature.input_names == ("a", "b")
    assert signature.required_names == ("a", "b")
    assert signature.input_by_name["b"].marker.media_types == ("application/json",)
    assert not signature.bare
    assert not signature.streaming


# --- validation of JSON by the author's type ---


class Point(BaseModel):
    x: int
    y: int = 0


def json_field(python_type: Any) -> Field:
    return Field("point", Json(), "point", python_type=python_type)


def test_json_of_any_type_is_not_looked_at() -> None:
    assert json_field(Any).validate is None
    assert json_field(Any).to_jsonable is None
    assert Field("t", Text(), "t", python_type=str).validate is None
    assert Field("t", Text(), "t", python_type=str).to_jsonable is None


@pytest.mark.parametrize(
    ("python_type", "good", "bad", "message"),
    [
        (dict, {"a": 1}, [1], "point: expected an object"),
        (dict[str, Any], {"a": 1}, [1], "point: expected an object"),
        (list, [1], {"a": 1}, "point: expected a list"),
        (list[Any], [1], {"a": 1}, "point: expected a list"),
        (list[int], [1], ["x"], "point.0: Input should be a valid integer"),
        (dict[str, float], {"a": 1.5}, {"a": None}, "point.a: Input should be a valid number"),
    ],
)
def test_plain_json_is_validated(python_type: Any, good: Any, bad: Any, message: str) -> None:
    validate = json_field(python_type).validate
    assert validate is not None
    assert validate(good) == good
    with pytest.raises(InvalidInput) as refusal:
        validate(bad)
    assert refusal.value.message.startswith(message)


def test_a_pydantic_model_is_made_and_every_problem_named() -> None:
    validate = json_field(Point).validate
    assert validate is not None
    assert validate({"x": 1}) == Point(x=1)
    with pytest.raises(InvalidInput) as refusal:
        validate({"x": "a", "y": None})
    first, second = refusal.value.message.split("; ")
    assert first.startswith("point.x: Input should be a valid integer")
    assert second.startswith("point.y: Input should be a valid integer")
    assert "pydantic.dev" not in refusal.value.message


def test_the_authors_object_becomes_plain_json() -> None:
    to_jsonable = json_field(Point).to_jsonable
    assert to_jsonable is not None
    assert to_jsonable(Point(x=1)) == {"x": 1, "y": 0}
    with pytest.raises(ValueError, match="Expected `Point`"):
        to_jsonable({"x": 1})
