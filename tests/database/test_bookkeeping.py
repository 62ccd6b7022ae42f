"""Our bookkeeping in tables of our own: whose lines are ours, what a sweep writes, what is known without a row."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from composites import POLICY, POLICY_ROW, sighting_of
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from world import World

WRITES = """
select relname as name, n_tup_upd as updated, n_tup_hot_upd as hot, n_tup_ins as inserted, n_tup_del as deleted
from pg_stat_xact_user_tables where schemaname = 'public' and n_tup_ins + n_tup_upd + n_tup_del > 0
"""


def claim_and_record(world: World) -> Counter[tuple[str, str]]:
    """A sweep's two calls for a batch, each on a connection of its own: what they wrote, by table and kind of write."""
    written: Counter[tuple[str, str]] = Counter()

    def call(query: str, arguments: dict[str, Jsonb]) -> dict[str, Any]:
        with psycopg.connect(world.stack.database_url, row_factory=dict_row) as connection:
            [row] = connection.execute(query, arguments).fetchall()
            for table in connection.execute(WRITES).fetchall():
                written.update({(table["name"], kind): n for kind, n in table.items() if kind != "name" and n})
        return row

    batch = call("select public.claim_instances(now(), '60 seconds', 500) as batch", {})["batch"]
    sightings = [sighting_of(line, "ALIVE", looked_at="now").obj for line in batch["instances"]]
    call(
        "select public.record_looks((select array_agg(jsonb_populate_record(null::public.sighting, s))"
        f" from jsonb_array_elements(%(sightings)s) s), {POLICY})",
        {"sightings": Jsonb(sightings), "policy": POLICY_ROW},
    )
    return written


def test_a_healthy_line_costs_one_row_write_of_the_platforms_and_two_hot_ones_of_ours(world: World) -> None:
    world.lines(world.company(), 40)
    claim_and_record(world)  # makes the rows of instance_health
    for _ in range(3):
        world.pass_time(timedelta(minutes=5))
        assert claim_and_record(world) == {
            ("wapi_instances", "updated"): 40,
            ("instance_health", "updated"): 80,
            ("instance_health", "hot"): 80,
        }


@pytest.mark.parametrize("provider", ["zapi", "evolution", "Z-API", ""])
def test_a_row_of_another_provider_is_nobodys_business(world: World, provider: str) -> None:
    company = world.company(users=1)
    theirs = world.line(company, session="disconnected", provider=provider)
    ours = [world.line(company, provider=each) for each in ("wapi", "W-API", None)]

    answer = world.sweep()

    assert (answer["checked"], answer["left"], answer["restarted"]) == (3, 0, 0)
    assert all(world.row(line)["last_health_check"] is not None for line in ours)
    before = world.row(theirs)
    assert world.event(world.disconnection(theirs)) == "unknown_instance"
    assert world.event(world.message(theirs)) == "unknown_instance"
    assert world.simulator.calls(theirs.external_id) == {}
    assert world.row(theirs) == before
    assert (world.outages(theirs), world.bells(), world.audit(theirs)) == ([], [], [])
    assert world.sql("select * from public.instance_health where instance_id = %s", theirs.id) == []


def test_two_providers_may_use_one_external_id(world: World) -> None:
    company = world.company(users=1)
    ours = world.line(company, session="disconnected")
    world.line(company, at_provider=False, provider="zapi", instance_id=ours.external_id)
    world.line(company, at_provider=False, provider="zapi", instance_id=ours.external_id)

    assert world.event(world.disconnection(ours)) == "disconnected"
    assert world.status(ours) == "disconnected"
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.line(company, at_provider=False, instance_id=f" {ours.external_id}")


def test_an_external_id_is_what_stands_between_the_blanks(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="refused")
    world.set(line, "instance_id = ' ' || instance_id || '  '")

    assert world.event(world.disconnection(line)) == "disconnected"
    world.pass_time(timedelta(minutes=10))
    assert world.sweep()["checked"] == 1
    assert world.restarts(line) == 1
    assert [outage["external_id"] for outage in world.outages(line)] == [line.external_id]


@pytest.mark.parametrize("written", ["infinity", "2999-01-01", "now() + interval '1 hour'"])
def test_a_last_look_in_the_future_is_due_at_once(world: World, written: str) -> None:
    line = world.line(world.company())
    world.set(line, f"last_health_check = {written if '(' in written else repr(written)}")

    assert world.sweep()["checked"] == 1
    [row] = world.sql("select last_health_check <= now() as is_past from public.wapi_instances where id = %s", line.id)
    assert row["is_past"]


