"""CLAIMED: a line that says connected while its device cannot answer. It stays what it was, and proves nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from world import Line, World

MINUTE = timedelta(minutes=1)
DEVICE_AWAY = ["500", "504_html", "404_html_cannot_get", "200_html", "hang"]


def without_device(world: World, *lines: Line, fault: str | None = "500") -> None:
    for line in lines:
        world.behave(line, session="alive" if fault else "ghost", faults={"device": fault} if fault else {})


@pytest.mark.parametrize("fault", DEVICE_AWAY)
def test_a_healthy_line_stays_healthy_and_its_last_life_does_not_move(world: World, fault: str) -> None:
    line = world.line(world.company(users=1))
    world.sweep()
    before = world.row(line)
    world.pass_time(5 * MINUTE)
    without_device(world, line, fault=fault)

    answer = world.sweep()

    assert (answer["checked"], answer["claimed"], answer["alive"], answer["braked"]) == (1, 1, 0, False)
    after = world.row(line)
    assert after["status"] == "connected"
    assert after["last_alive_at"] == before["last_alive_at"] - 5 * MINUTE
    assert (after["unknown_since"] is not None, after["bad_since"]) == (True, None)
    assert world.outages(line) == []
    without_device(world, line, fault=None)
    world.behave(line, session="alive")
    world.sweep()
    assert world.row(line)["unknown_since"] is None


def test_a_ghost_whose_device_is_away_in_every_sixth_sweep_is_told_once_and_never_back(world: World) -> None:
    """Regression: six times "voltou", six restarts and "recovered" without effect in three hours."""
    company = world.company(users=1)
    line = world.line(company, session="ghost")
    world.line(company)
    world.behave(line, restart="accepted_no_effect")
    for number in range(36):
        world.behave(line, faults={"device": "500"} if number % 6 == 5 else {})
        world.sweep()
        world.pass_time(5 * MINUTE)

    assert world.status(line) == "disconnected"
    assert [bell["type"] for bell in world.bells(line)] == ["instance_disconnected"]
    assert [outage["closed_at"] for outage in world.outages(line)] == [None]
    assert (
        world.restarts(line) == 3
    )  # at once, then 30 and 60 minutes after the last; the fourth comes after three hours
    assert "restart_recovered" not in world.audit(line)


def test_a_restart_after_which_the_device_cannot_answer_has_not_recovered(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="works", faults={"device": "500"})

    answer = world.sweep()

    assert (answer["restarted"], answer["recovered"], answer["unverified"]) == (1, 0, 1)
    assert world.status(line) == "degraded"
    assert world.bells() == []
    world.behave(line, faults={})
    assert world.sweep()["alive"] == 1
    assert (world.status(line), world.bells()) == ("connected", [])


def test_a_disconnection_is_not_denied_by_a_claim(world: World) -> None:
    line = world.line(world.company(users=1))
    world.behave(line, faults={"device": "500"})
    assert world.event(world.disconnection(line)) == "disconnected"


def test_a_device_route_that_is_gone_for_all_blocks_nobodys_return_for_longer_than_an_hour(world: World) -> None:
    company = world.company(users=1)
    lines = world.lines(company, 3)
    down = world.line(company, session="disconnected")
    world.behave(down, restart="refused")
    world.sweep()
    assert world.status(down) == "disconnected"
    for line in (*lines, down):
        world.behave(line, session="alive", faults={"device": "404_html_cannot_get"})

    # An hour without a sweep proves nothing about the route: the clock begins with the first that asks in vain.
    world.pass_time(120 * MINUTE)
    assert world.sweep()["restored"] == 0
    world.pass_time(59 * MINUTE)
    assert world.sweep()["restored"] == 0
    world.pass_time(1 * MINUTE)
    answer = world.sweep()

    assert (answer["claimed"], answer["restored"]) == (4, 1)
    assert world.status(down) == "connected"
    facts = [fact for fact in world.facts("follow_up_check", "contract.drifted") if fact.get("run") == answer["run_id"]]
    assert [(fact["severity"], fact["cause_word"]) for fact in facts] == [("ERROR", "device_answers_for_no_line")]


def test_claims_of_a_whole_fleet_are_no_outage_of_the_provider(world: World) -> None:
    lines = world.lines(world.company(users=1), 10)
    without_device(world, *lines)
    for _ in range(4):
        answer = world.sweep()
        assert (answer["claimed"], answer["braked"], answer["restarted"], answer["disconnected"]) == (10, False, 0, 0)
        world.pass_time(5 * MINUTE)
    assert {world.status(line) for line in lines} == {"connected"}
    assert world.bells() == []
