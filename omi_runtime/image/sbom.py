"""The software bill of materials of a model's image, in CycloneDX 1.5's JSON.

It lists what the lock knows: the packages of Python, with their package URLs, and the model's files
with their digests. Packages of the base image's system are not Python's to tell.
(https://cyclonedx.org/docs/1.5/json/)
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

_NAMESPACE: Final = uuid.UUID("c8a5a9a2-4a1c-5a83-9a35-1c0b0a1d9a6e")
"""For serial numbers that are the same for the same content."""


def make(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The bill of what a lock lists."""
    model, built = lock["model"], lock["built"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, model['digest'] + built['at'])}",
        "version": 1,
        "metadata": {
            "timestamp": built["at"],
            "tools": {"components": [_tool(built["with"])]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": model["name"],
                "version": model["version"],
                "hashes": [_hash(model["digest"].removeprefix("sha256:"))],
            },
        },
        "components": [
            *(_package(name, version) for name, version in lock["packages"].items()),
            *(_file(path, digest) for path, digest in lock["files"].items()),
        ],
    }


def _tool(text: str) -> dict[str, str]:
    name, _, version = text.partition(" ")
    return {"type": "application", "name": name, "version": version}


def _package(name: str, version: str) -> dict[str, str]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _file(path: str, digest: str) -> dict[str, Any]:
    return {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [_hash(digest)]}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
