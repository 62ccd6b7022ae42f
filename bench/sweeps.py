"""Sweeps: against a bare loop, growth, database work, several at once, dead lines."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.platform import PROJECT, cpu_seconds, memory_mb, sweep
from bench.result import Result, at_most, shown, within
from shared.core.policy import Limits
from shared.receiving.mutes import LINES_A_PAGE
from shared.settings import MAX_SWEEP_BUDGET_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.platform import Platform
    from dev.functions import FunctionServer

BATCH = 500
MANY = 1_000_000
CHORES = 6
"""Of the housekeeping: each asks the database once when it has nothing to do, and the search for mute lines page by page."""
LINE_SPREAD = 1.15
TIMED_ONCE = 100_000
"""A sweep of so many lines takes minutes."""
RESTART_CONCURRENCY = 8
SECONDS_A_RESTART = 5
"""A restarted line is back after 4 s; the looks fall at 2 and 5 s."""


def bare_loop(platform: Platform, count: int, concurrency: int) -> tuple[float, float]:
    """The floor, in a process of its own: seconds, and seconds of CPU."""
    command = [sys.executable, "-m", "bench.floors", platform.addresses["wapi_url"], str(count), str(concurrency)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    took, worked = json.loads(done.stdout)
    return took, worked


def against_the_floor(platform: Platform, *, quick: bool) -> Iterator[Result]:
    """A sweep of healthy lines at 200 ms, looks of two calls, beside the bare loop."""
    for concurrency in (128, 256):
        with platform.function("follow_up_check", platform.environment(LOOK_CONCURRENCY=concurrency)) as server:
            # The larger fleet second: what a function imports at its first sweep is the cold start's, not a line's.
            for count, rounds in ((1_000, 2),) if quick else ((1_000, 5), (10_000, 1)):
                yield from _beside_the_bare_loop(platform, server, count, concurrency, rounds)


def _beside_the_bare_loop(
    platform: Platform, server: FunctionServer, count: int, concurrency: int, rounds: int
) -> Iterator[Result]:
    platform.fleet(count, latency_ms=200)
    ours, floors, worked, floor_worked = [], [], [], []
    for _ in range(rounds):
        floor_took, floor_cpu = bare_loop(platform, count, concurrency)
        before = cpu_seconds(server.pid)
        took, counts = sweep(server)
        if counts["alive"] != count:
            raise AssertionError(f"a healthy fleet was not found alive: {counts}")
        worked.append((cpu_seconds(server.pid) - before) / count * 1000)
        floor_worked.append(floor_cpu / count * 1000)
        floors.append(floor_took)
        ours.append(took)
    yield at_most(
        "sweep of healthy lines, provider at 200 ms",
        f"{count:,} lines, concurrency {concurrency}",
        statistics.median(ours), statistics.median(floors), 1.25, unit="s", samples=ours,
    )  # fmt: skip
    yield shown(
        "what a line costs the function, provider at 200 ms",
        f"{count:,} lines, concurrency {concurrency}: CPU a line",
        statistics.median(worked), unit="ms", floor=statistics.median(floor_worked),
    )  # fmt: skip
    in_time = Limits().budget.total_seconds() * count / statistics.median(ours)
    yield shown(
        "what a line costs the function, provider at 200 ms",
        f"{count:,} lines, concurrency {concurrency}: functions at once for a million lines",
        math.ceil(MANY / in_time), unit="",
    )  # fmt: skip


def growth(platform: Platform, *, quick: bool) -> Iterator[Result]:
    """Time per line and peak memory as the fleet grows, provider at 20 ms; and the database's work."""
    group = "growth, provider at 20 ms"
    sizes = (1_000, 4_000) if quick else (1_000, 10_000, 100_000)
    per_line: dict[int, float] = {}
    peak: dict[int, float] = {}
    for count in sizes:
        platform.fleet(count, latency_ms=20)
        with platform.function(
            "follow_up_check", platform.environment(SWEEP_BUDGET_SECONDS=MAX_SWEEP_BUDGET_SECONDS)
        ) as server:
            # A small fleet's sweep is short: several of them, so that a blip does not decide.
            rounds = max(1, (2_000 if quick else 5_000) // count)
            took = statistics.median([sweep(server)[0] for _ in range(rounds)])
            writes_before = platform.row_writes()
            platform.stack.postgrest_requests.reset()
            last, counts = sweep(server) if count < TIMED_ONCE else (took, {"alive": count})
            if counts["alive"] != count:
                raise AssertionError(f"a healthy fleet was not found alive: {counts}")
            per_line[count] = min(took, last) / count * 1000
            peak[count] = memory_mb(server.pid, peak=True)
            if count < TIMED_ONCE:
                yield from _database_work(platform, count, writes_before)
        yield shown(group, f"{count:,} lines: time per line", per_line[count], unit="ms")
        yield shown(group, f"{count:,} lines: peak memory", peak[count], unit="MB")
    spread = max(per_line.values()) / min(per_line.values())
    yield Result(
        group,
        "time per line, slowest to fastest size",
        spread,
        "x",
        None,
        spread,
        f"<= {LINE_SPREAD} x",
        spread <= LINE_SPREAD,
    )
    yield within(group, "peak memory above that of 1,000 lines", peak[sizes[-1]] - peak[1_000], 40, unit="MB")


def _database_work(platform: Platform, count: int, writes_before: int) -> Iterator[Result]:
    group = "database work of a sweep"
    batches = math.ceil(count / BATCH)
    yield within(
        group,
        f"{count:,} lines: round trips",
        platform.stack.postgrest_requests.total,
        2 * batches + 4 + CHORES + count // LINES_A_PAGE,
        unit="",
    )
    writes = (platform.row_writes() - writes_before) / count
    yield within(group, f"{count:,} lines: writes of a healthy row of wapi_instances", writes, 1, unit="")


def several_at_once(platform: Platform, *, quick: bool) -> Iterator[Result]:
    """1, 2 and 4 processes on one fleet: no line is looked at twice."""
    count = 1_000 if quick else 8_000
    group = "several sweeps at once on one fleet"
    for processes in (1, 2, 4):
        platform.fleet(count, latency_ms=200)
        # A line looked at by one sweep is not due for the others.
        environment = platform.environment(CHECK_INTERVAL_SECONDS=150, LOOK_CONCURRENCY=64)
        with ExitStack() as servers, ThreadPoolExecutor(processes) as pool:
            started = [
                servers.enter_context(platform.function("follow_up_check", environment)) for _ in range(processes)
            ]
            swept = list(pool.map(sweep, started))
        took = max(seconds for seconds, _ in swept)
        looked = platform.calls()["status-instance"]
        yield within(group, f"{processes} processes: looks of {count:,} lines", looked, count, unit="looks")
        yield shown(group, f"{processes} processes: throughput at concurrency 64 each", count / took, unit="lines/s")


def dead_lines(platform: Platform, *, quick: bool) -> Iterator[Result]:
    """5 % of a fleet is dead; a restarted line is back after 4 s."""
    count = 320 if quick else 2_000
    dead = count // 20
    platform.fleet(count, latency_ms=20)
    platform.set_lines(
        range(dead), session="disconnected", restart="comes_back_after_seconds", comes_back_after_seconds=4
    )
    with platform.function("follow_up_check") as server:
        took, counts = sweep(server)
    if counts["recovered"] != dead:
        raise AssertionError(f"not every dead line recovered: {counts}")
    floor = math.ceil(dead / RESTART_CONCURRENCY) * SECONDS_A_RESTART
    group, what = "restarts", f"{dead} of {count:,} lines dead, back after 4 s"
    if quick:  # the five seconds before the second look weigh a third here
        yield shown(group, what, took, unit="s", floor=floor)
    else:
        yield at_most(group, what, took, floor, 1.2, unit="s")
