"""`make bench`: this runtime and its peers side by side, and the report of it.

Raw results go to `.bench/results.json` and, with the report, to `docs/benchmarks/results.json`.
`--quick` measures ours alone, against the bare limits and the stored run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import growth  # noqa: E402
import report  # noqa: E402
import resources  # noqa: E402
import turns as taking_turns  # noqa: E402
from load import missing_tools  # noqa: E402
from peer import ENVIRONMENTS, JOBS, ROOT  # noqa: E402
from workload import OURS, Workload, all_workloads  # noqa: E402

RAW = ENVIRONMENTS / "results.json"
LIMITS = {"bare_http", "bare_grpc"}
QUICK = ("omi-small", "v1-small", "v2-small")
SLOWER = 0.85
"""A quick run tells of what has fallen below this part of the stored run's ratio."""


def main() -> int:
    options = _options()
    if missing := missing_tools():
        print(f"{' and '.join(missing)} are missing: install Debian's wrk and nghttp2-client")
        return 2
    ENVIRONMENTS.mkdir(exist_ok=True)
    if options.quick:
        return quick(options.turns, options.seconds)
    keeps = options.only or options.resume
    results: dict[str, Any] = json.loads(RAW.read_text()) if RAW.exists() and keeps else {}
    for section, measured in _sections(options, results).items():
        if not options.only or section in options.only:
            print(section, flush=True)
            measured()
    shutil.rmtree(JOBS, ignore_errors=True)
    report.write(results, ROOT)
    print("wrote docs/benchmarks.md")
    return 0


def quick(turns: int, seconds: int) -> int:
    """Ratios to the bare limits, beside those of the stored run; 1 if one has become slower."""
    stored = json.loads((ROOT / report.RESULTS).read_text())
    slower = False
    for workload in all_workloads():
        if workload.key not in QUICK:
            continue
        sides = {name: s for name, s in workload.sides.items() if name in {OURS, *LIMITS}}
        alone = Workload(**(vars(workload) | {"sides": sides}))
        measured = taking_turns.measure(alone, turns, seconds, say=lambda _: None)
        (limit,) = sides.keys() & LIMITS
        now = report.ratios(measured, limit, "rate")
        then = report.ratios(stored["workloads"][workload.key], limit, "rate")
        lost = now.median < then.median * SLOWER
        slower |= lost
        mark = "  SLOWER by more than 15 %" if lost else ""
        print(f"{workload.title}: {now} of {limit}; stored run {then}{mark}", flush=True)
    return int(slower)


def machine() -> dict[str, str]:
    """What was measured on, and when."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return {
        "cpu": model.partition(":")[2].strip(),
        "cpus": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _sections(
    options: argparse.Namespace, results: dict[str, Any]
) -> dict[str, Callable[[], None]]:
    """What measures each part of the results and keeps it at once, as a run takes long."""
    turns, seconds = options.turns, options.seconds

    def keep(part: dict[str, Any], key: str, measured: Callable[[], Any]) -> None:
        if not (options.resume and key in part):
            part[key] = measured()
            results["machine"] = machine()
            RAW.write_text(json.dumps(results, indent=1))

    def workloads() -> None:
        part = results.setdefault("workloads", {})
        for workload in all_workloads():
            keep(part, workload.key, partial(taking_turns.measure, workload, turns, seconds))

    measures: dict[str, Callable[[], Any]] = {
        "start-up": lambda: resources.start_up(turns),
        "memory": resources.idle_memory,
        "size": lambda: resources.installed_size(sys.executable, ENVIRONMENTS),
        "workers": lambda: resources.workers(turns, seconds),
        "preload": resources.preload,
        "growth": lambda: growth.measure(seconds),
    }
    others = {key: partial(keep, results, key, measure) for key, measure in measures.items()}
    return {"workloads": workloads} | others


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    parser.add_argument("--resume", action="store_true", help="keep what a run has measured")
    parser.add_argument("--quick", action="store_true", help="ours alone, in under three minutes")
    parser.add_argument(
        "--only", action="append", help="one section of the results anew; may be repeated"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
