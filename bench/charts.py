"""The growth curves for docs/speed.md, as SVG."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.result import Result

_SIZE = re.compile(r"([\d,]+) lines: (time per line|peak memory)")


def draw(results: Sequence[Result], folder: Path) -> Path:
    """Draw time per line and peak memory over the size of the fleet."""
    curves: dict[str, list[tuple[int, float]]] = {"time per line": [], "peak memory": []}
    for each in results:
        if found := _SIZE.fullmatch(each.what):
            curves[found[2]].append((int(found[1].replace(",", "")), each.value))
    mpl.rcParams["svg.hashsalt"] = "line-recovery"  # the same figures give the same file
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    for axis, (title, unit) in zip(axes, (("time per line", "ms"), ("peak memory", "MB")), strict=True):
        points = sorted(curves[title])
        axis.plot([size for size, _ in points], [value for _, value in points], marker="o", color="#0b7285")
        for size, value in points:
            axis.annotate(f"{value:,.3g}", (size, value), textcoords="offset points", xytext=(0, 8), ha="center")
        axis.set(xscale="log", xlabel="lines", ylabel=unit, title=title)
        axis.set_ylim(0, max(value for _, value in points) * 1.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    file = folder / "growth.svg"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file
