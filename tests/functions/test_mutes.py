"""Lines that live and whose events do not reach us: counted, suspected, repaired, told, closed. On the real tables."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from rhythms import BUSY, ZONE, heard
from waiting import GENEROUS_SECONDS
from wire import Interruption, When, lose_the_answer
from world import SECRET, empty

from ops.common.rest import Rest
from ops.doctor.gathering import read_tables
from shared.core.mute import MuteClosing, MuteProof
from shared.core.policy import MutePolicy, Policy
from shared.core.registration import Target
from shared.errors import StoreError
from shared.providers.own_address import OwnAddress
from shared.receiving.mutes import watch_mutes
from shared.receiving.registrations import Registrations

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from served import FunctionServer
    from wire import OnTheWire
    from world import Line, World

    from shared.database.mutes import MuteStore

RULE = MutePolicy()
HARD = os.environ.get("HARD") == "1"
KINDS = ("disconnected", "connected", "received", "delivery", "message-status", "chat-presence")
MINUTE = timedelta(minutes=1)
GENEROUS = timedelta(seconds=GENEROUS_SECONDS)  # the time that passed while the test ran


@pytest.fixture
def mutes(ours: OnTheWire) -> MuteStore:
    return ours.store.mutes


async def watch(mutes: MuteStore) -> None:
    await watch_mutes(mutes, rule=RULE, deadline=asyncio.get_running_loop().time() + 20)


def a_line(world: World, company: UUID, *, silent: timedelta, of_40: int | None = 39, **columns: object) -> Line:
    """A line that lives, was last heard then and, for ten weeks, in so many of forty quarters of whatever hour."""
    line = world.line(company, last_alive_at=now(world), last_event_at=now(world) - silent, **columns)
    if of_40 is not None:
        world.sql(
            "insert into public.instance_habits (instance_id, counted_from, heard, heard_quarter)"
            " select %s, date_trunc('hour', now() - %s - interval '10 weeks'), %s, now() - %s",
            line.id, silent, bytes([of_40] * 168), silent,
        )  # fmt: skip
    return line


def now(world: World) -> datetime:
    return world.sql("select now() as now")[0]["now"]


def sends(world: World, line: Line, *minutes_ago: int, chats: int = 2, status: str = "sent", ids: bool = True) -> None:
    """What the platform has sent through the API and stored, by its own clock."""
    for number, minutes in enumerate(minutes_ago):
        world.database.execute(
            "with c as (insert into public.wapi_conversations (instance_id, remote_jid, contact_phone, last_message_from_me, last_message_at)"
            " values (%(line)s, %(chat)s || '@s.whatsapp.net', %(chat)s, true, now() - %(ago)s)"
            " on conflict (instance_id, remote_jid) do update set last_message_at = excluded.last_message_at returning id)"
            ' insert into public.wapi_messages (conversation_id, message_id, from_me, content, status, "timestamp")'
            " select id, %(id)s, true, 'Oi', %(status)s, now() - %(ago)s from c",
            {
                "line": line.id, "chat": f"551190000000{number % chats}", "ago": minutes * MINUTE,
                "id": f"S{number}" if ids else None, "status": status,
            },
        )  # fmt: skip


def an_event(
    world: World, line: Line, *, ago: timedelta = timedelta(0), kind: str = "other", life: bool = True
) -> None:
    world.sql(
        "insert into public.wapi_webhook_events (event_key, kind, instance_id, external_id, received_at, processed_at)"
        " values (gen_random_uuid()::text, %s, %s, %s, now() - %s, now())", kind, line.id, line.external_id, ago,
    )  # fmt: skip
    if life:
        world.sql("update public.instance_health set last_event_at = now() - %s where instance_id = %s", ago, line.id)


def rows(world: World, line: Line | None = None) -> list[dict[str, Any]]:
    return world.sql(
        "select * from public.instance_mutes where %s::uuid is null or instance_id = %s order by suspected_at, id",
        *(line.id if line else None,) * 2,
    )  # fmt: skip


def set_again(world: World) -> None:
    """What the registrations' own chore does of what was asked for."""
    world.sql(
        "update public.instance_registrations set set_at = now(), requested_at = null, found = 'good'"
        " where requested_at is not null"
    )


