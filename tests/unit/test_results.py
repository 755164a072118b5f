"""The typed results: how authors make them, and the JSON that they are."""

import numpy as np
import pytest
from handlers import loaded, plain, told
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import BaseModel, Field, ValidationError

from omi_runtime import Model, results
from omi_runtime.batch import Batch
from omi_runtime.runner import Wanted


def test_a_classification_is_sorted_and_may_be_cut() -> None:
    scores = {"a": 0.25, "b": np.float32(0.5), "c": 0.125}
    ranked = [(p.label, p.score) for p in results.Classification.of(scores).class_predictions]
    assert ranked == [("b", 0.5), ("a", 0.25), ("c", 0.125)]
    best = results.Classification.of(zip("xyz", (1.0, 3.0, 2.0), strict=True), top=2)
    assert best.model_dump(by_alias=True) == {
        "classPredictions": [{"class": "y", "score": 3.0}, {"class": "z", "score": 2.0}]
    }


@given(
    npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12))
    | st.just(np.zeros((3, 4), bool))
    | st.just(np.ones((3, 4), bool))
)
def test_a_mask_comes_back_from_its_runs(mask: np.ndarray) -> None:
    made = results.ImageMask.of(mask)
    assert (made.original_height, made.original_width) == mask.shape
    inside = np.arange(len(made.rle)) % 2 == 1
    pixels = np.repeat(inside, made.rle)
    assert (pixels.reshape(mask.shape, order="F") == mask).all()
    assert all(run > 0 for run in made.rle[1:])


def test_numpys_numbers_are_numbers() -> None:
    box = results.BoundingBox(x=np.int32(1), y=np.uint8(2), width=np.int64(3), height=4)
    assert box.model_dump_json() == '{"x":1,"y":2,"width":3,"height":4}'
    with pytest.raises(ValidationError):
        results.BoundingBox(x=1.5, y=2, width=3, height=4)


@given(st.binary())
def test_bytes_are_base64_in_json_and_bytes_in_python(data: bytes) -> None:
    made = results.Data(data=data, content_type="text/csv")
    assert made.data == data
    read = results.Data.model_validate_json(made.model_dump_json(by_alias=True))
    assert read == made
    assert set(made.model_dump(by_alias=True)) == {"data", "contentType"}


def test_a_key_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError):
        results.Text(text="a", txet="b")


class Aliased(BaseModel):
    """An author's own model, whose key on the wire is no Python name."""

    kind: str = Field(alias="class")


class Echo(Model):
    def predict(self, item: Aliased) -> Aliased:
        return item

    def explain(self, item: Aliased) -> Aliased:
        return item


async def test_aliases_are_the_keys_both_ways() -> None:
    async with loaded(Echo) as handler:
        wanted = Wanted(explanation=True)
        result = await handler.infer(Batch({"item": [{"class": "a"}]}, 1), wanted)
        refused = await handler.infer(Batch({"item": [{"kind": "a"}]}, 1))
    assert told(result) == [{"class": "a"}]
    assert [plain(value) for value in result.explanation] == [{"class": "a"}]
    assert told(refused) == ["INVALID_INPUT: item.class: Field required"]
