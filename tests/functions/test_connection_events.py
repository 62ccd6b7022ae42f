"""Connection events that come in a mass, at odd moments, twice, without a phone, or for rows of two companies."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from composites import POLICY, POLICY_ROW
from psycopg.types.json import Jsonb
from world import SECRET

from shared.core.notices import TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from world import Line, World

MINUTE = timedelta(minutes=1)


def status(world: World, line: Line) -> Any:
    """Without the moments: some cannot be read here."""
    return world.sql("select status from public.wapi_instances where id = %s", line.id)[0]["status"]


def ran(world: World, *, up: int, ago: timedelta) -> None:
    world.sql(
        "insert into public.health_check_runs (started_at, finished_at, looked_at_up) values (now() - %s, now() - %s, %s)",
        ago, ago, up,
    )  # fmt: skip


# A mass


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"session": "disconnected"}, id="not connected"),
        pytest.param({"session": "ghost"}, id="a ghost"),
        pytest.param({"session": "not_found"}, id="not found"),
        pytest.param({"session": "token_refused"}, id="refused"),
        pytest.param({"faults": {"status-instance": "500"}}, id="blind"),
    ],
)
def test_in_a_mass_of_disconnections_any_look_only_degrades(world: World, behaviour: dict[str, Any]) -> None:
    """Section 3.2: a provider's deploy. The sweep, with its brake, decides."""
    lines = world.lines(world.company(users=1), 8)
    for line in lines[:7]:
        world.behave(line, **behaviour)

    outcomes = [world.event(world.disconnection(line)) for line in lines]

    assert outcomes == ["disconnected"] * 5 + ["degraded"] * 2 + ["denied"]
    assert [world.status(line) for line in lines] == ["disconnected"] * 5 + ["degraded"] * 2 + ["connected"]
    assert len(world.bells()) == 5


def test_a_mass_is_one_percent_of_the_lines_that_the_last_run_and_its_helpers_saw_up(world: World) -> None:
    def begins_at() -> int:
        [row] = world.database.execute(
            f"select public.mass_begins_at({POLICY}) as lines", {"policy": POLICY_ROW}
        ).fetchall()
        return row["lines"]  # type: ignore[return-value]

    assert begins_at() == 5
    ran(world, up=5_000, ago=5 * MINUTE)
    ran(world, up=399, ago=timedelta(seconds=40))
    ran(world, up=302, ago=timedelta(seconds=20))
    ran(world, up=0, ago=timedelta(seconds=1))
    assert begins_at() == 8

    lines = world.lines(world.company(users=1), 10, session="disconnected")
    assert [world.event(world.disconnection(line)) for line in lines] == ["disconnected"] * 8 + ["degraded"] * 2


def test_a_run_writes_how_many_lines_were_up(world: World) -> None:
    company = world.company(users=1)
    world.lines(company, 2)
    world.line(company, status="disconnected")

    world.sweep()

    assert world.sql("select looked_at_up from public.health_check_runs") == [{"looked_at_up": 2}]


# Moments


@pytest.mark.parametrize("column", ["connected_at", "last_event_at", "last_alive_at"])
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01", "ahead"])
def test_a_moment_that_cannot_be_believed_makes_no_event_stale(world: World, column: str, moment: str) -> None:
    """Section 9: `connected_at` three hours ahead; `last_event_at` = infinity. A blind line."""
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, f"{column} = {'now() + interval $$3 hours$$' if moment == 'ahead' else f'$${moment}$$'}")

    assert world.event(world.disconnection(line)) == "disconnected"
    assert status(world, line) == "disconnected"
    world.behave(line, session="alive")
    assert world.event(world.connection(line, moment=time.time() + 1)) == "restored"
    [row] = world.sql(
        "select last_event_at <= now() as past from public.instance_health where instance_id = %s", line.id
    )
    assert row["past"]


def test_a_connected_at_up_to_five_minutes_ahead_counts_as_now(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "connected_at = now() + interval '4 minutes'")
    assert world.event(world.disconnection(line, moment=time.time() - 62)) == "stale"
    assert world.event(world.disconnection(line, moment=time.time() - 50)) == "disconnected"


def late(world: World, lines: list[Line], by: Callable[[int], float]) -> list[str]:
    """One after another, too far apart for a mass."""
    outcomes = []
    for number, line in enumerate(lines):
        world.pass_time(3 * MINUTE)
        world.set(line, "last_alive_at = now()")
        outcomes.append(world.event(world.disconnection(line, moment=time.time() - by(number))))
    return outcomes


