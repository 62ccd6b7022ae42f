"""The rule of mute lines: which silences are improbable, when they are repaired, what the first event shows."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.core.mute import (
    QUARTER,
    Habit,
    MuteClosing,
    MuteProof,
    Sends,
    Silence,
    Suspicion,
    is_mass,
    is_proven,
    judge_silence,
    next_look,
    next_probe,
    verdict,
)
from shared.core.policy import MutePolicy

RULE = MutePolicy()
ZONE = ZoneInfo("America/Sao_Paulo")
MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(weeks=1)
MONDAY = datetime(2026, 8, 3, tzinfo=ZONE)
"""When the counting of every habit here began; ``ON`` is a Monday after eight weeks of it."""
ON = MONDAY + 8 * WEEK


def at(hours: float, *, day: int = 0) -> datetime:
    """So many hours after the midnight on which that day of the week began."""
    return ON + timedelta(days=day, hours=hours)


def a_habit(*open_hours: tuple[int, int, int], of_32: int = 30, night: int = 0, suspicions: int = 0) -> Habit:
    """Of eight weeks: (day, first hour, last hour) in which so many of 32 quarters were heard, and at night so many."""
    heard = bytearray([night] * 168)
    for day, opens, closes in open_hours:
        for hour in range(opens, closes):
            heard[day * 24 + hour] = of_32
    return Habit(bytes(heard), MONDAY, suspicions)


SHOP = a_habit(*((day, 9, 19) for day in range(5)), (5, 9, 15))
LUNCH = a_habit(*((day, 9, 12) for day in range(5)), *((day, 14, 19) for day in range(5)))
HALF = a_habit(*((day, 9, 19) for day in range(5)), of_32=16)
RARE = a_habit((0, 14, 15), of_32=8)
BUSY = a_habit(*((day, 8, 22) for day in range(7)), of_32=32, night=8)


@pytest.mark.parametrize(
    ("habit", "last", "now", "expected"),
    [
        pytest.param(SHOP, at(10.9), at(11.75), False, id="three silent quarters of a shop's morning are no rarity"),
        pytest.param(SHOP, at(10.9), at(12), True, id="four are"),
        pytest.param(SHOP, at(18.9), at(23), False, id="a night is silent"),
        pytest.param(SHOP, at(18.9), at(32.9), False, id="so is the hour before it opens"),
        pytest.param(SHOP, at(18.9), at(33.99), False, id="and its first three quarters"),
        pytest.param(SHOP, at(18.9), at(34), True, id="but not its first hour"),
        pytest.param(LUNCH, at(11.9), at(14), False, id="nobody writes over lunch"),
        pytest.param(LUNCH, at(11.9), at(15), True, id="after it they do"),
        pytest.param(SHOP, at(14.9, day=5), at(32, day=5), False, id="a Sunday is silent"),
        pytest.param(SHOP, at(14.9, day=5), at(34.5, day=6), True, id="the Monday after it is not"),
        pytest.param(None, at(9.1), at(18), False, id="a line that nobody has counted"),
        pytest.param(RARE, at(14.1), at(13, day=6), False, id="a line that is heard once a week"),
        pytest.param(RARE, at(14.1), at(14.5 + 24 * 7), False, id="and misses that"),
        pytest.param(HALF, at(9.9), at(13.25), False, id="where every second quarter is heard, thirteen silent ones"),
        pytest.param(HALF, at(9.9), at(13.5), True, id="fourteen are too many"),
        pytest.param(BUSY, at(1.9), at(3.4), False, id="88 minutes of a busy shop's night"),
        pytest.param(BUSY, at(11.98), at(12.7), False, id="a busy line: two whole quarters"),
        pytest.param(BUSY, at(11.98), at(12.75), True, id="and three"),
        pytest.param(BUSY, at(11.73), at(11.999), False, id="never under a quarter hour"),
    ],
)
def test_a_silence_against_the_habit_is_improbable(
    habit: Habit | None, last: datetime, now: datetime, expected: bool
) -> None:
    assert judge_silence(habit, last, rule=RULE, zone=ZONE, now=now).is_improbable is expected


@pytest.mark.parametrize("weeks", [0, 1, 2 - 1e-6])
def test_a_new_line_has_no_habit_before_its_third_week(weeks: float) -> None:
    now = ON + timedelta(hours=12)
    habit = Habit(bytes([8] * 168), now - weeks * WEEK - 5 * HOUR)
    assert not judge_silence(habit, now - 5 * HOUR, rule=RULE, zone=ZONE, now=now).is_improbable
    older = Habit(habit.heard, now - 2 * WEEK - 5 * HOUR)
    assert judge_silence(older, now - 5 * HOUR, rule=RULE, zone=ZONE, now=now).is_improbable


def test_a_burst_is_one_quarter() -> None:
    """A campaign at ten with a thousand acks counts once a week, whatever their number."""
    campaign = a_habit((0, 10, 11), of_32=8)
    assert not judge_silence(campaign, at(10.1), rule=RULE, zone=ZONE, now=at(18)).is_improbable
    assert campaign.shares(zone=ZONE, until=ON)[10] == pytest.approx(8.5 / 33)


def test_an_hour_without_a_habit_adds_nothing_however_many_there_are() -> None:
    faint = a_habit(*((day, 0, 24) for day in range(7)), of_32=2)
    silence = judge_silence(faint, at(0), rule=RULE, zone=ZONE, now=at(24 * 300))
    assert silence.improbable_at == ()


def test_what_is_improbable_is_concluded_in_an_hour_with_a_habit_only() -> None:
    """A sweep that comes late in the evening leaves it to the morning."""
    assert judge_silence(SHOP, at(17), rule=RULE, zone=ZONE, now=at(18.99)).is_improbable
    at_night = judge_silence(SHOP, at(17), rule=RULE, zone=ZONE, now=at(19.5))
    assert not at_night.is_improbable
    assert next_look(at_night, rule=RULE, now=at(19.5)) == at(19.75)
    assert judge_silence(SHOP, at(17), rule=RULE, zone=ZONE, now=at(33)).is_improbable


def test_the_clock_changes_and_the_habit_goes_with_the_shop() -> None:
    """Winter to summer in Berlin: nine o'clock is an hour earlier in UTC, and nobody is called silent for that."""
    zone = ZoneInfo("Europe/Berlin")
    began = datetime(2026, 2, 2, tzinfo=zone)  # a Monday; clocks change on 29 March
    shop = Habit(SHOP.heard, began)
    closes, opens = datetime(2026, 3, 28, 14, 50, tzinfo=zone), datetime(2026, 3, 30, 9, 0, tzinfo=zone)
    assert not judge_silence(shop, closes, rule=RULE, zone=zone, now=opens + 59 * MINUTE).is_improbable
    silence = judge_silence(shop, closes, rule=RULE, zone=zone, now=opens + HOUR)
    assert silence.is_improbable
    assert silence.improbable_at[0] == datetime(2026, 3, 30, 8, 0, tzinfo=UTC)  # ten o'clock


