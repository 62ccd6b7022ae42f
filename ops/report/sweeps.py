"""What the sweeps did, and when none of them saw anything. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from ops.report.spans import Span
from ops.report.timeline import LOOK_GAP
from shared.core.model import Observation
from shared.sweep.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime, timedelta, tzinfo

    from ops.report.rows import Run


@dataclass(frozen=True, slots=True)
class Brake:
    """Braked sweeps in a row.

    Attributes:
        span: From the start of the first to that of the last.
        sweeps: How many.
        held: At most so many lines at once were kept back.
        is_on: The newest finished sweep is one of them.
    """

    span: Span
    sweeps: int
    held: int
    is_on: bool


@dataclass(frozen=True, slots=True)
class Day:
    """The sweeps of one day.

    Attributes:
        date: Local.
        sweeps: How many began.
        cut_off: Of these, how many never finished.
        braked: Of these, how many had the brake on.
        observations: Looks by what they found.
        outcomes: Sums of what the sweeps counted.
        mean_took: Of the finished ones.
        longest_took: The same.
        most_left: Due lines that the worst of them did not get to.
    """

    date: date
    sweeps: int
    cut_off: int
    braked: int
    observations: Counter[str]
    outcomes: Counter[str]
    mean_took: timedelta | None
    longest_took: timedelta | None
    most_left: int


def looking(runs: Sequence[Run]) -> list[Run]:
    """The finished sweeps that looked at something: one that found nothing due says nothing."""
    return [run for run in runs if run.finished_at and run.checked]


def is_blind(run: Run) -> bool:
    """Whether its looks prove nothing: the brake was on, or most of them could not find out."""
    return run.braked or 2 * run.observations.get(Observation.UNKNOWN, 0) > run.checked


def unseen(runs: Sequence[Run], *, since: datetime, window: Span) -> list[Span]:
    """When nobody saw the lines.

    Args:
        runs: Oldest first.
        since: Nothing is known of the time before.
        window: The time in question.
    """
    spans = [Span(window.start, since)]
    last: datetime | None = None
    for run in looking(runs):
        if last is None:
            spans.append(Span(window.start, run.started_at))
        elif run.started_at - last > LOOK_GAP or is_blind(run):
            spans.append(Span(last, run.started_at))
        last = run.started_at
    if last is None:
        spans.append(window)
    elif window.end - last > LOOK_GAP:
        spans.append(Span(last, window.end))
    return [span for span in (each.within(window) for each in spans) if span.length]


def is_cut_off(run: Run, *, now: datetime) -> bool:
    """Whether it will not finish any more: no sweep has a budget of a quarter of an hour."""
    return run.finished_at is None and now - run.started_at > LOOK_GAP


def brakes(runs: Sequence[Run]) -> list[Brake]:
    """Newest first; sweeps more than ``LOOK_GAP`` apart are two brakes."""
    found: list[list[Run]] = []
    finished = looking(runs)
    previous: Run | None = None
    for run in finished:
        if run.braked:
            goes_on = previous and previous.braked and run.started_at - previous.started_at <= LOOK_GAP
            if goes_on:
                found[-1].append(run)
            else:
                found.append([run])
        previous = run
    return [
        Brake(
            Span(group[0].started_at, group[-1].started_at),
            len(group),
            max(run.outcomes.get(Outcome.HELD, 0) for run in group),
            is_on=group[-1] is finished[-1],
        )
        for group in reversed(found)
    ]


def days(runs: Sequence[Run], *, zone: tzinfo, now: datetime) -> list[Day]:
    """Newest first; a day without a sweep is missing."""
    by_day = groupby(runs, key=lambda run: run.started_at.astimezone(zone).date())
    return [_day(date, list(group), now) for date, group in by_day][::-1]


def _day(date: date, runs: list[Run], now: datetime) -> Day:
    observations: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for run in runs:
        observations.update(run.observations)
        outcomes.update(run.outcomes)
    took = [run.took for run in runs if run.took is not None]
    return Day(
        date=date,
        sweeps=len(runs),
        cut_off=sum(is_cut_off(run, now=now) for run in runs),
        braked=sum(run.braked for run in runs),
        observations=observations,
        outcomes=outcomes,
        mean_took=sum(took[1:], took[0]) / len(took) if took else None,
        longest_took=max(took, default=None),
        most_left=max(run.left_due for run in runs),
    )
