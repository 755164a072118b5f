"""`omi build --output`: the context of a build, without anything that builds."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from clients.process import EXAMPLES, OMI, Finished, run

MODEL = '''
from omi_runtime import Model
class Echo(Model):
    """Say "it" again: $HOME."""
    version = "2.0.0"
    def predict(self, text: str) -> str:
        return text
'''
EPOCH = "1700000000"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / ".git").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / "model.py").write_text(MODEL)
    for name in (".env", "omi.lock.json", "__pycache__/model.pyc", ".git/config", "Dockerfile"):
        (folder / name).write_text('{"files": {"secret": ""}}')
    return folder


def build(model: Path, folder: Path, *arguments: str) -> Finished:
    return run(
        OMI, "build", str(model), "--output", str(folder), *arguments, SOURCE_DATE_EPOCH=EPOCH
    )


def built(model: Path, folder: Path, *arguments: str) -> str:
    done = build(model, folder, *arguments)
    assert done.code == 0, str(done)
    return done.out.strip()


def test_a_context_has_everything_and_no_secrets(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    line = built(model, folder, "--builder=buildah", "--platform=linux/arm64", "--build-arg=A=b")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    (wheel,) = [name for name in files if name.startswith("runtime/")]
    assert files - {wheel} == {
        "Dockerfile",
        "facts.json",
        "model/model.py",
        "pins.txt",
        "requirements/requirements.txt",
        "runtime.txt",
        "wheels.txt",
    }
    assert line.startswith("buildah build --tag=echo:sha256-")
    assert "--platform=linux/arm64" in line
    assert "--build-arg=A=b" in line
    assert f"--timestamp={EPOCH}" in line
    assert "--annotation=ml.openmodel.port=8080" in line
    assert line.endswith(str(folder))


def test_the_same_folder_makes_the_same_context(model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        built(model, tmp_path / name, "--tag=a:1")
        (model / "model.py").touch()
    compared = subprocess.run(
        ["diff", "-r", tmp_path / "one", tmp_path / "two"], capture_output=True, check=False
    )
    assert compared.returncode == 0, compared.stdout
    times = {int(path.stat().st_mtime) for path in (tmp_path / "two").rglob("*")}
    assert times == {int(EPOCH)}


def test_other_wheels_make_another_layer(model: Path, tmp_path: Path) -> None:
    """Builders do not look into a folder that is only mounted, and would take what is cached."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    lists = []
    for content in ("one", "two"):
        (wheels / "some-1.0-py3-none-any.whl").write_text(content)
        built(model, tmp_path / content, f"--offline={wheels}")
        lists.append((tmp_path / content / "wheels.txt").read_text())
    assert [text.split()[1] for text in lists] == ["some-1.0-py3-none-any.whl"] * 2
    assert lists[0] != lists[1]
    assert "pins.txt wheels.txt ./\n" in (tmp_path / "one" / "Dockerfile").read_text()


def test_labels_are_quoted_for_a_dockerfile(model: Path, tmp_path: Path) -> None:
    built(model, tmp_path / "context")
    text = (tmp_path / "context" / "Dockerfile").read_text()
    assert r'org.opencontainers.image.description="Say \"it\" again: \$HOME."' in text


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("registry.test:5000/a/b:1", "registry.test:5000/a/b:1"),
        ("registry.test:5000/a/b", "registry.test:5000/a/b:sha256-"),
        ("", "echo:sha256-"),
    ],
)
def test_an_image_without_a_tag_gets_one_of_its_own(
    model: Path, tmp_path: Path, tag: str, expected: str
) -> None:
    line = built(model, tmp_path / "context", f"--tag={tag}")
    assert f"--tag={expected}" in line


def test_mlflows_run_is_the_tag_and_is_told_to_the_lock(model: Path, tmp_path: Path) -> None:
    (model / "MLmodel").write_text("run_id: 0a1b\nmlflow_version: 3.1.0\n")
    assert "--tag=echo:0a1b" in built(model, tmp_path / "context")
    facts = json.loads((tmp_path / "context" / "facts.json").read_bytes())
    assert facts["training"] == {"run_id": "0a1b", "mlflow_version": "3.1.0"}
    (model / "training.json").write_text('{"accuracy": 0.9}')
    built(model, tmp_path / "other")
    facts = json.loads((tmp_path / "other" / "facts.json").read_bytes())
    assert facts["training"] == {"accuracy": 0.9}


