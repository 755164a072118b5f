"""`omi manifest modzy`: what is written and read back gives the same card."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omi_modzy.manifest import metadata, render

from omi_runtime import Bytes, Model, Tensor
from omi_runtime.adapter import ManifestRequest
from omi_runtime.card import ModelCard, make_card
from omi_runtime.hints import read_signature
from omi_runtime.metadata import read_manifest
from omi_runtime.settings import Settings
from omi_runtime.signature import Signature

ROOT = Path(__file__).parents[2]


class Plain(Model):
    """Look at an image.

    It says how large it is.
    """

    max_batch_size = 4

    def predict(
        self,
        image: Annotated[list, Bytes("image/png", "image/jpeg", max_size="5M", description="It.")],
        scale: Annotated[np.ndarray, Tensor("FP32")],
    ) -> Annotated[np.ndarray, Tensor("INT64", name="size")]:
        raise NotImplementedError


def text_of(card: ModelCard) -> str:
    return render(
        ManifestRequest(card, Signature.of({}, {"o": Bytes()}), Settings(), [], {}, "", "n")
    )


def card_of(folder: Path, text: str) -> ModelCard:
    """The card of Plain with this model.yaml beside it."""
    (folder / "model.yaml").write_text(text, encoding="utf-8")
    return make_card(Plain, read_signature(Plain), read_manifest(folder))


def test_a_class_without_a_file(tmp_path: Path) -> None:
    card = make_card(Plain, read_signature(Plain), None)
    text = text_of(card)
    assert card_of(tmp_path, text) == card
    assert yaml.safe_load(text) == {
        "specification": "0.4",
        "type": "grpc",
        "version": "0.0.0",
        "name": "plain",
        "description": {"summary": "Look at an image.", "details": "It says how large it is."},
        "inputs": {
            "image": {
                "acceptedMediaTypes": ["image/png", "image/jpeg"],
                "maxSize": "5M",
                "description": "It.",
            },
            "scale": {"acceptedMediaTypes": list(Tensor("FP32").media_types)},
        },
        "outputs": {"results.json": {"mediaType": "application/json"}},
        "features": {"adversarialDefense": False, "maxBatchSize": 4, "retrainable": False},
    }
    assert text.startswith(
        "# To be added before an upload: version, author, resources.memory.size, "
        "resources.cpu.count, timeout.status, timeout.run.\n"
    )


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
FILES = {
    "inputs": [("image", "image.png"), ("scale", "scale.json")],
    "outputs": [("results.json",)],
}


@st.composite
def files(draw: st.DrawFn, section: str) -> dict[str, Any]:
    content = {}
    for spellings in FILES[section]:
        file: dict[str, Any] = {"description": draw(TEXT)}
        if spellings[0] != "image":
            file["maxSize"] = draw(st.sampled_from(["", "1K", "10M"]))
        if section == "outputs":
            file["mediaType"] = "application/json"
        else:
            file["acceptedMediaTypes"] = ["image/png", "image/jpeg"]
        content[draw(st.sampled_from(spellings))] = file
    return content


SPAN = st.sampled_from(["", "20s", "1m30s", "0s"])
MANIFESTS = st.fixed_dictionaries(
    {"specification": st.sampled_from(["0.3", "0.4"]), "type": st.sampled_from(["file", "grpc"])},
    optional={
        "source": TEXT,
        "version": st.sampled_from(["1.0.0", "1.10", "2"]),
        "name": TEXT,
        "author": TEXT,
        "description": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(["summary", "details", "technical", "performance"], TEXT)
        ),
        "tags": st.lists(TEXT, max_size=3),
        "inputs": files("inputs"),
        "outputs": files("outputs"),
        "resources": st.fixed_dictionaries(
            {
                "memory": st.fixed_dictionaries({"size": st.sampled_from(["", "512M", "1.5G"])}),
                "cpu": st.fixed_dictionaries({"count": st.sampled_from([0, 0.5, 2])}),
                "gpu": st.fixed_dictionaries({"count": st.integers(0, 2)}),
            }
        ),
        "timeout": st.fixed_dictionaries({"status": SPAN, "run": SPAN}),
        "internal": st.fixed_dictionaries(
            {
                "features": st.fixed_dictionaries(
                    {"explainable": st.booleans(), "adversarialDefense": st.booleans()}
                )
            }
        ),
        "features": st.fixed_dictionaries(
            {
                "adversarialDefense": st.booleans(),
                "maxBatchSize": st.just(4),
                "retrainable": st.booleans(),
                "resultsFormat": TEXT,
                "driftFormat": TEXT,
                "explanationFormat": TEXT,
            }
        ),
    },
)


@settings(deadline=None, max_examples=60)
@given(content=MANIFESTS)
def test_a_file_that_was_read_is_written_so_that_it_reads_the_same(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("model")
    card = card_of(folder, yaml.safe_dump(content, allow_unicode=True))
    assert card_of(folder, text_of(card)) == card


def test_what_0_3_says_under_internal_is_read_and_written(tmp_path: Path) -> None:
    said = {"features": {"explainable": True, "adversarialDefense": True}}
    content = {"specification": "0.3", "type": "file", "internal": said}
    card = card_of(tmp_path, yaml.safe_dump(content))
    assert card.features.explainable
    assert card.features.adversarial_defense
    text = text_of(card)
    written = yaml.safe_load(text)
    assert written["internal"] == said
    assert written["features"]["adversarialDefense"] is True
    assert card_of(tmp_path, text) == card


@pytest.mark.parametrize(("kind", "specification"), [("file", "0.3"), ("grpc", "0.4")])
def test_the_specification_is_that_of_the_models_type(kind: str, specification: str) -> None:
    card = ModelCard("served", "title", "1.0.0", kind=kind)
    assert metadata(card)["specification"] == specification


def test_a_text_of_several_lines_is_written_as_such() -> None:
    card = ModelCard("served", "title", "1.0.0", technical="# Overview\nA tree.\n")
    assert "technical: |\n    # Overview\n    A tree.\n" in text_of(card)


def test_the_command(tmp_path: Path) -> None:
    for example in ("iris", "colours"):
        model = tmp_path / example
        shutil.copytree(ROOT / "docs" / "examples" / example, model)
        described = run(model, "describe", "--json")
        (model / "model.yaml").write_text(run(model, "manifest", "modzy"))
        assert run(model, "describe", "--json") == described


def run(model: Path, command: str, *arguments: str) -> str:
    omi = str(Path(sys.executable).with_name("omi"))
    order = [omi, command, str(model), *arguments]
    if command == "manifest":
        order = [omi, command, *arguments, str(model)]
    return subprocess.run(order, capture_output=True, text=True, check=True, timeout=60).stdout
