"""Findings about the heartbeat: whether follow_up_check runs, ends and gets to everybody. Pure."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ops.common.shown import counted, shown_age
from ops.doctor.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ops.doctor.facts import RunRow

SILENCE: Final = timedelta(minutes=15)
"""Three sweeps were missed; the alert's own limit."""
LONGEST_SWEEP: Final = timedelta(minutes=10)
_GROWING_RUNS: Final = 3

_SCHEDULER = (
    "see the Cloud Scheduler job's last status and follow-up-check's log; after a bad deployment: deploy/rollback"
)


def check_sweeps(runs: Sequence[RunRow], *, now: datetime) -> list[Finding]:
    """What the runs of the last day say.

    Args:
        runs: Of the last 24 hours; or the last one alone, if there was none since.
        now: The instant of reading them.
    """
    runs = sorted(runs, key=lambda run: run.started_at)
    ended = [run for run in runs if run.finished_at is not None]
    if not runs:
        what = "follow_up_check has never run: nobody watches the lines"
        return [Finding("sweep.never", Severity.PROBLEM, what, _SCHEDULER)]
    findings = [_heartbeat(runs, ended, now), *_gaps(runs), *_unfinished(runs, now), *_brakes(ended), *_left(ended)]
    return [finding for finding in findings if finding is not None]


def _heartbeat(runs: Sequence[RunRow], ended: Sequence[RunRow], now: datetime) -> Finding:
    if not ended:
        what = f"no sweep has ended; the last one began {shown_age(now - runs[-1].started_at)} ago"
        return Finding("sweep.silent", Severity.PROBLEM, what, _SCHEDULER)
    last = max(run.finished_at for run in ended if run.finished_at)
    if now - last > SILENCE:
        what = f"the last sweep ended {shown_age(now - last)} ago: nobody watches the lines"
        return Finding("sweep.silent", Severity.PROBLEM, what, _SCHEDULER)
    return Finding("sweep.lately", Severity.OK, f"the last sweep ended {shown_age(now - last)} ago")


def _gaps(runs: Sequence[RunRow]) -> list[Finding]:
    gaps = [later.started_at - run.started_at for run, later in pairwise(runs)]
    long = [gap for gap in gaps if gap > SILENCE]
    if not long:
        return []
    what = (
        f"{counted(len(long), 'gap')} of more than {shown_age(SILENCE)} between sweeps in the last 24 h,"
        f" the longest {shown_age(max(long))}"
    )
    return [Finding("sweep.gaps", Severity.WARNING, what, _SCHEDULER)]


def _unfinished(runs: Sequence[RunRow], now: datetime) -> list[Finding]:
    cut = [run for run in runs if run.finished_at is None and now - run.started_at > LONGEST_SWEEP]
    if not cut:
        return []
    what = f"{counted(len(cut), 'sweep')} of the last 24 h were begun and never ended"
    do = "follow-up-check's log says why; its timeout must be above SWEEP_BUDGET_SECONDS"
    return [Finding("sweep.unfinished", Severity.WARNING, what, do)]


def _brakes(ended: Sequence[RunRow]) -> list[Finding]:
    braked = [run for run in ended if run.braked]
    if not braked:
        return []
    if ended[-1].braked:
        what = "the last sweep was braked: many lines look dead at once, so nobody is restarted or told"
        do = "look at W-API's own status; the brake lifts by itself; restart nothing by hand"
        return [Finding("sweep.braked", Severity.WARNING, what, do)]
    return [
        Finding("sweep.braked_before", Severity.NOTE, f"{counted(len(braked), 'sweep')} of the last 24 h were braked")
    ]


def _left(ended: Sequence[RunRow]) -> list[Finding]:
    left = [run.left_due for run in ended[-_GROWING_RUNS:]]
    if not left or not left[-1]:
        return []
    if len(left) == _GROWING_RUNS and left[0] < left[1] < left[2]:
        what = f"sweeps leave more and more lines behind: {left[0]}, {left[1]}, {left[2]}"
        return [Finding("sweep.left_grows", Severity.WARNING, what, "raise SWEEP_BUDGET_SECONDS or set SWEEP_FANOUT")]
    return [
        Finding("sweep.left", Severity.NOTE, f"the last sweep left {counted(left[-1], 'due line')} to the next one")
    ]
