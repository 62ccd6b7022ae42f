"""From the history to what the page shows: figures of lines, companies, outages, restarts and sweeps. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from ops.report.incidents import (
    Restart,
    RestartResult,
    Spread,
    cures_in,
    people_told,
    restarts_in,
    spread,
    times_to_detect,
    times_to_repair,
    times_to_tell,
)
from ops.report.spans import Span, total, union
from ops.report.sweeps import Brake, Day, brakes, days, unseen
from ops.report.timeline import LOOK_GAP, Hour, Uptime, Window, timeline
from shared.core.model import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo
    from uuid import UUID

    from ops.report.history import History
    from ops.report.rows import Delivery, Line, Mute, Outage, Run

FLAPPING_OUTAGES: Final = 3
"""A line that went down so often within a day is flapping, whatever it is now."""
LATEST_RUNS: Final = 12
NOTHING: Final = Uptime(timedelta(0), timedelta(0), timedelta(0))


class Condition(Enum):
    """What a line is now, worst first; the value stands in the page's classes."""

    DOWN = "down"
    UNSTABLE = "unstable"
    """In an outage and not given up: degraded, or being restarted."""
    UNCONFIRMED = "unconfirmed"
    """The row says connected, and nobody has seen it alive lately."""
    UNSEEN = "unseen"
    """Never looked at."""
    UP = "up"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class LineFigures:
    """A line.

    Attributes:
        line: Its row.
        condition: What it is now.
        uptimes: By window.
        hours: 720 of them, oldest first.
        open: Its outage.
        ended: Its other outages of 30 days, newest first.
        outages: How many there were in 30 days.
        restarts: The same.
        helped: Of these, how many.
        lately: How many outages began in the last 24 hours.
        mute_since: Since when it lives and its events do not reach us; None: they do.
        mute: How long that was so in 30 days, and how often. Not part of the uptimes.
    """

    line: Line
    condition: Condition
    uptimes: dict[Window, Uptime]
    hours: tuple[Hour, ...]
    open: Outage | None
    ended: tuple[Outage, ...]
    outages: int
    restarts: int
    helped: int
    lately: int
    mute_since: datetime | None = None
    mute: tuple[timedelta, int] = (timedelta(0), 0)

    @property
    def is_flapping(self) -> bool:
        """It goes down and comes back, again and again."""
        return self.lately >= FLAPPING_OUTAGES

    @property
    def needs_a_look(self) -> bool:
        """Whether somebody who opens the page should see it at once."""
        return self.is_flapping or self.mute_since is not None or self.condition not in (Condition.UP, Condition.PAUSED)


@dataclass(frozen=True, slots=True)
class CompanyFigures:
    """A company's lines, worst first."""

    name: str | None
    id: UUID | None
    lines: tuple[LineFigures, ...]
    uptimes: dict[Window, Uptime]
    conditions: Counter[Condition]


