"""Images for GPUs: CUDA's libraries from NVIDIA's images, or with the frameworks' wheels.

NVIDIA's images hold no Python, so it is brought in from one of Python's own: of a distribution
whose C library is no newer than theirs (Debian 12 has glibc 2.36, Ubuntu 24.04 has 2.39).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from omi_runtime.errors import SettingsError

WHEELS: Final = "wheels"
"""The value of `--cuda` for libraries that come with the frameworks' wheels, as PyTorch's do."""

VARIABLES: Final = {
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
}
"""What NVIDIA's container runtime reads to bring the driver in."""

PYTHON_IMAGE: Final = "python:3.12-slim-bookworm"

BASES: Final[Mapping[str, str]] = {
    version.rpartition(".")[0]: f"nvidia/cuda:{version}-cudnn-runtime-ubuntu24.04"
    for version in ("12.6.3", "12.8.1", "12.9.1", "13.0.2")
}
"""NVIDIA's image with the libraries of a version of CUDA, and cuDNN."""

ON_CUDA: Final = """\
# CUDA's image has no Python: this is the one that the packages were installed for.
COPY --from=python /usr/local /usr/local
COPY --from=python /usr/lib/*-linux-gnu/libsqlite3.so.0 /usr/local/lib/
RUN ldconfig && python -c "import bz2, ctypes, hashlib, lzma, sqlite3, ssl, zlib"
"""
"""What the stage that serves has beside its base."""


class Choice(NamedTuple):
    """What `--cuda` and `--base` come to.

    Attributes:
        base: the image to serve from.
        python: the image whose Python is brought into it; empty if it has its own.
        gpu: whether a GPU is to be brought in.
    """

    base: str
    python: str = ""
    gpu: bool = False


def choose(cuda: str, base: str, default: str) -> Choice:
    """The base of an image.

    Args:
        cuda: the value of `--cuda`, or empty.
        base: the value of `--base`, or empty.
        default: what to take where neither says anything.

    Raises:
        SettingsError: the version is not known, or both choose a base.
    """
    if cuda in ("", WHEELS):
        return Choice(base or default, gpu=cuda == WHEELS)
    if base:
        raise SettingsError(
            f"--cuda {cuda} chooses the base image, and so does --base {base!r}: leave one out; "
            f"--cuda {WHEELS} goes with any base"
        )
    if cuda not in BASES:
        raise SettingsError(
            f"--cuda {cuda!r} is not known: expected {', '.join(BASES)}, or {WHEELS} where CUDA's "
            "libraries come with the frameworks' wheels"
        )
    return Choice(BASES[cuda], PYTHON_IMAGE, gpu=True)