# Counting


async def test_a_quarter_with_events_is_counted_once_and_nothing_is_written_when_it_is(
    world: World, mutes: MuteStore
) -> None:
    line = a_line(world, world.company(), silent=timedelta(0), of_40=None)
    await watch(mutes)
    [first] = world.sql("select xmin::text, *, ctid from public.instance_habits")
    hour = world.sql("select public.hour_of_week(last_event_at, 'America/Sao_Paulo') as h from public.instance_health")
    assert [n for n, count in enumerate(first["heard"]) if count] == [hour[0]["h"]]
    await watch(mutes)
    assert world.sql("select xmin::text, *, ctid from public.instance_habits") == [first]

    world.set(line, "last_event_at = last_event_at + interval '15 minutes'")
    world.pass_time(15 * MINUTE)
    await watch(mutes)
    assert sum(world.sql("select heard from public.instance_habits")[0]["heard"]) == 2


@pytest.mark.parametrize(
    ("at", "hour"),
    [
        pytest.param("2026-08-03 03:00+00", 0, id="Monday's first hour, in São Paulo"),
        pytest.param("2026-08-03 02:59:59+00", 167, id="Sunday's last"),
        pytest.param("2026-08-08 15:30+00", 5 * 24 + 12, id="Saturday's noon"),
    ],
)
def test_the_hour_is_that_of_the_wall_clock(world: World, at: str, hour: int) -> None:
    assert world.sql("select public.hour_of_week(%s, 'America/Sao_Paulo') as h", at) == [{"h": hour}]


def test_what_is_counted_is_halved_after_sixteen_weeks_and_a_count_does_not_overflow(world: World) -> None:
    line = a_line(world, world.company(), silent=timedelta(0), of_40=255)
    world.sql("update public.instance_habits set heard_quarter = now() - interval '1 hour'")
    policy = Jsonb({"memory": "16 weeks", "event_ahead": "5 minutes"})
    mark = (
        "select public.mark_quarters('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff',"
        " 'America/Sao_Paulo', jsonb_populate_record(null::public.mute_policy, %s), now()) as n"
    )
    assert world.sql(mark, policy) == [{"n": 1}]
    assert set(world.sql("select heard from public.instance_habits")[0]["heard"]) == {255}
    [before] = world.sql(
        "update public.instance_habits set heard_quarter = now() - interval '1 hour', counted_from = now() - interval '16 weeks'"
        " returning counted_from"
    )
    assert world.sql(mark, policy) == [{"n": 1}]
    [after] = world.sql("select * from public.instance_habits")
    assert set(after["heard"]) == {127, 128}
    assert after["counted_from"] - before["counted_from"] == timedelta(weeks=8)
    assert after["instance_id"] == line.id


async def test_the_habit_of_a_line_that_is_deleted_goes_with_the_next_walk(world: World, mutes: MuteStore) -> None:
    company = world.company()
    lines = [a_line(world, company, silent=61 * MINUTE) for _ in range(2)]
    await watch(mutes)
    world.sql("delete from public.wapi_instances where id = %s", lines[0].id)
    await watch(mutes)
    assert [row["instance_id"] for row in world.sql("select * from public.instance_habits")] == [lines[1].id]
    assert [mute["closed_as"] for mute in rows(world, lines[0])] == ["inconclusive"]


def test_a_moment_that_cannot_be_is_not_counted(world: World) -> None:
    company = world.company()
    for odd in ("infinity", "2099-01-01"):
        world.line(company, last_event_at=odd)
    world.sweep()
    assert world.sql("select * from public.instance_habits") == []


# By habit


