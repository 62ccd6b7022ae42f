"""The provider's limits come first: no line pays for our haste, and the sweep still ends in its budget."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from shared.core.policy import Limits, Policy
from shared.database.client import supabase_client
from shared.database.store import Store, connect
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.providers.wapi.send import WapiSendClient
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from world import World

    from shared.database.results import Batch
    from shared.sweep.report import Report


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


@pytest.fixture
async def sweep(world: World) -> AsyncIterator[Callable[..., Awaitable[Report]]]:
    """The sweep in this process, with limits of the test's own."""
    key = SecretStr(world.stack.service_role_key)
    async with pooled_http(httpx.Timeout(30)) as database, pooled_http(httpx.Timeout(None)) as http:
        store = connect(world.stack.supabase_url, key, database, Policy())
        direct = WapiClient(http, world.simulator.wapi_url)
        through = WapiSendClient(http, world.simulator.wapi_send_url, key)

        async def run(*, through_wapi_send: bool = False, **limits: Any) -> Report:
            usual: dict[str, Any] = {
                "check_interval": seconds(0),
                "first_pause": seconds(0.1),
                "ghost_confirm": seconds(0.01),
                "restart_verify": seconds(0.1),
                "look_timeout": seconds(30),
            }
            provider = through if through_wapi_send else direct
            return await run_sweep(store, provider, policy=Policy(), limits=Limits(**usual | limits))

        yield run


def fleet(world: World, count: int) -> None:
    """Healthy lines, made in two strokes."""
    company = world.company(users=1)
    world.sql(
        "insert into public.wapi_instances"
        " (user_id, company_id, unit, instance_id, instance_token, status, last_health_check)"
        " select %s, %s, 'U' || n, 'LITE-FLEET-' || n, 'token-of-line-' || n, 'connected', now() - interval '5 minutes'"
        " from generate_series(1, %s) n",
        uuid4(), company, count,
    )  # fmt: skip
    world.sql(
        "insert into public.instance_health (instance_id, unknown_looks)"
        " select id, 2 from public.wapi_instances where instance_id like 'LITE-FLEET-%%'"
    )
    world.simulator.add_lines(
        [{"external_id": f"LITE-FLEET-{n}", "token": f"token-of-line-{n}"} for n in range(1, count + 1)]
    )


def looks(world: World) -> dict[str, int]:
    """Lines by what the sweep left in their rows."""
    return world.sql(
        "select count(*) filter (where last_alive_at is not null or unknown_since is not null) as alive,"
        " count(*) filter (where last_alive_at is null and unknown_since is null) as not_looked_at,"
        " count(*) filter (where last_alive_at is null and unknown_since is null and (unknown_looks <> 2 or last_health_check > now() - interval '4 minutes'))"
        "  as counted_without_a_look,"
        " count(*) filter (where status <> 'connected' or bad_since is not null) as marked,"
        " count(*) filter (where health_lease_until is not null) as held"
        " from public.wapi_instances i left join public.instance_health h on h.instance_id = i.id"
    )[0]


HEALTHY = {"not_looked_at": 0, "counted_without_a_look": 0, "marked": 0, "held": 0}