@dataclass(frozen=True, slots=True)
class OpenOutage:
    """An outage that goes on.

    Attributes:
        outage: Its row.
        line: Its line's row, None when that was not read.
        company: Its name.
        lasted: So far.
        tried: Its restarts, as far as they were read; the row knows how many there were.
        told: How many people heard of it; None = not known.
        deliveries: What went, or is to go, to contacts about it; each with how the address ends.
    """

    outage: Outage
    line: Line | None
    company: str | None
    lasted: timedelta
    tried: tuple[Restart, ...]
    told: int | None
    deliveries: tuple[tuple[Delivery, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Period:
    """Of all lines, in one window."""

    uptime: Uptime
    outages: int
    restarts: Counter[RestartResult]
    detect: Spread | None
    tell: Spread | None
    repair: Spread | None

    @property
    def requested(self) -> int:
        """Restarts, however they ended."""
        return self.restarts.total()

    @property
    def helped(self) -> int:
        """Restarts after which the line was seen alive."""
        return self.restarts[RestartResult.RECOVERED]


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything on the page.

    Attributes:
        now: The instant it is about.
        open_outages: Newest first.
        periods: By window.
        companies: Those with trouble first, then by name.
        conditions: How many lines are what.
        latest_runs: Newest first.
        days: Newest first.
        brakes: Newest first.
        mute: How many lines live now while their events do not reach us.
        history: What it was made of; the page says what was not read.
    """

    now: datetime
    open_outages: tuple[OpenOutage, ...]
    periods: dict[Window, Period]
    companies: tuple[CompanyFigures, ...]
    conditions: Counter[Condition]
    latest_runs: tuple[Run, ...]
    days: tuple[Day, ...]
    brakes: tuple[Brake, ...]
    mute: int
    history: History


def condition_of(line: Line, outage: Outage | None, *, now: datetime) -> Condition:
    """Say what a line is now; of what nobody has confirmed nothing good is said."""
    if line.is_paused:
        return Condition.PAUSED
    if line.last_health_check is None and outage is None and line.proven_until is None:
        return Condition.UNSEEN
    if line.standing is Status.DISCONNECTED:
        return Condition.DOWN
    if outage or line.standing is Status.DEGRADED:
        return Condition.UNSTABLE
    if line.proven_until is None or now - line.proven_until > LOOK_GAP:
        return Condition.UNCONFIRMED
    return Condition.UP


def figure(history: History, *, now: datetime, zone: tzinfo) -> Figures:
    """Make the figures.

    Args:
        history: What was read.
        now: The instant of the report.
        zone: Whose days are meant.
    """
    restarts = restarts_in(history.events)
    lines = _lines(history, restarts, now)
    conditions = Counter(each.condition for each in lines)
    return Figures(
        now=now,
        open_outages=_open_outages(history, restarts, now),
        periods={window: _period(history, restarts, lines, window, now) for window in Window},
        companies=_companies(history, lines),
        conditions=conditions,
        latest_runs=tuple(history.runs[: -LATEST_RUNS - 1 : -1]),
        days=tuple(days(history.runs, zone=zone, now=now)),
        brakes=tuple(brakes(history.runs)),
        mute=sum(each.mute_since is not None for each in lines),
        history=history,
    )


def _lines(history: History, restarts: Sequence[Restart], now: datetime) -> list[LineFigures]:
    outages: defaultdict[UUID, list[Outage]] = defaultdict(list)
    for each in history.outages:
        outages[each.instance_id].append(each)
    mutes: defaultdict[UUID, list[Mute]] = defaultdict(list)
    for mute in history.mutes:
        if mute.is_shown:
            mutes[mute.instance_id].append(mute)
    requested = Counter(each.instance_id for each in restarts)
    helped = Counter(each.instance_id for each in restarts if each.result is RestartResult.RECOVERED)
    traces: defaultdict[UUID, list[datetime]] = defaultdict(list)
    for event in history.events:
        traces[event.instance_id].append(event.at)
    cures = cures_in(history.events)
    blind = unseen(history.runs, since=max(history.runs_since, history.outages_since), window=Window.MONTH.before(now))

    def figures_of(line: Line) -> LineFigures:
        own = sorted(outages[line.id], key=lambda each: each.started_at, reverse=True)
        open_outage = next((each for each in own if each.closed_at is None), None)

        def next_trace(after: datetime) -> datetime | None:
            heard = traces[line.id]
            index = bisect_right(heard, after)
            return heard[index] if index < len(heard) else None

        time = timeline(line, own, blind, now=now, next_trace=next_trace, cures=cures.get(line.id, ()))
        return LineFigures(
            line=line,
            condition=condition_of(line, open_outage, now=now),
            uptimes={window: time.uptime(window) for window in Window},
            hours=time.hours(),
            open=open_outage,
            ended=tuple(each for each in own if each.closed_at),
            lately=sum(now - each.started_at <= Window.DAY.length for each in own),
            outages=len(own),
            restarts=requested[line.id],
            helped=helped[line.id],
            mute_since=next((each.since for each in mutes[line.id] if each.closed_at is None), None),
            mute=_mute(mutes[line.id], now),
        )

    return [figures_of(line) for line in history.lines]


def _mute(mutes: Sequence[Mute], now: datetime) -> tuple[timedelta, int]:
    spans = [Span(each.since, each.ended_at or now) for each in mutes]
    return total(union(spans, Window.MONTH.before(now))), len(mutes)


def _companies(history: History, lines: Sequence[LineFigures]) -> tuple[CompanyFigures, ...]:
    order = {condition: place for place, condition in enumerate(Condition)}

    def rank(line: LineFigures) -> int:
        return min(order[line.condition], order[Condition.UNSTABLE] if line.is_flapping else len(order))

    by_company: defaultdict[UUID | None, list[LineFigures]] = defaultdict(list)
    for each in lines:
        by_company[each.line.company_id].append(each)
    companies = []
    for company_id, own in by_company.items():
        known = history.companies.get(company_id) if company_id else None
        companies.append(
            CompanyFigures(
                name=known.name if known else None,
                id=company_id,
                lines=tuple(sorted(own, key=lambda each: (rank(each), (each.line.unit or "").casefold()))),
                uptimes={window: _sum(own, window) for window in Window},
                conditions=Counter(each.condition for each in own),
            )
        )
    return tuple(sorted(companies, key=lambda each: (rank(each.lines[0]), (each.name or "").casefold(), str(each.id))))


def _open_outages(history: History, restarts: Sequence[Restart], now: datetime) -> tuple[OpenOutage, ...]:
    rows = {line.id: line for line in history.lines}
    told = people_told(history.events) | history.told
    tried: defaultdict[UUID | None, list[Restart]] = defaultdict(list)
    for restart in restarts:
        tried[restart.outage_id].append(restart)
    found = []
    for outage in sorted(history.outages, key=lambda each: each.started_at, reverse=True):
        if outage.closed_at is None:
            company = history.companies.get(outage.company_id) if outage.company_id else None
            found.append(
                OpenOutage(
                    outage=outage,
                    line=rows.get(outage.instance_id),
                    company=company.name if company else None,
                    lasted=outage.lasted(now),
                    tried=tuple(tried[outage.id]),
                    told=told.get(outage.id) if outage.told_at else 0,
                    deliveries=tuple(
                        (each, history.ends.get(each.contact_id, ""))
                        for each in history.deliveries
                        if each.outage_id == outage.id and each.state != "cancelled"
                    ),
                )
            )
    return tuple(found)


def _period(
    history: History, restarts: Sequence[Restart], lines: Sequence[LineFigures], window: Window, now: datetime
) -> Period:
    span = window.before(now)
    return Period(
        uptime=_sum(lines, window),
        outages=sum(span.start <= each.opened_at for each in history.outages),
        restarts=Counter(each.result for each in restarts if each.at >= span.start),
        detect=spread(times_to_detect(history.outages, history.runs, span)),
        tell=spread(times_to_tell(history.outages, span)),
        repair=spread(times_to_repair(history.outages, span)),
    )


def _sum(lines: Sequence[LineFigures], window: Window) -> Uptime:
    return sum((each.uptimes[window] for each in lines), NOTHING)