def test_the_codes_revision_is_told(tmp_path: Path) -> None:
    built(EXAMPLES / "entities", tmp_path / "context")
    facts = json.loads((tmp_path / "context" / "facts.json").read_bytes())
    git = ["git", "-C", str(EXAMPLES), "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    expected = done.stdout.strip()
    assert (facts["code"] or {}).get("revision", "") == expected


def test_hashes_are_checked_and_bind_the_runtimes_own(model: Path, tmp_path: Path) -> None:
    (model / "requirements.txt").write_text("left==1.0 \\\n    --hash=sha256:00 --hash=sha256:01\n")
    built(model, tmp_path / "context")
    text = (tmp_path / "context" / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.txt" in text
    assert "-c ../pins.txt -r ../runtime.txt" in text
    assert (tmp_path / "context" / "pins.txt").read_text() == "left==1.0\n"


def test_what_the_requirements_name_is_there_to_be_installed(model: Path, tmp_path: Path) -> None:
    lists = {
        "requirements.txt": "# all\n--requirement lists/more.txt\n-c lists/pins.txt # one\n",
        "lists/more.txt": "-r last.txt\n./wheels/left-1.0-py3-none-any.whl; python_version>'3'\n",
        "lists/last.txt": "-f ../others\nright[all]\n",
        "lists/pins.txt": "right==2.0\n",
        "lists/unused.txt": "unused\n",
    }
    for name in ("lists", "wheels", "others"):
        (model / name).mkdir()
    for name, text in lists.items():
        (model / name).write_text(text)
    for place, name, version in (
        ("wheels", "left", "1.0"),
        ("others", "right", "2.0"),
        ("others", "right", "3.0"),
    ):
        with zipfile.ZipFile(model / place / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            info = f"{name}-{version}.dist-info"
            wheel.writestr(f"{name}.py", f"version = {version}")
            facts = {"Metadata-Version": "2.1", "Name": name, "Version": version}
            tags = {"Wheel-Version": "1.0", "Root-Is-Purelib": "true", "Tag": "py3-none-any"}
            for file, content in (("METADATA", facts), ("WHEEL", tags)):
                lines = "".join(f"{key}: {text}\n" for key, text in content.items())
                wheel.writestr(f"{info}/{file}", lines)
            wheel.writestr(f"{info}/RECORD", "")
    built(model, tmp_path / "context")
    copied = tmp_path / "context" / "requirements"
    names = {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()}
    assert names == lists.keys() - {"lists/unused.txt"} | {
        "others/right-2.0-py3-none-any.whl",
        "others/right-3.0-py3-none-any.whl",
        "wheels/left-1.0-py3-none-any.whl",
    }
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--target", str(target)]
    done = subprocess.run(
        [*pip, "-r", "requirements.txt"], cwd=copied, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (target / "right.py").read_text() == "version = 2.0"
    assert (target / "left.py").exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-r ../other.txt", "not in the model's folder by a relative path"),
        ("-r other.txt", "which is not there"),
        ("-cother.txt", "which is not there"),
        ("--constraint=other.txt", "which is not there"),
        ("./left.whl", "which is not there"),
        ("/left.whl --hash=sha256:00", "not in the model's folder by a relative path"),
        ("left @ file:///left.whl", "not in the model's folder by a relative path"),
        (".", "is the model's folder itself"),
        ("-e ./left", "leave the option out"),
    ],
)
def test_requirements_that_no_image_could_install_are_told_in_a_line(
    model: Path, tmp_path: Path, line: str, why: str
) -> None:
    (model / "requirements.txt").write_text(f"numpy\n{line}\n")
    done = build(model, tmp_path / "context")
    assert (done.code, done.err.count("\n")) == (3, 1), str(done)
    assert done.err.startswith(f"omi: requirements.txt has the line {line!r}, ")
    assert why in done.err


def test_hashes_in_a_list_that_is_named_are_checked_too(model: Path, tmp_path: Path) -> None:
    (model / "requirements.txt").write_text("-r more.txt\nhttps://x.test/y.whl --hash=sha256:02\n")
    (model / "more.txt").write_text("left[a,b]==1.0 --hash=sha256:00\n")
    built(model, tmp_path / "context")
    assert "--require-hashes" in (tmp_path / "context" / "Dockerfile").read_text()
    assert (tmp_path / "context" / "pins.txt").read_text() == "left==1.0\n"


def test_a_gpu_is_asked_for(model: Path, tmp_path: Path) -> None:
    line = built(model, tmp_path / "context", "--cuda=wheels", "--base=python:3.13-slim")
    text = (tmp_path / "context" / "Dockerfile").read_text()
    assert "NVIDIA_VISIBLE_DEVICES=all \\\n" in text
    assert "PYTHON_IMAGE" not in text
    assert "--build-arg=BASE_IMAGE=python:3.13-slim" in line


def test_a_version_of_cuda_chooses_the_base(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    line = built(model, folder, "--cuda=12.8")
    base = "nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04"
    assert f"--build-arg=BASE_IMAGE={base}" in line
    text = (folder / "Dockerfile").read_text()
    assert "ARG PYTHON_IMAGE=python:3.12-slim-bookworm\n" in text
    assert "NVIDIA_VISIBLE_DEVICES=all \\\n" in text
    assert f'org.opencontainers.image.base.name="{base}"' in text
    assert json.loads((folder / "facts.json").read_text())["base"] == base


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--cuda=11.8"],
            "--cuda '11.8' is not known: expected 12.6, 12.8, 12.9, 13.0, or wheels where",
        ),
        (
            ["--cuda=12.8", "--base=python:3.12"],
            "--cuda 12.8 chooses the base image, and so does --base 'python:3.12': leave one out",
        ),
    ],
)
def test_what_chooses_no_base(model: Path, tmp_path: Path, options: list[str], told: str) -> None:
    done = build(model, tmp_path / "context", *options)
    assert done.code == 2
    assert done.err.startswith(f"omi: {told}")