async def test_a_provider_that_allows_far_less_at_once_costs_no_line_anything(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    fleet(world, 300)
    world.simulator.set_provider(max_concurrent_requests=8, latency_ms=20)

    report = await sweep()

    assert (report.checked, report.left, report.observations["UNKNOWN"]) == (300, 0, 0)
    assert looks(world) == HEALTHY | {"alive": 300}
    assert not report.outcomes
    assert not report.braked
    calls, refused = world.simulator.calls(), world.simulator.summary()["rate_limited"]
    assert "restart" not in calls
    assert 1 <= refused < 300 + 128  # at most the first wave, and then less than one a look


async def test_a_provider_that_allows_far_less_in_a_second_costs_no_line_anything(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """So few that the busiest machine asks for more."""
    fleet(world, 200)
    world.simulator.set_provider(max_requests_per_second=70, tells_retry_after=True, retry_after_seconds=1)

    report = await sweep()

    assert (report.checked, report.left, report.observations["UNKNOWN"]) == (200, 0, 0)
    assert looks(world) == HEALTHY | {"alive": 200}
    assert 1 <= world.simulator.summary()["rate_limited"] < 400  # fewer than calls that were answered


async def test_nobody_asks_the_host_before_its_retry_after_has_passed(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """One look at a time: nothing is on its way when a 429 is heard."""
    fleet(world, 9)
    world.simulator.set_provider(max_requests_per_second=10, tells_retry_after=True, retry_after_seconds=1)

    report = await sweep(look_concurrency=1)

    assert (report.checked, report.left) == (9, 0)
    summary = world.simulator.summary()
    assert summary["rate_limited"] >= 1
    assert summary["hasty"] == 0


async def test_what_a_small_budget_does_not_allow_to_ask_again_is_left_and_not_unknown(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    fleet(world, 300)
    world.simulator.set_provider(max_requests_per_second=40, tells_retry_after=True, retry_after_seconds=60)

    report = await sweep(budget=seconds(59))

    assert report.observations["UNKNOWN"] == 0
    assert report.checked + report.left == 300
    assert report.left > 200
    assert looks(world) == HEALTHY | {"alive": report.checked, "not_looked_at": report.left}
    assert report.took < seconds(58)  # it does not wait for what cannot come
    assert world.simulator.summary()["rate_limited"] <= 128 * 2  # what was on its way


async def test_a_line_that_is_refused_for_ever_cannot_be_asked_and_stops_no_other(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    fleet(world, 60)
    world.simulator.set_line("LITE-FLEET-7", faults={"status-instance": "429"})

    report = await sweep(look_concurrency=8)

    # All others are answered: it is no haste of ours, and after an hour its people hear that nobody can say.
    assert (report.checked, report.left, report.observations["ALIVE"]) == (60, 0, 59)
    assert report.observations["UNKNOWN"] == 1
    calls = world.simulator.calls()
    assert calls["device"] == 59
    assert 59 + 2 <= calls["status-instance"] <= 59 + 7


async def test_a_device_that_was_refused_is_asked_again_before_the_line_counts_as_alive(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    ghost = world.line(world.company(), session="ghost")
    world.behave(ghost, faults={"device": {"fault": "429", "times": 2}})

    report = await sweep(budget=seconds(20), restart_verify=seconds(21))

    assert report.observations == {"GHOST": 1}


async def test_a_device_that_is_refused_for_ever_is_one_that_cannot_answer(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    line = world.line(world.company())
    world.behave(line, faults={"device": "429"})
    assert (await sweep()).observations == {"CLAIMED": 1}


@pytest.mark.parametrize("fault", ["429", "503"])
async def test_only_a_429_is_our_own_haste(world: World, sweep: Callable[..., Awaitable[Report]], fault: str) -> None:
    line = world.line(world.company())
    world.behave(line, faults={"status-instance": fault})
    report = await sweep()
    unknown = fault == "503"
    assert (report.observations["UNKNOWN"], report.left) == (int(unknown), int(not unknown))
    assert world.row(line)["unknown_looks"] == int(unknown)


async def test_a_restart_is_not_repeated_after_a_429_and_the_looks_after_it_wait(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    dead = world.line(world.company(users=1), session="disconnected")
    world.behave(dead, faults={"restart": "429"})

    report = await sweep()

    assert world.restarts(dead) == 1
    assert (report.outcomes["restarted"], report.outcomes["failed"]) == (1, 1)


async def test_a_restart_that_would_begin_in_a_pause_longer_than_the_budget_is_owed(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """The claim of a restart is never older than its request: what must wait, waits unclaimed."""
    company = world.company(users=1)
    dead = world.line(company, session="disconnected")
    busy = world.line(company)
    world.simulator.set_provider(retry_after_seconds=60)
    world.behave(busy, faults={"status-instance": "429_retry_after"}, latency_ms=50)

    report = await sweep(budget=seconds(30))

    assert (report.observations.total(), report.left) == (0, 2)  # the second look may not be asked either
    assert world.restarts(dead) == 0
    assert world.row(dead)["last_restart_at"] is None


async def test_a_line_whose_looks_after_a_restart_were_refused_is_unverified_and_not_counted_unknown(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    dead = world.line(world.company(users=1), session="disconnected", unknown_looks=2)
    world.behave(dead, restart="accepted_no_effect")
    world.simulator.set_provider(retry_after_seconds=60)
    world.behave(dead, faults={"restart": "429_retry_after"})

    report = await sweep(budget=seconds(30))

    assert report.outcomes["unverified"] == 1
    row = world.row(dead)
    assert (row["status"], row["unknown_looks"]) == ("degraded", 0)
    assert world.bells() == []


async def test_wapi_send_is_left_alone_when_it_asks_for_it(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    lines = world.lines(world.company(), 20)
    for line in lines[:5]:
        world.behave(line, faults={"wapi-send": {"fault": "429", "times": 2}})

    report = await sweep(through_wapi_send=True)

    assert (report.checked, report.left, report.observations["ALIVE"]) == (20, 0, 20)
    assert world.simulator.calls()["wapi-send:get-status"] == 20 + 5 * 2


class LeaseWatch(Store):
    """Remembers for how long lines were claimed."""

    leases: ClassVar[list[timedelta]] = []

    async def claim_instances(self, *, lease: timedelta, **how: Any) -> Batch:  # type: ignore[override]
        self.leases.append(lease)
        return await super().claim_instances(lease=lease, **how)


async def test_lines_are_held_to_the_end_of_the_budget_and_free_again_for_the_next_scheduled_sweep(
    world: World,
) -> None:
    """A provider that makes us wait must not cost a sweep its lines, nor a killed sweep the next one's."""
    key = SecretStr(world.stack.service_role_key)
    async with pooled_http(httpx.Timeout(30)) as database, pooled_http(httpx.Timeout(None)) as http:
        store = LeaseWatch(supabase_client(world.stack.supabase_url, key, database), Policy())
        await run_sweep(store, WapiClient(http, world.simulator.wapi_url), policy=Policy(), limits=Limits())
    (lease,) = LeaseWatch.leases
    assert seconds(240) < lease < seconds(300)
