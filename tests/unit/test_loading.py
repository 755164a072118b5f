"""OMI_MODEL → the author's class, from files and modules that are really there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omi_runtime.errors import LoadError, SettingsError
from omi_runtime.loading import FoundModel, find_model
from omi_runtime.sources import FLAVORS, find_source

Write = Callable[..., Path]

ONE = """
    from omi_runtime import Model
    class Base(Model):
        pass
    class Iris(Base):
        def predict(self, text: str) -> str: ...
    """
TWO = (
    ONE
    + """
    class Rose(Base):
        def predict(self, text: str) -> str: ...
    """
)


def found(source: object) -> FoundModel:
    return find_model(find_source(str(source)))


def refused(source: object) -> str:
    with pytest.raises(SettingsError) as error:
        found(source)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"OMI_MODEL={str(source)!r} names no model: ")
    assert str(error.value).endswith(
        "; expected a directory with model.py, a file, file.py:Class or package.module:Class"
    )
    return str(error.value).partition("names no model: ")[2].partition("; expected")[0]


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/model.py", "{}/model.py:Iris"])
def test_a_directory_or_file_with_one_model(write: Write, form: str) -> None:
    directory = write(**{"model.py": ONE})
    model = found(form.format(directory))
    assert model.model_class.__name__ == "Iris"
    assert model.directory == directory.resolve()


def test_one_of_several_by_its_name(write: Write) -> None:
    directory = write(**{"model.py": TWO})
    assert found(f"{directory / 'model.py'}:Rose").model_class.__name__ == "Rose"
    assert found(f"{directory}:Rose").model_class.__name__ == "Rose"
    assert refused(directory) == (
        f"{directory / 'model.py'} has several models (Iris, Rose): add :Iris"
    )


def test_a_path_that_exists_may_hold_colons(write: Write) -> None:
    directory = write(**{"a:b/model.py": ONE}) / "a:b"
    assert found(directory).model_class.__name__ == "Iris"
    assert found(f"{directory}:Iris").model_class.__name__ == "Iris"


def test_a_module_by_its_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(**{"otherpackage/__init__.py": "", "otherpackage/iris.py": ONE})
    monkeypatch.syspath_prepend(directory)
    model = found("otherpackage.iris:Iris")
    assert model.model_class.__name__ == "Iris"
    assert model.directory == directory / "otherpackage"
    assert refused("otherpackage.iris:Tulip") == "otherpackage.iris has no Tulip"
    assert refused("otherpackage.iris:Model").endswith("is no subclass of omi_runtime.Model")


@pytest.mark.parametrize(
    "source",
    ["nowhere", "nowhere/model.py", "nowhere.py:Iris", "no.such.module:Iris", "a b:Iris", ":", ":x",
     "json", "..:Iris", "os.path.nothing:Iris"],
)  # fmt: skip
def test_what_is_not_there(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reason = refused(source)
    assert "no such file or directory" in reason or "has no model.py" in reason


def test_a_directory_without_a_model_py(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path}/ has no model.py"
    assert refused(f"{tmp_path}/") == f"{tmp_path}/ has no model.py"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "from omi_runtime import Model",
        "from omi_runtime import Model\nclass NoPredict(Model): ...",
        "class Stranger:\n    def predict(self): ...",
        "from othermodels import Iris",
    ],
)
def test_a_file_without_a_model_of_its_own(write: Write, text: str) -> None:
    directory = write(**{"model.py": text, "othermodels.py": ONE})
    assert refused(directory) == (
        f"{directory / 'model.py'} has no subclass of omi_runtime.Model with a predict"
    )


def test_a_name_that_is_no_model(write: Write) -> None:
    directory = write(**{"model.py": ONE + "\n    number = 5\n"})
    assert refused(f"{directory}/model.py:Tulip") == "model has no Tulip"
    assert refused(f"{directory}/model.py:number") == "5 is no subclass of omi_runtime.Model"
    assert "is no subclass of omi_runtime.Model" in refused(f"{directory}/model.py:Model")


def test_a_file_that_is_no_python(write: Write) -> None:
    directory = write(**{"weights.bin": "x"})
    with pytest.raises(SettingsError, match="which is no Python file"):
        found(directory / "weights.bin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "could not be imported: ZeroDivisionError: division by zero"),
        ("import no_such_package", "could not be imported: ModuleNotFoundError: No module named"),
        ("def (", "could not be imported: SyntaxError"),
        ("raise SystemExit(3)", "could not be imported: SystemExit: 3"),
        (
            "from omi_runtime import Tensor\nTensor('FP31')",
            "could not be imported: ValueError: datatype 'FP31' is none of",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_keeps_its_traceback(
    write: Write, text: str, message: str
) -> None:
    directory = write(**{"model.py": text})
    with pytest.raises(LoadError) as error:
        found(directory)
    assert f"{directory.resolve() / 'model.py'} {message}" in str(error.value)
    assert error.value.__cause__ is not None
    assert error.value.exit_code == 3
    assert "model" not in sys.modules
    write(**{"model.py": ONE})
    assert found(directory).model_class.__name__ == "Iris"  # a later try starts afresh


def test_a_module_with_a_broken_import_is_an_error_of_the_load(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(write(**{"otherbroken.py": "1 / 0"}))
    with pytest.raises(LoadError, match="module otherbroken could not be imported: ZeroDivision"):
        found("otherbroken:Iris")


def test_while_it_is_imported_a_model_finds_its_neighbours_and_itself(write: Write) -> None:
    directory = write(
        **{
            "model.py": """
                from __future__ import annotations
                import sys
                from omi_runtime import Model
                from othermodule import WORD
                assert sys.modules[__name__].__file__ == __file__
                class Echo(Model):
                    word = WORD
                    def predict(self, text: str) -> str: ...
                """,
            "othermodule.py": "WORD = 'neighbour'",
        }
    )
    model = found(directory).model_class
    assert model.word == "neighbour"
    assert sys.modules[model.__module__].Echo is model


def test_a_file_may_be_called_like_a_module_that_is_there(write: Write) -> None:
    directory = write(**{"json.py": ONE})
    model = found(directory / "json.py").model_class
    assert model.__name__ == "Iris"
    assert sys.modules["json"] is json
    assert model.__module__ == "omi_model_json"


def test_two_models_of_one_file_name_do_not_mix(write: Write) -> None:
    directory = write(**{"a/model.py": ONE, "b/model.py": ONE.replace("Iris", "Rose")})
    assert found(directory / "a").model_class.__name__ == "Iris"
    assert found(directory / "b").model_class.__name__ == "Rose"
    assert found(directory / "a").model_class.__name__ == "Iris"


def test_before_anything_is_imported_a_source_can_be_checked(write: Write) -> None:
    directory = write(**{"model.py": "raise AssertionError('imported')"})
    find_source(str(directory))
    find_source(f"{directory}/model.py:Anything")


# --- flavors ---

FLAVOR = """
from pathlib import Path
from omi_runtime import Model

class Wrapped(Model):
    def predict(self, text: str) -> str: ...

def claim(source):
    if source.endswith(".weird"):
        return Wrapped
    return "no model" if source.endswith(".wrong") else None
"""
ASK = """
import sys
from omi_runtime.errors import StartupError
from omi_runtime.loading import find_model
from omi_runtime.sources import find_source
try:
    found = find_model(find_source(sys.argv[1]))
except StartupError as error:
    print(error)
else:
    print(found.model_class.__name__, found.directory)
"""


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("net.weird", "Wrapped net.weird"),
        ("net.wrong", "'no model' is no subclass of omi_runtime.Model"),
        ("net.other", "there is no such file or directory"),
    ],
)
def test_a_flavor_claims_what_is_of_its_kind(tmp_path: Path, source: str, answer: str) -> None:
    (tmp_path / "weird_flavor.py").write_text(FLAVOR)
    info = tmp_path / "weird-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weird\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{FLAVORS}]\nweird = weird_flavor:claim\n")
    done = subprocess.run(
        [sys.executable, "-c", ASK, source],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer in done.stdout, done.stderr
