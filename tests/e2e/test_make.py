"""`make serve` where `python3` is too old or lacks a part: what it says, and that it can be mended.

The interpreters are scripts in front of the tests' own. What pip installs is left out.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clients.process import ROOT, Finished, run

OLD = f"""
case $1 in
  -c) exec {sys.executable} -c "import sys; sys.version_info = (3, 9, 2); $2" ;;
  --version) echo Python 3.9.2 ;;
  *) exit 99 ;;
esac
"""
WITHOUT_ENSUREPIP = f"""
case $1 in
  -c) exec {sys.executable} -c "import sys; sys.modules['ensurepip'] = None; $2" ;;
  *) exit 99 ;;
esac
"""
ENSUREPIP_FAILS = f"""
[ $1 = -m ] || exec {sys.executable} "$@"
mkdir -p .venv/bin
ln -sf {sys.executable} .venv/bin/python
echo 'Error: Command ... -m ensurepip returned non-zero exit status 1.'
exit 1
"""
GOOD = f"""
[ $1 = -m ] || exec {sys.executable} "$@"
{sys.executable} "$@" --without-pip
echo 'echo "$*" >> .venv/installs' > .venv/bin/pip
echo 'echo served by "$(.venv/bin/python --version)"' > .venv/bin/omi
chmod +x .venv/bin/pip .venv/bin/omi
"""


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., None]:
    """Puts an interpreter in place."""

    def put(script: str, name: str = "python3") -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh -e\n{script}")
        path.chmod(0o755)

    return put


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Finished]:
    """Runs the Makefile in a folder that is like a new checkout."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "pyproject.toml").touch()

    def make(*arguments: str) -> Finished:
        path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        # Under `make test` it is not to take itself for a part of that.
        outer = {"MAKELEVEL": "", "MAKEFLAGS": "", "MFLAGS": "", "MAKEOVERRIDES": ""}
        return run("make", "-C", str(checkout), *arguments, PATH=path, PYTHON="python3", **outer)

    return make


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Where that checkout has its virtual environment."""
    return tmp_path / "checkout" / ".venv"


def half_made(venv: Path, version: str, *names: str) -> None:
    """What an earlier `make serve` has left behind."""
    (venv / "lib" / f"python{version}").mkdir(parents=True)
    (venv / "bin").mkdir()
    for name in names:
        (venv / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
        (venv / "bin" / name).chmod(0o755)


def test_an_old_python_is_told_before_anything_is_made(
    python: Callable[..., None], make: Callable[..., Finished], venv: Path
) -> None:
    python(OLD)
    refused = make("serve")
    said, ended = refused.err.splitlines()
    assert said == (
        "Python 3.11 or newer is needed, and python3 is: Python 3.9.2. "
        "Name another one: make serve PYTHON=python3.12"
    )
    assert ended.startswith("make: *** ")
    assert not venv.exists()
    python(GOOD, "python3.12")
    served = make("serve", "PYTHON=python3.12")
    assert served.code == 0, served
    assert "served by Python 3." in served.out


def test_a_name_that_is_no_python_is_told(make: Callable[..., Finished]) -> None:
    refused = make("test", "PYTHON=python3.99")
    assert refused.err.startswith("Python 3.11 or newer is needed, and python3.99 is: ")
    assert "make test PYTHON=python3.12" in refused.err


def test_a_missing_ensurepip_is_told_with_the_package_that_has_it(
    python: Callable[..., None], make: Callable[..., Finished], venv: Path
) -> None:
    for name in ("python3", "python3.12"):
        python(WITHOUT_ENSUREPIP, name)
        said, _ = make("serve", f"PYTHON={name}").err.splitlines()
        assert said.startswith(f"{name} has no ensurepip, ")
        assert said.endswith(f" apt install {name}-venv")
        assert not venv.exists()
    python(GOOD)
    assert make("serve").code == 0


def test_an_environment_that_could_not_be_made_is_removed(
    python: Callable[..., None], make: Callable[..., Finished], venv: Path
) -> None:
    python(ENSUREPIP_FAILS)
    failed = make("serve")
    assert failed.code == 2
    assert "non-zero exit status 1" in failed.out, "what went wrong is told"
    assert not venv.exists()
    python(GOOD)
    assert make("serve").code == 0


@pytest.mark.parametrize(
    ("version", "names"),
    [("3.9", ["python", "pip"]), ("3.10", ["python", "pip"]), ("3.11", ["python"])],
    ids=["of Python 3.9", "of Python 3.10", "without pip"],
)
def test_an_environment_that_is_useless_is_made_again(
    version: str,
    names: list[str],
    python: Callable[..., None],
    make: Callable[..., Finished],
    venv: Path,
) -> None:
    half_made(venv, version, *names)
    python(GOOD)
    served = make("serve")
    assert served.code == 0, served
    assert "served by Python 3." in served.out
    assert len((venv / "installs").read_text().splitlines()) == 1
    again = make("serve")
    assert "venv --clear" in served.out
    assert "venv --clear" not in again.out, "one that is good is kept"
    assert len((venv / "installs").read_text().splitlines()) == 1
