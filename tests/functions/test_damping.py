"""Damping and reminders through the real functions: events take a line down and back, sweeps tell what waits."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from test_refused_notices import CHECK, ruled_by

if TYPE_CHECKING:
    from world import Line, World

MINUTE = timedelta(minutes=1)
NUMBERS = count()
"""No two events have the same body: they are of one second."""


def falls(world: World, line: Line) -> None:
    world.behave(line, session="disconnected", restart="refused")
    assert world.event(world.disconnection(line, n=next(NUMBERS))) == "disconnected"
    world.pass_time(MINUTE)


def rises(world: World, line: Line) -> None:
    world.behave(line, session="alive")
    assert world.event(world.connection(line, n=next(NUMBERS))) == "restored"
    world.pass_time(MINUTE)


def heard(world: World, line: Line) -> list[str]:
    rows = world.sql("select kind from public.notices where instance_id = %s order by told_at, id", line.id)
    return [row["kind"] for row in rows]


def test_events_that_take_a_line_down_and_up_ring_as_damping_says(world: World) -> None:
    """Regression (section 9): up and down every minute was 60 bells per user in 70 min."""
    line = world.line(world.company(users=1), "Moema")
    for _ in range(4):
        falls(world, line)
        rises(world, line)
    world.sweep()
    assert heard(world, line) == ["down", "back", "down", "unstable"]
    assert world.bells(line)[-1]["message"] == (
        "WhatsApp da unidade Moema está instável: caiu 3 vezes em 24 h. Avisaremos quando ficar estável."
    )
    assert world.status(line) == "connected"
    told = len(world.facts("follow_up_check", "notices.told"))
    world.pass_time(60 * MINUTE)
    world.sweep()
    assert heard(world, line)[4:] == ["back"]
    assert len(world.outages(line)) == 4
    facts = world.facts("follow_up_check", "notices.told")[told:]
    assert [(fact["lines"], fact["users"]) for fact in facts] == [(1, 1)]


def test_a_sweep_that_finds_a_damped_fall_marks_it_once_and_tells_it_when_it_lasts(world: World) -> None:
    line = world.line(world.company(users=1))
    for _ in range(3):
        falls(world, line)
        rises(world, line)
    world.behave(line, session="disconnected", restart="refused")
    world.pass_time(5 * MINUTE)
    answer = world.sweep()
    assert (answer["disconnected"], answer["notified"]) == (1, 0)
    world.pass_time(5 * MINUTE)
    assert world.sweep()["disconnected"] == 0  # it is settled
    assert heard(world, line)[3:] == ["unstable"]
    world.pass_time(11 * MINUTE)
    world.sweep()
    assert heard(world, line)[4:] == ["down_lasting"]
    assert len(world.outages(line)) == 4


def test_a_refused_notice_that_a_line_is_unstable_is_told_as_long_as_it_is_so(world: World) -> None:
    line = world.line(world.company(users=1))
    for _ in range(2):
        falls(world, line)
        rises(world, line)
    world.behave(line, session="disconnected", restart="refused")
    with ruled_by(world, CHECK):
        assert world.event(world.disconnection(line, n=next(NUMBERS))) == "disconnected"
        assert [outage["told_as"] for outage in world.outages(line)] == ["down", "down", None]
    world.pass_time(5 * MINUTE)
    world.sweep()
    assert heard(world, line)[3:] == ["unstable"]
    assert [outage["told_as"] for outage in world.outages(line)] == ["down", "down", "unstable"]
    world.pass_time(16 * MINUTE)
    world.sweep()
    assert heard(world, line)[4:] == ["down_lasting"]
