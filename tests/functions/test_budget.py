"""A sweep respects its time budget and says what it left; the next one starts with what waited longest."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from pydantic import SecretStr
from waiting import GENEROUS_SECONDS, until

from shared.core.policy import Limits, Policy
from shared.database.store import connect
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from world import World

    from shared.sweep.report import Report


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


@pytest.fixture
async def sweep(world: World) -> AsyncIterator[Callable[..., Awaitable[Report]]]:
    """The sweep in this process, with limits of the test's own."""
    async with pooled_http(httpx.Timeout(10)) as database, pooled_http(httpx.Timeout(10)) as provider:
        store = connect(world.stack.supabase_url, SecretStr(world.stack.service_role_key), database, Policy())
        client = WapiClient(provider, world.simulator.wapi_url)

        async def run(**limits: object) -> Report:
            usual: dict[str, object] = {
                "check_interval": seconds(0),
                "ghost_confirm": seconds(0.01),
                "restart_verify": seconds(0.1),
            }
            return await run_sweep(store, client, policy=Policy(), limits=Limits(**usual | limits))  # type: ignore[arg-type]

        yield run


async def test_a_look_that_the_budget_cuts_off_is_left_and_comes_first_next_time(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    company = world.company()
    waits = world.line(company)
    world.set(waits, "last_health_check = now() - interval '1 day'")
    others = world.lines(company, 3)
    world.behave(waits, faults={"status-instance": "hang"})
    before = world.row(waits)["last_health_check"]

    report = await sweep(budget=seconds(2), look_timeout=seconds(600))

    assert (report.checked, report.left) == (3, 1)
    assert report.took < seconds(GENEROUS_SECONDS)
    row = world.row(waits)
    assert (row["last_health_check"], row["health_lease_until"], row["unknown_looks"]) == (before, None, 0)
    assert all(world.row(line)["last_health_check"] > before for line in others)

    world.behave(waits, faults={})
    world.simulator.forget_calls()
    again = await sweep(batch_size=1, check_interval=timedelta(hours=1))
    assert again.checked == 1
    assert world.simulator.calls(waits.external_id)["status-instance"] == 1


async def test_nothing_is_claimed_when_the_budget_is_over(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    world.lines(world.company(), 2)

    report = await sweep(budget=seconds(0.000001))

    assert (report.checked, report.left) == (0, 2)
    assert world.simulator.calls() == {}


async def test_a_restart_that_does_not_fit_is_owed_and_the_next_sweep_begins_with_it(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    company = world.company(users=1)
    dead = world.line(company, session="disconnected")
    world.line(company)
    before = world.row(dead)["last_health_check"]

    report = await sweep(budget=seconds(5), restart_verify=seconds(6))

    assert (report.checked, report.left, report.outcomes["restarted"]) == (2, 1, 0)
    row = world.row(dead)
    assert (row["last_health_check"], row["health_lease_until"], row["status"]) == (before, None, "degraded")
    assert row["bad_since"] is not None
    assert world.restarts(dead) == 0

    again = await sweep()
    assert (again.outcomes["recovered"], again.left) == (1, 0)


async def test_lines_that_are_owed_restarts_come_first_and_are_no_mass_outage(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """A third of the fleet is dead and found no room: in the next first batch it is nearly all."""
    company = world.company(users=1)
    dead = world.lines(company, 8, session="disconnected")
    others = world.lines(company, 16)
    for place, line in enumerate([*dead[:4], *others, *dead[4:]]):
        world.set(line, "last_health_check = now() - %s * interval '1 second'", 600 - place)
    first = await sweep(budget=seconds(5), restart_verify=seconds(6))
    assert (first.braked, first.left) == (False, 8)

    world.pass_time(timedelta(minutes=11))
    second = await sweep(budget=seconds(5), restart_verify=seconds(6), batch_size=9)
    assert (second.braked, second.outcomes["disconnected"], second.outcomes["notified"]) == (False, 8, 8)

    third = await sweep(batch_size=9)
    assert (third.braked, third.outcomes["recovered"]) == (False, 8)


async def test_an_outage_that_grows_over_two_sweeps_is_one_of_many(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """Ten of 24 found no room for their restarts, then six more are dead: two thirds of the fleet."""
    lines = world.lines(world.company(users=1), 24)
    for line in lines[:10]:
        world.behave(line, session="disconnected")
    first = await sweep(budget=seconds(5), restart_verify=seconds(6))
    assert (first.braked, first.left) == (False, 10)
    for line in lines[10:16]:
        world.behave(line, session="disconnected")

    for _ in range(3):
        world.pass_time(timedelta(minutes=5))
        report = await sweep(budget=seconds(5), restart_verify=seconds(6))
        assert (report.braked, report.outcomes["notified"]) == (True, 0)
    assert world.bells() == []


async def test_a_line_marked_before_a_restart_that_does_not_fit_keeps_its_bell_and_is_owed_the_restart(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    flapping = world.line(world.company(users=1), session="disconnected", auto_recovery_attempts=3)

    report = await sweep(budget=seconds(5), restart_verify=seconds(6))

    assert (report.outcomes["disconnected"], report.outcomes["restarted"], report.left) == (1, 0, 1)
    assert len(world.bells(flapping)) == 1
    assert (await sweep()).outcomes["recovered"] == 1


async def test_a_line_that_never_answers_holds_up_no_other_batch(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    company = world.company()
    slow = world.line(company, seen_before=False)
    world.behave(slow, faults={"status-instance": "hang"})
    world.lines(company, 9)

    sweeping = asyncio.ensure_future(
        sweep(batch_size=2, look_timeout=seconds(2 * GENEROUS_SECONDS), look_concurrency=3)
    )
    # Whoever is asked for the device has been found connected.
    await asyncio.to_thread(until, lambda: world.simulator.calls().get("device", 0) == 9)

    assert not sweeping.done()  # the slow one hangs still
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_no_more_looks_and_restarts_run_at_once_than_allowed(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    company = world.company()
    world.lines(company, 30)
    dead = world.lines(company, 8, session="disconnected", status="disconnected", seen_before=False)
    world.simulator.set_lines([line.external_id for line in dead], restart="works")
    world.simulator.set_provider(latency_ms=10)

    report = await sweep(look_concurrency=4, restart_concurrency=3)

    assert report.outcomes["recovered"] == 8
    # Looks after a restart have slots of their own.
    assert world.simulator.summary()["max_in_flight"] <= 4 + 3
    assert world.simulator.restarts()["max_in_flight"] <= 3


async def test_a_bug_that_meets_one_line_stops_no_other(world: World) -> None:
    company = world.company()
    world.lines(company, 4)
    broken = world.line(company)

    async with pooled_http(httpx.Timeout(10)) as database, pooled_http(httpx.Timeout(10)) as http:

        class Broken(WapiClient):
            async def look(self, line: object, *, within: timedelta) -> object:  # type: ignore[override]
                if line.external_id == broken.external_id:  # type: ignore[attr-defined]
                    raise RuntimeError("a bug of ours")
                return await super().look(line, within=within)  # type: ignore[arg-type]

        store = connect(world.stack.supabase_url, SecretStr(world.stack.service_role_key), database, Policy())
        client = Broken(http, world.simulator.wapi_url)
        report = await run_sweep(store, client, policy=Policy(), limits=Limits(check_interval=seconds(0)))

    assert (report.checked, report.outcomes["errors"], report.left) == (4, 1, 1)
    assert world.row(broken)["health_lease_until"] is None