async def test_a_line_silent_against_its_habit_is_repaired_and_nobody_hears_of_it(
    world: World, mutes: MuteStore
) -> None:
    company = world.company(users=1)
    silent = a_line(world, company, silent=61 * MINUTE)
    a_line(world, company, silent=10 * MINUTE)
    a_line(world, company, silent=61 * MINUTE, of_40=8)
    for _ in range(2):
        await watch(mutes)
    [mute] = rows(world)
    assert (mute["instance_id"], mute["proof"], mute["repairs"], mute["told_at"]) == (silent.id, "habit", 1, None)
    assert mute["unit"] is not None
    world.pass_time(40 * MINUTE)
    await watch(mutes)
    assert world.bells() == []


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"status": "disconnected"}, "it is down"),
        ({"is_active": False}, "it is paused"),
        ({"last_alive_at": None}, "no look has found it alive lately"),
        ({"bad_since": "2026-01-01"}, "a look has just found it dead"),
        ({"provider": "evolution"}, "another provider's"),
    ],
)
async def test_only_a_line_that_lives_is_mute(
    world: World, mutes: MuteStore, columns: dict[str, Any], why: str
) -> None:
    line = a_line(world, world.company(), silent=3 * 60 * MINUTE)
    for column, value in columns.items():
        world.set(line, f"{column} = %s", value)
    await watch(mutes)
    assert rows(world) == [], why


@pytest.mark.parametrize(
    ("minutes", "closing"),
    [
        pytest.param(3, MuteClosing.REGISTRATION_LOST, id="three minutes after the repair"),
        pytest.param(8, MuteClosing.INCONCLUSIVE, id="eight minutes after it, as may happen"),
        pytest.param(70, MuteClosing.PROVIDER_DELIVERY, id="much later"),
    ],
)
async def test_the_first_event_that_arrives_closes_it_and_says_what_it_was(
    world: World, mutes: MuteStore, minutes: int, closing: MuteClosing
) -> None:
    line = a_line(world, world.company(), silent=61 * MINUTE)
    await watch(mutes)
    set_again(world)
    world.pass_time((minutes + 1) * MINUTE)
    an_event(world, line, ago=MINUTE, life=False)
    world.set(line, "last_event_at = now(), last_alive_at = now()")
    await watch(mutes)
    [mute] = rows(world)
    assert (mute["closed_as"], mute["repairs"]) == (closing, 1)
    assert mute["heard_at"] - mute["repaired_at"] < (minutes + 1) * MINUTE


async def test_what_was_asked_for_and_never_set_again_proves_nothing(world: World, mutes: MuteStore) -> None:
    line = a_line(world, world.company(), silent=61 * MINUTE)
    await watch(mutes)
    world.pass_time(3 * MINUTE)
    an_event(world, line, ago=MINUTE)
    await watch(mutes)
    assert [mute["closed_as"] for mute in rows(world)] == ["inconclusive"]


async def test_each_repair_asks_for_a_registration_whatever_is_found(world: World, mutes: MuteStore) -> None:
    line = a_line(world, world.company(), silent=26 * 60 * MINUTE)
    asked = "select instance_id, requested_at is not null as asked, found from public.instance_registrations"
    await watch(mutes)
    assert world.sql(asked) == [{"instance_id": line.id, "asked": True, "found": None}]
    set_again(world)
    await watch(mutes)
    assert [row["asked"] for row in world.sql(asked)] == [False]
    world.pass_time(16 * MINUTE)
    world.set(line, "last_alive_at = now()")
    sends(world, line, 25, 22, 21)
    await watch(mutes)
    await watch(mutes)
    assert [row["asked"] for row in world.sql(asked)] == [True]
    assert [mute["repairs"] for mute in rows(world)] == [2]


async def test_two_sweeps_at_once_repair_once(world: World, mutes: MuteStore) -> None:
    a_line(world, world.company(), silent=26 * 60 * MINUTE)
    await watch(mutes)
    [mute] = rows(world)
    await mutes.repair([mute["id"]])  # as one that has read it before the other wrote
    assert [mute["repairs"] for mute in rows(world)] == [1]


async def test_whose_events_go_elsewhere_on_purpose_is_not_mute(world: World, mutes: MuteStore) -> None:
    line = a_line(world, world.company(), silent=3 * 60 * MINUTE)
    sends(world, line, 25, 22, 21)
    world.sql(
        "update public.instance_registrations set found = 'foreign' where instance_id = %s",
        line.id,
    )
    await watch(mutes)
    assert rows(world) == []


