"""The examples of the documentation, and what expected.json says that they answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clients.base import Answer, Spec
from clients.process import EXAMPLES

SPECS = {
    "iris": Spec(str(EXAMPLES / "iris"), "iris", {"measurements": "FP32"}, {"species": "INT64"}),
    "colours": Spec(str(EXAMPLES / "colours"), "colours", {"image": "bytes"}, {"palette": "json"}),
    "entities": Spec(str(EXAMPLES / "entities"), "entities", {"text": "text"}, {"output": "json"}),
}


def expected(spec: Spec) -> tuple[list[dict[str, Any]], list[Answer], list[Any]]:
    """Items, their answers and their explanations, from expected.json."""
    content = json.loads(Path(spec.source, "expected.json").read_bytes())
    items = [
        {
            name: Path(spec.source, value["file"]).read_bytes() if "file" in value else value
            for name, value in request.items()
        }
        for request in content["requests"]
    ]
    answers = [Answer(outputs) for outputs in content["answers"]]
    return items, answers, content.get("explanations", [])
