"""A line's last 30 days: down, up, or nobody knows. Pure.

An outage is down from its first sign of death until life is proven. All other time counts as up only where somebody
looked: what no sweep saw, what lies before the first look or in a pause, and what comes after the last sign of life is
unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from ops.report.spans import Span, minus, total, union
from shared.core.model import OutageClosing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.report.rows import Line, Outage

LOOK_GAP: Final = timedelta(minutes=15)
"""Longer without a look, and nobody can say what the line did: three sweeps, as in the alert for missing ones."""
HOUR: Final = timedelta(hours=1)

NextTrace = Callable[[datetime], datetime | None]
"""When the audit next names the line after an instant."""


class Window(Enum):
    """What uptime is told of, each back from now; the value is in hours."""

    DAY = 24
    WEEK = 168
    MONTH = 720

    @property
    def length(self) -> timedelta:
        """The same as a duration."""
        return self.value * HOUR

    def before(self, now: datetime) -> Span:
        """The window that ends now."""
        return Span(now - self.length, now)


class Hour(Enum):
    """What an hour of a bar shows; the value stands in the page's classes."""

    UP = "u"
    PARTLY = "p"
    """Down for less than half of it."""
    DOWN = "d"
    UNKNOWN = "n"
    """Never down as far as anybody knows, and unknown for half of it or more."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """How long a line was up, down and out of sight; together the window."""

    up: timedelta
    down: timedelta
    unknown: timedelta

    @property
    def share(self) -> float | None:
        """Up / (up + down), None when nothing is known."""
        known = self.up + self.down
        return self.up / known if known else None

    @property
    def unknown_share(self) -> float:
        """Of the window."""
        return self.unknown / (self.up + self.down + self.unknown)

    def __add__(self, other: Uptime) -> Uptime:
        return Uptime(self.up + other.up, self.down + other.down, self.unknown + other.unknown)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The last 30 days of a line.

    Attributes:
        now: Their end.
        down: In order and apart.
        unknown: The same, and apart from ``down``; the rest is up.
    """

    now: datetime
    down: tuple[Span, ...]
    unknown: tuple[Span, ...]

    def uptime(self, window: Window) -> Uptime:
        """The shares of a window that ends now."""
        span = window.before(self.now)
        down = total(each.within(span) for each in self.down)
        unknown = total(each.within(span) for each in self.unknown)
        return Uptime(window.length - down - unknown, down, unknown)

    def hours(self) -> tuple[Hour, ...]:
        """720 hours counted back from now, oldest first; the last ones are the shorter windows' hours."""
        start, count = self.now - Window.MONTH.length, Window.MONTH.value
        down = _by_hour(self.down, start, count)
        unknown = _by_hour(self.unknown, start, count)
        judged = ((_judge(*both) if any(both) else Hour.UP) for both in zip(down, unknown, strict=True))
        return tuple(judged)


def _judge(down: timedelta, unknown: timedelta) -> Hour:
    if down:
        return Hour.DOWN if down >= HOUR / 2 else Hour.PARTLY
    return Hour.UNKNOWN if unknown >= HOUR / 2 else Hour.UP


def _by_hour(spans: Sequence[Span], start: datetime, count: int) -> list[timedelta]:
    lengths = [timedelta(0)] * count
    for span in spans:
        first, last = (span.start - start) // HOUR, min((span.end - start) // HOUR, count - 1)
        lengths[first + 1 : last] = [HOUR] * max(last - first - 1, 0)
        for index in {first, last}:
            hour = Span(start + index * HOUR, start + (index + 1) * HOUR)
            lengths[index] += span.within(hour).length
    return lengths


def timeline(
    line: Line,
    outages: Sequence[Outage],
    unseen: Sequence[Span],
    *,
    now: datetime,
    next_trace: NextTrace = lambda _: None,
    cures: Sequence[Span] = (),
) -> Timeline:
    """Say what is known of a line's last 30 days.

    Args:
        line: Its row.
        outages: All of it in that time, in any order.
        unseen: When no sweep looked at anybody.
        now: The end.
        next_trace: Says when somebody was at the line again after a pause.
        cures: When it lived in the midst of an outage that was opened again.
    """
    window = Window.MONTH.before(now)
    down = union((Span(each.started_at, each.closed_at or now) for each in outages), window)
    down = minus(down, union(cures, window))
    unknown = [*unseen, *_pauses(outages, next_trace, now), *_unproven(line, outages, now)]
    if line.created_at:
        unknown.append(Span(window.start, line.created_at))
    unknown += [Span(window.start, each.started_at) for each in outages if each.is_adopted]
    return Timeline(now, down, minus(union(unknown, window), down))


def _pauses(outages: Sequence[Outage], next_trace: NextTrace, now: datetime) -> list[Span]:
    """A pause leaves a trace only where it closed an outage; it ends where the line is next heard of."""
    starts = sorted(each.started_at for each in outages)
    pauses = []
    for each in outages:
        if each.closed_at and each.closed_as is OutageClosing.PAUSED:
            heard = [at for at in starts if at > each.closed_at][:1]
            if trace := next_trace(each.closed_at):
                heard.append(trace)
            pauses.append(Span(each.closed_at, min(heard, default=now)))
    return pauses


def _unproven(line: Line, outages: Sequence[Outage], now: datetime) -> list[Span]:
    """What comes after the last sign of life and is no outage."""
    proven = line.proven_until
    if proven is None:
        return [Span(now - Window.MONTH.length, now)]
    end = min((each.started_at for each in outages if each.closed_at is None), default=now)
    allowed = timedelta(0) if line.is_paused else LOOK_GAP
    return [Span(proven, end)] if end - proven > allowed else []
