"""``make bench``: every figure against its floor, measured in one run; a table, a file, and curves."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from bench import sweeps
from bench.charts import draw, draw_history
from bench.crowded import crowded
from bench.platform import PROJECT, Platform
from bench.result import history_in, remember, table_of, write
from bench.shape import shape
from bench.starts import starts
from bench.webhook import webhook

if TYPE_CHECKING:
    from bench.result import Result

RESULTS = PROJECT / "bench" / "results"
HISTORY = RESULTS / "history.jsonl"
MEASUREMENTS = {
    "floor": sweeps.against_the_floor,
    "growth": sweeps.growth,
    "parallel": sweeps.several_at_once,
    "dead": sweeps.dead_lines,
    "webhook": webhook,
    "starts": starts,
    "shape": shape,
}
BY_NAME_ALONE = {"crowded": crowded}
"""Filling its tables takes longer than all the others."""
NOT_TOLD_BY_A_QUICK_RUN = {
    "floor": "a fleet of more than 1,000 lines; a difference under 10 %",
    "growth": "what 10,000 and 100,000 lines cost, in time or memory",
    "parallel": "throughput: starting the processes takes as long as their 1,000 lines",
    "dead": "whether the goal is met: the wait for the second look weighs too much beside two restarts one after another",
    "webhook": "the 99th percentile: it is one of the last eight of 800 events; a difference under 15 %",
    "starts": "a difference under 5 %",
    "crowded": "what 10,000,000 messages cost, and five minutes of events",
    "shape": "anything beyond 50,000 lines; what an open snapshot does",
}
"""Because of its sizes."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for.

    Returns:
        0 when every goal was met, 1 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "only",
        nargs="*",
        metavar="NAME",
        help=f"some of: {', '.join(MEASUREMENTS)} (default: these), {', '.join(BY_NAME_ALONE)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, 3 min: the table says what they cannot tell; kept as results/quick.json, without curves",
    )
    chosen = parser.parse_args(arguments)
    known = MEASUREMENTS | BY_NAME_ALONE
    if unknown := [name for name in chosen.only if name not in known]:
        parser.error(f"no measurement named {', '.join(unknown)}")
    console = Console()
    results: list[Result] = []
    failed: list[str] = []
    with Platform() as platform:
        for name in chosen.only or MEASUREMENTS:
            try:
                with console.status(f"{name} …"):
                    results += known[name](platform, quick=chosen.quick)
            except Exception:  # noqa: BLE001 - a quarter of an hour of other figures must not go with it
                console.print_exception()
                failed.append(name)
    runs = history_in(HISTORY)
    console.print(table_of(results, runs[-1]["figures"] if runs else {}))
    complete = not (chosen.quick or chosen.only or failed)
    file = RESULTS / ("latest.json" if complete else "quick.json")
    write(results, file, quick=chosen.quick)
    if complete:
        draw(results, RESULTS)
        remember(results, HISTORY)
        draw_history(history_in(HISTORY), RESULTS)
    if chosen.quick:
        console.print("A quick run does not tell:")
        for name in chosen.only or MEASUREMENTS:
            console.print(f"  {name}: {NOT_TOLD_BY_A_QUICK_RUN[name]}")
    console.print(f"Written to {file.relative_to(PROJECT)}")
    if failed:
        console.print(f"Not measured, see above: {', '.join(failed)}")
    return 0 if not failed and all(each.met is not False for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