def test_a_late_clock_of_the_provider_is_seen_and_arrival_counts(world: World) -> None:
    lines = world.lines(world.company(users=1), 7, session="disconnected")

    assert late(world, lines, lambda number: 1200 + number) == ["stale"] * 4 + ["disconnected"] * 3
    [outage] = world.outages(lines[6])
    assert (outage["opened_at"] - outage["started_at"]).total_seconds() < 60

    before = len(world.facts("follow_up_check", "provider.clock_late"))
    world.sweep()
    world.sweep()
    told = world.facts("follow_up_check", "provider.clock_late")[before:]
    assert [(fact["severity"], 1195 < fact["seconds"] < 1215) for fact in told] == [("WARNING", True)] * 2


def test_events_that_are_late_by_different_times_show_no_late_clock(world: World) -> None:
    lines = world.lines(world.company(users=1), 7, session="disconnected")

    assert late(world, lines, lambda number: 1200 + 61 * number) == ["stale"] * 7
    assert late(world, lines[:1] * 6, lambda number: 3000 - 2 * number) == ["stale"] * 6
    assert world.database.execute(
        f"select public.find_late_clock({POLICY}) as late", {"policy": POLICY_ROW}
    ).fetchall() == [{"late": None}]


# Without a phone


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        pytest.param({"session": "alive"}, "restored", id="alive"),
        pytest.param({"session": "disconnected"}, "no_phone", id="not connected"),
        pytest.param({"faults": {"device": "500"}}, "no_phone", id="only claimed"),
        pytest.param({"faults": {"status-instance": "500"}}, "no_phone", id="blind"),
    ],
)
def test_a_connection_without_a_phone_is_looked_into(world: World, behaviour: dict[str, Any], outcome: str) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    assert world.event(world.disconnection(line)) == "disconnected"
    world.behave(line, **({"session": "alive"} | behaviour))

    assert world.event(world.connection(line, moment=time.time() + 1) | {"connectedPhone": None}) == outcome

    row = world.row(line)
    back = outcome == "restored"
    assert (row["status"] == "connected", row["last_alive_at"] is not None) == (back, back)
    assert row["phone_number"] == line.phone
    assert len(world.bells(line, kind="instance_reconnected")) == back
    if back:
        [why] = world.sql("select reason, details from public.instance_events where to_status = 'connected' and from_status = 'disconnected'")  # fmt: skip
        assert (why["reason"], why["details"]["observation"]) == ("alive", "ALIVE")


def test_a_connection_without_a_phone_of_a_live_line_asks_nobody(world: World) -> None:
    line = world.line(world.company(users=1))
    assert world.event(world.connection(line) | {"connectedPhone": None}) == "no_phone"

    world.behave(line, session="disconnected")
    assert world.event(world.disconnection(line)) == "disconnected"
    world.behave(line, session="alive")
    world.simulator.forget_calls()
    assert world.event(world.connection(line, moment=time.time() - 30) | {"connectedPhone": None}) == "stale"
    assert world.simulator.calls(line.external_id) == {}


def test_an_own_number_with_a_device_suffix_is_stored_without_it(world: World) -> None:
    line = world.line(world.company())
    assert world.event(world.connection(line) | {"connectedPhone": "5511977777777:12"}) == "alive"
    assert world.row(line)["phone_number"] == "5511977777777"
    assert world.audit(line) == ["phone_changed"]


# Twice