def test_a_line_without_a_row_of_ours_has_the_defaults_and_gets_one(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    assert world.sql("select * from public.instance_health") == []
    world.behave(line, restart="refused")

    assert world.event(world.disconnection(line)) == "disconnected"
    world.sql("delete from public.instance_health")
    world.pass_time(timedelta(minutes=10))
    assert world.sweep()["restarted"] == 1
    assert len(world.sql("select * from public.instance_health")) == 1


def test_deleting_a_line_takes_our_bookkeeping_along_but_not_its_restarts_clock(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.sql("delete from public.wapi_instances where id = %s", line.id)

    assert world.sql("select * from public.instance_health") == []
    assert [row["external_id"] for row in world.sql("select * from public.restart_claims")] == [line.external_id]
    assert len(world.sql("select * from public.notices")) == 1


# The brake, as sweeps tell each other


def test_the_brake_is_logged_when_it_comes_on_and_when_the_first_sweep_without_it_ends(world: World) -> None:
    world.lines(world.company(users=1), 6, session="disconnected")
    world.simulator.set_provider(everyone_disconnected=True)
    world._served("follow_up_check")
    engaged, released = (len(world.facts("follow_up_check", name)) for name in ("brake.engaged", "brake.released"))

    assert [world.sweep()["braked"] for _ in range(3)] == [True, True, True]
    [state] = world.sql("select * from public.provider_state")
    assert (state["provider"], state["braked_since"] is not None) == ("wapi", True)
    assert len(world.facts("follow_up_check", "brake.engaged")) == engaged + 1

    world.simulator.set_provider(everyone_disconnected=False)
    for line in world.sql("select instance_id from public.wapi_instances"):
        world.simulator.set_line(line["instance_id"], session="alive")
    assert [world.sweep()["braked"] for _ in range(2)] == [False, False]
    assert world.sql("select braked_since from public.provider_state") == [{"braked_since": None}]
    facts = world.facts("follow_up_check", "brake.released")[released:]
    assert [fact["severity"] for fact in facts] == ["ERROR"]
    assert facts[0]["seconds"] >= 0


def test_a_sweep_that_looked_at_no_line_that_is_up_ends_no_brake(world: World) -> None:
    world.sql("insert into public.provider_state (provider, braked_since) values ('wapi', now())")
    world.sweep()
    world.line(world.company(), status="disconnected", session="disconnected", seen_before=False)
    world.sweep()
    assert world.sql("select braked_since is null as is_off from public.provider_state") == [{"is_off": False}]
    world.line(world.company())
    world.sweep()
    assert world.sql("select braked_since is null as is_off from public.provider_state") == [{"is_off": True}]


# Witnesses


def test_witnesses_are_lines_that_are_up_whoever_leases_them(world: World) -> None:
    company = world.company()
    up = world.lines(company, 3)
    world.set(up[0], "health_lease_until = now() + interval '1 hour'")
    lately, long_ago = world.line(company, status="degraded"), world.line(company, status="degraded")
    world.set(lately, "degraded_since = now() - interval '29 minutes'")
    world.set(long_ago, "degraded_since = now() - interval '31 minutes'")
    for how in ({"status": "disconnected"}, {"is_active": False}, {"provider": "zapi"}, {"instance_token": ""}):
        world.line(company, at_provider=False, **how)

    def drawn(limit: int, *but_not: object) -> set[str]:
        [row] = world.sql(
            "select public.draw_witnesses(%s, now() - interval '30 minutes', %s::uuid[]) as drawn", limit, list(but_not)
        )
        assert len(row["drawn"]) == len({each["id"] for each in row["drawn"]})
        return {each["external_id"] for each in row["drawn"]}

    assert drawn(20) == {line.external_id for line in (*up, lately)}
    assert drawn(20, up[1].id, lately.id) == {up[0].external_id, up[2].external_id}
    assert len(drawn(2)) == 2


def test_every_line_that_is_up_may_be_drawn(world: World) -> None:
    world.sql(
        "insert into public.wapi_instances (user_id, company_id, instance_id, instance_token, status)"
        " select gen_random_uuid(), %s, 'LITE-' || n, 't', 'connected' from generate_series(1, 3000) n",
        world.company(),
    )
    drawn: set[str] = set()
    for _ in range(60):
        [row] = world.sql("select public.draw_witnesses(20, now()) as drawn")
        assert len(row["drawn"]) == 20
        drawn |= {each["external_id"] for each in row["drawn"]}
    assert len(drawn) > 700  # of 1,200 draws among 3,000 some 990 are different


# One bad row costs one row


def test_a_line_that_somebody_holds_is_skipped_and_the_others_are_recorded(world: World) -> None:
    company = world.company()
    held, *others = world.lines(company, 5)
    call = "select public.claim_instances(now(), '10 minutes', 500) as batch"
    [row] = world.sql(call)
    sightings = [sighting_of(line, "ALIVE", looked_at="now").obj for line in row["batch"]["instances"]]
    with psycopg.connect(world.stack.database_url) as somebody:
        somebody.execute("select from public.wapi_instances where id = %s for update", (held.id,))
        assert record(world, sightings) == 4
        assert all(world.row(line)["last_alive_at"] is not None for line in others)
        [health] = world.sql("select * from public.instance_health where instance_id = %s", held.id)
        assert (health["health_lease_until"], health["last_alive_at"]) == (None, None)
    assert [line["id"] for line in world.sql(call)[0]["batch"]["instances"]][:1] == [str(held.id)]


def test_a_line_that_another_sweeps_telling_holds_is_recorded_when_the_call_comes_again(world: World) -> None:
    held, *_others = world.lines(world.company(), 3)
    [row] = world.sql("select public.claim_instances(now(), '10 minutes', 500) as batch")
    sightings = [sighting_of(line, "ALIVE", looked_at="now").obj for line in row["batch"]["instances"]]
    with psycopg.connect(world.stack.database_url) as telling:
        telling.execute("select from public.wapi_instances where id = %s for no key update", (held.id,))
        assert record(world, sightings, gives_back=False) == 2
    assert world.row(held)["health_lease_until"] is not None

    assert record(world, sightings) == 1

    assert world.row(held)["last_alive_at"] is not None
    assert world.row(held)["health_lease_until"] is None


def test_a_line_that_an_event_holds_is_recorded_when_the_call_comes_again_and_the_others_only_once(
    world: World,
) -> None:
    company = world.company()
    held, *others = world.lines(company, 5)
    [row] = world.sql("select public.claim_instances(now(), '10 minutes', 500) as batch")
    sightings = [sighting_of(line, "ALIVE", looked_at="now").obj for line in row["batch"]["instances"]]
    with psycopg.connect(world.stack.database_url) as event:
        event.execute("select from public.wapi_instances where id = %s for update", (held.id,))
        event.execute("select from public.instance_health where instance_id = %s for update", (held.id,))
        assert record(world, sightings) == 4
    assert world.sql("select instance_id from public.instance_health where health_lease_until is not null") == [
        {"instance_id": held.id}
    ]
    before = [world.row(line)["last_health_check"] for line in others]

    assert record(world, sightings) == 1

    assert [world.row(line)["last_health_check"] for line in others] == before
    assert world.row(held)["last_alive_at"] is not None
    assert world.sql("select instance_id from public.instance_health where health_lease_until is not null") == []
    assert record(world, sightings) == 0


def record(world: World, sightings: list[dict[str, Any]], *, gives_back: bool = True) -> int:
    """Record looks as a sweep does, and wait for nobody."""
    with psycopg.connect(world.stack.database_url, options="-c lock_timeout=50ms") as sweep:
        [recorded] = sweep.execute(
            "select public.record_looks((select array_agg(jsonb_populate_record(null::public.sighting, s))"
            f" from jsonb_array_elements(%(sightings)s) s), {POLICY}, %(gives_back)s)",
            {"sightings": Jsonb(sightings), "policy": POLICY_ROW, "gives_back": gives_back},
        ).fetchone()
    return recorded


def test_a_row_that_cannot_be_read_is_named_and_costs_no_other_line_anything(world: World) -> None:
    company = world.company()
    broken, *others = world.lines(company, 4)
    world.sql("insert into public.instance_health (instance_id, last_event_at) values (%s, 'infinity')", broken.id)

    answer = world.sweep()

    assert (answer["checked"], answer["errors"]) == (3, 1)
    assert all(world.row(line)["last_alive_at"] is not None for line in others)
    fact = world.facts("follow_up_check", "instance.unreadable")[-1]
    assert (fact["severity"], fact["instance"], fact["fields"]) == ("ERROR", str(broken.id), ["last_event_at"])
