"""Whether an exception says that memory ran out, the machine's or a GPU's.

Libraries have their own types for it, some nothing but a text. They are told by name, so that none
has to be imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from omi_runtime.errors import OMIError, Overloaded

_TYPES: Final = {
    ("torch", "OutOfMemoryError"),  # of CUDA, and since 2.5 of every accelerator
    ("cupy", "OutOfMemoryError"),
    ("tensorflow", "ResourceExhaustedError"),
}
"""Package and class."""

_TEXT: Final = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|HIP out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|^RESOURCE_EXHAUSTED: Out of memory|Failed to allocate memory"
    r"|MPS backend out of memory"
)
"""What torch before 1.13, JAX and ONNX Runtime say in a RuntimeError or a type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, or what somebody raised from that."""
    return any(_says_so(one) for one in _causes(error))


def overloaded(error: Exception) -> Exception:
    """The error itself; `Overloaded` in place of a foreign one that says that memory ran out."""
    if isinstance(error, OMIError) or not is_out_of_memory(error):
        return error
    return Overloaded("out of memory; try again later")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(error).__mro__}
    return bool(names & _TYPES) or bool(_TEXT.search(str(error)[:2000]))