def test_down_back_and_down_within_one_second_are_three_facts(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    down = world.disconnection(line)
    back = world.connection(line, moment=down["moment"])

    assert [world.event(down), world.event(down)] == ["disconnected", "duplicate"]
    assert world.event(back) == "restored"
    assert [world.event(down), world.event(down)] == ["disconnected", "duplicate"]
    assert (world.status(line), len(world.outages(line))) == ("disconnected", 2)
    # Back once more: the same body again is believed only if a look agrees.
    assert world.event(back) == "no_phone"
    world.behave(line, session="alive")
    assert world.event(back) == "restored"
    assert world.event(back) == "duplicate"
    assert world.sql("select count(*) as n from public.wapi_webhook_events") == [{"n": 2}]


def test_an_identical_disconnection_marks_nothing_that_lives_and_is_a_duplicate_once_it_is_old(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    event = world.disconnection(line, moment=time.time() - 50)
    assert world.event(event) == "disconnected"
    world.behave(line, session="alive")
    assert world.event(world.connection(line)) == "restored"

    assert world.event(event) == "denied"
    world.behave(line, faults={"status-instance": "500"})
    assert world.event(event) == "duplicate", "nothing shows that it is more than a late copy"
    world.behave(line, faults={})
    world.pass_time(timedelta(seconds=30))
    world.set(line, "last_alive_at = now()")
    assert world.event(event) == "duplicate"
    assert world.status(line) == "connected"


# While the look took its time


@pytest.mark.parametrize(("function", "outcome"), [("settle_disconnection", "disconnected"), ("settle_connection", "no_phone")])  # fmt: skip
def test_an_answer_to_another_token_says_nothing(world: World, function: str, outcome: str) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.event(world.disconnection(line))
    world.sql("update public.wapi_webhook_events set processed_at = null")
    world.sql("delete from public.instance_outages")

    [row] = world.database.execute(
        f"select public.{function}(id, 'a hash of before', 'ALIVE', 'device_phone', now(), %(texts)s, {POLICY}) as settled"
        " from public.wapi_webhook_events",
        {"texts": Jsonb(TEXTS), "policy": POLICY_ROW},
    ).fetchall()

    assert row["settled"]["outcome"] == outcome  # type: ignore[index]


def test_an_event_of_a_row_that_became_another_line_meanwhile_has_no_effect(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.event(world.disconnection(line))
    world.sql("update public.wapi_webhook_events set processed_at = null, outcome = 'look'")
    world.sql("delete from public.instance_outages")
    world.set(line, "status = 'connected', instance_id = 'LITE-ANOTHER'")

    [row] = world.database.execute(
        f"select public.settle_disconnection(id, null, 'UNKNOWN', 'timeout', now(), %(texts)s, {POLICY}) as settled"
        " from public.wapi_webhook_events",
        {"texts": Jsonb(TEXTS), "policy": POLICY_ROW},
    ).fetchall()

    assert row["settled"]["outcome"] == "overtaken"  # type: ignore[index]
    assert world.status(line) == "connected"


# Whose event


def twin(world: World, company: UUID, line: Line, **columns: Any) -> Line:
    """A row of another company with the same external id."""
    return world.line(company, instance_id=line.external_id, at_provider=False, **columns)


def stored_for(world: World) -> list[Any]:
    return [
        row["instance_id"] for row in world.sql("select instance_id from public.wapi_conversations order by created_at")
    ]


def test_events_of_rows_of_two_companies_go_to_the_one_whose_own_token_looked_alive(world: World) -> None:
    """A member writes another company's external id into a row of theirs while that company's line is paused."""
    owner = world.line(world.company(users=1))
    world.sweep()
    world.set(owner, "is_active = false")
    thief = world.line(world.company("Casa de Festas", users=1))
    world.sweep()  # alive, as the line that it was
    world.set(thief, "instance_id = %s", owner.external_id)
    world.sweep()  # its token is refused
    world.set(thief, "status = 'connected'")

    assert world.event(world.message(owner)) == "stored"
    assert world.event(world.disconnection(owner)) == "paused"

    assert stored_for(world) == [owner.id]
    assert world.status(thief) == "connected"
    assert world.bells(thief, kind="instance_reconnected") == []


def test_events_of_rows_of_two_companies_are_nobodys_before_one_has_looked_alive(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected", is_active=False)
    other = twin(world, world.company("Casa de Festas", users=1), line)

    assert world.event(world.message(line)) == "unknown_instance"
    assert world.event(world.disconnection(line)) == "unknown_instance"
    assert (stored_for(world), world.status(other)) == ([], "connected")

    # The line has moved: the new row has its token.
    world.behave(line, session="alive")
    world.set(other, "instance_token = %s", line.token)
    world.sweep()
    assert world.event(world.message(line, messageId="M2")) == "stored"
    assert stored_for(world) == [other.id]


def test_paused_twins_of_one_company_change_nothing(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company, session="disconnected")
    twin(world, company, line, is_active=False)
    assert world.event(world.disconnection(line)) == "disconnected"
    world.set(line, "is_active = false")
    assert world.post(world.message(line), key=SECRET).json() == {"outcome": "unknown_instance"}
