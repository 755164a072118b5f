"""A model's type hints and the signature that they declare."""

import collections.abc
import dataclasses
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Annotated, Any, NamedTuple, Optional, TypedDict

import numpy as np
import pytest
from pydantic import BaseModel
from pydantic import Field as Constraint

from omi_runtime import Bytes, InvalidInput, Json, LoadError, Model, Signature, Tensor, Text
from omi_runtime.hints import read_signature


class Point(BaseModel):
    x: int


class Facts(TypedDict):
    label: str
    score: Annotated[float, Tensor("FP32", name="confidence")]


@dataclasses.dataclass
class Record:
    label: str
    scores: Annotated[np.ndarray, Tensor("FP32", [-1])]


class Row(NamedTuple):
    label: str
    count: int


class Stranger:
    pass


def model(predict: Callable[..., Any], **attributes: Any) -> type[Model]:
    return type("Guess", (Model,), {"predict": predict, **attributes})


def signature_of(predict: Callable[..., Any], **attributes: Any) -> Signature:
    signature = read_signature(model(predict, **attributes))
    assert signature is not None
    return signature


def of_input(hint: Any, **attributes: Any) -> Any:
    def predict(self, value) -> str: ...

    predict.__annotations__["value"] = hint
    (field,) = signature_of(predict, **attributes).inputs
    return field


def of_output(hint: Any, **attributes: Any) -> Signature:
    def predict(self, value: str): ...

    predict.__annotations__["return"] = hint
    return signature_of(predict, **attributes)


@pytest.mark.parametrize(
    ("hint", "marker"),
    [
        (str, "Text()"),
        (bytes, "Bytes('application/octet-stream')"),
        (bool, "Tensor('BOOL', [])"),
        (int, "Tensor('INT64', [])"),
        (float, "Tensor('FP64', [])"),
        (dict, "Json()"),
        (list, "Json()"),
        (dict[str, int], "Json()"),
        (list[float], "Json()"),
        (typing.List, "Json()"),  # noqa: UP006 - what older code says
        (Point, "Json()"),
        (Annotated[np.ndarray, Tensor("FP32", [4])], "Tensor('FP32', [4])"),
        (Annotated[Stranger, Tensor("FP32", [4])], "Tensor('FP32', [4])"),
        (Annotated[Any, Json()], "Json()"),
        (Annotated[str, "a comment"], "Text()"),
        (Annotated[bytes, "a comment", Bytes("image/png")], "Bytes('image/png')"),
    ],
)
def test_what_a_hint_means(hint: Any, marker: str) -> None:
    assert repr(of_input(hint).marker) == marker
    (output,) = of_output(hint).outputs
    assert repr(output.marker) == marker
    assert output.name == "output"


PNG = Bytes("image/png")


@pytest.mark.parametrize(
    "hint",
    [
        Annotated[bytes, PNG],
        Annotated[bytes | None, PNG],
        Annotated[bytes, PNG] | None,
        Optional[Annotated[bytes, PNG]],  # noqa: UP045
        Annotated[Optional[bytes], PNG],  # noqa: UP045
        Annotated[Annotated[bytes, "text"], PNG],
        Annotated[Annotated[bytes, PNG] | None, "text"],
    ],
)
def test_optional_and_annotated_in_either_order(hint: Any) -> None:
    field = of_input(hint)
    assert field.marker is PNG
    assert field.python_type is bytes


def test_a_parameter_with_a_default_is_an_optional_input() -> None:
    def predict(self, a: str, b: int | None = None, *, c: float = 1.0) -> str: ...

    signature = signature_of(predict)
    assert [field.required for field in signature.inputs] == [True, False, False]
    assert signature.required_names == ("a",)
    assert [repr(field.marker) for field in signature.inputs[1:]] == [
        "Tensor('INT64', [])",
        "Tensor('FP64', [])",
    ]


def test_a_marker_names_the_field_on_the_wire() -> None:
    def predict(
        self, x: Annotated[str, Text(name="prompt")]
    ) -> Annotated[str, Text(name="reply")]: ...

    signature = signature_of(predict)
    assert (signature.inputs[0].name, signature.inputs[0].parameter) == ("prompt", "x")
    assert signature.outputs[0].name == "reply"
    assert signature.bare


