"""Cold start and memory at rest, beside an empty function that imports the Supabase client."""

from __future__ import annotations

import compileall
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.platform import PROJECT, memory_mb
from bench.result import Result, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.platform import Platform

FLOOR_FUNCTIONS = PROJECT / "bench" / "floor_functions" / "main.py"


def starts(platform: Platform, *, quick: bool) -> Iterator[Result]:
    """From process start to the first 200, by turns; then resident memory."""
    rounds = 3 if quick else 9
    for folder in ("functions", "shared", "bench"):
        compileall.compile_dir(PROJECT / folder, quiet=1)
    packages = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    compileall.compile_dir(packages, quiet=2)
    targets: dict[str, Path | None] = {"empty": FLOOR_FUNCTIONS, "follow_up_check": None, "wapi_webhook": None}
    seconds: dict[str, list[float]] = {target: [] for target in targets}
    memory: dict[str, list[float]] = {target: [] for target in targets}
    for _ in range(rounds):
        for target, source in targets.items():
            began = time.perf_counter()
            with platform.function(target, source=source) as server:
                seconds[target].append(time.perf_counter() - began)
                memory[target].append(memory_mb(server.pid, peak=False))
    for group, figures, limit, unit in (
        ("cold start, process start to first 200", seconds, 1.2, "s"),
        ("memory at rest", memory, 1.25, "MB"),
    ):
        floor = statistics.median(figures["empty"])
        for target in ("follow_up_check", "wapi_webhook"):
            taken = figures[target]
            yield at_most(group, target, statistics.median(taken), floor, limit, unit=unit, samples=taken)
