"""Restarts and whether they helped; how fast outages were noticed, told and ended. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from ops.report.spans import Span
from ops.report.sweeps import is_blind, looking
from shared.core.model import AuditKind, OutageClosing, OutageOpener, Status
from shared.core.notices import FallKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.report.rows import LineEvent, Outage, Run


class RestartResult(Enum):
    """How a restart ended; the value is the audit's word."""

    RECOVERED = AuditKind.RESTART_RECOVERED
    FAILED = AuditKind.RESTART_FAILED
    UNVERIFIED = AuditKind.RESTART_UNVERIFIED
    UNTOLD = None
    """The audit holds no end: it is under way, or its sweep was cut off."""


_RESULTS: Final = {result.value: result for result in RestartResult}
_CURES: Final = (AuditKind.OUTAGE_CLOSED, AuditKind.STATUS_CHANGED)
_BACK_TO_LIFE: Final = (OutageClosing.RECOVERED, OutageClosing.ALIVE, OutageClosing.EVENT)


@dataclass(frozen=True, slots=True)
class Restart:
    """A request to restart a line, and what came of it."""

    at: datetime
    instance_id: UUID
    outage_id: UUID | None
    result: RestartResult


@dataclass(frozen=True, slots=True)
class Spread:
    """Durations at a glance; the percentile is the nearest rank."""

    count: int
    mean: timedelta
    median: timedelta
    p95: timedelta


def spread(durations: Iterable[timedelta]) -> Spread | None:
    """None when there is none."""
    ordered = sorted(durations)
    if not ordered:
        return None
    count = len(ordered)

    def rank(share: float) -> timedelta:
        return ordered[math.ceil(share * count) - 1]

    return Spread(count, sum(ordered, timedelta(0)) / count, rank(0.5), rank(0.95))


def cures_in(events: Sequence[LineEvent]) -> dict[UUID, list[Span]]:
    """By line, the time that silent cures held before their outage was opened again: no outage is down in it.

    Args:
        events: Oldest first.
    """
    alive_since: dict[UUID, datetime] = {}
    cures: defaultdict[UUID, list[Span]] = defaultdict(list)
    for event in events:
        if event.outage_id is None:
            continue
        if event.to_status == Status.CONNECTED and event.kind in _CURES:
            alive_since[event.outage_id] = event.at
        elif event.kind is AuditKind.OUTAGE_REOPENED and event.outage_id in alive_since:
            died = event.at - timedelta(seconds=event.dead_for_seconds or 0)
            cures[event.instance_id].append(Span(alive_since.pop(event.outage_id), died))
    return dict(cures)


def restarts_in(events: Sequence[LineEvent]) -> list[Restart]:
    """Oldest first. A line's results follow their request: there is one restart of it at a time.

    Args:
        events: Oldest first; a result whose request is not among them is left out.
    """
    requests: list[LineEvent] = []
    results: dict[int, RestartResult] = {}
    waiting: dict[UUID, int] = {}
    for event in events:
        if event.kind is AuditKind.RESTART_REQUESTED:
            waiting[event.instance_id] = event.id
            requests.append(event)
        elif (result := _RESULTS.get(event.kind)) and event.instance_id in waiting:
            results[waiting.pop(event.instance_id)] = result
    return [
        Restart(each.at, each.instance_id, each.outage_id, results.get(each.id, RestartResult.UNTOLD))
        for each in requests
    ]


def people_told(events: Iterable[LineEvent]) -> dict[UUID, int]:
    """How many were told of the beginning of each outage, by the audit."""
    told: dict[UUID, int] = {}
    for event in events:
        if (
            event.outage_id
            and event.told is not None
            and event.later is None  # a reminder tells the same people
            and event.to_status != Status.CONNECTED
        ):
            told[event.outage_id] = told.get(event.outage_id, 0) + event.told
    return told


def times_to_detect(outages: Iterable[Outage], runs: Sequence[Run], window: Span) -> list[timedelta]:
    """The longest that outages can have lasted unseen.

    A death that an event told is as old as the event. One that a sweep found may be as old as the sweep that saw the
    line alive last. Outages from before the first look, or before the first sweep that is known, are left out.
    """
    seen = sorted((run.finished_at, run.started_at) for run in looking(runs) if run.finished_at and not is_blind(run))
    ends = [finished_at for finished_at, _ in seen]
    times = []
    for each in outages:
        if each.is_adopted or not window.start <= each.opened_at <= window.end:
            continue
        if each.opened_by is OutageOpener.WEBHOOK:
            times.append(max(each.opened_at - each.started_at, timedelta(0)))
        elif before := bisect_left(ends, each.started_at):
            times.append(each.opened_at - seen[before - 1][1])
    return times


def times_to_tell(outages: Iterable[Outage], window: Span) -> list[timedelta]:
    """From the first sign of death to the bell, but for what is told late on purpose because the line is unstable."""
    return [
        max(each.told_at - each.started_at, timedelta(0))
        for each in outages
        if each.told_at
        and each.told_as not in (FallKind.DAMPED, FallKind.DOWN_LASTING)
        and not each.is_adopted
        and window.start <= each.told_at <= window.end
    ]


def times_to_repair(outages: Iterable[Outage], window: Span) -> list[timedelta]:
    """From the first sign of death to life; pausing or deleting a line is no repair."""
    return [
        each.lasted(each.closed_at)
        for each in outages
        if each.closed_at
        and each.closed_as in _BACK_TO_LIFE
        and not each.is_adopted
        and window.start <= each.closed_at <= window.end
    ]
