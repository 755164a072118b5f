"""A model's files are locked by their digests, and verified."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from omi_runtime import provenance
from omi_runtime.errors import LoadError
from omi_runtime.provenance import LOCK_FILE, SBOM_FILE, Tampered

Change = Callable[[Path], object]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with two files, one below another folder, and what the lock leaves out."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "model.py").write_text("print()\n")
    (tmp_path / "weights" / "ä 1.bin").write_bytes(bytes(range(256)))
    (tmp_path / LOCK_FILE).write_text("{}")
    (tmp_path / SBOM_FILE).write_text("{}")
    return tmp_path


def test_files_are_listed_by_their_path_with_their_digest(model: Path) -> None:
    files = provenance.digest_files(model)
    assert list(files) == ["model.py", "weights/ä 1.bin"]
    assert files["model.py"] == hashlib.sha256(b"print()\n").hexdigest()


def test_the_digest_is_what_common_tools_make(model: Path) -> None:
    """The line in the module's docstring."""
    command = next(
        part for part in (provenance.__doc__ or "").split("\n\n") if part.strip().startswith("find")
    )
    script = command.replace("xargs", "xargs -d '\\n'")
    done = subprocess.run(
        ["sh", "-c", script], cwd=model, capture_output=True, text=True, check=True
    )
    assert f"sha256:{done.stdout.split()[0]}" == provenance.digest_of(
        provenance.digest_files(model)
    )


def test_what_was_locked_is_verified(model: Path) -> None:
    provenance.verify(model, {"files": provenance.digest_files(model)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: (m / "model.py").write_text("print(1)\n"), "model.py was changed"),
        (lambda m: (m / "model.py").unlink(), "model.py is missing"),
        (lambda m: (m / "numpy.py").write_text(""), "numpy.py was added"),
        (lambda m: (m / "weights" / "x").write_text(""), "weights/x was added"),
    ],
)
def test_what_differs_is_named(model: Path, change: Change, told: str) -> None:
    lock = {"files": provenance.digest_files(model)}
    change(model)
    with pytest.raises(Tampered, match=told):
        provenance.verify(model, lock)


def test_only_the_first_of_many_are_named(model: Path) -> None:
    lock = {"files": provenance.digest_files(model)}
    for number in range(5):
        (model / f"{number}").write_text("")
    with pytest.raises(Tampered, match="0 was added; 1 was added; 2 was added; and 2 more"):
        provenance.verify(model, lock)


@pytest.mark.parametrize("target", ["/etc/hostname", "model.py", "weights"])
def test_links_are_refused(model: Path, target: str) -> None:
    (model / "link").symlink_to(target)
    with pytest.raises(LoadError, match="link is a symbolic link"):
        provenance.digest_files(model)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"files": []}', b"\xff"])
def test_what_is_no_lock_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    with pytest.raises(LoadError, match=LOCK_FILE):
        provenance.read_lock(tmp_path)


def test_without_a_lock_there_is_no_digest(tmp_path: Path) -> None:
    assert provenance.read_lock(tmp_path) is None
    assert provenance.locked_digest(None) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iris", "iris:1.0.0@sha256:0"),
        ("my iris", "my iris:1.0.0@sha256:0"),
        ("fleur d'été\r\nx: y", "fleur d'%C3%A9t%C3%A9%0D%0Ax: y:1.0.0@sha256:0"),
        ("\ud800", "%ED%A0%80:1.0.0@sha256:0"),
    ],
)
def test_an_identity_fits_into_a_header(name: str, expected: str) -> None:
    assert provenance.identity(name, "1.0.0", "sha256:0") == expected
