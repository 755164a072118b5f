"""The card: what the class says, what model.yaml says, and what both say and must agree on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest

from omi_runtime import Bytes, Json, LoadError, Model, Signature, Tensor, Text
from omi_runtime.card import CardFile, Features, ModelCard, Resources, file_matches, make_card
from omi_runtime.hints import read_signature
from omi_runtime.metadata import read_manifest
from omi_runtime.signature import Field

Write = Callable[..., Path]


class Marks(TypedDict):
    mask: Annotated[bytes, Bytes("image/png", description="The mask.", max_size="5M")]
    label: str


class ImageMarker(Model):
    """Mark what is in a picture.

    At length: the mask is as large as the picture.
    """

    version = "1.0.0"
    max_batch_size = 4

    def predict(
        self,
        image: Annotated[
            list[bytes],
            Bytes("image/jpeg", "image/png", description="The picture.", max_size="10M"),
        ],
        threshold: Annotated[np.ndarray, Tensor("FP32")] = 0.5,
    ) -> Marks: ...

    def explain(self, image: Any, threshold: Any = 0.5) -> Any: ...


class Plain(Model):
    def predict(self, text: str) -> Annotated[dict, Json(name="facts")]: ...


def card(
    model: type[Model] = ImageMarker, directory: Path | None = None, **arguments: Any
) -> ModelCard:
    manifest = read_manifest(directory) if directory else None
    return make_card(model, read_signature(model), manifest, **arguments)


def test_the_class_alone_makes_a_card() -> None:
    assert card() == ModelCard(
        name="image-marker",
        title="image-marker",
        version="1.0.0",
        kind="grpc",
        summary="Mark what is in a picture.",
        details="At length: the mask is as large as the picture.",
        inputs=(
            CardFile("image", ("image/jpeg", "image/png"), "10M", "The picture."),
            CardFile("threshold", Tensor.media_types),
        ),
        outputs=(
            CardFile("results.json", ("application/json",)),
            CardFile("mask", ("image/png",), "5M", "The mask."),
        ),
        features=Features(max_batch_size=4, explainable=True),
    )


def test_a_class_that_says_little_has_a_card_too() -> None:
    made = card(Plain)
    assert (made.name, made.version, made.summary, made.details) == ("plain", "0.0.0", "", "")
    assert [file.filename for file in made.inputs] == ["text"]
    assert made.outputs == (CardFile("results.json", ("application/json",)),)
    assert made.features == Features()
    assert made.resources == Resources()


def test_model_name_renames_what_is_served_and_not_the_title() -> None:
    made = card(served_name="prod")
    assert (made.name, made.title) == ("prod", "image-marker")


def test_a_model_with_only_bytes_has_no_results_file() -> None:
    class Paints(Model):
        def predict(self, text: str) -> Annotated[bytes, Bytes("image/png", name="picture")]: ...

    assert [file.filename for file in card(Paints).outputs] == ["picture"]


def test_before_the_load_a_signature_may_be_unknown() -> None:
    made = make_card(Plain, None, None)
    assert (made.inputs, made.outputs) == ((), ())


def test_a_card_is_plain_values() -> None:
    as_dict = json.loads(json.dumps(card().as_dict()))
    assert as_dict["inputs"][0]["media_types"] == ["image/jpeg", "image/png"]
    assert as_dict["features"]["explainable"] is True


YAML = """
    specification: "0.4"
    type: file
    source: here
    version: 1.0.0
    name: Marks images
    author: The authors
    description: {summary: S, details: D, technical: T, performance: P}
    tags: [a, b]
    inputs:
      image.jpg:
        acceptedMediaTypes: [image/png, image/jpeg]
        maxSize: 10M
        description: From the file.
    outputs:
      results.json: {mediaType: application/json, maxSize: 1M, description: R}
      mask.png: {mediaType: image/png, maxSize: 5M, description: M}
    resources: {memory: {size: 1G}, cpu: {count: 1.5}, gpu: {count: 1}}
    timeout: {status: 60s, run: 20s}
    features: {maxBatchSize: 4, retrainable: true, adversarialDefense: true, resultsFormat: x}
