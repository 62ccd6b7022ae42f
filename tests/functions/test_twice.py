"""A negative counts only twice, where the decision would act; what does not act costs one look."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from loopback import http
from served import FunctionServer
from world import check_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import Line, World

MINUTE = timedelta(minutes=1)


def asked(world: World, line: Line) -> int:
    return world.simulator.calls(line.external_id).get("status-instance", 0)


def blink(world: World, line: Line, *, times: int = 1) -> None:
    """The provider calls it dead so many times, then alive."""
    world.behave(line, session="alive", faults={"status-instance": {"fault": "not_connected", "times": times}})


def test_a_line_that_blinks_in_every_sweep_is_never_restarted(world: World) -> None:
    line = world.line(world.company(users=1))
    for _ in range(6):
        blink(world, line)
        answer = world.sweep()
        assert (answer["alive"], answer["dead"], answer["restarted"]) == (1, 0, 0)
        world.pass_time(5 * MINUTE)
    assert (world.status(line), world.restarts(line), world.outages(line)) == ("connected", 0, [])


def test_a_line_that_is_dead_twice_is_restarted(world: World) -> None:
    line = world.line(world.company(users=1))
    blink(world, line, times=2)
    answer = world.sweep()
    assert (answer["restarted"], answer["recovered"]) == (1, 1)
    [requested] = world.sql("select details from public.instance_events where kind = 'restart_requested'")
    assert requested["details"]["observation"] == "DISCONNECTED"


def test_two_kinds_of_death_agree_and_the_seconds_word_stands(world: World) -> None:
    line = world.line(world.company(users=1), session="ghost")
    world.behave(line, restart="refused", faults={"status-instance": {"fault": "not_connected", "times": 1}})
    world.sweep()
    [requested] = world.sql("select reason from public.instance_events where kind = 'restart_requested'")
    assert requested["reason"] == "ghost"


def test_a_token_that_is_refused_once_is_not_told(world: World) -> None:
    line = world.line(world.company(users=1))
    world.behave(line, faults={"status-instance": {"fault": "401_json", "times": 1}})
    assert world.sweep()["disconnected"] == 0
    assert (world.status(line), world.bells()) == ("connected", [])


def test_lines_dead_for_weeks_cost_one_look_a_sweep(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="accepted_no_effect")
    world.sweep()
    world.pass_time(10 * MINUTE)
    before = asked(world, line)
    world.sweep()
    assert asked(world, line) == before + 1


def test_a_mass_outage_costs_one_look_a_line_but_for_the_canary(world: World) -> None:
    lines = world.lines(world.company(users=1), 12, session="disconnected")
    world.simulator.set_lines([line.external_id for line in lines], restart="refused")
    answer = world.sweep()
    assert (answer["braked"], answer["restarted"]) == (True, 1)
    looks = sorted(asked(world, line) for line in lines)
    assert looks[:-1] == [1] * 11
    assert looks[-1] > 2  # looked at twice, restarted, looked at again


@pytest.fixture
def patient(world: World) -> Iterator[FunctionServer]:
    """A sweep that waits three seconds before it looks again, and looks at one line at a time."""
    environment = check_environment(world.stack, world.simulator) | {
        "GHOST_CONFIRM_SECONDS": "3", "LOOK_CONCURRENCY": "1", "SWEEP_BUDGET_SECONDS": "2",
    }  # fmt: skip
    with FunctionServer("follow_up_check", environment) as server:
        yield server


def test_a_second_look_that_does_not_fit_the_budget_leaves_the_line_as_it_is(
    world: World, patient: FunctionServer
) -> None:
    company = world.company(users=1)
    dead, alive = world.line(company, session="disconnected"), world.line(company)
    before = world.row(dead)

    answer: dict[str, Any] = http.post(patient.url).json()

    assert (answer["alive"], answer["restarted"], answer["disconnected"]) == (1, 0, 0)
    after = world.row(dead)
    assert (after["status"], after["health_lease_until"]) == ("connected", None)
    assert after["last_health_check"] == before["last_health_check"]
    assert world.row(alive)["last_alive_at"] is not None
