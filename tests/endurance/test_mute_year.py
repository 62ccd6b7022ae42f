"""Years of healthy made-up lines under the rule of mute lines: how often it repairs needlessly, and how soon it finds.

Event by event and suspicion by suspicion, with the real rule, in the order of time; sweeps every five minutes.
``HARD=1`` plays the whole year of 200 lines (some five minutes) and prints what ``docs/reliability.md`` tells.
"""

from __future__ import annotations

import heapq
import os
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from rhythms import BUSY, KINDS, SHOP, ZONE, Kind, heard

from shared.core.mute import (
    HOURS,
    QUARTER,
    Habit,
    MuteClosing,
    MuteProof,
    Silence,
    Suspicion,
    is_mass,
    judge_silence,
    verdict,
)
from shared.core.policy import MutePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

HARD = os.environ.get("HARD") == "1"
RULE = MutePolicy()
BEGINS = datetime(2026, 1, 5, tzinfo=ZONE)
SWEEP = timedelta(minutes=5)
LOST, NEVER = "lost", datetime.max.replace(tzinfo=ZONE)


@dataclass
class LineOfTheYear:
    """A line, what has been counted of it, and the suspicion that is open.

    Attributes:
        kind: Its trade.
        events: What it sends.
        mute_from: From then on nothing of it arrives before its registration was set again.
    """

    kind: Kind
    events: Iterator[datetime]
    mute_from: datetime = NEVER
    counts: bytearray = field(default_factory=lambda: bytearray(HOURS))
    counted_from: datetime | None = None
    last: datetime | None = None
    following: datetime | None = None
    needless: list[datetime] = field(default_factory=list)
    silence: Silence = field(default_factory=Silence)
    suspicion: Suspicion | None = None
    repaired: list[datetime] = field(default_factory=list)
    closings: list[MuteClosing] = field(default_factory=list)

    def habit(self, now: datetime) -> Habit | None:
        if self.counted_from is None:
            return None
        self.needless = [at for at in self.needless if now - at < RULE.suspicions_within]
        return Habit(bytes(self.counts), self.counted_from, len(self.needless))

    def count(self, at: datetime) -> None:
        """As SQL does it."""
        if self.counted_from is None:
            self.counted_from = at.replace(minute=0, second=0)
        elif self.counted_from <= at - RULE.memory:
            self.counts = bytearray(count // 2 for count in self.counts)
            self.counted_from += RULE.memory / 2
        wall = at.astimezone(ZONE)
        hour = wall.weekday() * 24 + wall.hour
        self.counts[hour] = min(255, self.counts[hour] + 1)
        self.last = at


@dataclass
class Year:
    """Lines and the order in which things happen to them.

    Attributes:
        lines: The fleet.
        repaired: When a silence was improbable, and when it was repaired.
        canary: When one was repaired for all, and whether that helped.
    """

    lines: list[LineOfTheYear]
    repairs: int = 0
    suspicions: int = 0
    told: int = 0
    repaired: list[tuple[datetime, datetime]] = field(default_factory=list)
    closed: dict[MuteClosing, int] = field(default_factory=lambda: dict.fromkeys(MuteClosing, 0))
    canary: tuple[datetime, bool] | None = None
    queue: list[tuple[datetime, int, int]] = field(default_factory=list)

    def play(self) -> None:
        for number, line in enumerate(self.lines):
            self._await_event(number, line)
        while self.queue:
            at, what, number = heapq.heappop(self.queue)
            line = self.lines[number]
            if what == 0 and at == line.following:
                self._hear(number, line, at)
            elif what == 1 and line.following != at:
                self._sweep(number, line, at)

    def _await_event(self, number: int, line: LineOfTheYear) -> None:
        line.following = next(line.events, None)
        if line.following is not None:
            heapq.heappush(self.queue, (line.following, 0, number))

    def _hear(self, number: int, line: LineOfTheYear, at: datetime) -> None:
        if at >= line.mute_from:  # lost: the provider neither keeps nor resends it
            self._await_event(number, line)
            return
        if line.suspicion is not None:
            self._close(line, at)
        line.count(at)
        line.silence = Silence()
        self._await_event(number, line)
        # Two silent quarters at least are improbable, however busy a line is.
        if line.following is None or line.mute_from <= line.following or line.following - at > 2 * QUARTER:
            self._look(number, line, at)

    def _look(self, number: int, line: LineOfTheYear, last: datetime) -> None:
        line.silence = judge_silence(line.habit(last), last, rule=RULE, zone=ZONE, now=last)
        if line.silence.improbable_at:
            self._sweep_at(number, line.silence.improbable_at[0])

    def _sweep_at(self, number: int, at: datetime) -> None:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        sweeps = -((midnight - at) // SWEEP)
        heapq.heappush(self.queue, (midnight + sweeps * SWEEP + timedelta(seconds=1), 1, number))

    def _sweep(self, number: int, line: LineOfTheYear, at: datetime) -> None:
        if line.last is None or not line.silence.improbable_at or at < line.silence.improbable_at[0]:
            return  # heard since
        if line.suspicion is None:
            line.suspicion = Suspicion(MuteProof.HABIT, line.last, at, improbable_at=line.silence.improbable_at)
            self.suspicions += 1
        self.told += line.suspicion.is_to_be_told(RULE, now=at)
        due = line.suspicion.repair_due_at(RULE)
        if due is None:
            return
        if due > at:
            self._sweep_at(number, due)
            return
        lately = self.canary is not None and at - self.canary[0] < RULE.canary_serves
        held = False
        if is_mass(*self._counts(at), RULE):
            helped = lately and self.canary is not None and self.canary[1]
            held = not helped and lately
            if not helped and not lately:
                self.canary = (at, False)
        if held:
            self._sweep_at(number, at + SWEEP * 3)
            return
        self.repairs += 1
        self.repaired.append((line.silence.improbable_at[0], at))
        line.repaired.append(at)
        if at >= line.mute_from:
            line.mute_from = NEVER
        line.suspicion = Suspicion(
            MuteProof.HABIT, line.suspicion.since, line.suspicion.suspected_at, line.suspicion.repairs + 1, at,
            line.suspicion.improbable_at,
        )  # fmt: skip
        if (due := line.suspicion.repair_due_at(RULE)) is not None:
            self._sweep_at(number, due)

    def _counts(self, at: datetime) -> tuple[int, int]:
        suspects = sum(line.suspicion is not None for line in self.lines)
        heard_lately = sum(
            line.last is not None and line.counted_from is not None and at - line.last < RULE.shortest
            and line.last - line.counted_from > RULE.habit_after
            for line in self.lines
        )  # fmt: skip
        return suspects, heard_lately

    def _close(self, line: LineOfTheYear, at: datetime) -> None:
        ends = [line.repaired[0], line.repaired[-1]] if line.repaired else []
        closing = verdict(at, ends, line.habit(at), rule=RULE, zone=ZONE)
        self.closed[closing] += 1
        line.closings.append(closing)
        if closing is MuteClosing.REGISTRATION_LOST and self.canary is not None and self.canary[0] == line.repaired[-1]:
            self.canary = (self.canary[0], True)
        if line.repaired and line.suspicion is not None:
            line.needless.append(line.suspicion.suspected_at)
        line.suspicion, line.repaired = None, []


def a_fleet(lines: int, days: int, *, seed: int) -> list[LineOfTheYear]:
    return [
        LineOfTheYear(kind, heard(kind, begins=BEGINS, days=days, chance=random.Random(f"{seed} {number}")))
        for number in range(lines)
        for kind in (KINDS[number % len(KINDS)],)
    ]


def test_a_year_of_healthy_lines_rings_nobody_and_is_repaired_less_than_once_a_month() -> None:
    lines, days = (200, 364) if HARD else (5, 240)
    year = Year(a_fleet(lines, days, seed=int(os.environ.get("HARD_SEED", "1"))))
    year.play()
    months = lines * days / 30.4
    print(
        f"\n{lines} lines, {days} days: {year.suspicions} suspicions ({year.suspicions / months:.2f} a line and month),"
        f" {year.repairs} repairs ({year.repairs / months:.2f}), notices {year.told}; closed {year.closed}"
    )
    assert year.told == 0
    assert 0 < year.repairs < months
    assert sum(year.closed.values()) <= year.suspicions


@pytest.mark.parametrize(
    ("kind", "seeds"), [pytest.param(SHOP, (1, 7), id="shops"), pytest.param(BUSY, (1, 2), id="busy shops")]
)
def test_a_line_that_is_mute_in_open_hours_is_repaired_within_two_sweeps_after_it_is_improbable(
    kind: Kind, seeds: tuple[int, int]
) -> None:
    """In its sixth week, mute an hour apart, and each had been suspected before: its bar is stricter."""
    tuesday = BEGINS + timedelta(days=36, hours=14)
    mute_from = {seed: tuesday + number * timedelta(hours=1) for number, seed in enumerate(seeds)}
    year = Year(
        [
            LineOfTheYear(kind, heard(kind, begins=BEGINS, days=38, chance=random.Random(seed)), since)
            for seed, since in mute_from.items()
        ]
    )
    year.play()
    found = [(improbable_at, at) for improbable_at, at in year.repaired if tuesday < at < tuesday + timedelta(hours=8)]
    print(f"\nrepaired {', '.join(str(at - tuesday) for _, at in found)} after the first was mute")
    assert len(found) >= len(seeds)
    for improbable_at, repaired_at in found[: len(seeds)]:
        assert timedelta(0) <= repaired_at - improbable_at < 2 * SWEEP
    assert all(line.mute_from == NEVER for line in year.lines)
