"""Items as named files, which the OMI and Modzy wires have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clients.base import Answer, Item, Spec


def files_of(item: Item, spec: Spec) -> dict[str, bytes]:
    """One item as files."""
    return {name: _content(value, spec.inputs.get(name)) for name, value in item.items()}


def outputs_of(files: Mapping[str, bytes], spec: Spec) -> Answer:
    """The answer that files hold: results.json, and a file for each bytes output."""
    data = json.loads(files["results.json"])["data"]
    assert set(data) == {"result", "explanation", "drift"}, data
    binary = [name for name, kind in spec.outputs.items() if kind == "bytes"]
    assert set(files) == {"results.json", *binary}, files
    outputs: dict[str, Any] = {name: files[name] for name in binary}
    if len(spec.outputs) == 1 and not binary:
        outputs = dict.fromkeys(spec.outputs, data["result"])
    elif len(spec.outputs) > len(binary):
        outputs |= data["result"]
    return Answer(outputs, data["explanation"])


def _content(value: Any, kind: str | None) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if kind == "text" else json.dumps(value).encode()
