"""Of the tests of whole processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crew import MODELS, Crew


@pytest.fixture
def crew(servers: Any, marks: Path, tmp_path: Path) -> Any:
    """Starts a server with two workers, or as many as the settings say."""

    def start(
        interface: str = "modzy",
        model: str = "Who",
        *,
        command: tuple[str, ...] = (),
        **settings: Any,
    ) -> Crew:
        settings = {
            "INTERFACE": interface,
            "OMI_MODEL": f"{MODELS}:{model}",
            "MARKS": marks,
            "OMI_WORKERS": "2",
        } | settings
        return Crew(servers(*command, **settings), marks, tmp_path, model)

    return start