@pytest.mark.parametrize(("last", "first"), [(18.9, 34), (18.1, 33.25)])
def test_an_hour_begins_where_its_zone_begins_it(last: float, first: float) -> None:
    """Kathmandu is 5 h 45 min ahead: open until 19 o'clock is until 13:15 UTC, and what comes later is no silence."""
    for zone in (ZoneInfo("Asia/Kathmandu"), ZONE):
        shop, monday = Habit(SHOP.heard, datetime(2026, 8, 3, tzinfo=zone)), datetime(2026, 9, 28, tzinfo=zone)
        found = judge_silence(shop, monday + last * HOUR, rule=RULE, zone=zone, now=monday + 20 * HOUR)
        assert found.improbable_at == (monday + first * HOUR,)


def test_a_holiday_is_repaired_once_and_never_rings() -> None:
    silence = judge_silence(SHOP, at(18.9), rule=RULE, zone=ZONE, now=at(34))
    assert len(silence.improbable_at) == 1
    suspicion = Suspicion(MuteProof.HABIT, at(18.9), at(34), improbable_at=silence.improbable_at)
    for number in range(1):
        due = suspicion.repair_due_at(RULE)
        assert due is not None
        assert due >= silence.improbable_at[number]
        suspicion = Suspicion(MuteProof.HABIT, at(18.9), at(34), number + 1, due, silence.improbable_at)
    assert suspicion.repair_due_at(RULE) is None
    assert suspicion.repaired_at is not None
    later = suspicion.repaired_at + 24 * HOUR
    assert suspicion.is_given_up(RULE, now=later)
    assert not suspicion.is_given_up(RULE, now=later - MINUTE)
    assert not suspicion.is_to_be_told(RULE, now=later)


