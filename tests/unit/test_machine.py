"""CPU quotas read from file trees laid out as the kernel lays them out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from omi_runtime.machine import THREAD_VARIABLES, limit_numeric_threads, usable_cpus

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


TREES = {
    "no cgroups": ({}, ALLOWED),
    "v2, no limit": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
        ALLOWED,
    ),
    "v2, one CPU": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"},
        1,
    ),
    "v2, half a CPU is one thread": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
        1,
    ),
    "v2, a quota above the CPUs": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"},
        ALLOWED,
    ),
    "v2, the parent's limit is the lower": (
        {
            "proc/self/cgroup": "0::/pod/container\n",
            "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
        },
        1,
    ),
    "v2, the group's path is not visible inside the container": (
        {"proc/self/cgroup": "0::/kubepods/x\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"},
        1,
    ),
    "v1, one and a half CPUs": (
        {
            "proc/self/cgroup": "3:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": "2:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        ALLOWED,
    ),
    "nonsense": ({"proc/self/cgroup": "?\n", "sys/fs/cgroup/cpu.max": "?"}, ALLOWED),
}


@pytest.mark.parametrize("name", TREES)
def test_the_lowest_quota_counts(tmp_path: Path, name: str) -> None:
    files, expected = TREES[name]
    assert usable_cpus(lay_out(tmp_path, files)) == expected


def test_this_machine_has_at_least_one() -> None:
    assert 1 <= usable_cpus() <= ALLOWED


def test_what_the_user_set_stays() -> None:
    environ = {"OMP_NUM_THREADS": "7"}
    limit_numeric_threads(2, environ)
    assert environ == dict.fromkeys(THREAD_VARIABLES, "2") | {"OMP_NUM_THREADS": "7"}


MODEL = """
import json
import os
import platform
import subprocess
import sys
from omi_runtime import Model

class Threads(Model):
    def predict(self, variable: str) -> str:
        return os.environ[variable]
"""


@pytest.mark.parametrize(("given", "expected"), [({}, str(usable_cpus())), ({"x": "7"}, "7")])
def test_a_model_sees_the_limit(tmp_path: Path, given: dict[str, str], expected: str) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    variable = "OMP_NUM_THREADS"
    environ = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}
    environ |= dict.fromkeys([variable] * len(given), given.get("x", ""))
    command = [
        sys.executable,
        "-c",
        "import sys; from omi_runtime.cli import main; main(sys.argv[1:])",
    ]
    command += ["predict", str(tmp_path), "--input", f"variable={variable}"]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["data"]["result"] == expected


def test_the_command_tells_them_before_numpy_is_imported() -> None:
    code = "import omi_runtime.cli, sys; print('numpy' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("variables", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)]
)
def test_large_buffers_are_taken_from_memory_that_was_freed(
    variables: dict[str, str], *, kept: bool
) -> None:
    program = """
import resource
from omi_runtime import machine
machine.keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    buffers = [b"x" * 600_000 for _ in range(4)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    pages_a_round = 4 * 600_000 // 4096
    assert (int(done.stdout) < 3 * pages_a_round) == kept