@pytest.mark.parametrize(
    ("hint", "names", "parameters"),
    [
        (Facts, ["label", "confidence"], ["label", "score"]),
        (Record, ["label", "scores"], ["label", "scores"]),
        (Row, ["label", "count"], ["label", "count"]),
    ],
)
def test_a_record_type_names_several_outputs(
    hint: Any, names: list[str], parameters: list[str]
) -> None:
    signature = of_output(hint)
    assert [field.name for field in signature.outputs] == names
    assert [field.parameter for field in signature.outputs] == parameters
    assert not signature.bare


@pytest.mark.parametrize("hint", [Facts, Record, Row, Point])
def test_annotated_json_makes_a_record_type_one_output(hint: Any) -> None:
    if hint is Record:
        hint = Row  # pydantic has no schema for an array
    (field,) = of_output(Annotated[hint, Json(name="facts")]).outputs
    assert (field.name, field.python_type) == ("facts", hint)


def test_a_pydantic_model_is_always_one_output() -> None:
    signature = of_output(Point)
    assert [field.name for field in signature.outputs] == ["output"]
    assert signature.bare


@pytest.mark.parametrize(
    "iterator",
    [Iterator, Generator, AsyncIterator, typing.Iterator, collections.abc.Iterable],
)
def test_of_an_iterator_the_members_are_the_output(iterator: Any) -> None:
    hint = iterator[str, None, None] if iterator is Generator else iterator[str]
    signature = of_output(hint)
    assert signature.streaming
    assert repr(signature.outputs[0].marker) == "Text()"
    several = of_output(iterator[Facts, None, None] if iterator is Generator else iterator[Facts])
    assert several.streaming
    assert [field.name for field in several.outputs] == ["label", "confidence"]


def test_what_does_not_yield_does_not_stream() -> None:
    assert not of_output(list[str]).streaming


# --- batched models: the type beside a marker is that of a column ---


@pytest.mark.parametrize(
    ("hint", "python_type"),
    [
        (Annotated[list[Point], Json()], Point),
        (Annotated[list[dict], Json()], dict),
        (Annotated[list[list[int]], Json()], list[int]),
        (Annotated[list, Json()], Any),
        (Annotated[typing.List, Json()], Any),  # noqa: UP006
        (Annotated[list[Any], Json()], Any),
        (Annotated[Any, Json()], Any),
        (Annotated[list[str], Text()], str),
    ],
)
def test_a_column_of_a_batched_model_is_of_items(hint: Any, python_type: Any) -> None:
    assert of_input(hint, max_batch_size=8).python_type == python_type
    assert of_output(hint, max_batch_size=8).outputs[0].python_type == python_type


def test_an_item_of_an_unbatched_model_is_the_list_itself() -> None:
    field = of_input(Annotated[list[Point], Json()])
    assert field.python_type == list[Point]
    assert field.validate([{"x": 1}]) == [Point(x=1)]


def test_preprocess_and_postprocess_are_about_one_item_even_of_a_batched_model() -> None:
    def preprocess(self, points: Annotated[list[Point], Json()]) -> dict: ...

    def predict(self, values): ...

    def postprocess(self, raw) -> Annotated[list[Point], Json()]: ...

    signature = signature_of(
        predict, preprocess=preprocess, postprocess=postprocess, max_batch_size=8
    )
    assert [field.name for field in signature.inputs] == ["points"]
    assert signature.inputs[0].python_type == list[Point]
    assert signature.outputs[0].python_type == list[Point]


def test_the_constraints_of_pydantic_count() -> None:
    field = of_input(Annotated[list[int], Constraint(max_length=2), Json()])
    assert field.validate([1, 2]) == [1, 2]
    with pytest.raises(InvalidInput, match="at most 2 items"):
        field.validate([1, 2, 3])
    bare = of_input(Annotated[dict[str, int], Constraint(min_length=1)])
    with pytest.raises(InvalidInput, match="at least 1 item"):
        bare.validate({})


# --- hints that mean nothing ---

ADVICE = (
    'write for example Annotated[np.ndarray, Tensor("FP32", [4])], Annotated[bytes, '
    'Bytes("image/png")], str, Annotated[T, Json()] or a pydantic model'
)


