"""Of the unit tests: models written to files, and an interpreter that forgets them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: an example is not wrong because it took long.
settings.register_profile(
    "omi",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("omi")


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports, and puts on sys.path, is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("model", "omi_model", "other", "weights")):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, forgetful: None) -> Callable[..., Path]:
    """Writes files below a directory of the test's own: `write(**{"model.py": …})`."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        return tmp_path

    return write
