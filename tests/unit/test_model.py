"""What authors subclass."""

from pathlib import Path

import pytest

from omi_runtime import Model
from omi_runtime.model import kebab_case


@pytest.mark.parametrize(
    ("name", "kebab"),
    [
        ("Iris", "iris"),
        ("IrisClassifier", "iris-classifier"),
        ("HTTPModel", "http-model"),
        ("MyHTTPModel2", "my-http-model2"),
        ("Resnet50V2", "resnet50-v2"),
        ("snake_case", "snake-case"),
        ("A", "a"),
    ],
)
def test_a_models_name_is_its_classs_in_kebab_case(name: str, kebab: str) -> None:
    assert kebab_case(name) == kebab
    assert type(name, (Model,), {}).name == kebab


def test_a_name_of_its_own_is_not_inherited() -> None:
    class First(Model):
        name = "chosen"

    class SecondOne(First):
        pass

    assert (First.name, SecondOne.name) == ("chosen", "second-one")


def test_the_defaults() -> None:
    model = type("Plain", (Model,), {})()
    assert (model.version, model.max_batch_size, model.thread_safe) == ("", 1, False)
    assert model.directory == Path()
    assert model.load() is None
    assert model.close() is None
