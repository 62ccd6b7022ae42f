"""The curves for docs/speed.md, as SVG: growth with the fleet, and what whole runs have measured so far."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from bench.result import Result

mpl.rcParams["svg.hashsalt"] = "line-recovery"  # the same figures give the same file
_COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e")
_HISTORY = {
    "at most (floor = 1)": (
        "sweep of healthy lines, provider at 200 ms: 10,000 lines, concurrency 128",
        "sweep of healthy lines, provider at 200 ms: 10,000 lines, concurrency 256",
        "cold start, process start to first 200: follow_up_check",
        "cold start, process start to first 200: wapi_webhook",
    ),
    "at least (floor = 1)": (
        "webhook, 64 clients: message: throughput",
        "webhook, 64 clients: echo: throughput",
        "webhook, 64 clients: ack: throughput",
        "webhook, 64 clients: disconnection denied: throughput",
    ),
}
_SIZE = re.compile(r"([\d,]+) lines: (time per line|peak memory)")


def draw(results: Sequence[Result], folder: Path) -> Path:
    """Draw time per line and peak memory over the size of the fleet."""
    curves: dict[str, list[tuple[int, float]]] = {"time per line": [], "peak memory": []}
    for each in results:
        if found := _SIZE.fullmatch(each.what):
            curves[found[2]].append((int(found[1].replace(",", "")), each.value))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    for axis, (title, unit) in zip(axes, (("time per line", "ms"), ("peak memory", "MB")), strict=True):
        points = sorted(curves[title])
        axis.plot([size for size, _ in points], [value for _, value in points], marker="o", color="#0b7285")
        for size, value in points:
            axis.annotate(f"{value:,.3g}", (size, value), textcoords="offset points", xytext=(0, 8), ha="center")
        axis.set(xscale="log", xlabel="lines", ylabel=unit, title=title)
        axis.set_ylim(0, max(value for _, value in points) * 1.3)
        axis.spines[["top", "right"]].set_visible(False)
    return _save(figure, folder / "growth.svg")


def draw_history(runs: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Draw some ratios over the whole runs, one after another, so that a slow creep shows."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for axis, (title, names) in zip(axes, _HISTORY.items(), strict=True):
        for name, colour in zip(names, _COLOURS, strict=True):
            points = [(place, run["figures"][name]) for place, run in enumerate(runs) if name in run["figures"]]
            label = name.partition(": ")[2].removesuffix(": throughput")
            axis.plot([at for at, _ in points], [ratio for _, ratio in points], marker="o", color=colour, label=label)
        axis.axhline(1, color="#868e96", linewidth=0.8)
        days = [datetime.fromisoformat(run["measured_at"]).strftime("%d/%m\n%H:%M") for run in runs]
        axis.set_xticks(range(len(runs)), days, fontsize="small")
        axis.set(ylabel="times the floor", title=title)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize="x-small", loc="lower left")
        axis.spines[["top", "right"]].set_visible(False)
    return _save(figure, folder / "history.svg")


def _save(figure: Figure, file: Path) -> Path:
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file
