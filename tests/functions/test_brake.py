"""The brake: many lines look dead at once, and that is the provider or us, not the phones."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr
from waiting import until

from shared.core.policy import Limits, Policy
from shared.database.store import connect
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from world import Line, World

    from shared.sweep.report import Report

MINUTE = timedelta(minutes=1)


def fleet(world: World, count: int, **how: Any) -> list[Line]:
    return world.lines(world.company(users=1), count, **how)


def restarts(world: World) -> int:
    return world.simulator.calls().get("restart", 0)


@pytest.mark.parametrize("fault", ["404_html_cannot_get", "504_html", "500", "200_html"])
@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_a_provider_that_answers_nonsense_to_all_kills_no_line(world: World, fault: str, count: int) -> None:
    """Regression: five minutes after launch every line was "disconnected" (a wrong route's 404 was read as death)."""
    lines = fleet(world, count)
    world.simulator.set_provider(down=fault)

    for _ in range(4):
        answer = world.sweep()
        assert (answer["unknown"], answer["restarted"], answer["notified"]) == (count, 0, 0)
        assert answer["braked"] is (count >= 5)
    assert {world.status(line) for line in lines} == {"connected"}


@pytest.mark.parametrize("session", ["disconnected", "token_refused", "not_found", "ghost"])
def test_five_lines_dead_at_once_are_neither_marked_nor_told(world: World, session: str) -> None:
    lines = fleet(world, 5, session=session)
    world.simulator.set_lines([line.external_id for line in lines], restart="accepted_no_effect")

    answer = world.sweep()

    canaries = 0 if session == "token_refused" else 1
    assert (answer["braked"], answer["disconnected"], answer["notified"]) == (True, 0, 0)
    assert restarts(world) == canaries
    assert {world.status(line) for line in lines} == {"connected"}
    assert world.bells() == []
    assert all(world.row(line)["bad_since"] for line in lines)
    assert sum(len(world.outages(line)) for line in lines) == canaries
    [run] = world.sql("select braked from public.health_check_runs")
    assert run["braked"] is True


@pytest.mark.parametrize(
    ("dead", "alive", "braked"),
    [
        pytest.param(4, 0, False, id="four of four is below five lines"),
        pytest.param(5, 5, True, id="five of ten is exactly half"),
        pytest.param(5, 6, False, id="five of eleven is less than half"),
        pytest.param(6, 0, True, id="six of six"),
    ],
)
def test_the_brake_needs_five_lines_and_half_of_them(world: World, dead: int, alive: int, braked: bool) -> None:
    company = world.company(users=1)
    down = world.lines(company, dead, session="disconnected")
    world.lines(company, alive)
    world.simulator.set_lines([line.external_id for line in down], restart="refused")

    answer = world.sweep()

    assert answer["braked"] is braked
    assert answer["disconnected"] == (0 if braked else dead)


def test_lines_that_were_not_connected_do_not_pull_the_brake(world: World) -> None:
    company = world.company(users=1)
    world.lines(company, 10, session="disconnected", status="disconnected")
    world.lines(company, 3)

    assert world.sweep()["braked"] is False


def test_good_news_is_written_under_the_brake(world: World) -> None:
    company = world.company(users=1)
    world.lines(company, 6, session="token_refused")
    alive = world.line(company)
    back = world.line(company, status="disconnected")

    answer = world.sweep()

    assert (answer["braked"], answer["restored"]) == (True, 1)
    assert world.status(back) == "connected"
    assert world.row(alive)["last_alive_at"] is not None


def test_the_canary_is_the_line_that_is_bad_for_longest_and_its_failure_tells_nobody(world: World) -> None:
    lines = fleet(world, 6, session="disconnected")
    world.simulator.set_lines([line.external_id for line in lines], restart="refused")
    world.set(lines[3], "bad_since = now() - interval '20 minutes'")
    world.set(lines[4], "bad_since = now() - interval '25 minutes', last_restart_at = now() - interval '20 minutes'")

    answer = world.sweep()

    assert [world.restarts(line) for line in lines] == [0, 0, 0, 1, 0, 0]
    assert (answer["restarted"], answer["failed"], answer["held"]) == (1, 1, 5)
    assert world.status(lines[3]) == "connected"
    assert world.bells() == []


def test_a_canary_that_recovers_frees_the_others(world: World) -> None:
    lines = fleet(world, 6, session="disconnected")

    answer = world.sweep()

    assert (answer["braked"], answer["recovered"], answer["held"]) == (True, 6, 0)
    assert [world.restarts(line) for line in lines] == [1] * 6
    assert {world.status(line) for line in lines} == {"connected"}


def test_a_real_mass_outage_is_told_after_thirty_minutes_by_every_lines_own_clock(world: World) -> None:
    lines = fleet(world, 8, session="disconnected")
    world.simulator.set_lines([line.external_id for line in lines], restart="refused")
    told = []
    for _ in range(8):
        world.sweep()
        told.append(len(world.bells()))
        world.pass_time(5 * MINUTE)

    assert told[:6] == [0] * 6
    assert told[6] == 8
    assert told[7] == 8
    assert {world.status(line) for line in lines} == {"disconnected"}
    # One canary a sweep, none twice in half an hour; who leaves the brake is restarted.
    assert all(1 <= world.restarts(line) <= 2 for line in lines)


def test_the_brake_is_logged_at_error(world: World) -> None:
    fleet(world, 5, session="token_refused")
    before = len(world.facts("follow_up_check", "brake.engaged"))

    world.sweep()

    facts = world.facts("follow_up_check", "brake.engaged")
    assert len(facts) == before + 1
    assert facts[-1]["severity"] == "ERROR"
    assert (facts[-1]["connected"], facts[-1]["not_alive"]) == (5, 5)


def test_a_fleet_adopted_under_the_brake_stays_silent_about_what_was_down_before(world: World) -> None:
    company = world.company(users=1)
    world.lines(company, 5, session="token_refused", seen_before=False)
    down = world.lines(company, 3, status="disconnected", session="disconnected", seen_before=False)
    world.simulator.set_lines([line.external_id for line in down], restart="refused")

    for _ in range(3):
        assert world.sweep()["notified"] == 0
        world.pass_time(5 * MINUTE)

    assert [len(world.outages(line)) for line in down] == [1, 1, 1]


def test_lines_that_events_degraded_a_moment_ago_still_pull_the_brake(world: World) -> None:
    """Regression: a mass of blind disconnections left the sweep without a brake."""
    lines = fleet(world, 12)
    world.simulator.set_provider(down="500")
    for line in lines:
        world.event(world.disconnection(line))
    assert [world.status(line) for line in lines].count("degraded") == 7
    told = len(world.bells())
    world.simulator.set_provider(down=None, everyone_disconnected=True)

    answer = world.sweep()

    assert (answer["braked"], answer["notified"]) == (True, 0)
    assert len(world.bells()) == told


def test_a_mass_of_disconnections_and_a_provider_that_refuses_every_token_only_degrades(world: World) -> None:
    lines = fleet(world, 8, session="token_refused")
    outcomes = [world.event(world.disconnection(line)) for line in lines]
    assert outcomes == ["disconnected"] * 5 + ["degraded"] * 3


async def test_lines_whose_restart_is_under_way_when_the_brake_comes_on_are_neither_marked_nor_told(
    world: World,
) -> None:
    """The provider goes away while a restart is awaited: witnesses are asked again before anybody is marked."""
    company = world.company(users=1)
    lines = world.lines(company, 10)
    dead = lines[:2]
    world.simulator.set_lines([line.external_id for line in dead], session="disconnected", restart="accepted_no_effect")

    async with pooled_http(httpx.Timeout(10)) as database, pooled_http(httpx.Timeout(10)) as provider:
        policy = Policy(witnesses_serve=timedelta(0))
        store = connect(world.stack.supabase_url, SecretStr(world.stack.service_role_key), database, policy)
        limits = Limits(check_interval=timedelta(0), ghost_confirm=timedelta(0), restart_verify=timedelta(seconds=1))
        client = WapiClient(provider, world.simulator.wapi_url)
        sweep = asyncio.create_task(run_sweep(store, client, policy=policy, limits=limits))
        await asyncio.to_thread(until, lambda: restarts(world) > 0)
        world.simulator.set_provider(down="500")
        report = await sweep

    assert report.braked
    assert world.bells() == []
    assert "disconnected" not in {world.status(line) for line in lines}


async def sweep_of_leftovers(world: World) -> Report:
    async with pooled_http(httpx.Timeout(10)) as database, pooled_http(httpx.Timeout(10)) as provider:
        store = connect(world.stack.supabase_url, SecretStr(world.stack.service_role_key), database, Policy())
        limits = Limits(
            check_interval=timedelta(minutes=1), ghost_confirm=timedelta(0), restart_verify=timedelta(seconds=0.2)
        )
        return await run_sweep(store, WapiClient(provider, world.simulator.wapi_url), policy=Policy(), limits=limits)


@pytest.mark.parametrize("session", ["disconnected", "token_refused", "ghost"])
async def test_a_handful_of_leftovers_is_braked_when_the_fleet_they_are_of_is_away(world: World, session: str) -> None:
    """Regression: a retry after a killed sweep: leftovers of 3 lines ring beside a braked sweep."""
    company = world.company(users=1)
    fleet_of = world.lines(company, 12, session=session)
    for line in fleet_of:
        world.set(line, "last_health_check = now()")
    dead = world.lines(company, 3, session=session)
    world.simulator.set_lines([line.external_id for line in fleet_of + dead], restart="accepted_no_effect")

    report = await sweep_of_leftovers(world)

    assert (report.checked, report.braked, report.outcomes["notified"]) == (3, True, 0)
    assert report.outcomes["restarted"] <= 1  # the canary
    assert {world.status(line) for line in dead} == {"connected"}
    assert world.bells() == []


async def test_a_handful_of_leftovers_is_told_when_the_fleet_lives(world: World) -> None:
    company = world.company(users=1)
    for line in world.lines(company, 12):
        world.set(line, "last_health_check = now()")
    dead = world.lines(company, 3, session="disconnected")
    world.simulator.set_lines([line.external_id for line in dead], restart="refused")

    report = await sweep_of_leftovers(world)

    assert (report.checked, report.braked) == (3, False)
    assert {world.status(line) for line in dead} == {"disconnected"}
    assert len(world.bells()) == 3
    assert world.simulator.calls()["status-instance"] >= 12 + 3  # the fleet was asked


async def test_two_sweeps_at_once_of_a_provider_that_is_away_ring_nobody_and_send_one_canary(world: World) -> None:
    """Regression: two sweeps at once: each a share too small to tell."""
    lines = fleet(world, 16, session="disconnected")
    world.simulator.set_lines([line.external_id for line in lines], restart="accepted_no_effect")

    answers = await asyncio.gather(asyncio.to_thread(world.sweep), asyncio.to_thread(world.sweep))

    assert sum(answer["checked"] for answer in answers) >= len(lines)
    assert [answer["notified"] for answer in answers] == [0, 0]
    assert restarts(world) <= 2
    assert world.simulator.restarts()["max_in_flight"] <= 1
    assert {world.status(line) for line in lines} == {"connected"}
    assert world.bells() == []


def test_another_sweeps_canary_that_recovered_since_frees_every_sweep_that_began_before(world: World) -> None:
    def claim(line: Line | None, began: str) -> dict[str, Any]:
        [row] = world.sql(
            f"select public.claim_canary(%s, {began}, interval '90 seconds') as claim", line.id if line else None
        )
        return row["claim"]

    first, second = fleet(world, 2)
    assert claim(first, "now()")["claimed"]
    assert claim(second, "now()") == {"claimed": False, "under_way": True, "recovered": False}
    world.sql("select public.end_canary(%s, true)", second.id)  # not its own
    assert claim(None, "now()")["under_way"]
    world.sql("select public.end_canary(%s, true)", first.id)
    assert claim(second, "now() - interval '1 minute'") == {"claimed": False, "under_way": False, "recovered": True}
    assert claim(second, "now() + interval '1 minute'")["claimed"]
    world.pass_time(MINUTE * 2)
    assert claim(first, "now()")["claimed"]  # the one before was cut off
