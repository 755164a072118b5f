"""From raw results to `docs/benchmarks.md`, its plots, and the rows of the README.

Text is made from the stored results alone, so that a test can make it again and compare.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workload import OURS, Target, Workload, all_workloads

PAGE = Path("docs/benchmarks.md")
FOLDER = Path("docs/benchmarks")
RESULTS = FOLDER / "results.json"
README = Path("README.md")
BEGIN, END = "<!-- benchmarks: made by make bench -->", "<!-- /benchmarks -->"

NAMES = {
    OURS: "omi-runtime",
    "kserve": "KServe",
    "mlserver": "MLServer",
    "chassis": "Chassis",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "modzy_template": "Modzy's template under gunicorn",
    "bare_http": "raw ASGI on uvicorn",
    "bare_grpc": "minimal grpc.aio servicer, inline",
    "bare_grpc_thread": "the same with one hop to a thread",
}
MOST_IMPORTANT = (
    ("omi-small", "chassis"),
    ("v1-small", "kserve"),
    ("v2-small", "kserve"),
    ("v2-image-binary", "kserve"),
    ("v2-accelerator", "mlserver"),
    ("modzy-run", "modzy_template"),
)


@dataclass(frozen=True)
class Ratios:
    """Ours divided by a peer's, turn by turn."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{_number(self.median)} ({_number(self.least)} to {_number(self.most)})"


@dataclass(frozen=True)
class Row:
    """One comparison with its target."""

    work: str
    peer: str
    figures: str
    ratio: str
    target: str
    met: str


def write(results: dict[str, Any], root: Path) -> None:
    """The page, its plots, the stored results and the README's rows."""
    (root / FOLDER).mkdir(exist_ok=True)
    (root / RESULTS).write_text(json.dumps(results, indent=1) + "\n")
    (root / PAGE).write_text(page(results))
    readme = (root / README).read_text()
    (root / README).write_text(with_rows(readme, results))
    import plots

    plots.draw(results, root / FOLDER)


def ratios(measured: dict[str, Any], peer: str, figure: str) -> Ratios:
    """Of one workload's turns."""
    mine, theirs = measured["turns"][OURS], measured["turns"][peer]
    each = [a[figure] / b[figure] for a, b in zip(mine, theirs, strict=True)]
    return Ratios(statistics.median(each), min(each), max(each))


def with_rows(readme: str, results: dict[str, Any]) -> str:
    """The README with the rows that matter most between its two marks."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    rows = {(row.work, row.peer): row for row in _load_rows(results)}
    lines = ["", "| work | against | times as fast |", "|---|---|---|"]
    titles = {workload.key: workload.title for workload in all_workloads()}
    for key, peer in MOST_IMPORTANT:
        row = rows.get((titles[key], NAMES[peer]))
        if row is not None:
            lines.append(f"| {row.work} | {_version(results, key, peer)} | {row.ratio} |")
    return head + BEGIN + "\n".join([*lines, ""]) + END + tail


_INTRODUCTION = """\
Made by `make bench`; nothing on this page is written by hand. Absolute figures drift with the \
machine, so what counts is the ratio of two servers that were measured in turns: ours divided by \
the peer's, the median of the turns, and the least and the most. The load generator runs on the \
same machine; each server is one process, unless its own documentation says otherwise."""

_REPEAT = """\
`make bench` needs Debian's `wrk` and `nghttp2-client`, about 2 GB under `.bench/`, four minutes \
to install the peers and fifteen to measure, or nine with two seconds a load \
(`bench.py --seconds 2`). \
Modzy's template is on no package index: `MODZY_TEMPLATE` names a clone of it. \
`make bench-quick` measures this runtime alone, in under three minutes, against the bare limits \
and the run above."""


def page(results: dict[str, Any]) -> str:
    """`docs/benchmarks.md`."""
    machine = results["machine"]
    measured_on = (
        f"Measured on {machine['date']}: {machine['cpus']} CPUs ({machine['cpu']}), "
        f"{machine['system']}, Python {machine['python']}."
    )
    parts = [
        ["# Benchmarks", "", _INTRODUCTION, "", measured_on],
        ["## Requests", "", *_table(_load_rows(results)), "", *_without_target(results)],
        ["![Rates of all servers, as parts of ours](benchmarks/rates.svg)"],
        ["## Start-up, memory, size, workers", "", *_table(_resource_rows(results))],
        ["## How cost grows"],
        *[[f"![By {axis}](benchmarks/{axis}.svg)"] for axis in results.get("growth", {})],
        ["## Versions", "", *_versions(results), *_unavailable(results)],
        ["## Repeat it", "", _REPEAT],
    ]
    return "\n\n".join("\n".join(part).rstrip() for part in parts) + "\n"