@pytest.mark.parametrize(
    "case",
    [
        ("missing", 31, 40, True),
        ("wrong_key", 31, 40, True),
        ("missing", 24, 40, False),
        ("missing", 31, 20, False),
        ("plain_key", 31, 40, False),
    ],
)
async def test_a_registration_that_cannot_be_set_is_told_when_nothing_came_since(
    world: World, mutes: MuteStore, case: tuple[str, int, int, bool]
) -> None:
    found, minutes, silent, is_told = case
    line = a_line(world, world.company(users=1), silent=silent * MINUTE, of_40=None)
    world.sql(
        "update public.instance_registrations set found = %s, tries = 2, failing_since = now() - %s where instance_id = %s",
        found,
        minutes * MINUTE,
        line.id,
    )
    await watch(mutes)
    world.pass_time(timedelta(minutes=5))
    await watch(mutes)
    assert [mute["proof"] for mute in rows(world)] == ["registration"] * is_told
    assert len(world.bells(line)) == is_told


async def test_a_silence_is_suspected_once_and_the_next_one_anew(world: World, mutes: MuteStore) -> None:
    line = a_line(world, world.company(), silent=61 * MINUTE)
    await watch(mutes)
    world.set(line, "bad_since = now()")
    await watch(mutes)
    world.set(line, "bad_since = null")
    world.sql("update public.instance_habits set look_at = null, probe_at = null")
    await watch(mutes)
    assert [mute["closed_as"] for mute in rows(world)] == ["inconclusive"]
    an_event(world, line)
    await watch(mutes)
    world.pass_time(121 * MINUTE)  # the bar is stricter by then
    world.set(line, "last_alive_at = now()")
    await watch(mutes)
    assert [mute["closed_as"] for mute in rows(world)] == ["inconclusive", None]


# By sends


async def test_sends_without_an_answer_are_repaired_and_told_after_half_an_hour(world: World, mutes: MuteStore) -> None:
    company = world.company(users=2)
    world.company(users=1)
    line = a_line(world, company, silent=60 * MINUTE, of_40=None, unit="Moema")
    sends(world, line, 25, 22, 21)
    await watch(mutes)
    [mute] = rows(world, line)
    assert (mute["proof"], mute["repairs"], mute["told_at"]) == ("sends", 1, None)
    world.pass_time(4 * MINUTE)
    await watch(mutes)
    assert world.bells() == []
    world.pass_time(2 * MINUTE)
    for _ in range(2):
        await watch(mutes)
    bells = world.bells(line)
    assert len(bells) == 2
    assert {bell["type"] for bell in bells} == {"instance_mute"}
    since = world.sql(
        "select to_char((now() - interval '31 minutes') at time zone 'America/Sao_Paulo', 'HH24:MI') as t"
    )
    assert bells[0]["message"].startswith("O WhatsApp da unidade Moema está conectado, mas as mensagens não chegam")
    assert world.outages(line) == []
    assert world.status(line) == "connected"
    assert world.audit(line) == ["users_told"]
    [notice, _] = world.sql("select * from public.notices")
    assert (notice["occasion"], notice["kind"]) == (f"mute:{mute['id']}", "mute")
    assert since[0]["t"] in bells[0]["message"] or "/" in bells[0]["message"]


@pytest.mark.parametrize(
    ("sent", "how", "why"),
    [
        ((25, 22), {}, "two messages"),
        ((25, 22, 21), {"chats": 1}, "one chat"),
        ((25, 22, 19), {}, "one of them is too young"),
        ((95, 92, 91), {}, "too long ago to be compared with anything"),
        ((25, 22, 21), {"status": "delivered"}, "acks came"),
        ((25, 22, 21), {"status": "error"}, "the provider refused them"),
        ((25, 22, 21), {"ids": False}, "they were never sent"),
    ],
)
async def test_what_proves_nothing(
    world: World, mutes: MuteStore, sent: tuple[int, ...], how: dict[str, Any], why: str
) -> None:
    line = a_line(world, world.company(), silent=120 * MINUTE, of_40=None)
    sends(world, line, *sent, **how)
    await watch(mutes)
    assert rows(world) == [], why


