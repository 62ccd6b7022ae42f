"""Where the provider posts the events of lines: read, set again where it is wrong, and never on a doubt about ourselves."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr
from wire import Interruption, When, lose_the_answer
from world import OLD_SECRET, SECRET

from dev.simulator.provider import key_of
from shared.core.policy import Limits, Policy
from shared.core.registration import Target
from shared.errors import StoreError
from shared.providers.own_address import OwnAddress
from shared.receiving.registrations import Registrations
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from served import FunctionServer
    from wire import OnTheWire
    from world import Line, World

KINDS = ("disconnected", "connected", "received", "delivery", "message-status")
LOST = dict.fromkeys((*KINDS, "chat-presence"), "")
POLICY = Policy()
NO_RUN = UUID(int=0)
FOREIGN = "https://crm.example/hook"


class House:
    """Rounds of the housekeeping in this process, through a wire that a test can hold; our own address is the real one."""

    def __init__(self, world: World, ours: OnTheWire, hook: str) -> None:
        self.world, self.ours, self.hook = world, ours, hook

    def good(self, line: Line) -> str:
        return f"{self.hook}/?key={key_of(line.external_id, SECRET)}"

    def line(self, urls: str | None = None, **how: Any) -> Line:
        """A line whose webhooks all are where they belong, or elsewhere."""
        line = self.world.line(self.world.company(users=1))
        self.world.sql("delete from public.instance_registrations where instance_id = %s", line.id)
        url = self.good(line) if urls is None else urls
        self.world.behave(line, **{"webhooks": dict.fromkeys(KINDS, url), **how})
        return line

    async def round(
        self,
        *,
        secrets: tuple[str, ...] = (SECRET, OLD_SECRET),
        url: str | None = "",
        run: UUID | None = None,
        **how: Any,
    ) -> None:
        ours = self.ours
        run = run or (await ours.store.begin_sweep()).run_id
        target = Target(url or self.hook, tuple(map(SecretStr, secrets)))
        registrations = Registrations(
            ours.provider, None if url is None else OwnAddress(ours.http, target), POLICY, timedelta(seconds=5), **how
        )
        await registrations.keep(ours.store, run=run, deadline=asyncio.get_running_loop().time() + 40)

    def pass_time(self, **time: float) -> None:
        self.world.pass_time(timedelta(**time))

    def is_registered(self, line: Line) -> bool:
        """Whether events of every kind that counts are posted to the line's own address."""
        urls: Any = self.world.simulator.line(line.external_id)["webhooks"]
        return {urls.get(kind) for kind in KINDS} == {self.good(line)}

    def alerts(self) -> set[tuple[str, str]]:
        """What the operator was told and is not over: cause and subject."""
        rows = self.world.sql("select cause, subject from public.operator_alerts where resolved_at is null")
        return {(row["cause"], row["subject"]) for row in rows}

    def row(self, line: Line) -> dict[str, Any]:
        [row] = self.world.sql("select * from public.instance_registrations where instance_id = %s", line.id)
        return row

    def calls(self, line: Line | None = None) -> dict[str, int]:
        """Calls of the provider since this was last asked, with all webhooks as ``put``."""
        calls = self.world.simulator.calls(line.external_id if line else None)
        if line is None:
            self.world.simulator.forget_calls()
        puts = sum(n for call, n in calls.items() if call.startswith("update-webhook-"))
        others = {call: n for call, n in calls.items() if not call.startswith("update-webhook-")}
        return others | ({"put": puts} if puts else {})


@pytest.fixture
def house(world: World, ours: OnTheWire, wapi_webhook: FunctionServer) -> House:
    return House(world, ours, wapi_webhook.url.rstrip("/"))


