"""When the silence of a line that lives shows that its events do not reach us, and what a repair has shown. No clock.

**Proof (i)**: the platform has sent through the API, and nothing came back: neither ack nor echo, nor any other
event.

**Habit (ii)**: a week has 168 hours. Of each hour of the week ``heard[h]`` counts the quarter hours with any event,
in the zone's own time. Events come in bursts (an album, a group, the acks of one campaign), so that their number
misleads: a quarter with 500 events is one quarter. Of the ``n`` quarters of that hour of the week since counting
began, the share

    share[h] = (heard[h] + 1/2) / (n + 1)

are not silent (the estimate of Krichevsky and Trofimov: never 0, never 1). If quarters were independent of each
other, a silence over the quarters q1 ... qk would have the probability

    P = (1 - share[q1]) * ... * (1 - share[qk])

and it is improbable when P < 1 in 10,000. Only whole quarters after the last event count (an event is stored about
once a minute, so the minute after it was heard as well): nothing shorter than 15 minutes is improbable. An hour of
which fewer than one quarter in ten was ever heard is one **without a habit**: its quarters do not count, and nothing
is concluded in it. Where nine of ten quarters are heard four silent ones are improbable; where every second one is,
fourteen.

Quarters are not independent: a shop that closes early is silent for the whole evening, and one that keeps a holiday
for the day. So P never rings. It repairs a silence once; each suspicion makes the line's own bar stricter for a
quarter of a year (P < (1 in 10,000)^2 after one); and silences of half of the lines that could be heard are one
cause.

The counts are halved, and their beginning is moved on, when they reach back further than ``memory``: a shop that
changes its hours has new habits some weeks later. An hour has the wall clock's name: when clocks change, the habit
goes with the shop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from shared.core.policy import MutePolicy

HOURS: Final = 168
QUARTER: Final = timedelta(minutes=15)
_HOUR: Final = timedelta(hours=1)
_QUARTERS_AN_HOUR: Final = 4


class MuteProof(StrEnum):
    """By what a line is suspected to be mute: the column ``instance_mutes.proof``."""

    SENDS = "sends"
    """Messages sent through the API, without ack, echo or any other event."""
    HABIT = "habit"
    """Its silence is improbable. It repairs, it never rings."""
    REGISTRATION = "registration"
    """Its webhooks are known not to be set as they should, and could not be set."""


class MuteClosing(StrEnum):
    """What the first event after it showed: the column ``instance_mutes.closed_as``."""

    REGISTRATION_LOST = "registration_lost"
    """It came as soon as the registration had been set again."""
    PROVIDER_DELIVERY = "provider_delivery"
    """It came later, and the silence in between was improbable as well."""
    INCONCLUSIVE = "inconclusive"
    """Nothing was to be expected in between, or nothing had been set, or no event came."""


@dataclass(frozen=True, slots=True)
class Habit:
    """When a line is usually heard.

    Attributes:
        heard: By hour of the week, Monday's first hour first: quarter hours with an event.
        counted_from: When the counting began; a whole hour.
        suspicions: Of lately, by the habit alone, whatever came of them.
    """

    heard: bytes
    counted_from: datetime
    suspicions: int = 0

    def is_known(self, rule: MutePolicy, *, until: datetime) -> bool:
        """Whether it had been counted by then for long enough to say anything."""
        return until - self.counted_from >= rule.habit_after

    def shares(self, *, zone: tzinfo, until: datetime) -> list[float]:
        """Of each hour of the week the share of its quarters that were heard by then: no silence counts itself."""
        began = _wall(self.counted_from, zone)
        weeks, rest = divmod(max(0, (_wall(until, zone) - began) // _HOUR), HOURS)
        first = _hour_of_week(began)
        passed = [_QUARTERS_AN_HOUR * (weeks + ((hour - first) % HOURS < rest)) for hour in range(HOURS)]
        # Of the running hour quarters may be heard that have not passed.
        return [
            (min(heard, quarters) + 0.5) / (quarters + 1) for heard, quarters in zip(self.heard, passed, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Silence:
    """What a silence is worth.

    Attributes:
        improbable_at: When it becomes improbable if it goes on, or became so; then when it does so twice over, three
            times over, as far as the rule reaches. Empty where no habit says anything.
        is_improbable: It is, and this hour is one with a habit.
    """

    improbable_at: tuple[datetime, ...] = ()
    is_improbable: bool = False


@dataclass(frozen=True, slots=True)
class Sends:
    """What the platform has sent through the API since the last event, long enough ago for something to come back.

    Attributes:
        count: Messages without ack or echo.
        chats: To so many different chats.
        first_at: The first of them.
        heard_since: Whether any event at all has come from the line since then.
    """

    count: int
    chats: int
    first_at: datetime
    heard_since: bool


def is_proven(sends: Sends | None, rule: MutePolicy) -> bool:
    """Proof (i): enough messages to more than one chat, and nothing came back."""
    return sends is not None and not sends.heard_since and sends.count >= rule.sends and sends.chats >= rule.chats


def judge_silence(
    habit: Habit | None, last_event_at: datetime, *, rule: MutePolicy, zone: tzinfo, now: datetime
) -> Silence:
    """Rule (ii): when a line that is silent since its last event is improbably so.

    Args:
        habit: None where nothing was counted yet.
        last_event_at: As stored: about once a minute while a line is busy.
        rule: Its numbers.
        zone: Whose clock the venue lives by.
        now: The instant of the decision, aware.
    """
    if habit is None or not habit.is_known(rule, until=last_event_at):
        return Silence()
    shares = habit.shares(zone=zone, until=last_event_at)
    bar = math.log(rule.improbable) * (1 + rule.stricter_each * habit.suspicions)
    reach = max(now, last_event_at) + rule.reach
    improbable_at: list[datetime] = []
    for ends, log_of_probability in _silent_quarters(last_event_at, shares, rule=rule, zone=zone, until=reach):
        if log_of_probability < bar * (len(improbable_at) + 1) and ends - last_event_at >= rule.shortest:
            improbable_at.append(ends)
            if len(improbable_at) == rule.habit_repairs:
                break
    is_habitual = shares[_hour_of_week(_wall(now, zone))] >= rule.habit_share
    return Silence(tuple(improbable_at), is_habitual and bool(improbable_at) and improbable_at[0] <= now)


def _silent_quarters(
    last_event_at: datetime, shares: Sequence[float], *, rule: MutePolicy, zone: tzinfo, until: datetime
) -> Iterator[tuple[datetime, float]]:
    """Ends of the silent quarters of hours with a habit, each with log P of the silence so far."""
    quarter, total, added = _next_quarter(last_event_at + rule.life_kept_each), 0.0, None
    turns = (quarter.minute - _wall(quarter, zone).minute) % 60  # some zones are not whole hours away
    while quarter + QUARTER <= until:
        if added is None or quarter.minute == turns:  # the clock's name of it changes on the hour
            share = shares[_hour_of_week(_wall(quarter, zone))]
            added = math.log1p(-share) if share >= rule.habit_share else 0.0
        quarter += QUARTER
        if added:
            total += added
            yield quarter, total


def next_look(silence: Silence, *, rule: MutePolicy, now: datetime) -> datetime:
    """Before when this silence, or one that begins later, cannot be improbable; an event in between changes nothing."""
    if not silence.improbable_at:
        return now + rule.look_again
    first = silence.improbable_at[0]
    return first if first > now else now + QUARTER  # it is improbable, in an hour without a habit


def next_probe(last_event_at: datetime, *, rule: MutePolicy, now: datetime) -> datetime:
    """When the sends of a silent line are read again: soon in a short silence, each hour in a long one."""
    return now + min(max((now - last_event_at) / 4, rule.probe_soonest), rule.probe_latest)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A mute that is open, as far as repairs and telling go.

    Attributes:
        proof: By what.
        since: Since when events are missing: the first send without an answer, else the last event.
        suspected_at: When it was opened.
        repairs: How often its registration was set again.
        repaired_at: When it last was.
        improbable_at: When its silence was improbable, twice improbable, …; empty for a proof.
    """

    proof: MuteProof
    since: datetime
    suspected_at: datetime
    repairs: int = 0
    repaired_at: datetime | None = None
    improbable_at: tuple[datetime, ...] = ()

    def repair_due_at(self, rule: MutePolicy) -> datetime | None:
        """When it is to be repaired again; None = no more.

        A line that nobody uses any more is silent against its habit for weeks: only a proof goes on for ever.
        """
        last = self.repaired_at or self.suspected_at
        due = last + (*rule.repair_waits, rule.repair_again)[min(self.repairs, len(rule.repair_waits))]
        if self.proof is not MuteProof.HABIT:
            return due
        return max(due, self.improbable_at[self.repairs]) if self.repairs < len(self.improbable_at) else None

    def is_given_up(self, rule: MutePolicy, *, now: datetime) -> bool:
        """Nothing is repaired any more, and nothing came of it."""
        last = self.repaired_at or self.suspected_at
        return self.repair_due_at(rule) is None and now - last >= rule.repair_again

    def is_to_be_told(self, rule: MutePolicy, *, now: datetime) -> bool:
        """Whether the venue hears of it: never by the habit alone, and not before a repair could show."""
        shown = self.repaired_at is None or now - self.repaired_at >= rule.shows_within
        return self.proof is not MuteProof.HABIT and now - self.since >= rule.told_after and shown