async def test_any_event_of_whatever_kind_since_the_first_send_disproves_it(world: World, mutes: MuteStore) -> None:
    company = world.company()
    line = a_line(world, company, silent=120 * MINUTE, of_40=None)
    other = a_line(world, company, silent=120 * MINUTE, of_40=None)
    for each in (line, other):
        sends(world, each, 25, 22, 21)
    an_event(world, line, ago=20 * MINUTE, life=False)
    an_event(world, other, ago=26 * MINUTE, life=False)
    await watch(mutes)
    assert [mute["instance_id"] for mute in rows(world)] == [other.id]


async def test_a_suspicion_by_habit_is_proven_by_sends_and_then_told(world: World, mutes: MuteStore) -> None:
    line = a_line(world, world.company(users=1), silent=61 * MINUTE)
    await watch(mutes)
    sends(world, line, 33, 32, 31)
    world.pass_time(5 * MINUTE)
    await watch(mutes)
    assert [mute["proof"] for mute in rows(world)] == [MuteProof.SENDS]
    await watch(mutes)
    assert len(world.bells(line)) == 1


@pytest.mark.parametrize("minutes", [1, 100])
async def test_a_line_that_is_heard_while_nobody_looked_is_told_to_nobody(
    world: World, mutes: MuteStore, minutes: int
) -> None:
    """Also where no sweep ran for two hours: what it hears of begins where one has listened."""
    line = a_line(world, world.company(users=1), silent=60 * MINUTE, of_40=None)
    sends(world, line, 25, 22, 21)
    world.sql("insert into public.health_check_runs (started_at, finished_at) values (now(), now())")
    await watch(mutes)
    world.pass_time(2 * 60 * MINUTE)
    world.set(line, "last_alive_at = now()")
    an_event(world, line, ago=minutes * MINUTE, life=False)
    await watch(mutes)
    assert world.bells() == []
    assert [mute["closed_as"] for mute in rows(world)] == ["inconclusive"]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_notice_that_the_platform_refused_is_told_later_while_it_is_news(
    world: World, ours: OnTheWire, is_over: bool
) -> None:
    mutes = ours.store.mutes
    line = a_line(world, world.company(users=1), silent=60 * MINUTE, of_40=None)
    sends(world, line, 25, 22, 21)
    await watch(mutes)
    world.pass_time(6 * MINUTE)
    world.sql("alter table public.notifications add constraint known_types check (type <> 'instance_mute')")
    try:
        await watch(mutes)
    finally:
        world.sql("alter table public.notifications drop constraint known_types")
    assert [mute["told_at"] for mute in rows(world)] == [None]
    if is_over:
        an_event(world, line)
        await watch(mutes)
    world.pass_time(6 * MINUTE)
    await ours.store.retry_notices(limit=10)
    assert [bell["data"]["mute_since"] is not None for bell in world.bells(line)] == [True] * (not is_over)
    assert [mute["told_at"] is not None for mute in rows(world)] == [not is_over]


# Many at once


async def test_when_half_of_the_fleet_is_silent_one_line_is_repaired_and_then_the_rest(
    world: World, mutes: MuteStore, caplog: pytest.LogCaptureFixture
) -> None:
    company = world.company()
    lines = [a_line(world, company, silent=120 * MINUTE, of_40=39 - number) for number in range(5)]
    for _ in range(4):
        a_line(world, company, silent=timedelta(0))
    with caplog.at_level("ERROR", logger="line_recovery"):
        await watch(mutes)
        await watch(mutes)
    assert [record.getMessage() for record in caplog.records] == ["lines.mute_together"]
    assert {mute["instance_id"]: mute["repairs"] for mute in rows(world)} == {
        line.id: int(number == 0) for number, line in enumerate(lines)
    }
    set_again(world)
    world.pass_time(2 * MINUTE)
    an_event(world, lines[0])
    await watch(mutes)
    assert {mute["repairs"] for mute in rows(world)} == {1}
    assert [mute["closed_as"] for mute in rows(world, lines[0])] == ["registration_lost"]


