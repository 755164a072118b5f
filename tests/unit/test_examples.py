"""Example inputs: of the right form for every kind of model, so that they can be pasted as is."""

from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import numpy as np
import orjson
import pytest
from pydantic import BaseModel, TypeAdapter

from omi_runtime import Bytes, Json, Signature, Tensor, Text, codecs, examples
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import OMIError
from omi_runtime.handler import ModelHandler
from omi_runtime.items import ItemCodec
from omi_runtime.jsontext import NanPolicy
from omi_runtime.lifecycle import Lifecycle
from omi_runtime.settings import Settings
from omi_runtime.signature import Field, Marker

DOCS = Path(__file__).parents[2] / "docs" / "examples"


class Leaf(BaseModel):
    name: str
    size: int
    weight: float
    ripe: bool
    note: str | None
    kind: Literal["oak", "elm"]
    colour: str = "green"


class Tree(BaseModel):
    leaves: list[Leaf]
    best: Leaf
    pair: tuple[int, str]
    by_name: dict[str, Leaf]


class Node(BaseModel):
    """Holds itself, in every way that ends."""

    children: list["Node"]
    parent: Optional["Node"]
    other: "Node | int"


TYPES = [Leaf, Tree, Node, list[Leaf], dict[str, int], dict, list, Any, int, tuple[int, Leaf],
         Literal["a", "b"], int | str, list[Node]]  # fmt: skip
MARKERS: list[Marker] = [
    *(Tensor(datatype, [2, -1]) for datatype in DTYPES),
    *(Tensor(datatype) for datatype in DTYPES),
    Text(),
    Bytes("image/png"),
    Bytes(),
    Json(),
]


def signature(*fields: Field) -> Signature:
    return Signature(fields, (Field("output", Text(), "output"),))


@pytest.mark.parametrize("marker", MARKERS, ids=repr)
def test_an_example_of_every_kind_is_read_on_every_wire(marker: Marker) -> None:
    field = Field("value", marker, "value")
    files = examples.files(signature(field))
    row = ItemCodec(signature(field), "model", NanPolicy.ERROR).decode(files)
    assert not isinstance(row, OMIError), row
    instance = orjson.loads(orjson.dumps(examples.instance(signature(field))))
    value = codecs.from_jsonable(field, instance)
    if isinstance(marker, Tensor):
        assert marker.accepts_shape(value.shape)
        np.testing.assert_array_equal(value, row["value"])
    else:
        assert value == row["value"]


@pytest.mark.parametrize("python_type", TYPES, ids=repr)
def test_an_example_of_json_is_what_the_authors_type_takes(python_type: Any) -> None:
    field = Field("value", Json(), "value", python_type=python_type)
    value = orjson.loads(orjson.dumps(examples.value(field)))
    TypeAdapter(python_type).validate_python(value)
    if field.validate is not None:
        field.validate(value)


def test_only_what_is_required_is_in_an_example() -> None:
    a = Field("a", Text(), "a")
    b = Field("b", Tensor("INT8"), "b", required=False)
    assert examples.files(signature(a, b)) == {"a": b"text"}
    assert examples.instance(signature(a, b)) == {"a": "text"}
    assert examples.instance(signature(a)) == "text"
    assert examples.instance(signature(b)) == 0  # nothing is required: the first is shown


@pytest.mark.parametrize("name", sorted(path.parent.name for path in DOCS.glob("*/model.py")))
async def test_the_documented_models_answer_their_example(name: str, forgetful: None) -> None:
    handler = ModelHandler(Settings(model=str(DOCS / name)), Lifecycle())
    await handler.load()
    codec = ItemCodec(handler.signature, handler.name, NanPolicy.ERROR)
    row = codec.decode(examples.files(handler.signature))
    result = await handler.infer_rows([row])
    assert not result.errors
    assert await handler.close(5)


def test_a_marker_beside_a_type_is_what_counts() -> None:
    field = Field("value", Tensor("FP32", [2]), "value", python_type=Annotated[list[Leaf], "x"])
    assert examples.value(field) == [0, 0]