def test_a_line_that_nobody_uses_any_more_is_not_repaired_for_ever() -> None:
    """A shop that never closes, abandoned: one repair, and then none."""
    always = a_habit(*((day, 0, 24) for day in range(7)))
    silence = judge_silence(always, at(9), rule=RULE, zone=ZONE, now=at(10.5))
    suspicion = Suspicion(MuteProof.HABIT, at(9), at(10.5), improbable_at=silence.improbable_at)
    repaired = []
    while (due := suspicion.repair_due_at(RULE)) is not None:
        repaired.append(due)
        suspicion = Suspicion(MuteProof.HABIT, at(9), at(10.5), len(repaired), due, silence.improbable_at)
    assert repaired == [at(10.5)]


def test_what_was_never_repaired_is_given_up_a_day_after_the_suspicion() -> None:
    suspicion = Suspicion(MuteProof.HABIT, at(9), at(10))
    assert [suspicion.is_given_up(RULE, now=at(hours)) for hours in (33.9, 34)] == [False, True]
    repaired = replace(suspicion, repairs=1, repaired_at=at(12))
    assert [repaired.is_given_up(RULE, now=at(hours)) for hours in (35.9, 36)] == [False, True]


def test_a_proof_is_repaired_for_as_long_as_it_stands() -> None:
    suspicion = Suspicion(MuteProof.SENDS, at(9), at(9.5))
    waits = []
    for number in range(6):
        due = suspicion.repair_due_at(RULE)
        assert due is not None
        waits.append(due - (suspicion.repaired_at or at(9.5)))
        suspicion = Suspicion(MuteProof.SENDS, at(9), at(9.5), number + 1, due)
    assert waits == [timedelta(0), 15 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR, 24 * HOUR]
    assert not suspicion.is_given_up(RULE, now=at(9000))


@pytest.mark.parametrize(
    ("proof", "since", "repaired", "told"),
    [
        pytest.param(MuteProof.SENDS, 30, 10, True, id="proven for half an hour, a repair was in vain"),
        pytest.param(MuteProof.SENDS, 29, 10, False, id="not for half an hour yet"),
        pytest.param(MuteProof.SENDS, 90, 4, False, id="a repair may still show"),
        pytest.param(MuteProof.SENDS, 90, 5, True, id="a repair would have shown"),
        pytest.param(MuteProof.SENDS, 30, None, True, id="nothing can be repaired"),
        pytest.param(MuteProof.REGISTRATION, 30, 10, True, id="it cannot be registered"),
        pytest.param(MuteProof.HABIT, 6000, 60, False, id="improbable, for however long"),
    ],
)
def test_people_are_told_of_what_is_proven_alone(
    proof: MuteProof, since: int, repaired: int | None, told: bool
) -> None:
    now = at(15)
    suspicion = Suspicion(
        proof,
        now - since * MINUTE,
        now - since * MINUTE,
        repairs=int(repaired is not None),
        repaired_at=None if repaired is None else now - repaired * MINUTE,
    )
    assert suspicion.is_to_be_told(RULE, now=now) is told


@pytest.mark.parametrize(
    ("sends", "proven"),
    [
        pytest.param(Sends(3, 2, at(9), heard_since=False), True, id="three messages to two chats"),
        pytest.param(Sends(2, 2, at(9), heard_since=False), False, id="two messages"),
        pytest.param(Sends(9, 1, at(9), heard_since=False), False, id="nine to one chat: somebody blocked us"),
        pytest.param(Sends(3, 2, at(9), heard_since=True), False, id="an event of whatever kind came since"),
        pytest.param(None, False, id="nothing sent"),
    ],
)
def test_sends_prove_it_when_nothing_at_all_comes_back(sends: Sends | None, proven: bool) -> None:
    assert is_proven(sends, RULE) is proven