async def test_a_canary_that_shows_nothing_is_followed_by_another_half_an_hour_later(
    world: World, mutes: MuteStore
) -> None:
    lines = [a_line(world, world.company(), silent=120 * MINUTE) for _ in range(6)]
    await watch(mutes)
    world.pass_time(29 * MINUTE)
    for line in lines:
        world.set(line, "last_alive_at = now()")
    await watch(mutes)
    assert sum(mute["repairs"] for mute in rows(world)) == 1
    world.pass_time(2 * MINUTE)
    await watch(mutes)
    assert sorted(mute["repairs"] for mute in rows(world)) in ([0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 1, 1])


async def test_a_large_fleet_is_gone_through_page_by_page_once_around(world: World, mutes: MuteStore) -> None:
    company = world.company()
    for line in world.lines(company, 7):
        world.set(line, "last_event_at = now()")
    world.sql("analyze public.instance_health")
    seen: list[int] = []
    after = until = None
    for _ in range(8):
        page = await mutes.review_silence(after, until, limit=3, zone="America/Sao_Paulo")
        seen.append(world.sql("select count(*) as n from public.instance_habits")[0]["n"])
        if page.is_last and (until is not None or not page.began_after.int):
            break
        after, until = (page.until, until) if not page.is_last else (type(page.began_after)(int=0), page.began_after)
    assert seen[-1] == 7


# Cut off


def the_story(world: World) -> tuple[UUID, dict[str, Line]]:
    """A line to be told, one to be suspected, one to be proven, one that was heard; none has a second line beside it."""
    company = world.company(users=2)
    lines = {
        "told": a_line(world, company, silent=60 * MINUTE, of_40=None),
        "heard": a_line(world, company, silent=61 * MINUTE),
        "proven": a_line(world, company, silent=61 * MINUTE),
        "suspected": a_line(world, company, silent=61 * MINUTE),
    }
    for name in ("told", "heard", "proven"):
        world.sql(
            "insert into public.instance_mutes (instance_id, company_id, proof, silent_since, since, suspected_at, repairs,"
            " first_repaired_at, repaired_at) select %s, %s, %s, last_event_at, now() - interval '40 minutes',"
            " now() - interval '10 minutes', 1, now() - interval '9 minutes', now() - interval '9 minutes'"
            " from public.instance_health where instance_id = %s",
            lines[name].id, company, "sends" if name == "told" else "habit", lines[name].id,
        )  # fmt: skip
    world.sql("update public.instance_registrations set set_at = now() - interval '9 minutes'")
    an_event(world, lines["heard"], ago=5 * MINUTE)
    sends(world, lines["proven"], 33, 32, 31)
    return company, lines


