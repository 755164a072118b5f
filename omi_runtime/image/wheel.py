"""The runtime that runs here as a wheel, for an image: the same code, whether installed or edited.

A wheel is a zip with a record of its files (packaging.python.org, Binary distribution format); the
packages are taken from where they are imported from, so neither a build backend nor a network is
needed, and the same files give the same wheel.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, entry_points
from pathlib import Path
from typing import Final

from omi_runtime.adapter import GROUP
from omi_runtime.errors import LoadError

NAME: Final = "omi-runtime"

_WHEEL: Final = (
    "Wheel-Version: 1.0\nGenerator: omi-runtime\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
)
_THE_DAWN_OF_ZIP: Final = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path) -> Path:
    """Write the wheel into a folder; returns its path.

    Raises:
        LoadError: the runtime is not installed as a distribution.
    """
    try:
        runtime = distribution(NAME)
    except ModuleNotFoundError:
        raise LoadError(f"{NAME} is not installed here, so it cannot be packed") from None
    stem = f"{NAME.replace('-', '_')}-{runtime.version}"
    path = folder / f"{stem}-py3-none-any.whl"
    record: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*_code(), *_metadata(runtime, f"{stem}.dist-info")):
            _add(archive, name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")
        name = f"{stem}.dist-info/RECORD"
        _add(archive, name, "".join([*record, f"{name},,\n"]).encode())
    return path


def requirements() -> list[str]:
    """What the runtime depends on, without its extras, as pip takes them."""
    return sorted(text for text in distribution(NAME).requires or [] if "extra ==" not in text)


def _packages() -> list[str]:
    """The runtime's own import packages: itself, and the adapters that came with it."""
    points = entry_points(group=GROUP)
    own = [point for point in points if point.dist is not None and point.dist.name == NAME]
    return sorted({"omi_runtime", *(point.module.partition(".")[0] for point in own)})


def _code() -> Iterator[tuple[str, bytes]]:
    for package in _packages():
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} has an entry point"
        assert spec.origin is not None, f"{package} is a package with an __init__"
        root = Path(spec.origin).parent
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{package}/{file.relative_to(root).as_posix()}", file.read_bytes()


def _metadata(runtime: Distribution, folder: str) -> Iterator[tuple[str, bytes]]:
    for name in ("METADATA", "entry_points.txt"):
        text = runtime.read_text(name)
        assert text is not None, f"every distribution has {name}"
        yield f"{folder}/{name}", text.encode()
    yield f"{folder}/WHEEL", _WHEEL.encode()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _THE_DAWN_OF_ZIP)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)
