"""How many CPUs this process really has, and telling the numeric libraries so; and its memory.

A container's CPU limit is a quota of the scheduler: libraries that count the host's CPUs start as
many threads, which then wait for one another's share. The quota is read from cgroup v2 (`cpu.max`)
or v1 (`cpu.cfs_quota_us`, `cpu.cfs_period_us`), the lowest on the way from the process's own group
to the root, and never above the CPUs that the process may run on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What OpenMP, MKL, OpenBLAS, numexpr and Accelerate read when they are imported."""

KEPT_BYTES: Final = 32 * 1024 * 1024
"""The most that lies free at the end of a heap, and what larger pieces are not taken from."""
_MALLOC_VARIABLES: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""malloc.h of glibc."""


def usable_cpus(root: Path = Path("/")) -> int:
    """The CPUs that this process can use at once: at least 1, a fraction of one rounded down.

    Args:
        root: of the file system that holds /proc and /sys; tests give another.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = min(_quotas(root), default=math.inf)
    return max(1, min(allowed or 1, math.floor(quota) if quota < math.inf else allowed or 1))


def limit_numeric_threads(cpus: int, environ: MutableMapping[str, str] = os.environ) -> None:
    """Have numeric libraries, imported later, start no more threads than there are CPUs.

    A variable that the user set stays as it is.
    """
    for name in THREAD_VARIABLES:
        environ[name] = environ.get(name) or str(cpus)


def keep_freed_memory(environ: Mapping[str, str] = os.environ) -> None:
    """Have the C library keep some of the memory that large requests have used, for the next ones.

    glibc gives back to the system what lies free at the end of its heap, as soon as that is twice
    as large as one large body; and the system clears every page that it gives out again. That was
    a third of all CPU time that requests of 600 kB took. Done by glibc's own variables too, which
    the user may have set; on other C libraries this does nothing.
    """
    if any(name in environ for name in _MALLOC_VARIABLES):
        return
    import ctypes  # noqa: PLC0415 - not in a supervisor

    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def describe(environ: Mapping[str, str] = os.environ) -> str:
    """What was found and said, for the log."""
    said = ", ".join(f"{name}={environ.get(name, '')}" for name in THREAD_VARIABLES)
    return f"{usable_cpus()} usable CPUs; numeric libraries: {said}"


def _quotas(root: Path) -> Iterator[float]:
    """The CPU quota of every control group that the process is in, in CPUs."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from _climb(root / "sys/fs/cgroup", path, _quota_v2)
            elif "cpu" in controllers.split(","):
                for name in (controllers, "cpu"):
                    yield from _climb(root / "sys/fs/cgroup" / name, path, _quota_v1)


def _climb(mount: Path, path: str, read: Callable[[Path], float]) -> Iterator[float]:
    """The quotas from a group up to the mount; inside a container only the mount may be there."""
    group = mount / path.lstrip("/")
    for directory in (group, *group.parents):
        with suppress(OSError, ValueError):
            quota = read(directory)
            if quota > 0:
                yield quota
        if directory == mount:
            return


def _quota_v2(directory: Path) -> float:
    quota, period = (directory / "cpu.max").read_text().split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _quota_v1(directory: Path) -> float:
    quota = int((directory / "cpu.cfs_quota_us").read_text())
    return math.inf if quota < 0 else quota / int((directory / "cpu.cfs_period_us").read_text())