def facts(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """Facts that a human is to see, by severity."""
    found = {each.getMessage(): each.levelname for each in caplog.records if each.levelname in ("WARNING", "ERROR")}
    caplog.clear()
    return found


# Reading and setting.


async def test_a_healthy_line_is_read_once_in_six_hours_and_its_payment_once_a_day(house: House) -> None:
    line = house.line()
    await house.round()
    assert house.calls() == {"fetch-instance": 1, "payment-status": 1}
    assert (house.row(line)["found"], house.row(line)["tries"]) == ("good", 0)
    await house.round()
    house.pass_time(hours=4.4)
    await house.round()
    assert house.calls() == {}
    house.pass_time(hours=1.6)
    await house.round()
    assert house.calls() == {"fetch-instance": 1}
    for _ in range(3):
        house.pass_time(hours=6)
        await house.round()
    assert house.calls() == {"fetch-instance": 3, "payment-status": 1}


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        pytest.param(lambda *_: "", "missing", id="lost"),
        pytest.param(lambda house, line: f"{house.hook}/old?key={key_of(line.external_id, SECRET)}", "elsewhere", id="another place of ours"),
        pytest.param(lambda house, line: f"{house.hook}/?key={key_of(line.external_id, OLD_SECRET)}", "old_key", id="an old key"),
        pytest.param(lambda house, _: f"{house.hook}/?key={SECRET}", "plain_key", id="the plain secret"),
        pytest.param(lambda house, _: f"{house.hook}/?key=x", "wrong_key", id="a wrong key"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_set_one_after_another_and_read_back(
    house: House, urls: Callable[[House, Line], str], found: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line()
    house.world.behave(line, webhooks=dict.fromkeys(KINDS, urls(house, line)) | {"received": house.good(line)})
    house.world.simulator.set_provider(max_concurrent_puts=1, latency_ms=1)
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round()
    assert house.is_registered(line)
    assert house.calls(line) == {"fetch-instance": 2, "payment-status": 1, "put": 4}
    [told] = [record for record in caplog.records if record.getMessage() == "registration.set"]
    assert found in str(told.__dict__)
    assert (house.row(line)["found"], house.row(line)["set_at"] is None) == ("good", False)
    assert SECRET not in caplog.text + str([record.__dict__ for record in caplog.records])


async def test_a_foreign_address_is_reported_once_and_never_taken_over_unasked(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line(FOREIGN)
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round()
        assert facts(caplog) == {"registration.foreign": "WARNING"}
        house.pass_time(hours=6)
        await house.round()
        assert facts(caplog) == {}
    await house.ours.store.registrations.request(line.id)
    await house.round()
    assert "put" not in house.calls(line)
    assert (house.row(line)["found"], house.row(line)["requested_at"]) == ("foreign", None)

    house.pass_time(hours=6)
    await house.round(take_over=True)
    assert house.is_registered(line)


async def test_an_address_that_the_provider_does_not_name_is_set_once_and_not_for_ever(house: House) -> None:
    """Who leaves out what is empty says so in the same way as who tells nothing."""
    line = house.line(fetch_leaves_out_empty=True, webhooks=LOST, webhooks_without_effect=True)
    for _ in range(3):
        await house.round()
        house.pass_time(hours=6)
    assert (house.calls(line)["put"], house.row(line)["found"]) == (5, "untold")
    house.world.behave(line, webhooks_without_effect=False)
    house.world.sql("update public.instance_registrations set found = 'good'")  # it was told once
    await house.round()
    assert house.is_registered(line)


async def test_a_put_that_does_nothing_is_tried_after_15_minutes_an_hour_and_six(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line("", webhooks_without_effect=True)
    tries = []
    with caplog.at_level("INFO", logger="line_recovery"):
        for _ in range(8 * 12):
            await house.round()
            tries.append(house.calls().get("put", 0))
            house.pass_time(minutes=5)
    assert [minute * 5 for minute, puts in enumerate(tries) if puts] == [0, 15, 75, 435]
    assert house.alerts() == {("registration_failed", str(line.id))}
    assert facts(caplog) == {"registration.not_set": "WARNING"}
    assert (house.row(line)["cause"], house.row(line)["tries"]) == ("without_effect", 4)
    house.world.behave(line, webhooks_without_effect=False)
    house.pass_time(hours=6)
    await house.round()
    assert (house.is_registered(line), house.row(line)["tries"], house.row(line)["failing_since"]) == (True, 0, None)


async def test_a_day_without_one_success_is_an_error_when_it_begins_and_a_word_when_it_ends(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line("", webhooks_without_effect=True)
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round()
        for _ in range(3):
            assert "registration.failing" not in facts(caplog)
            house.pass_time(hours=6)
            await house.round()
        house.pass_time(hours=6)
        await house.round()
        assert facts(caplog) == {"registration.failing": "ERROR"}
        house.pass_time(hours=6)
        await house.round()
        assert facts(caplog) == {}
        house.world.behave(line, webhooks_without_effect=False)
        house.pass_time(hours=6)
        await house.round()
        assert facts(caplog) == {"registration.works_again": "WARNING"}
    assert house.alerts() == set()


async def test_at_most_twenty_lines_are_set_a_sweep_and_the_rest_comes_next(house: House) -> None:
    lines = [house.line("") for _ in range(22)]
    # A tenth of a sweep's looks is more than all of them.
    house.world.sql(
        "insert into public.health_check_runs (started_at, checked) values (now() + interval '1 minute', 500)"
    )
    await house.round()
    assert sum(house.is_registered(line) for line in lines) == 20
    await house.round()
    assert all(house.is_registered(line) for line in lines)
    assert house.calls()["payment-status"] == 22


async def test_twenty_lines_are_read_a_sweep_or_a_tenth_of_what_it_has_looked_at(house: House) -> None:
    [house.line() for _ in range(45)]
    await house.round()
    assert house.calls()["fetch-instance"] == 20
    house.world.sql(
        "insert into public.health_check_runs (started_at, checked) values (now() + interval '1 minute', 230)"
    )
    await house.round()
    assert house.calls()["fetch-instance"] == 23


@pytest.mark.parametrize("asked", ["fetch-instance", "update-webhook-disconnected"])
async def test_who_is_asked_to_wait_ends_the_round(house: House, asked: str, caplog: pytest.LogCaptureFixture) -> None:
    lines = [house.line("") for _ in range(12)]
    house.world.simulator.set_lines([line.external_id for line in lines], faults={asked: "429"})
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round()
    assert house.calls()[asked if "webhook" not in asked else "put"] <= (1 if "webhook" in asked else 8)
    assert "registration.throttled" in facts(caplog)
    leases = house.world.sql("select count(*) as n from public.instance_registrations where lease_until is not null")
    assert leases == [{"n": 0}]
    house.world.simulator.set_lines([line.external_id for line in lines], faults={})
    house.pass_time(minutes=15)
    await house.round()
    assert all(house.is_registered(line) for line in lines)


async def test_payments_that_are_throttled_for_ever_keep_no_registration_from_being_set(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [house.line("", expires="2020-01-01") for _ in range(12)]
    house.world.simulator.set_lines([line.external_id for line in lines], faults={"payment-status": "429"})
    await house.round()
    assert all(house.is_registered(line) for line in lines)
    assert house.calls()["payment-status"] == 1
    assert "subscription.throttled" in facts(caplog)
    # What the registration tells of the subscription counts meanwhile.
    assert {house.row(line)["ending_days"] for line in lines} == {0}


async def test_what_was_told_of_a_subscription_stands_until_something_else_is(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line(expires="2020-01-01", payment_status="")
    await house.round()
    assert facts(caplog) == {"subscription.ending": "ERROR"}
    house.world.behave(line, expires="", faults={"payment-status": "500"})  # and fetch-instance tells nothing
    house.pass_time(hours=24)
    await house.round()
    assert house.row(line)["ending_days"] == 0
    assert ("subscription_ending", f"{line.id}:2020-01-01:0") in house.alerts()
    house.world.behave(line, expires="2020-01-01", faults={})
    house.pass_time(hours=24)
    await house.round()
    assert facts(caplog) == {}, "it is no news"


async def test_one_line_that_cannot_be_read_costs_the_others_nothing(house: House) -> None:
    bad, good = house.line("", session="token_refused"), house.line("")
    await house.round()
    assert house.is_registered(good)
    assert (house.row(bad)["cause"], house.row(bad)["tries"], house.row(bad)["found"]) == ("http_401", 1, None)
    house.pass_time(minutes=14)
    await house.round()
    assert house.row(bad)["tries"] == 1


# Our own address.


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        pytest.param({"secrets": ("a-secret-that-nobody-deployed",)}, "key_refused", id="a secret it does not know"),
        pytest.param({"url": "http://127.0.0.1:1"}, "Error", id="nobody there"),
        pytest.param({"url": "elsewhere"}, "another_service", id="another service"),
    ],
)
async def test_nothing_is_set_unless_our_own_address_takes_the_key(
    house: House, how: dict[str, Any], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [house.line("") for _ in range(2)]
    if how.get("url") == "elsewhere":
        how = {"url": house.world.simulator.wapi_url.removesuffix("/v1") + "/_sim/elsewhere?"}
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round(**how)
        [refused] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert (refused.getMessage(), cause in str(refused.__dict__)) == ("registration.own_address", True)
        await house.round(**how)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == [refused]
    assert "put" not in house.calls()
    assert {house.row(line)["tries"] for line in lines} == {0}
    assert house.alerts() == {("own_address", "")}
    assert all(house.row(line)["subscription_read_at"] for line in lines), "payment is asked about all the same"

    with caplog.at_level("INFO", logger="line_recovery"):
        caplog.clear()
        await house.round()
    assert all(house.is_registered(line) for line in lines)
    assert facts(caplog) == {"registration.own_address_answers": "WARNING"}
    assert house.alerts() == set()


async def test_a_healthy_fleet_asks_its_own_address_nothing(house: House) -> None:
    line = house.line()
    await house.round(url=f"{house.hook}", secrets=(SECRET,))
    house.pass_time(hours=6)
    await house.round(secrets=(SECRET,))
    assert house.row(line)["found"] == "good"
    assert house.world.sql("select * from public.provider_state where own_address_failing_since is not null") == []


async def test_in_a_rotation_nothing_is_set_before_the_webhook_serves_the_new_secret(house: House) -> None:
    """The sweep has learnt it too early: every line would be silenced."""
    line = house.line()
    await house.round(secrets=("the-new-secret-of-a-rotation", SECRET))
    assert (house.is_registered(line), house.row(line)["found"]) == (True, "old_key")


# When.


async def test_a_restart_and_a_restoration_have_the_line_read_in_the_same_sweep(house: House) -> None:
    restarted, restored, neither = (house.line() for _ in range(3))
    await house.round()
    house.pass_time(minutes=10)
    await house.round()
    for line in (restarted, restored, neither):
        house.world.behave(line, webhooks=LOST)
    audit = "insert into public.instance_events (instance_id, kind, source, from_status, to_status) values (%s, %s, 'sweep', 'degraded', %s)"
    house.world.sql(audit, restarted.id, "restart_requested", "degraded")
    house.world.sql(audit, restored.id, "status_changed", "connected")
    house.world.sql(audit, neither.id, "status_changed", "degraded")
    await house.round()
    assert [house.is_registered(line) for line in (restarted, restored, neither)] == [True, True, False]
    reads = []
    for _ in range(3):
        house.calls()
        house.pass_time(minutes=5)
        await house.round()
        reads.append(house.calls())
    # Once more, because the audit may show that late what began before a claim.
    assert reads == [{"fetch-instance": 2}, {}, {}]


async def test_another_line_at_the_provider_is_read_at_once(house: House) -> None:
    line = house.line()
    await house.round()
    house.world.simulator.add_lines([{"external_id": "LITE-NEW", "token": line.token, "webhooks": LOST}])
    house.world.set(line, "instance_id = 'LITE-NEW'")
    await house.round()
    assert (
        house.world.simulator.line("LITE-NEW")["webhooks"]["received"]
        == f"{house.hook}/?key={key_of('LITE-NEW', SECRET)}"
    )  # type: ignore[index,call-overload]


async def test_a_line_that_is_gone_leaves_nothing_and_waits_for_nobody(house: House) -> None:
    gone, stays = house.line(), house.line()
    await house.round()
    house.world.sql("delete from public.wapi_instances where id = %s", gone.id)
    await house.round()
    assert house.world.sql("select instance_id as id from public.instance_registrations") == [{"id": stays.id}]


async def test_a_fleet_of_several_pages_is_walked_page_by_page(house: House) -> None:
    lines = [house.line() for _ in range(5)]
    claim, run = house.ours.store.registrations.claim, (await house.ours.store.begin_sweep()).run_id
    found = [{line.id for line in (await claim(run, registers=True, lines_a_page=2)).lines} for _ in range(4)]
    ids = sorted(line.id for line in lines)
    assert found == [{*ids[:2]}, {*ids[2:4]}, {ids[4]}, set()]
    # The walk has begun anew: what came, what went and what is another line by now is found in its page.
    house.world.sql("delete from public.wapi_instances where id = %s", ids[2])
    house.world.sql("update public.wapi_instances set instance_id = 'LITE-ANOTHER-1' where id = %s", ids[3])
    [due] = (await claim(run, registers=True, lines_a_page=2)).lines
    assert (due.id, due.external_id) == (ids[3], "LITE-ANOTHER-1")
    rows = house.world.sql("select instance_id from public.instance_registrations")
    assert {row["instance_id"] for row in rows} == {*ids} - {ids[2]}


async def test_a_suspected_line_is_set_again_whatever_is_found_and_not_every_five_minutes(house: House) -> None:
    line = house.line()
    await house.round()
    house.calls()
    request = house.ours.store.registrations.request
    assert await request(line.id)
    assert not await request(line.id)
    await house.round()
    assert house.calls() == {"fetch-instance": 2, "put": 5}
    assert house.row(line)["requested_at"] is None
    house.pass_time(minutes=10)
    assert not await request(line.id)
    house.pass_time(minutes=6)
    assert await request(line.id)
    house.world.behave(line, faults={"update-webhook-disconnected": "500"})
    await house.round()
    assert (house.row(line)["tries"], house.row(line)["requested_at"] is None) == (1, False)
    house.world.behave(line, faults={})
    house.calls()
    house.pass_time(minutes=15)
    await house.round()
    assert house.calls()["put"] == 5
    assert house.row(line)["requested_at"] is None


async def test_a_request_during_the_wait_of_a_try_in_vain_is_done_after_it(house: House) -> None:
    line = house.line(faults={"fetch-instance": {"fault": "500", "times": 1}})
    await house.round()
    assert house.row(line)["tries"] == 1
    assert await house.ours.store.registrations.request(line.id)
    await house.round()
    assert "put" not in house.calls(), "not before its time"
    house.pass_time(minutes=15)
    await house.round()
    assert house.calls()["put"] == 5, "though all of it looks good"


async def test_what_the_operator_was_told_of_a_line_is_over_when_it_is_gone_or_paused(house: House) -> None:
    gone, other, paused, stays = (house.line(expires="2020-01-01") for _ in range(4))
    await house.round()
    assert len(house.alerts()) == 4
    house.world.set(paused, "is_active = false")
    house.world.sql("delete from public.wapi_instances where id = %s", gone.id)
    house.world.sql("update public.wapi_instances set instance_id = 'LITE-ANOTHER-2' where id = %s", other.id)
    await house.round()
    assert house.alerts() == {("subscription_ending", f"{stays.id}:2020-01-01:0")}


async def test_a_request_that_came_while_the_line_was_being_read_is_not_lost(house: House) -> None:
    line = house.line()

    async def suspect(_: httpx.Request) -> None:
        house.world.sql("select public.request_registration(%s, '15 minutes')", line.id)

    house.ours.wire.interrupt(Interruption(suspect, 0, "fetch-instance", When.AFTER))
    await house.round()
    assert house.row(line)["requested_at"] is not None


@pytest.mark.parametrize(
    "columns", ["is_active = false", "provider = 'zapi'", "instance_token = ' '", "instance_id = null"]
)
async def test_lines_that_are_not_looked_at_are_left_alone(house: House, columns: str) -> None:
    line = house.line("")
    house.world.set(line, columns)
    await house.round()
    assert house.calls() == {}


async def test_lines_of_a_company_that_is_not_active_are_left_alone(house: House) -> None:
    house.line("")
    house.world.sql("alter table public.companies add column if not exists is_active boolean")
    house.world.sql("update public.companies set is_active = false")
    await house.round()
    assert house.calls() == {}


async def test_without_an_address_nothing_is_set_and_only_payment_is_asked_once_a_day(house: House) -> None:
    told, untold = house.line(""), house.line("", payment_form="unknown")
    for _ in range(4):
        await house.round(url=None)
        house.pass_time(hours=6)
    assert house.calls(told) == {"payment-status": 1}
    assert house.calls(untold) == {"payment-status": 1, "fetch-instance": 1}
    assert house.row(told)["found"] is None


async def test_a_restart_that_loses_the_registration_is_followed_by_setting_it_in_the_same_sweep(house: House) -> None:
    line = house.line(restart_loses_webhooks=True)
    await house.round()
    house.pass_time(minutes=31)
    house.world.behave(line, session="disconnected")
    limits = Limits(ghost_confirm=timedelta(0), restart_verify=timedelta(seconds=0.05))
    report = await run_sweep(house.ours.store, house.ours.provider, policy=POLICY, limits=limits)
    assert house.world.restarts(line) == 1
    assert not house.is_registered(line)
    await house.round(run=report.run_id)
    assert house.is_registered(line)


async def test_a_day_costs_at_most_a_tenth_more_calls_than_looks_alone(house: House) -> None:
    """Four looks an hour stand for twelve: what is due does not depend on how often somebody asks."""
    lines = [house.line() for _ in range(24)]
    for quarter in range(24 * 4):
        if quarter % 24 == 5:  # four restarts lose it, one of them for good
            house.world.behave(lines[quarter // 24], webhooks=LOST, webhooks_without_effect=quarter < 24)
            house.world.sql(
                "insert into public.instance_events (instance_id, kind, source) values (%s, 'restart_requested', 'sweep')",
                lines[quarter // 24].id,
            )
        await house.round(run=NO_RUN)
        house.pass_time(minutes=15)
    assert sum(house.is_registered(line) for line in lines) == 23
    calls = house.calls()
    looks_alone = 2 * 24 * 12 * len(lines)
    assert sum(calls.values()) <= looks_alone / 10
    # It is far less: five readings and one question about payment for each line, and what was set.
    assert calls["fetch-instance"] <= 7 * len(lines)
    assert len(lines) <= calls["payment-status"] <= 2 * len(lines)
    print(f"\na day of {len(lines)} lines: {looks_alone} calls for looks, {calls} for registrations and subscriptions")


# Two at once, and one that dies.


async def test_two_rounds_at_once_share_the_lines(house: House) -> None:
    lines = [house.line("") for _ in range(8)]
    await asyncio.gather(house.round(), house.round())
    assert house.calls()["fetch-instance"] == 16
    assert all(house.is_registered(line) for line in lines)
    assert house.world.sql("select sum(tries) as n from public.instance_registrations") == [{"n": 0}]


@pytest.mark.parametrize("when", When)
async def test_a_round_may_die_at_every_call_and_the_next_ones_finish_it(house: House, when: When) -> None:
    lost, good = house.line(""), house.line()
    calls = 0
    while True:
        house.world.sql("delete from public.instance_registrations")
        house.world.behave(lost, webhooks=LOST)
        died = await house.ours.wire.until_death(house.round(), calls, "", when)
        house.ours.begin_anew()
        house.pass_time(minutes=5)
        await house.round()
        assert house.is_registered(lost), (calls, when)
        assert (house.row(lost)["found"], house.row(good)["found"]) == ("good", "good"), (calls, when)
        assert house.row(lost)["lease_until"] is None
        if not died:
            break
        calls += 1
    # begin_sweep, claim, 2 x 2 readings, our own address twice, five webhooks, read back, two records
    assert calls == 16


async def test_a_call_that_goes_wrong_costs_at_most_its_line_one_wait(house: House) -> None:
    """Every sixth of them in each run; its answer is lost."""
    lost, good = house.line(""), house.line()
    for number in range(random.Random().randrange(3), 16, 3):
        house.world.sql("delete from public.instance_registrations")
        house.world.behave(lost, webhooks=LOST)
        house.ours.wire.interrupt(Interruption(lose_the_answer, number, "", When.AFTER))
        try:
            await house.round()
        except StoreError:
            house.ours.begin_anew()
        house.ours.wire.interrupt(None)
        for _ in range(2):
            house.pass_time(minutes=15)
            await house.round()
        assert house.is_registered(lost), number
        assert (house.row(lost)["found"], house.row(good)["found"]) == ("good", "good"), number


async def test_a_visit_whose_lease_is_over_writes_nothing(house: House) -> None:
    line = house.line()

    async def somebody_else(_: httpx.Request) -> None:
        house.world.sql(
            "update public.instance_registrations set lease_until = now() + interval '1 hour', found = 'foreign'"
        )

    house.ours.wire.interrupt(Interruption(somebody_else, 0, "fetch-instance", When.AFTER))
    await house.round()
    assert (house.row(line)["found"], house.row(line)["lease_until"] is None) == ("foreign", False)


async def test_a_row_that_somebody_holds_is_passed_over(house: House) -> None:
    held, free = house.line(), house.line()
    await house.round()
    house.pass_time(hours=6)
    with psycopg.connect(house.world.stack.database_url) as screen:
        screen.execute("select from public.instance_registrations where instance_id = %s for update", (held.id,))
        house.calls()
        await house.round()
    assert house.calls() == {"fetch-instance": 1}
    assert house.row(free)["lease_until"] is None


# Subscriptions.


def in_days(days: float) -> int:
    return int((datetime.now(UTC) + timedelta(days=days)).timestamp())


async def test_the_end_of_a_subscription_is_told_7_3_and_1_days_before_and_on_lapse_once_each(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line()
    house.world.simulator.set_provider(webhook_url=None)
    told = []
    with caplog.at_level("INFO", logger="line_recovery"):
        for day in range(12):
            house.world.behave(line, expires=in_days(9.5 - day), payment_form=("flat", "wrapped", "unknown")[day % 3])
            house.world.sql(  # time passes for us: the date that was told stays what it is
                "update public.instance_registrations set next_try_at = now(), subscription_read_at = null,"
                " ending_at = ending_at - interval '1 day'"
            )
            await house.round()
            told += [
                (day, record.levelname) for record in caplog.records if record.getMessage() == "subscription.ending"
            ]
            caplog.clear()
    assert told == [(3, "WARNING"), (7, "WARNING"), (9, "WARNING"), (10, "ERROR")]
    [(cause, subject)] = house.alerts()
    assert (cause, subject.endswith(":0")) == ("subscription_ending", True)
    assert house.world.bells(line) == []


async def test_venues_hear_only_if_that_is_wished_each_user_each_stage_once(house: House) -> None:
    line = house.line(expires=in_days(2.5))
    for _ in range(2):
        await house.round(tell_venues=True)
        house.pass_time(hours=0)
        house.world.sql("update public.instance_registrations set next_try_at = now(), subscription_read_at = null")
    [bell] = house.world.bells(line)
    unit = house.world.row(line)["unit"]
    assert bell["type"] == "instance_subscription"
    assert (
        bell["message"]
        == f"A assinatura do WhatsApp da unidade {unit} vence em até 3 dias. Fale com o suporte para renovar."
    )
    [notice] = house.world.sql("select occasion, kind from public.notices")
    due = datetime.fromtimestamp(in_days(2.5), UTC)
    assert notice == {"occasion": f"subscription:{line.id}:{due:%Y-%m-%d}:3", "kind": "subscription"}


async def test_a_notice_of_a_subscription_that_the_platform_refuses_is_tried_again(house: House) -> None:
    line = house.line(expires=in_days(2.5))
    house.world.sql("alter table public.notifications add constraint theirs check (type <> 'instance_subscription')")
    try:
        await house.round(tell_venues=True)
    finally:
        house.world.sql("alter table public.notifications drop constraint theirs")
    assert house.world.sql("select state from public.notices") == [{"state": "refused"}]
    house.pass_time(minutes=6)
    await house.ours.store.retry_notices(limit=10)
    assert [bell["type"] for bell in house.world.bells(line)] == ["instance_subscription"]


async def test_a_word_that_nobody_knows_is_told_the_operator_once_and_never_interpreted(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line(payment_status="grace\x00-7", expires="", payment_form="unknown")
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round(tell_venues=True)
        assert facts(caplog) == {"subscription.unclear": "WARNING"}
        house.pass_time(hours=24)
        await house.round(tell_venues=True)
        assert facts(caplog) == {}
    assert house.row(line)["payment"] == "unclear"
    assert house.alerts() == {("subscription_unreadable", str(line.id))}
    assert house.world.bells(line) == []


async def test_a_lapse_without_a_date_is_told_once_and_its_end_is_said(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    line = house.line(payment_status="overdue", expires="")
    with caplog.at_level("INFO", logger="line_recovery"):
        await house.round()
        assert facts(caplog) == {"subscription.ending": "ERROR"}
        house.pass_time(hours=24)
        await house.round()
        assert facts(caplog) == {}
        house.world.behave(line, payment_status="active")
        house.pass_time(hours=24)
        await house.round()
    assert "subscription.renewed" in [record.getMessage() for record in caplog.records]
    assert house.alerts() == set()