def _load_rows(results: dict[str, Any]) -> list[Row]:
    rows = []
    for workload in all_workloads():
        measured = results["workloads"].get(workload.key)
        if measured is None:
            continue
        rows += [_load_row(workload, measured, *item) for item in workload.targets.items()]
    return rows


def _load_row(workload: Workload, measured: dict[str, Any], peer: str, target: Target) -> Row:
    if peer not in measured["turns"]:
        return Row(workload.title, NAMES[peer], "", "not measured", str(target), "")
    ratio = ratios(measured, peer, target.figure)
    figures = " against ".join(_figure(measured, name, target.figure) for name in (OURS, peer))
    met = "yes" if target.is_met(ratio.median) else "**no**"
    return Row(workload.title, NAMES[peer], figures, str(ratio), str(target), met)


def _figure(measured: dict[str, Any], name: str, figure: str) -> str:
    value = statistics.median(turn[figure] for turn in measured["turns"][name])
    return f"{_count(value)}/s" if figure == "rate" else f"{value * 1e6:,.0f} µs"


def _resource_rows(results: dict[str, Any]) -> list[Row]:
    rows = []
    for title, section, unit, pairs in (
        (
            "exec to first answer, empty model",
            "start-up",
            "s",
            (
                ("ours, kserve", "kserve", Target(most=0.5)),
                ("ours, omi", "chassis", Target(most=1)),
            ),
        ),
        (
            "idle memory",
            "memory",
            "MiB",
            (
                ("ours, kserve", "kserve", Target(most=0.6)),
                ("ours, omi", "kserve", Target(most=0.5)),
            ),
        ),
        ("installed size", "size", "MB", (("ours", "kserve", Target(most=0.5)),)),
        ("2 workers against 1, 10 ms of a CPU", "workers", "/s", (("2", "1", Target(1.8)),)),
    ):
        measured = results.get(section, {})
        for mine, theirs, target in pairs:
            if mine in measured and theirs in measured:
                row = _resource_row(title, unit, measured, mine=mine, theirs=theirs, target=target)
                rows.append(row)
    shared = results.get("preload", {})
    if shared:
        label, four = "four workers, OMI_PRELOAD=1", "four times one worker"
        measured = {label: shared[label], four: 4 * shared["one worker"]}
        title = "memory of 4 workers with a model of 500 MB"
        row = _resource_row(
            title, "MiB", measured, mine=label, theirs=four, target=Target(most=0.4)
        )
        rows.append(row)
    return rows


def _resource_row(
    title: str, unit: str, measured: dict[str, Any], *, mine: str, theirs: str, target: Target
) -> Row:
    a, b = (_middle(measured[name]) for name in (mine, theirs))
    met = "yes" if target.is_met(a / b) else "**no**"
    figures = f"{_number(a)} against {_number(b)} {unit}"
    return Row(f"{title}: {mine}", theirs, figures, _number(a / b), str(target), met)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| work | against | medians | ratio | target | met |"
    yield "|---|---|---|---|---|---|"
    for r in rows:
        yield f"| {r.work} | {r.peer} | {r.figures} | {r.ratio} | {r.target} | {r.met} |"


def _without_target(results: dict[str, Any]) -> Iterator[str]:
    """Peers that were measured and have no target."""
    for workload in all_workloads():
        measured = results["workloads"].get(workload.key, {"turns": {}})
        for peer in (name for name in measured["turns"] if name not in {OURS, *workload.targets}):
            ratio = ratios(measured, peer, "rate")
            yield f"{workload.title}, against {NAMES[peer]}: {ratio}, without a target."
            yield ""


def _versions(results: dict[str, Any]) -> list[str]:
    found = {
        version
        for measured in results["workloads"].values()
        for version in measured["versions"].values()
    }
    return sorted(f"- {version}" for version in found)


def _version(results: dict[str, Any], key: str, peer: str) -> str:
    number = results["workloads"][key]["versions"][peer].partition(" ")[2]
    return f"{NAMES[peer]} {number}"


def _unavailable(results: dict[str, Any]) -> list[str]:
    return sorted(
        {
            f"- {NAMES[name]} could not be measured: {reason}"
            for measured in results["workloads"].values()
            for name, reason in measured["unavailable"].items()
        }
    )


def _middle(value: Any) -> float:
    return statistics.median(value) if isinstance(value, list) else float(value)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
