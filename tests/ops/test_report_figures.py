"""The report's figures: what is up, what is down, what nobody knows; restarts, times, sweeps and brakes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_history import (
    MONTH,
    NOW,
    SWEEP,
    ago,
    company,
    event,
    history,
    line,
    made_up_month,
    mute,
    outage,
    run,
    runs,
    uuid,
)

from ops.report.bars import shapes
from ops.report.figures import Condition, Figures, LineFigures, condition_of, figure
from ops.report.incidents import (
    RestartResult,
    people_told,
    restarts_in,
    spread,
    times_to_detect,
    times_to_repair,
    times_to_tell,
)
from ops.report.spans import Span, minus, total, union
from ops.report.sweeps import brakes, days, unseen
from ops.report.timeline import HOUR, LOOK_GAP, Hour, Uptime, Window, timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.report.history import History
    from ops.report.rows import Mute, Outage

ZONE = ZoneInfo("America/Sao_Paulo")
SINCE = NOW - MONTH
ALL = Span(SINCE, NOW)
NONE = timedelta(0)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def figures_of(known: History) -> Figures:
    return figure(known, now=NOW, zone=ZONE)


def only_line(known: History) -> LineFigures:
    [group] = figures_of(known).companies
    [only] = group.lines
    return only


def day_of(*outages: Outage, of: Any = None, unseen: tuple[Span, ...] = (), **how: Any) -> Uptime:
    return timeline(of or line(), outages, unseen, now=NOW, **how).uptime(Window.DAY)


# Up, down, unknown.


@pytest.mark.parametrize(
    ("outages", "down"),
    [
        pytest.param([], NONE, id="without an outage nothing is down"),
        pytest.param([outage(ago(hours=3), ago(hours=2))], HOUR, id="an outage is down from its first sign to life"),
        pytest.param([outage(ago(hours=3))], 3 * HOUR, id="an open outage is down to now"),
        pytest.param([outage(ago(hours=30), ago(hours=23))], HOUR, id="of an outage that began before the window its part counts"),
        pytest.param([outage(ago(hours=40))], 24 * HOUR, id="an open outage older than the window fills it"),
        pytest.param([outage(ago(hours=30), ago(hours=25))], NONE, id="an outage before the window is none in it"),
        pytest.param([outage(ago(hours=25), ago(hours=24))], NONE, id="an outage that ends where the window begins is none in it"),
        pytest.param([outage(ago(hours=24), ago(hours=23))], HOUR, id="one that begins where the window begins counts whole"),
        pytest.param([outage(ago(hours=5), ago(hours=3)), outage(ago(hours=4), ago(hours=2), id=2)], 3 * HOUR, id="time in two outages counts once"),
        pytest.param([outage(ago(hours=5), ago(hours=2)), outage(ago(hours=4), ago(hours=3), id=2)], 3 * HOUR, id="an outage inside another adds nothing"),
        pytest.param([outage(ago(hours=1), ago(hours=1))], NONE, id="an outage of no length is no time"),
        pytest.param([outage(ago(hours=1), ago(hours=2))], NONE, id="an outage that ends before it begins is no negative time"),
        pytest.param([outage(ago(minutes=-5))], NONE, id="an outage of a clock ahead of ours has not begun"),
        pytest.param([outage(ago(hours=1), ago(hours=-1))], HOUR, id="what lies after now is not counted"),
    ],
)  # fmt: skip
def test_the_time_in_outages_is_down_and_the_rest_is_up(outages: list[Outage], down: timedelta) -> None:
    assert day_of(*outages) == Uptime(24 * HOUR - down, down, NONE)


@pytest.mark.parametrize(
    ("columns", "outages", "unknown"),
    [
        pytest.param({}, [], NONE, id="a line that was just seen alive is known"),
        pytest.param({"last_alive_at": ago(minutes=15)}, [], NONE, id="three sweeps may be late"),
        pytest.param({"last_alive_at": ago(minutes=16)}, [], minutes(16), id="after the last sign of life nothing is known"),
        pytest.param({"last_alive_at": ago(hours=5), "last_event_at": ago(minutes=3)}, [], NONE, id="an event is a sign of life"),
        pytest.param({"last_alive_at": None}, [], 24 * HOUR, id="a line never seen alive was never up"),
        pytest.param({"is_active": False, "last_alive_at": ago(minutes=4)}, [], minutes(4), id="a paused line is unknown from its last sign of life"),
        pytest.param({"created_at": ago(hours=20)}, [], 4 * HOUR, id="before its creation there was no line"),
        pytest.param({"created_at": None}, [], NONE, id="a line without a date of creation is judged by its looks"),
        pytest.param({"last_alive_at": ago(minutes=65)}, [outage(ago(hours=1))], NONE, id="between the last good look and the outage is one sweep"),
        pytest.param({"last_alive_at": ago(hours=3)}, [outage(ago(hours=1))], 2 * HOUR, id="a longer silence before an outage is unknown"),
        pytest.param({"last_alive_at": None}, [outage(ago(hours=5), opened_by="adoption")], 19 * HOUR, id="before the first look nobody knows"),
        pytest.param({}, [outage(ago(hours=5), ago(hours=1), opened_by="adoption")], 19 * HOUR, id="also when the line has come back since"),
        pytest.param({}, [outage(ago(hours=5), ago(hours=4), closed_as="paused")], 4 * HOUR, id="a pause without a further trace lasts"),
        pytest.param({}, [outage(ago(hours=5), ago(hours=4), closed_as="paused"), outage(ago(hours=1), ago(minutes=30), id=2)], 3 * HOUR, id="a pause ends with the next outage"),
        pytest.param({}, [outage(ago(hours=5), ago(hours=4), closed_as="deleted")], NONE, id="a deleted line's outage says nothing of a row that is there"),
    ],
)  # fmt: skip
def test_what_nobody_saw_is_unknown_and_never_up(
    columns: dict[str, Any], outages: list[Outage], unknown: timedelta
) -> None:
    seen = day_of(*outages, of=line(**columns))
    assert seen.unknown == unknown
    assert seen.up == 24 * HOUR - seen.down - unknown


def test_a_pause_ends_where_the_audit_next_names_the_line() -> None:
    paused = outage(ago(hours=5), ago(hours=4), closed_as="paused")
    traces = [event(ago(hours=5), "restart_requested", id=1), event(ago(hours=3), "status_changed", id=2)]
    known = history(outages=[paused], events=traces)
    assert only_line(known).uptimes[Window.DAY] == Uptime(22 * HOUR, HOUR, HOUR)


def test_an_outage_that_nobody_watched_is_down_all_the_same() -> None:
    blind = (Span(ago(hours=6), ago(hours=2)),)
    assert day_of(outage(ago(hours=4), ago(hours=3)), unseen=blind) == Uptime(20 * HOUR, HOUR, 3 * HOUR)


def test_what_a_cure_held_in_an_outage_that_was_opened_again_is_up() -> None:
    again = outage(ago(hours=5), ago(hours=1))
    told = {"outage_id": again.id}
    events = [
        event(ago(hours=4.5), "outage_closed", id=1, to_status="connected", **told),
        event(ago(hours=4), "outage_reopened", id=2, dead_for_seconds=600, **told),
        event(ago(hours=1), "status_changed", id=3, to_status="connected", **told),
    ]
    figures = only_line(history(lines=[line()], outages=[again], events=events))
    assert figures.uptimes[Window.DAY].down == 4 * HOUR - minutes(20)


def test_an_outage_lasted_as_long_as_it_was_down() -> None:
    """Regression: a line that died again after a cure of 50 minutes was shown as down for these as well."""
    ended = outage(ago(hours=5), ago(hours=1), lived="00:50:00")
    lasting = outage(ago(days=3), id=2, lived="1 day 02:00:00")
    assert times_to_repair([ended], ALL) == [minutes(190)]
    [down] = figures_of(history(lines=[line()], outages=[ended, lasting])).open_outages
    assert down.lasted == timedelta(days=1, hours=22)


def test_nothing_known_has_no_share() -> None:
    assert day_of(of=line(last_alive_at=None)).share is None
    assert day_of().share == 1


instants = st.integers(-800 * 60, 60).map(lambda minute: NOW + minutes(minute))
maybe = st.one_of(st.none(), instants)
made_up_outages = st.builds(
    lambda start, end, by, how, id: outage(start, end, id=id, opened_by=by, closed_as=how if end else None),  # noqa: A006
    instants,
    maybe,
    st.sampled_from(["sweep", "webhook", "adoption"]),
    st.sampled_from(["recovered", "alive", "event", "paused", "deleted"]),
    st.integers(1, 9),
)
made_up_lines = st.builds(
    lambda active, created, alive, heard: line(
        is_active=active, created_at=created, last_alive_at=alive, last_event_at=heard
    ),
    st.sampled_from([True, False, None]),
    maybe,
    maybe,
    maybe,
)
made_up_spans = st.builds(Span, instants, instants)


@settings(max_examples=40, deadline=None)
@given(made_up_lines, st.lists(made_up_outages, max_size=6), st.lists(made_up_spans, max_size=5))
@example(line(), [outage(ago(hours=25), ago(hours=-2))], [Span(ago(hours=2), ago(hours=1))])
def test_up_and_down_and_unknown_are_the_window_and_never_negative(
    of: Any, outages: list[Outage], unseen: list[Span]
) -> None:
    time = timeline(of, outages, unseen, now=NOW)
    for window in Window:
        seen = time.uptime(window)
        assert seen.up + seen.down + seen.unknown == window.length
        assert min(seen.up, seen.down, seen.unknown) >= NONE
    bar = time.hours()
    assert len(bar) == Window.MONTH.value
    for place, hour in enumerate(bar):
        cell = Span(SINCE + place * HOUR, SINCE + (place + 1) * HOUR)
        down = total(each.within(cell) for each in time.down)
        unknown = total(each.within(cell) for each in time.unknown)
        assert (hour in (Hour.DOWN, Hour.PARTLY)) == bool(down)
        assert hour is not Hour.UP or unknown < HOUR / 2
    for window in Window:
        assert sum(path.count("M") for _, path in shapes(bar, window)) >= 1


@given(st.lists(made_up_spans), st.lists(made_up_spans))
def test_what_is_left_of_spans_and_what_was_taken_do_not_meet(some: list[Span], others: list[Span]) -> None:
    first, taken = union(some, ALL), union(others, ALL)
    left = minus(first, taken)
    assert total(union([*left, *taken], ALL)) == total(left) + total(taken)
    assert total(union([*first, *taken], ALL)) == total(left) + total(taken)


# The bar of hours.


@pytest.mark.parametrize(
    ("start", "end", "last_hours"),
    [
        pytest.param(ago(minutes=20), None, "uup", id="an hour that was down for less than half of it"),
        pytest.param(ago(minutes=30), None, "uud", id="an hour that was down for half of it"),
        pytest.param(ago(minutes=90), None, "udd", id="hours count back from now"),
        pytest.param(ago(hours=3), ago(hours=1), "ddu", id="an outage that ends with an hour does not touch the next"),
        pytest.param(
            ago(minutes=121), ago(minutes=119), "ppu", id="a short outage over the change of hours is in both"
        ),
    ],
)
def test_a_bar_says_what_each_hour_was(start: datetime, end: datetime | None, last_hours: str) -> None:
    bar = timeline(line(), [outage(start, end)], (), now=NOW).hours()
    assert "".join(hour.value for hour in bar[-3:]) == last_hours
    assert set(bar[:-3]) == {Hour.UP}


def test_an_hour_that_nobody_saw_is_not_drawn_as_up() -> None:
    bar = timeline(line(last_alive_at=ago(minutes=150)), [], (), now=NOW).hours()
    assert "".join(hour.value for hour in bar[-4:]) == "unnn"


def test_a_bar_that_is_all_the_same_is_one_short_path() -> None:
    bar = timeline(line(), [], (), now=NOW).hours()
    assert shapes(bar, Window.MONTH) == [("u", "M0 3h720v7h-720z")]


# When nobody looked.


@pytest.mark.parametrize(
    ("sweeps", "expected"),
    [
        pytest.param(runs, [], id="a sweep every five minutes sees everything"),
        pytest.param(list, [ALL], id="without a sweep nobody looked"),
        pytest.param(lambda: runs(ago(days=2)), [Span(SINCE, ago(days=2))], id="before the first sweep nobody looked"),
        pytest.param(lambda: [*runs(until=ago(hours=5)), *runs(ago(hours=2))], [Span(ago(hours=5), ago(hours=2))], id="a gap between sweeps"),
        pytest.param(lambda: [*runs(until=ago(hours=5)), *runs(ago(hours=5) + LOOK_GAP)], [], id="two missing sweeps are no gap"),
        pytest.param(lambda: runs(until=ago(hours=1)), [Span(ago(hours=1), NOW)], id="sweeps that stopped"),
        pytest.param(lambda: [*runs(until=ago(minutes=30)), *runs(ago(minutes=25), finished_at=None)], [Span(ago(minutes=30), NOW)], id="sweeps that never finish see nothing"),
        pytest.param(lambda: [*runs(until=ago(minutes=30)), *runs(ago(minutes=25), checked=0, observations={})], [Span(ago(minutes=30), NOW)], id="sweeps that had nothing to look at see nothing"),
        pytest.param(lambda: [*runs(until=ago(minutes=10)), run(ago(minutes=5), braked=True), run(NOW)], [Span(ago(minutes=10), ago(minutes=5))], id="a sweep with the brake on concludes nothing"),
        pytest.param(lambda: [*runs(until=ago(minutes=10)), run(ago(minutes=5), observations={"ALIVE": 4, "UNKNOWN": 6}), run(NOW)], [Span(ago(minutes=10), ago(minutes=5))], id="a sweep that mostly got no answer sees nothing"),
        pytest.param(lambda: [*runs(until=ago(minutes=10)), run(ago(minutes=5), observations={"ALIVE": 5, "UNKNOWN": 5}), run(NOW)], [], id="a sweep that got answers from half does"),
    ],
)  # fmt: skip
def test_what_no_sweep_saw_is_known_to_be_unseen(sweeps: Callable[[], list[Any]], expected: list[Span]) -> None:
    assert list(union(unseen(sweeps(), since=SINCE, window=ALL), ALL)) == expected


def test_what_was_not_read_of_the_past_is_unknown_and_not_up() -> None:
    cut = history(outages_since=ago(days=3))
    assert only_line(cut).uptimes[Window.MONTH] == Uptime(timedelta(days=3), NONE, timedelta(days=27))


# What a line is now.


@pytest.mark.parametrize(
    ("columns", "still", "condition"),
    [
        pytest.param({}, None, Condition.UP, id="connected and just seen alive"),
        pytest.param({"last_alive_at": ago(minutes=16)}, None, Condition.UNCONFIRMED, id="connected, and not seen alive lately"),
        pytest.param({"last_alive_at": None, "last_health_check": ago(minutes=1)}, None, Condition.UNCONFIRMED, id="connected, looked at, never alive"),
        pytest.param({"last_alive_at": None, "last_health_check": None}, None, Condition.UNSEEN, id="never looked at"),
        pytest.param({}, outage(ago(minutes=1)), Condition.UNSTABLE, id="connected with an outage: it is being restarted"),
        pytest.param({"status": "degraded"}, outage(ago(minutes=1)), Condition.UNSTABLE, id="degraded"),
        pytest.param({"status": "disconnected"}, outage(ago(minutes=1)), Condition.DOWN, id="disconnected"),
        pytest.param({"status": "disconnected"}, None, Condition.DOWN, id="disconnected by the platform's screen"),
        pytest.param({"status": "unauthorized"}, None, Condition.DOWN, id="a raw word of the platform"),
        pytest.param({"status": None}, None, Condition.DOWN, id="no status"),
        pytest.param({"is_active": False, "status": "disconnected"}, None, Condition.PAUSED, id="paused"),
        pytest.param({"is_active": None}, None, Condition.UP, id="null is not paused"),
    ],
)  # fmt: skip
def test_nothing_good_is_said_of_a_line_that_nobody_confirmed(
    columns: dict[str, Any], still: Outage | None, condition: Condition
) -> None:
    assert condition_of(line(**columns), still, now=NOW) is condition


# Restarts.


def test_a_restart_helped_when_its_own_result_says_so() -> None:
    told = [
        event(ago(hours=9), "restart_recovered", id=1),  # its request is older than what was read
        event(ago(hours=8), "restart_requested", id=2),
        event(ago(hours=8), "restart_requested", id=3, number=2),
        event(ago(hours=7), "restart_failed", id=4),
        event(ago(hours=7), "restart_recovered", id=5, number=2),
        event(ago(hours=7), "restart_recovered", id=10),  # its request has its result already
        event(ago(hours=6), "restart_requested", id=6),
        event(ago(hours=5), "restart_requested", id=7),
        event(ago(hours=5), "status_changed", id=8),
        event(ago(hours=4), "restart_unverified", id=9),
    ]
    assert [(each.instance_id.int, each.result) for each in restarts_in(told)] == [
        (1, RestartResult.FAILED),
        (2, RestartResult.RECOVERED),
        (1, RestartResult.UNTOLD),
        (1, RestartResult.UNVERIFIED),
    ]


def test_restarts_are_counted_by_window_and_line() -> None:
    told = [
        event(ago(days=8), "restart_requested", id=1),
        event(ago(days=8), "restart_recovered", id=2),
        event(ago(hours=30), "restart_requested", id=3),
        event(ago(hours=30), "restart_failed", id=4),
        event(ago(hours=1), "restart_requested", id=5),
        event(ago(hours=1), "restart_recovered", id=6),
    ]
    figures = figures_of(history(events=told))
    assert {window: (period.requested, period.helped) for window, period in figures.periods.items()} == {
        Window.DAY: (1, 1),
        Window.WEEK: (2, 1),
        Window.MONTH: (3, 2),
    }
    assert (figures.companies[0].lines[0].restarts, figures.companies[0].lines[0].helped) == (3, 2)


# Who was told.


def test_who_hears_of_the_end_of_an_outage_was_not_told_of_its_beginning_once_more() -> None:
    told = [
        event(ago(hours=2), "status_changed", id=1, outage_id=uuid(100), to_status="disconnected", told=3),
        event(ago(hours=1), "status_changed", id=2, outage_id=uuid(100), to_status="connected", told=3),
        event(ago(hours=1), "users_told", id=3, outage_id=uuid(101), to_status="disconnected", told=0),
        event(ago(hours=1), "status_changed", id=4, outage_id=uuid(102), to_status="degraded"),
    ]
    reminder = event(
        ago(minutes=5), "users_told", id=5, outage_id=uuid(100), to_status="disconnected", told=4, later="still_down"
    )
    assert people_told([*told, reminder]) == {uuid(100): 3, uuid(101): 0}


def test_an_open_outage_shows_its_own_restarts_and_who_was_told() -> None:
    still = outage(ago(hours=2), told_at=ago(hours=1), restarts=2)
    told = [
        event(ago(hours=9), "restart_requested", id=1, outage_id=uuid(99)),
        event(ago(hours=2), "restart_requested", id=2, outage_id=uuid(100)),
        event(ago(hours=2), "restart_failed", id=3, outage_id=uuid(100)),
        event(ago(hours=1), "status_changed", id=4, outage_id=uuid(100), to_status="disconnected", told=4),
    ]
    [shown] = figures_of(history(outages=[still], events=told)).open_outages
    assert [each.result for each in shown.tried] == [RestartResult.FAILED]
    assert (shown.told, shown.lasted, shown.company) == (4, 2 * HOUR, "Buffet Alegria")


def test_the_notices_say_who_was_told_and_the_audit_that_it_was_nobody() -> None:
    outages = [outage(ago(hours=2), told_at=ago(hours=1), number=each, id=99 + each) for each in (1, 2)]
    audit = [
        event(ago(hours=1), "status_changed", id=1, outage_id=uuid(100), to_status="disconnected", told=2),
        event(ago(hours=1), "status_changed", id=2, outage_id=uuid(101), to_status="disconnected", told=0),
    ]
    known = history(outages=outages, events=audit, told={uuid(100): 3})  # one joined the company later
    assert {each.outage.id.int: each.told for each in figures_of(known).open_outages} == {100: 3, 101: 0}


def test_how_many_were_told_is_not_made_up_when_the_audit_is_too_old() -> None:
    old = outage(ago(days=40), told_at=ago(days=40))
    untold = outage(ago(hours=1), number=2, id=101)
    shown = {each.outage.id.int: each.told for each in figures_of(history(outages=[old, untold])).open_outages}
    assert shown == {100: None, 101: 0}


# MTTD, MTTR.

SAW = [run(ago(minutes=20)), run(ago(minutes=15)), run(ago(minutes=10))]


@pytest.mark.parametrize(
    ("broken", "times"),
    [
        pytest.param(outage(ago(minutes=9, seconds=58)), [minutes(5) + timedelta(seconds=2)], id="found by a sweep: since the start of the one before"),
        pytest.param(outage(ago(minutes=12), opened_by="webhook", opened_at=ago(minutes=11)), [minutes(1)], id="told by an event: since its moment"),
        pytest.param(outage(ago(minutes=11), opened_by="webhook", opened_at=ago(minutes=12)), [NONE], id="an event of a clock ahead of ours is no negative time"),
        pytest.param(outage(ago(minutes=12), opened_by="adoption"), [], id="adopted: nobody knows since when"),
        pytest.param(outage(ago(minutes=19, seconds=58)), [], id="before any sweep that is known: left out"),
        pytest.param(outage(ago(days=31), opened_at=ago(days=31)), [], id="before the window: left out"),
    ],
)  # fmt: skip
def test_the_time_to_detect_is_the_longest_it_can_have_been(broken: Outage, times: list[timedelta]) -> None:
    assert times_to_detect([broken], SAW, ALL) == times


def test_a_braked_sweep_is_no_sight_of_the_line() -> None:
    sweeps = [SAW[0], run(ago(minutes=15), braked=True), SAW[2]]
    assert times_to_detect([outage(ago(minutes=9, seconds=58))], sweeps, ALL) == [minutes(10) + timedelta(seconds=2)]


@pytest.mark.parametrize(
    ("ended", "times"),
    [
        pytest.param({"closed_as": "recovered"}, [HOUR], id="by a restart"),
        pytest.param({"closed_as": "alive"}, [HOUR], id="seen alive"),
        pytest.param({"closed_as": "event"}, [HOUR], id="by an event"),
        pytest.param({"closed_as": "paused"}, [], id="a pause is no repair"),
        pytest.param({"closed_as": "deleted"}, [], id="nor is a deletion"),
        pytest.param({"closed_as": "alive", "opened_by": "adoption"}, [], id="adopted: nobody knows since when"),
    ],
)
def test_the_time_to_repair_counts_outages_that_ended_in_life(ended: dict[str, Any], times: list[timedelta]) -> None:
    assert times_to_repair([outage(ago(hours=2), ago(hours=1), **ended), outage(ago(hours=9), id=2)], ALL) == times


def test_the_time_to_tell_counts_outages_that_rang() -> None:
    rang = outage(ago(hours=2), told_at=ago(hours=2) + minutes(10))
    late = [
        outage(ago(hours=2), told_at=ago(hours=1), told_as=told_as, id=number)
        for number, told_as in enumerate(("damped", "down_lasting"), 3)
    ]
    assert times_to_tell([rang, outage(ago(hours=1), id=2), *late], ALL) == [minutes(10)]


@given(st.lists(st.integers(0, 10_000).map(lambda second: timedelta(seconds=second)), min_size=1))
def test_a_spread_lies_within_what_it_is_of(durations: list[timedelta]) -> None:
    of = spread(durations)
    assert of
    assert min(durations) <= of.median <= of.p95 <= max(durations)
    assert min(durations) <= of.mean <= max(durations)
    assert of.count == len(durations)


def test_of_nothing_there_is_no_spread() -> None:
    assert spread([]) is None


def test_the_percentile_is_the_nearest_rank() -> None:
    of = spread([minutes(each) for each in range(1, 21)])
    assert of
    assert (of.mean, of.median, of.p95) == (minutes(10.5), minutes(10), minutes(19))


# Sweeps and brakes.


def test_braked_sweeps_in_a_row_are_one_brake() -> None:
    sweeps = [
        run(ago(minutes=60), braked=True, outcomes={"held": 6}),
        run(ago(minutes=55), braked=True, outcomes={"held": 9}),
        run(ago(minutes=50)),
        run(ago(minutes=45), braked=True),
        run(ago(minutes=20), braked=True),
    ]
    assert [(each.span, each.sweeps, each.held, each.is_on) for each in brakes(sweeps)] == [
        (Span(ago(minutes=20), ago(minutes=20)), 1, 0, True),
        (Span(ago(minutes=45), ago(minutes=45)), 1, 0, False),
        (Span(ago(minutes=60), ago(minutes=55)), 2, 9, False),
    ]


def test_a_day_of_sweeps_is_a_day_in_brazil() -> None:
    midnight = datetime(2026, 11, 26, 3, tzinfo=UTC)  # in São Paulo
    sweeps = [
        run(midnight - SWEEP, observations={"ALIVE": 9, "UNKNOWN": 1}, outcomes={"restarted": 1}, left_due=3),
        run(midnight - timedelta(seconds=1), braked=True, took_ms=9000, outcomes={"restarted": 2}),
        run(midnight, finished_at=None, took_ms=None, checked=0, observations={}),
        run(NOW, finished_at=None, took_ms=None, checked=0, observations={}),
    ]
    newest, before = days(sweeps, zone=ZONE, now=NOW)
    assert (newest.date, newest.sweeps, newest.cut_off) == (date(2026, 11, 26), 2, 1)  # one of the two may still run
    assert (newest.mean_took, newest.longest_took) == (None, None)
    assert (before.date, before.sweeps, before.braked, before.most_left) == (date(2026, 11, 25), 2, 1, 3)
    assert before.observations == Counter(ALIVE=19, UNKNOWN=1)
    assert before.outcomes == Counter(restarted=3)
    assert (before.mean_took, before.longest_took) == (timedelta(seconds=6), timedelta(seconds=9))


# All of it.


def test_companies_with_trouble_come_first_and_in_them_the_lines_with_trouble() -> None:
    lines = [
        line(1, unit="b"),
        line(2, unit="a", status="disconnected"),
        line(3, unit="A", company_id=uuid(2)),
        line(4, company_id=uuid(3), is_active=False),
        line(5, company_id=None),
    ]
    known = history(
        lines=lines, companies={uuid(place): company(place, name) for place, name in ((1, "Z"), (2, "B"), (3, "A"))}
    )
    groups = figures_of(known).companies
    assert [(group.name, [each.line.id.int for each in group.lines]) for group in groups] == [
        ("Z", [2, 1]),
        (None, [5]),
        ("B", [3]),
        ("A", [4]),
    ]


def test_open_outages_come_newest_first() -> None:
    known = history(
        outages=[outage(ago(hours=2)), outage(ago(hours=1), id=2), outage(ago(hours=3), ago(hours=1), id=3)]
    )
    assert [each.outage.id.int for each in figures_of(known).open_outages] == [2, 100]


def test_a_platform_without_anything_has_figures() -> None:
    figures = figures_of(history(companies={}, lines=[], runs=[]))
    assert figures.companies == ()
    assert figures.periods[Window.DAY].uptime.share is None
    assert figures.latest_runs == ()


def test_the_made_up_month_holds_what_the_page_must_show() -> None:
    figures = figures_of(made_up_month())
    assert len(figures.open_outages) == 4
    assert set(figures.conditions) == {Condition.UP, Condition.DOWN, Condition.UNSTABLE, Condition.PAUSED}
    assert len(figures.brakes) == 1
    assert figures.periods[Window.MONTH].helped
    assert figures.periods[Window.MONTH].uptime.unknown


@pytest.mark.parametrize(
    ("mutes", "length", "times", "is_now"),
    [
        pytest.param([mute(ago(hours=4), ago(hours=1))], minutes(180), 1, False, id="proven, and over"),
        pytest.param([mute(ago(minutes=40))], minutes(40), 1, True, id="proven, and going on"),
        pytest.param([mute(ago(hours=4), ago(hours=1), proof="habit")], minutes(180), 1, False, id="its repair ended it"),
        pytest.param(
            [mute(ago(hours=4), ago(hours=1), proof="habit", closed_as="inconclusive"), mute(ago(hours=2), proof="habit")],
            minutes(0), 0, False, id="no more than a silence",
        ),
        pytest.param(
            [mute(ago(hours=4), ago(hours=2)), mute(ago(hours=3), ago(hours=1))], minutes(180), 2, False, id="both at once",
        ),
    ],
)  # fmt: skip
def test_the_time_without_events_stands_apart_from_uptime(
    mutes: list[Mute], length: timedelta, times: int, is_now: bool
) -> None:
    figures = figures_of(history(mutes=mutes))
    [own] = figures.companies[0].lines
    assert (own.mute, own.mute_since is not None) == ((length, times), is_now)
    assert figures.mute == int(is_now)
    assert own.needs_a_look is is_now
    assert own.uptimes == only_line(history()).uptimes