async def test_a_round_may_be_cut_off_at_every_call_and_the_next_one_ends_it(
    world: World, ours: OnTheWire, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 8
    for number in range(0, calls + 1, 1 if HARD else 2):
        for when in When:
            for kill in (True, False) if number % 4 == 0 or HARD else (True,):
                empty(world.database)
                company, lines = the_story(world)
                with caplog.at_level("CRITICAL", logger="line_recovery"):
                    if kill:
                        died = await ours.wire.until_death(watch(ours.store.mutes), number, "", when)
                        assert died is (number < calls), f"there are not {calls} calls"
                    else:
                        ours.wire.interrupt(Interruption(lose_the_answer, number, "", when))
                        with suppress(StoreError):
                            await watch(ours.store.mutes)
                        ours.wire.interrupt(None)
                    ours.begin_anew()
                    await watch(ours.store.mutes)
                    await watch(ours.store.mutes)
                case = f"{'killed' if kill else 'lost'} {when} call {number}"
                found = {name: rows(world, line) for name, line in lines.items()}
                assert [len(each) for each in found.values()] == [1, 1, 1, 1], case
                assert len(world.bells(lines["told"])) == 2, case
                assert found["heard"][0]["closed_as"] == "registration_lost", case
                assert found["proven"][0]["proof"] == "sends", case
                assert found["suspected"][0]["repairs"] == 1, case
                assert [found[name][0]["repairs"] for name in ("told", "proven")] == [1, 1], case
                assert world.bells(lines["suspected"]) == world.bells(lines["heard"]) == [], case
                assert company is not None


# On the whole path


async def test_the_incident_that_was_measured_two_lines_mute_an_hour_apart(
    world: World, ours: OnTheWire, wapi_webhook: FunctionServer
) -> None:
    """46,000 events a week at two shops: both stay connected, and nothing of them comes in any more."""
    company, hook = world.company(users=1), wapi_webhook.url.rstrip("/")
    registrations = Registrations(
        ours.provider, OwnAddress(ours.http, Target(hook, (SecretStr(SECRET),))), Policy(), timedelta(seconds=5)
    )
    # Whatever the clock says, it is a Tuesday's one o'clock in their rhythm.
    tuesday = now(world).astimezone(ZONE).replace(minute=0, second=0, microsecond=0)
    begins = tuesday - timedelta(days=36, hours=13)
    lines = []
    for seed in (7, 8):
        line = world.line(company)
        world.behave(line, webhooks=dict.fromkeys(KINDS, f"{hook}/?key={SECRET}"), webhooks_mute=True)
        counts = bytearray(168)
        for at in heard(BUSY, begins=begins, days=37, chance=random.Random(seed)):
            counts[at.weekday() * 24 + at.hour] += at < tuesday
        world.sql(
            "insert into public.instance_habits (instance_id, counted_from, heard, heard_quarter) values (%s, %s, %s, now())",
            line.id, begins, bytes(counts),
        )  # fmt: skip
        world.set(line, "last_event_at = now(), last_alive_at = now()")
        lines.append(line)

    waiting = list(lines)
    for sweep in range(36):
        await watch(ours.store.mutes)
        run = (await ours.store.begin_sweep()).run_id
        await registrations.keep(ours.store, run=run, deadline=asyncio.get_running_loop().time() + 40)
        for line in [each for each in waiting if not world.simulator.line(each.external_id)["webhooks_mute"]]:
            assert world.simulator.emit(line.external_id, "received")["status"] == 200
            waiting.remove(line)
        if not waiting:
            break
        world.pass_time(5 * MINUTE)
        for line in lines:
            world.set(line, "last_alive_at = now()")
        if sweep < 12:
            world.set(lines[1], "last_event_at = now()")
    found = {mute["instance_id"]: mute for mute in rows(world)}
    for line in lines:
        mute = found[line.id]
        # Six silent quarters of these hours are improbable, the first begins up to 16 minutes later; then two sweeps.
        assert mute["suspected_at"] - mute["silent_since"] < (6 * 15 + 16 + 2 * 5) * MINUTE + GENEROUS
        assert mute["repaired_at"] - mute["suspected_at"] < 2 * 5 * MINUTE + GENEROUS
        assert mute["repairs"] == 1
    await watch(ours.store.mutes)
    assert {mute["closed_as"] for mute in rows(world)} == {"registration_lost"}
    assert world.bells() == []


# What an operator is told


async def test_the_doctor_reads_what_is_suspected_and_what_suspicions_came_to(
    world: World, ours: OnTheWire, mutes: MuteStore
) -> None:
    company = world.company()
    open_one, closed = (a_line(world, company, silent=61 * MINUTE) for _ in range(2))
    await watch(mutes)
    an_event(world, closed)
    await watch(mutes)
    rest = Rest(ours.http, world.stack.supabase_url, SecretStr(world.stack.service_role_key))
    tables = await read_tables(rest)
    assert not [each for each in tables.unchecked if each.what == "mute lines"]
    found = {(each.instance_id, each.closed_as) for each in tables.mutes or ()}
    assert found == {(open_one.id, None), (closed.id, MuteClosing.INCONCLUSIVE)}
