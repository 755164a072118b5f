"""The report's plots, as SVG that reads well in print: no colour carries a meaning alone."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from report import NAMES, OURS
from workload import all_workloads

AXES = {
    "connections": ("connections", "V2 JSON, 1x4"),
    "body": ("bytes in one file", "OMI Run"),
    "batch": ("items in one request", "V2 JSON"),
    "workers": ("worker processes", "V2 JSON, 1x4, 64 connections"),
    "limit": ("OMI_MAX_BATCH_SIZE", "2 ms a call, 64 connections"),
}
MARKS = ("o", "s", "^", "D", "v")
SHADES = ("0.0", "0.35", "0.55", "0.7", "0.8")

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "omi-runtime", "font.size": 9, "axes.grid": True}


def draw(results: dict[str, Any], folder: Path) -> None:
    """`rates.svg`, and one plot for each axis of growth."""
    _rates(results, folder / "rates.svg")
    for name, rows in results.get("growth", {}).items():
        _growth(rows, name, folder / f"{name}.svg")


def _rates(results: dict[str, Any], path: Path) -> None:
    """Rates as parts of ours, a bar a server, grouped by workload."""
    workloads = [w for w in all_workloads() if w.key in results["workloads"]]
    figure, axes = plt.subplots(figsize=(8, 0.9 * len(workloads) + 1))
    ticks, labels, place = [], [], 0.0
    for workload in workloads:
        turned = results["workloads"][workload.key]["turns"]
        mine = statistics.median(turn["rate"] for turn in turned[OURS])
        labels.append(workload.title)
        ticks.append(place + (len(turned) - 1) / 2)
        for name, rows in turned.items():
            part = statistics.median(turn["rate"] for turn in rows) / mine
            axes.barh(place, min(part, 2), color="0.2" if name == OURS else "0.7", edgecolor="0.2")
            axes.text(min(part, 2) + 0.02, place, NAMES[name], va="center", fontsize=7)
            place += 1
        place += 1
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 2.7)
    axes.set_xlabel("requests per second, as a part of omi-runtime's")
    _save(figure, path)


def _growth(rows: list[dict[str, Any]], name: str, path: Path) -> None:
    """Throughput and the 99th percentile of the time to answer, a line a server."""
    label, title = AXES[name]
    figure, (rate, tail) = plt.subplots(1, 2, figsize=(8, 3))
    for number, peer in enumerate(dict.fromkeys(row["peer"] for row in rows)):
        mine = [row for row in rows if row["peer"] == peer]
        at = [row["at"] for row in mine]
        style = {"marker": MARKS[number], "color": SHADES[number], "label": NAMES[peer]}
        rate.plot(at, [row["rate"] for row in mine], **style)
        tail.plot(at, [row["p99"] * 1000 for row in mine], **style)
    for axes, what in ((rate, "requests per second"), (tail, "99th percentile, ms")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(label)
        axes.set_title(f"{title}: {what}", fontsize=9)
    rate.legend(fontsize=7)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