"""


def test_the_file_supplies_what_the_class_does_not_say(write: Write) -> None:
    assert card(directory=write(**{"model.yaml": YAML})) == ModelCard(
        name="image-marker",
        title="Marks images",
        version="1.0.0",
        author="The authors",
        kind="file",
        source="here",
        summary="S",
        details="D",
        technical="T",
        performance="P",
        tags=("a", "b"),
        inputs=(CardFile("image.jpg", ("image/png", "image/jpeg"), "10M", "From the file."),),
        outputs=(
            CardFile("results.json", ("application/json",), "1M", "R"),
            CardFile("mask.png", ("image/png",), "5M", "M"),
        ),
        resources=Resources("1G", 1.5, 1),
        timeout_status="60s",
        timeout_run="20s",
        features=Features(
            max_batch_size=4,
            explainable=True,
            retrainable=True,
            adversarial_defense=True,
            results_format="x",
        ),
    )


def test_a_file_that_says_little_leaves_the_class_its_word(write: Write) -> None:
    made = card(directory=write(**{"model.yaml": "specification: '0.4'"}))
    assert made == card()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("specification: '0.3'", "file"),
        ("specification: '0.4'", "grpc"),
        ("specification: '0.4'\ntype: file", "file"),
        ("specification: '0.3'\ntype: grpc", "grpc"),
    ],
)
def test_the_models_type_where_the_file_leaves_it_open(write: Write, text: str, kind: str) -> None:
    assert card(directory=write(**{"model.yaml": text})).kind == kind


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "version: 1.0.0",
            "version: 1.0.1",
            "version: ImageMarker says 1.0.0, model.yaml says",
        ),
        (
            "maxBatchSize: 4",
            "maxBatchSize: 8",
            "features.maxBatchSize and max_batch_size: ImageMarker says 4, model.yaml says 8",
        ),
        (
            "image.jpg:",
            "picture.jpg:",
            (
                "inputs.picture.jpg of model.yaml matches nothing that ImageMarker declares: it "
                "has image, threshold; a file is called like the field, with or without an "
                "extension"
            ),
        ),
        ("image.jpg:", "image.gif:", "inputs.image.gif of model.yaml matches nothing that Image"),
        ("image.jpg:", "image.JPG:", "inputs.image.JPG of model.yaml matches nothing that Image"),
        ("image.jpg:", "threshold:", "inputs of model.yaml lacks image, which ImageMarker declare"),
        ("mask.png:", "marks.png:", "outputs.marks.png of model.yaml matches nothing that"),
        ("mask.png:", "label:", "outputs.label of model.yaml matches nothing that ImageMarker"),
        ("maxSize: 10M", "maxSize: 9M", "inputs.image.jpg.maxSize: ImageMarker says 10M, model.ya"),
        ("maxSize: 5M", "maxSize: 6M", "outputs.mask.png.maxSize: ImageMarker says 5M, model.yaml"),
        (
            "[image/png, image/jpeg]",
            "[image/png]",
            "inputs.image.jpg: ImageMarker says image/jpeg, image/png, model.yaml says image/png",
        ),
        (
            "{mediaType: image/png",
            "{mediaType: image/gif",
            "outputs.mask.png: ImageMarker says image/png, model.yaml says image/gif",
        ),
    ],
)
def test_what_both_say_must_agree(write: Write, old: str, new: str, message: str) -> None:
    assert old in YAML
    text = YAML.replace(old, new)
    with pytest.raises(LoadError) as refused:
        card(directory=write(**{"model.yaml": text}))
    assert str(refused.value).startswith(message)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if new in line)
    if "lacks" in message:
        line = 1 + text.splitlines().index("    inputs:")
    assert str(refused.value).endswith(f" (line {line})")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1.0.0", "version:"),
        ("maxBatchSize: 4, ", ""),
        ("image.jpg:", "image:"),
        ("image.jpg:", "image.png:"),
        ("image.jpg:", "image.bin:"),
        ("mask.png:", "mask:"),
        ("maxSize: 10M", "maxSize:"),
        ("acceptedMediaTypes: [image/png, image/jpeg]", "acceptedMediaTypes: []"),
        ("      results.json: {mediaType: application/json, maxSize: 1M, description: R}\n", ""),
        (
            "image.jpg:",
            "threshold.json: {acceptedMediaTypes: [application/json]}\n      image.jpg:",
        ),
    ],
)
def test_what_one_leaves_open_is_no_disagreement(write: Write, old: str, new: str) -> None:
    assert old in YAML
    card(directory=write(**{"model.yaml": YAML.replace(old, new)}))


def test_a_model_whose_class_has_no_version_takes_the_files(write: Write) -> None:
    directory = write(**{"model.yaml": "specification: '0.4'\nversion: 3.1.4"})
    assert card(Plain, directory).version == "3.1.4"


def test_a_file_that_lists_outputs_lists_all_that_are_files(write: Write) -> None:
    text = "specification: '0.4'\noutputs: {results.json: {mediaType: application/json}}"
    directory = write(**{"model.yaml": text})
    assert card(Plain, directory).outputs[0].filename == "results.json"
    with pytest.raises(LoadError, match=r"outputs of model.yaml lacks mask, which ImageMarker de"):
        card(directory=directory)


@pytest.mark.parametrize(
    ("filename", "matches"),
    [
        ("image", True),
        ("image.jpg", True),
        ("image.jpeg", True),
        ("image.png", True),
        ("image.bin", True),
        ("image.JPG", False),  # as the wire has it: a key is compared letter by letter
        ("image.gif", False),
        ("image.", False),
        ("imagejpg", False),
        ("image.jpg.png", False),
        ("images.jpg", False),
    ],
)
def test_a_files_name_means_the_field_or_not(filename: str, matches: bool) -> None:
    field = Field("image", Bytes("image/jpeg", "image/png"), "image")
    assert file_matches(filename, field) is matches


def test_a_signature_from_load_makes_the_card_complete(write: Write) -> None:
    class Columns(Model):
        def predict(self, **columns: Any) -> Any: ...

    signature = Signature.of({"a": Text()}, {"b": Text()})
    manifest = read_manifest(write(**{"model.yaml": "specification: '0.4'\ninputs: {a.txt: {}}"}))
    assert make_card(Columns, signature, manifest).inputs[0].filename == "a.txt"
    with pytest.raises(LoadError, match=r"inputs.a.txt of model.yaml matches nothing"):
        make_card(Columns, Signature.of({"c": Text()}, {"b": Text()}), manifest)
