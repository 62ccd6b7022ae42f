"""Many at once: parallel sweeps, events beside a sweep, claims on two connections. Postgres hands out the work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from composites import EVIDENCE, POLICY, SIGHTING, arguments
from loopback import http
from psycopg.rows import dict_row
from served import FunctionServer
from world import check_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import World


@pytest.fixture
def two(world: World) -> Iterator[list[psycopg.Connection[dict[str, Any]]]]:
    """Two connections that work at the same time."""
    # A claim that waits where it must not fails instead of hanging.
    opened = [
        psycopg.connect(world.stack.database_url, row_factory=dict_row, options="-c lock_timeout=5s") for _ in range(2)
    ]
    yield opened
    for connection in opened:
        connection.close()


def claim(connection: psycopg.Connection[dict[str, Any]], limit: int = 10) -> dict[str, Any]:
    row = connection.execute(
        "select public.claim_instances(p_due_before => now(), p_lease => '60 seconds', p_limit => %s) as claimed",
        (limit,),
    ).fetchone()
    assert row
    return row["claimed"]


def claim_restart(
    connection: psycopg.Connection[dict[str, Any]], line: dict[str, Any], *, looked_at: str = "now"
) -> bool:
    row = connection.execute(
        f"select public.claim_restart({SIGHTING}, '60 seconds', {EVIDENCE}, {POLICY}) as claim",
        arguments(line, "DISCONNECTED", looked_at=looked_at),
    ).fetchone()
    assert row
    return row["claim"]["claimed"]


def test_two_sweeps_at_once_never_claim_the_same_line(world: World, two: list[Any]) -> None:
    world.lines(world.company(), 10)
    first, second = two

    mine = claim(first, 6)["instances"]  # its transaction is still open
    theirs = claim(second)["instances"]

    assert (len(mine), len(theirs)) == (6, 4)
    assert not {line["id"] for line in mine} & {line["id"] for line in theirs}


def test_the_longest_waiting_line_comes_first_and_the_never_seen_before_all(world: World, two: list[Any]) -> None:
    company = world.company()
    recent, old, never = world.line(company), world.line(company), world.line(company, seen_before=False)
    world.set(old, "last_health_check = now() - interval '1 day'")

    claimed = [line["id"] for line in claim(two[0])["instances"]]

    assert claimed == [str(never.id), str(old.id), str(recent.id)]


def test_a_lease_is_not_handed_out_again_until_it_ends(world: World, two: list[Any]) -> None:
    line = world.line(world.company())
    claim(two[0])
    two[0].commit()

    assert claim(two[1])["instances"] == []
    two[1].commit()
    world.pass_time(timedelta(seconds=61))
    assert [each["id"] for each in claim(two[1])["instances"]] == [str(line.id)]


def test_paging_meets_each_line_once_even_if_nothing_is_recorded(world: World, two: list[Any]) -> None:
    world.lines(world.company(), 5)
    seen: list[str] = []
    after: dict[str, Any] = {"after_check": None, "after_id": None}
    while True:
        # A lease of nothing: only the page keeps the lines apart.
        page = (
            two[0]
            .execute(
                "select public.claim_instances(now(), '0 seconds', 2, %s, %s) as claimed",
                (after["after_check"], after["after_id"]),
            )
            .fetchone()["claimed"]
        )
        if not page["instances"]:
            break
        seen += [line["id"] for line in page["instances"]]
        after = page

    assert len(seen) == len(set(seen)) == 5


def test_of_two_claims_of_a_restart_at_once_one_is_granted(world: World, two: list[Any]) -> None:
    world.line(world.company())
    [line] = claim(two[0])["instances"]
    two[0].commit()
    first, second = two

    assert claim_restart(first, line) is True  # not committed yet: the second must wait and then see it
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(claim_restart, second, line)
        first.commit()
        assert waiting.result() is False


def test_a_restart_is_claimed_once_in_thirty_minutes_whatever_the_lease(world: World, two: list[Any]) -> None:
    line = world.line(world.company())
    [claimed] = claim(two[0])["instances"]
    assert claim_restart(two[0], claimed) is True
    two[0].commit()
    world.set(line, "health_lease_until = null")
    world.pass_time(timedelta(minutes=29))
    [again] = claim(two[0])["instances"]
    assert claim_restart(two[0], again) is False
    two[0].commit()
    world.pass_time(timedelta(minutes=1))
    assert claim_restart(two[0], again | {"lease": world.row(line)["health_lease_until"]}) is True


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("status = 'disconnected'", id="the status changed"),
        pytest.param("health_lease_until = now() + interval '1 hour'", id="somebody else holds the lease"),
        pytest.param("is_active = false", id="the line was paused"),
        pytest.param("instance_token = 'another-token'", id="the token changed"),
        pytest.param("instance_id = 'LITE-ZZ11ZZ-ZZ11ZZ'", id="the external id changed"),
        pytest.param("last_event_at = now()", id="an event proved life since"),
        pytest.param("last_alive_at = now()", id="another look proved life since"),
    ],
)
def test_nobody_acts_on_stale_ground(world: World, two: list[Any], change: str) -> None:
    line = world.line(world.company(users=1))
    [claimed] = claim(two[0])["instances"]
    two[0].commit()
    world.set(line, change)
    before = world.row(line)

    looked_at = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    assert claim_restart(two[0], claimed, looked_at=looked_at) is False
    verdict = (
        two[0]
        .execute(
            f"select public.apply_verdict({SIGHTING}, 'disconnected', null, '{{}}', false, {EVIDENCE}, {POLICY}) as verdict",
            arguments(claimed, "DISCONNECTED", looked_at=looked_at),
        )
        .fetchone()["verdict"]
    )
    two[0].commit()

    assert verdict["applied"] is False
    after = world.row(line)
    assert (after["status"], after["last_restart_at"]) == (before["status"], None)
    assert world.outages(line) == []


def test_two_sweeps_of_one_fleet_at_once_send_one_restart_and_ring_one_bell_a_user(world: World) -> None:
    company = world.company(users=2)
    lines = world.lines(company, 20)
    dead = lines[:3]
    for line in dead:
        world.behave(line, session="disconnected", restart="refused")
    world.simulator.set_provider(latency_ms=30)

    world._served("follow_up_check")
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda _: world.sweep(), range(3)))

    assert [world.restarts(line) for line in dead] == [1, 1, 1]
    assert [len(world.outages(line)) for line in dead] == [1, 1, 1]
    assert [len(world.bells(line)) for line in dead] == [2, 2, 2]
    assert sum(answer["restarted"] for answer in answers) == 3
    assert {answer["errors"] for answer in answers} == {0}


def test_a_sweep_and_a_disconnection_at_once_are_one_outage_and_one_bell_a_user(world: World) -> None:
    company = world.company(users=2)
    world._served("follow_up_check"), world._served("wapi_webhook")
    for _ in range(5):
        line = world.line(company, session="disconnected")
        world.behave(line, restart="refused")
        with ThreadPoolExecutor() as threads:
            sweep = threads.submit(world.sweep)
            event = threads.submit(world.event, world.disconnection(line))
            sweep.result(), event.result()

        assert world.status(line) == "disconnected"
        assert world.restarts(line) <= 1
        assert len(world.outages(line)) == 1
        assert len(world.bells(line)) == 2


def test_a_thousand_healthy_lines_take_few_round_trips(world: World) -> None:
    company = world.company()
    world.sql(
        "insert into public.wapi_instances (user_id, company_id, unit, instance_id, instance_token, status)"
        " select gen_random_uuid(), %s, 'U' || n, 'LITE-' || n, 'token-' || n, 'connected' from generate_series(1, 1000) n",
        company,
    )
    world.simulator.add_lines(
        [{"external_id": f"LITE-{n}", "token": f"token-{n}", "phone": f"55119{n:08d}"} for n in range(1, 1001)]
    )
    world.read_registrations()
    world.sql("select pg_stat_reset_single_table_counters('public.wapi_instances'::regclass)")
    counted = world.stack.postgrest_requests
    patient = check_environment(world.stack, world.simulator) | {"LOOK_TIMEOUT_SECONDS": "30"}
    with FunctionServer("follow_up_check", patient) as server:
        counted.reset()

        answer = http.post(server.url, timeout=120).json()

    assert (answer["checked"], answer["alive"], answer["left"]) == (1000, 1000, 0)
    assert counted.total <= 2 * 2 + 4 + 6  # batches, the sweep's own, and six chores with nothing to do
    assert world.simulator.calls() == {"status-instance": 1000, "device": 1000}
    [written] = world.sql("select count(*) from public.wapi_instances where last_health_check is null")
    assert written["count"] == 0


def test_a_message_being_stored_does_not_hide_its_line_from_a_sweep(world: World, two: list[Any]) -> None:
    line = world.line(world.company())
    storing, sweeping = two
    storing.execute(
        "insert into public.wapi_conversations (instance_id, remote_jid, contact_phone) values (%s, 'x', '')",
        (line.id,),
    )  # not committed: its foreign key holds a share of the line's row

    assert [each["id"] for each in claim(sweeping)["instances"]] == [str(line.id)]