@pytest.mark.parametrize(
    ("hint", "found"),
    [
        (None, "has the type hint NoneType, which says"),
        (np.ndarray, "has the type hint ndarray, which says not what it is on the wire"),
        (Any, "has the type hint Any, which says not what it is on the wire"),
        (Stranger, "has the type hint Stranger, which says"),
        (int | str, "has the type hint int | str, which says"),
        (Annotated[Stranger, "a comment"], "has the type hint Stranger, which says"),
        (set, "has the type hint set, which says"),
        (tuple[int, int], "has the type hint tuple[int, int], which says"),
        (typing.Literal["a"], "has the type hint typing.Literal['a'], which says"),
        (Callable[[int], int], "has the type hint "),
    ],
)
def test_a_hint_that_means_nothing_names_the_parameter_and_what_to_write(
    hint: Any, found: str
) -> None:
    with pytest.raises(LoadError) as refused:
        of_input(hint)
    assert str(refused.value).startswith(f"parameter 'value' of Guess.predict {found}")
    assert str(refused.value).endswith(ADVICE)
    with pytest.raises(LoadError) as refused:
        of_output(hint)
    assert str(refused.value).startswith(f"the answer of Guess.predict {found}")
    assert str(refused.value).endswith(ADVICE)


def test_a_missing_hint_is_one_that_means_nothing() -> None:
    with pytest.raises(LoadError, match=r"parameter 'x' of Guess.predict has no type hint: write"):
        signature_of(lambda self, x: None)

    def predict(self, x: str): ...

    with pytest.raises(LoadError, match=r"the answer of Guess.predict has no type hint: write"):
        signature_of(predict)


@pytest.mark.parametrize("hint", [typing.Iterator, typing.AsyncIterator, Iterator])
def test_an_iterator_of_nothing_is_refused(hint: Any) -> None:
    with pytest.raises(LoadError, match=r"the answer of Guess.predict has "):
        of_output(hint)


def test_a_field_of_a_record_is_named_too() -> None:
    class Broken(TypedDict):
        good: str
        bad: Stranger

    with pytest.raises(
        LoadError, match=r"the answer of Guess.predict, field 'bad', has the type hint Stranger"
    ):
        of_output(Broken)


@pytest.mark.parametrize(
    "hint", [Annotated[Stranger, Json()], Annotated[np.ndarray, Json()], list[Stranger]]
)
def test_a_json_type_that_pydantic_cannot_read_is_refused_at_load(hint: Any) -> None:
    message = "is JSON of a type that pydantic cannot read: write a pydantic model, or Annotated"
    with pytest.raises(LoadError, match=f"parameter 'value' of Guess.predict {message}"):
        of_input(hint)
    with pytest.raises(LoadError, match=f"the answer of Guess.predict {message}"):
        of_output(hint)


def test_several_markers_are_refused() -> None:
    with pytest.raises(LoadError, match=r"parameter 'value' of Guess.predict has 2 markers: keep"):
        of_input(Annotated[Annotated[bytes, PNG], Text()])


def test_parameters_have_to_have_names() -> None:
    def several(self, *values: str) -> str: ...

    def nameless(self, value: str, /) -> str: ...

    def more(self, value: str, **rest: str) -> str: ...

    for predict, parameter in ((several, "values"), (nameless, "value"), (more, "rest")):
        with pytest.raises(LoadError, match=f"parameter '{parameter}' of Guess.predict cannot be"):
            signature_of(predict)


def test_a_model_that_takes_any_columns_has_no_signature_yet() -> None:
    assert read_signature(model(lambda self, **columns: None)) is None


def test_with_preprocess_a_predict_of_any_columns_is_known() -> None:
    def preprocess(self, a: str) -> dict: ...

    def predict(self, **columns: Any) -> str: ...

    assert signature_of(predict, preprocess=preprocess).input_names == ("a",)


def test_what_takes_nothing_is_refused() -> None:
    def predict(self) -> str: ...

    with pytest.raises(LoadError, match=r"Guess.predict takes no inputs: give it at least one"):
        signature_of(predict)
    with pytest.raises(LoadError, match="Nothing has no method predict"):
        read_signature(type("Nothing", (Model,), {}))


def test_hints_that_cannot_be_read_are_an_error_of_the_load() -> None:
    def predict(self, value: "Unknown") -> str:  # noqa: F821
        ...

    with pytest.raises(LoadError, match=r"the type hints of Guess.predict cannot be read: .*Unkn"):
        signature_of(predict)


def test_reserved_and_doubled_names_are_refused() -> None:
    def predict(self, error: str) -> str: ...

    with pytest.raises(LoadError, match="input name 'error' cannot be used"):
        signature_of(predict)

    def twice(self, a: str, b: Annotated[str, Text(name="a")]) -> str: ...

    with pytest.raises(LoadError, match="two inputs are called 'a'"):
        signature_of(twice)