def is_mass(suspects: int, heard: int, rule: MutePolicy) -> bool:
    """Whether so many lines are silent against their habit that it is one cause: half of those that could be heard now.

    Args:
        suspects: Lines whose silence is improbable.
        heard: Lines with a habit that are not silent.
        rule: Its numbers.
    """
    return suspects >= rule.mass_lines and suspects >= rule.mass_share * (suspects + heard)


def verdict(
    first_event_at: datetime | None,
    repairs: Sequence[datetime],
    habit: Habit | None,
    *,
    rule: MutePolicy,
    zone: tzinfo,
) -> MuteClosing:
    """What the first event after a suspicion shows.

    Args:
        first_event_at: When it arrived; None when none came.
        repairs: When the registration was first and last set again, or nothing.
        habit: Of the line.
        rule: Its numbers.
        zone: Whose clock the venue lives by.
    """
    if first_event_at is None or not repairs or first_event_at < repairs[0]:
        return MuteClosing.INCONCLUSIVE
    if any(timedelta(0) <= first_event_at - repaired_at <= rule.shows_within for repaired_at in repairs):
        return MuteClosing.REGISTRATION_LOST
    habit = replace(habit, suspicions=0) if habit else None  # to tell what it was nobody needs to be stricter
    between = judge_silence(habit, repairs[0], rule=rule, zone=zone, now=first_event_at)
    is_improbable = bool(between.improbable_at) and between.improbable_at[0] <= first_event_at
    return MuteClosing.PROVIDER_DELIVERY if is_improbable else MuteClosing.INCONCLUSIVE


def _wall(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _hour_of_week(wall: datetime) -> int:
    return wall.weekday() * 24 + wall.hour


def _next_quarter(at: datetime) -> datetime:
    """The first beginning of a quarter from then on. In UTC: every zone's quarters begin with its quarters."""
    at = at.astimezone(UTC)
    passed = timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond)
    return at if not passed else at - passed + QUARTER