def test_suspicions_of_lately_make_the_bar_stricter() -> None:
    first = [
        judge_silence(
            a_habit((0, 9, 19), suspicions=suspicions), at(9), rule=RULE, zone=ZONE, now=at(18)
        ).improbable_at[0]
        for suspicions in range(3)
    ]
    share = 30.5 / 33
    quarters = [math.floor(math.log(1e-4) * e / math.log1p(-share)) + 1 for e in (1, 2, 3)]
    assert first == [at(9.25) + number * QUARTER for number in quarters]


def test_of_each_hour_the_quarters_since_the_counting_began_have_passed() -> None:
    """Counted from a Tuesday's five o'clock by the zone's clock; an hour that runs has not passed."""
    silent = Habit(bytes(168), at(5, day=1))
    for hours, once in ((-1, 0), (0, 0), (2.5, 2), (168 + 30, 30)):
        shares = silent.shares(zone=ZONE, until=at(5 + hours, day=1))
        weeks = int(max(0, hours) // 168)
        passed = [4 * (weeks + ((hour - 29) % 168 < once)) for hour in range(168)]
        assert shares == [0.5 / (quarters + 1) for quarters in passed]


def test_a_week_of_another_length_is_no_habit() -> None:
    with pytest.raises(ValueError, match="longer"):
        Habit(bytes(24), MONDAY).shares(zone=ZONE, until=ON)


def test_whole_quarters_after_the_minute_that_was_heard_as_well_are_silent() -> None:
    """The first may begin with the end of that minute; one that began a moment before is not whole."""
    ends = [
        judge_silence(SHOP, at(10) - MINUTE + more, rule=RULE, zone=ZONE, now=at(13)).improbable_at[0]
        for more in (timedelta(0), timedelta(microseconds=1), timedelta(seconds=1), MINUTE)
    ]
    assert ends == [at(11), at(11.25), at(11.25), at(11.25)]


HEADS_OR_TAILS = replace(RULE, improbable=0.25, habit_repairs=2)
"""With every second quarter heard, P after n silent ones is 1 in 2^n."""


def test_improbable_is_less_than_the_bar_then_than_its_square() -> None:
    silence = judge_silence(HALF, at(10) - MINUTE, rule=HEADS_OR_TAILS, zone=ZONE, now=at(10))
    assert silence.improbable_at == (at(10.75), at(11.25))


@pytest.mark.parametrize(("shortest", "first"), [(16, 10.25), (17, 10.5)])
def test_no_silence_under_the_shortest_is_improbable(shortest: int, first: float) -> None:
    rule = replace(RULE, improbable=0.6, shortest=shortest * MINUTE)
    assert judge_silence(HALF, at(10) - MINUTE, rule=rule, zone=ZONE, now=at(10)).improbable_at == (at(first),)


def test_a_share_at_the_limit_is_a_habit() -> None:
    rule = replace(RULE, habit_share=16.5 / 33)
    assert judge_silence(HALF, at(9.9), rule=rule, zone=ZONE, now=at(13.5)).is_improbable
    assert not judge_silence(
        HALF, at(9.9), rule=replace(rule, habit_share=0.501), zone=ZONE, now=at(13.5)
    ).improbable_at


@pytest.mark.parametrize(("now", "found"), [(11, (at(12),)), (11 - 1 / 60, ())])
def test_no_silence_is_followed_beyond_the_reach(now: float, found: tuple[datetime, ...]) -> None:
    rule = replace(RULE, reach=HOUR)
    assert judge_silence(SHOP, at(10.9), rule=rule, zone=ZONE, now=at(now)).improbable_at == found


def test_of_the_running_hour_quarters_count_that_have_not_passed() -> None:
    full = Habit(bytes([255] * 168), MONDAY)
    assert max(full.shares(zone=ZONE, until=ON + 10 * MINUTE)) < 1


def test_an_event_in_between_makes_a_look_too_early_and_never_too_late() -> None:
    """What ``next_look`` promises: a silence that begins later is improbable no sooner."""
    now = at(10)
    promised = next_look(judge_silence(SHOP, at(9.9), rule=RULE, zone=ZONE, now=now), rule=RULE, now=now)
    for later in (at(10), at(10.6), at(13), at(18.9), at(30)):
        found = judge_silence(SHOP, later, rule=RULE, zone=ZONE, now=later + 48 * HOUR).improbable_at[0]
        assert found >= promised


def test_a_line_of_which_nothing_can_be_said_is_looked_at_a_day_later() -> None:
    assert next_look(Silence(), rule=RULE, now=at(10)) == at(34)
    assert next_look(Silence((at(10),)), rule=RULE, now=at(10)) == at(10.25)


def test_a_silence_that_is_improbable_within_the_quarter_is_looked_at_then() -> None:
    """Not a quarter later: found within two sweeps."""
    improbable_at = judge_silence(SHOP, at(10), rule=RULE, zone=ZONE, now=at(10)).improbable_at[0]
    for before in (14 * MINUTE, MINUTE):
        now = improbable_at - before
        silence = judge_silence(SHOP, at(10), rule=RULE, zone=ZONE, now=now)
        assert next_look(silence, rule=RULE, now=now) == improbable_at


def test_the_sends_of_a_silent_line_are_read_each_quarter_and_then_each_hour() -> None:
    waits = [next_probe(at(0), rule=RULE, now=at(hours)) - at(hours) for hours in (0.5, 2, 3, 10, 4000)]
    assert waits == [15 * MINUTE, 30 * MINUTE, 45 * MINUTE, HOUR, HOUR]


@pytest.mark.parametrize(
    ("suspects", "heard", "mass"),
    [(4, 0, False), (5, 0, True), (5, 5, True), (5, 6, False), (100, 100, True), (100, 101, False)],
)
def test_half_of_the_lines_that_could_be_heard_are_one_cause(suspects: int, heard: int, mass: bool) -> None:
    assert is_mass(suspects, heard, RULE) is mass


@pytest.mark.parametrize(
    ("heard_at", "repairs", "closing"),
    [
        pytest.param(at(12.05), [at(12)], MuteClosing.REGISTRATION_LOST, id="three minutes after it was set again"),
        pytest.param(at(12), [at(12)], MuteClosing.REGISTRATION_LOST, id="in the same instant"),
        pytest.param(at(12) + 5 * MINUTE, [at(12)], MuteClosing.REGISTRATION_LOST, id="five minutes after it"),
        pytest.param(at(12) + 5.1 * MINUTE, [at(12)], MuteClosing.INCONCLUSIVE, id="more than five"),
        pytest.param(at(13.25), [at(12)], MuteClosing.PROVIDER_DELIVERY, id="when it became improbable"),
        pytest.param(at(13.24), [at(12)], MuteClosing.INCONCLUSIVE, id="just before"),
        pytest.param(at(13.3), [at(12), at(13.25)], MuteClosing.REGISTRATION_LOST, id="after a later repair"),
        pytest.param(at(14), [at(12)], MuteClosing.PROVIDER_DELIVERY, id="later, and against the habit"),
        pytest.param(at(12.5), [at(12)], MuteClosing.INCONCLUSIVE, id="later, and that happens"),
        pytest.param(at(33.1), [at(18.9)], MuteClosing.INCONCLUSIVE, id="a night was in between"),
        pytest.param(at(11.9), [at(12)], MuteClosing.INCONCLUSIVE, id="before the repair"),
        pytest.param(at(14), [], MuteClosing.INCONCLUSIVE, id="nothing was set"),
        pytest.param(None, [at(12)], MuteClosing.INCONCLUSIVE, id="no event came"),
    ],
)
def test_the_first_event_shows_what_it_was(
    heard_at: datetime | None, repairs: list[datetime], closing: MuteClosing
) -> None:
    assert verdict(heard_at, repairs, SHOP, rule=RULE, zone=ZONE) is closing


def test_suspicions_of_lately_do_not_change_what_an_event_shows() -> None:
    suspected = replace(SHOP, suspicions=2)
    assert verdict(at(14), [at(12)], suspected, rule=RULE, zone=ZONE) is MuteClosing.PROVIDER_DELIVERY


def test_without_a_habit_only_an_event_right_after_a_repair_says_anything() -> None:
    assert verdict(at(14), [at(12)], None, rule=RULE, zone=ZONE) is MuteClosing.INCONCLUSIVE
    assert verdict(at(12.05), [at(12)], None, rule=RULE, zone=ZONE) is MuteClosing.REGISTRATION_LOST