def test_a_package_that_the_model_needs_here(model: Path, tmp_path: Path) -> None:
    (model / "model.py").write_text(f"import no_such_package\n{MODEL}")
    (model / "requirements.txt").write_text("no-such-package\n")
    done = build(model, tmp_path / "context")
    assert done.code == 3
    assert done.err.splitlines()[-1].endswith(
        "No module named 'no_such_package'; omi build imports the model for what the image says of "
        f"it: pip install -r {model / 'requirements.txt'}"
    )


def test_the_packed_runtime_is_this_one(model: Path, tmp_path: Path) -> None:
    """Installed elsewhere, the wheel runs."""
    built(model, tmp_path / "context")
    (wheel,) = (tmp_path / "context" / "runtime").iterdir()
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    code = (
        "import omi_runtime, omi_grpc, omi_kserve, omi_modzy; print(omi_runtime.__file__);"
        "from omi_runtime.image import context; "
        "print(context.Path(context.__file__).with_name('Dockerfile').exists())"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(target)!r}]; {code}"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path.endswith("site-packages"))},
    )
    assert done.stdout.splitlines() == [str(target / "omi_runtime/__init__.py"), "True"], done
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "__pycache__" in name or "tests" in name]


@pytest.mark.parametrize(
    ("argument", "code", "told"),
    [
        ("--tag=a@sha256:00", 2, "has a digest"),
        ("--offline={0}/model", 3, "there are no wheels in it"),
        ("--output={0}/full", 2, "is not empty"),
        ("--output={0}/model", 2, "lies in the model's folder, which is copied there"),
        ("--output={0}/model/build", 2, "lies in the model's folder, which is copied there"),
        ("--output={0}/link/to/build", 2, "lies in the model's folder, which is copied there"),
        ("--output={0}/full/file/build", 2, "cannot be written to: Not a directory"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_line(
    model: Path, tmp_path: Path, argument: str, code: int, told: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to(model)
    before = sorted(model.rglob("*"))
    done = build(model, tmp_path / "context", argument.format(tmp_path))
    assert done.code == code, str(done)
    assert told in done.err
    assert done.err.count("\n") == 1
    assert sorted(model.rglob("*")) == before


def test_a_model_that_cannot_be_imported_is_told(model: Path, tmp_path: Path) -> None:
    (model / "model.py").write_text("import no_such_module_for_omi\n")
    done = build(model, tmp_path / "context")
    assert done.code == 3
    assert "No module named 'no_such_module_for_omi'" in done.err
