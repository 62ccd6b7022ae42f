"""One person is one conversation: ninth digits, hidden identities, conversations of the platform, merges; nothing is lost."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from test_messages import AT, by_lid, conversations, echo, messages, post_all, receive_all, received, tables

from shared.providers.wapi.addresses import canonical_phone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import Line, World

LID = "100000000100001@lid"
WITH, WITHOUT = "5531988887777", "553188887777"


@pytest.fixture
def line(world: World) -> Line:
    return world.line(world.company(users=1))


def opened(world: World, line: Line, jid: str, *, message_id: str | None = None, **columns: object) -> UUID:
    """A conversation that the platform made."""
    row = {"id": uuid4(), "instance_id": line.id, "remote_jid": jid, "contact_phone": jid.partition("@")[0], **columns}
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    world.sql(f"insert into public.wapi_conversations ({names}) values ({marks})", *row.values())
    if message_id:
        world.sql(
            "insert into public.wapi_messages (conversation_id, message_id, from_me, content, status) values (%s, %s, true, 'x', 'sent')",
            row["id"], message_id,
        )  # fmt: skip
    return row["id"]


def text(phone: str, message_id: str, *, at: int = AT, **fields: Any) -> dict[str, Any]:
    return received({"conversation": message_id}, phone=phone, message_id=message_id, at=at, **fields)


def lid_text(message_id: str, *, phone: str | None = None, at: int = AT) -> dict[str, Any]:
    sender = {"id": phone, "senderLid": LID} if phone else {"id": LID}
    return by_lid(1, message_id, message_id, sender=sender, at=at)


# Phones.

AREAS = [f"{area:02d}" for area in range(11, 100)]
NO_AREAS = {
    "20",
    "23",
    "25",
    "26",
    "29",
    "30",
    "36",
    "39",
    "40",
    "50",
    "52",
    "56",
    "57",
    "58",
    "59",
    "60",
    "70",
    "72",
    "76",
    "78",
    "80",
    "90",
}


def test_python_and_sql_agree_on_which_phones_are_one(world: World) -> None:
    phones = [
        f"55{area}{nine}{first}1234567" for area in AREAS for nine in ("", "9") for first in range(1, 10)
    ] + ["5511", "5215512345678", "549112345678", "100000000000002", "551190000000123"]  # fmt: skip
    rows = world.sql("select p, public.phone_forms(p) as forms from unnest(%s::text[]) p", phones)
    assert [canonical_phone(phone) for phone in phones] == [row["forms"][0] for row in rows]
    assert all(row["p"] in row["forms"] for row in rows)
    ones = {phone for phone in phones if len(phone) == 12 and canonical_phone(phone) != phone}
    assert ones == {f"55{area}{first}1234567" for area in AREAS if area not in NO_AREAS for first in range(6, 10)}


@pytest.mark.parametrize("first", [WITH, WITHOUT])
def test_a_landline_is_nobodys_mobile(world: World, line: Line, first: str) -> None:
    post_all(world, line, [text(first, "L1"), text("553132321111", "L2"), text("5531932321111", "L3")])
    assert len(conversations(world, line)) == 3


# Whose conversation it stays.


@pytest.mark.parametrize("form", [WITH, WITHOUT])
def test_the_platforms_conversation_wins_and_keeps_its_address(world: World, line: Line, form: str) -> None:
    lead = uuid4()
    theirs = opened(world, line, f"{WITH}@s.whatsapp.net", contact_name="Dona Ana", lead_id=lead, bot_enabled=False)
    post_all(
        world,
        line,
        [
            text(form, "W1"),
            lid_text("W2", phone=WITHOUT),
            lid_text("W3"),
            echo({"conversation": "x"}, phone=WITHOUT, message_id="W4"),
        ],
    )
    [conversation] = conversations(world, line)
    assert (conversation["id"], conversation["remote_jid"], conversation["contact_name"]) == (
        theirs,
        f"{WITH}@s.whatsapp.net",
        "Dona Ana",
    )
    assert (conversation["lead_id"], conversation["bot_enabled"], conversation["unread_count"]) == (lead, False, 3)
    assert len(messages(world, conversation)) == 4


def test_a_conversation_under_a_lid_goes_into_the_platforms_when_its_phone_is_known(world: World, line: Line) -> None:
    post_all(world, line, [lid_text("G1"), lid_text("G2", at=AT + 1)])
    theirs = opened(world, line, f"{WITH}@s.whatsapp.net", message_id="G2", unread_count=4)
    world.sql("update public.wapi_messages set from_me = false where conversation_id = %s", theirs)
    post_all(world, line, [lid_text("G3", phone=WITHOUT, at=AT + 2)])
    [conversation] = conversations(world, line)
    assert (conversation["id"], conversation["unread_count"], conversation["last_message_content"]) == (theirs, 6, "x")
    assert [row["message_id"] for row in messages(world, conversation)] == ["G1", "G2", "G3"]


def test_two_conversations_of_the_platform_are_never_merged_and_the_older_receives(world: World, line: Line) -> None:
    older = opened(world, line, LID, created_at="2026-01-01")
    newer = opened(world, line, f"{WITH}@s.whatsapp.net", created_at="2026-02-01")
    post_all(world, line, [lid_text("T1", phone=WITHOUT), text(WITH, "T2"), lid_text("T1", phone=WITH, at=AT + 1)])
    found = {row["id"]: row for row in conversations(world, line)}
    assert {row["id"]: len(messages(world, row)) for row in found.values()} == {older: 2, newer: 0}
    [pair] = world.sql(
        "select conversation_id, same_person_as, refusal from public.conversation_bookkeeping where refusal is not null"
    )
    assert pair == {"conversation_id": newer, "same_person_as": older, "refusal": "both_of_the_platform"}


def test_a_phone_that_passed_to_a_stranger_is_another_conversation(world: World, line: Line) -> None:
    opened(world, line, "5511960000001@s.whatsapp.net")
    stranger = "100000000100099@lid"
    post_all(world, line, [
        lid_text("S1", phone="5511960000001"), lid_text("S2", phone="5511960000002", at=AT + 5),
        received({"conversation": "x"}, phone=stranger, message_id="S3", at=AT + 9) | {"sender": {"id": "5511960000001", "senderLid": stranger}},
        received({"conversation": "x"}, phone=stranger, message_id="S4", at=AT + 12) | {"sender": {"id": stranger}},
    ])  # fmt: skip
    assert {row["remote_jid"]: len(messages(world, row)) for row in conversations(world, line)} == {
        "5511960000001@s.whatsapp.net": 2, stranger: 2,
    }  # fmt: skip


def test_a_lid_of_thirteen_digits_is_known_by_the_table(world: World, line: Line) -> None:
    lid = "5511999990002@lid"
    post_all(world, line, [
        received({"conversation": "x"}, phone=lid, message_id="D1") | {"sender": {"id": lid}},
        received({"conversation": "x"}, phone="5511999990002", message_id="D2") | {"sender": {}},
    ])  # fmt: skip
    assert [row["remote_jid"] for row in conversations(world, line)] == [lid]


def test_a_group_that_a_person_named_keeps_that_name(world: World, line: Line) -> None:
    group = {"isGroup": True, "sender": {"id": WITH}}
    post_all(world, line, [text("x", "P1", chat={"id": "12036300001@g.us", "subject": "Festa"}, **group)])
    world.sql("update public.wapi_conversations set contact_name = 'Casamento da Ana'")
    post_all(world, line, [
        text("x", "P2", at=AT + 5, chat={"id": "12036300001@g.us", "subject": "Festa 2"}, **group),
        received({"messageStubType": 21, "messageStubParameters": ["Festa 3"]}, phone="x", message_id="P3", at=AT + 9) | {"chat": {"id": "12036300001@g.us"}, **group},
    ])  # fmt: skip
    assert [row["contact_name"] for row in conversations(world, line)] == ["Casamento da Ana"]


# A platform with tables of its own.

PLATFORM = """
create schema crm;
grant usage on schema crm to service_role;
create table crm.leads (id uuid primary key default gen_random_uuid(), conversation_id uuid references public.wapi_conversations (id) on delete cascade, note text);
create table public.tasks (id uuid primary key default gen_random_uuid(), conversation_id uuid not null references public.wapi_conversations (id) on delete cascade, note text);
create table public.stars (message uuid references public.wapi_messages (id) on delete cascade, note text);
create table public.by_address (instance_id uuid, remote_jid text, note text,
  foreign key (instance_id, remote_jid) references public.wapi_conversations (instance_id, remote_jid) on delete cascade);
create table public.chat_settings (conversation_id uuid primary key references public.wapi_conversations (id) on delete cascade, note text);
alter table public.wapi_conversations add column funnel_stage text;
grant all on crm.leads, public.tasks, public.stars, public.by_address, public.chat_settings to service_role;
"""
NO_PLATFORM = """
drop schema crm cascade;
drop table public.tasks, public.stars, public.by_address, public.chat_settings;
alter table public.wapi_conversations drop column funnel_stage;
"""


@pytest.fixture
def platform(world: World) -> Iterator[None]:
    world.sql(PLATFORM)
    world.sql("notify pgrst, 'reload schema'")
    try:
        yield
    finally:
        world.sql(NO_PLATFORM)


def test_a_merge_takes_everything_along_that_the_platform_tied_to_the_conversation(
    world: World, line: Line, platform: None
) -> None:
    receive_all(world, line, [lid_text("M1"), lid_text("M2", at=AT + 1)])
    [ours] = conversations(world, line)
    first, second = messages(world, ours)
    theirs = opened(world, line, f"{WITH}@s.whatsapp.net", message_id="M2")
    world.sql("update public.wapi_messages set from_me = false where conversation_id = %s", theirs)
    lead = uuid4()
    world.sql(
        "update public.wapi_conversations set lead_id = %s, funnel_stage = 'visita', bot_enabled = false where id = %s",
        lead,
        ours["id"],
    )
    world.sql("insert into crm.leads (conversation_id, note) values (%s, 'a'), (%s, 'b')", ours["id"], theirs)
    world.sql("insert into public.tasks (conversation_id, note) values (%s, 'a')", ours["id"])
    world.sql("insert into public.stars values (%s, 'a'), (%s, 'b')", first["id"], second["id"])
    world.sql("insert into public.by_address values (%s, %s, 'a')", line.id, ours["remote_jid"])
    world.sql("insert into public.chat_settings values (%s, 'a')", ours["id"])

    assert receive_all(world, line, [lid_text("M3", phone=WITHOUT, at=AT + 2)]) == {"stored"}

    [conversation] = conversations(world, line)
    assert conversation["id"] == theirs
    assert (conversation["lead_id"], conversation["funnel_stage"], conversation["bot_enabled"]) == (
        lead,
        "visita",
        False,
    )
    assert [row["message_id"] for row in messages(world, conversation)] == ["M1", "M2", "M3"]
    for table, count in (("crm.leads", 2), ("public.tasks", 1), ("public.chat_settings", 1)):
        assert [row["conversation_id"] for row in world.sql(f"select * from {table}")] == [theirs] * count
    assert [row["remote_jid"] for row in world.sql("select * from public.by_address")] == [f"{WITH}@s.whatsapp.net"]
    assert len(world.sql("select * from public.stars s join public.wapi_messages m on m.id = s.message")) == 2


@pytest.mark.parametrize("why", ["23505", "two_leads", "23001"])
def test_what_cannot_be_moved_leaves_both_and_loses_nothing(world: World, line: Line, platform: None, why: str) -> None:
    receive_all(world, line, [lid_text("B1")])
    [ours] = conversations(world, line)
    world.sql("update public.wapi_conversations set created_at = '2026-01-01' where id = %s", ours["id"])
    theirs = opened(world, line, f"{WITH}@s.whatsapp.net", created_at="2026-02-01")
    if why == "23505":
        world.sql("insert into public.chat_settings values (%s, 'a'), (%s, 'b')", ours["id"], theirs)
    elif why == "two_leads":
        world.sql("update public.wapi_conversations set lead_id = gen_random_uuid()")
    else:
        world.sql("insert into public.tasks (conversation_id, note) values (%s, 'a')", ours["id"])
        world.sql(
            "create function public.hold() returns trigger language plpgsql as 'begin return null; end';"
            "create trigger hold before update on public.tasks for each row execute function public.hold()"
        )
    try:
        assert receive_all(world, line, [lid_text("B2", phone=WITHOUT, at=AT + 1), text(WITH, "B3", at=AT + 2)]) == {
            "stored"
        }
    finally:
        world.sql("drop function if exists public.hold cascade")

    assert {row["id"]: [each["message_id"] for each in messages(world, row)] for row in conversations(world, line)} == {
        ours["id"]: ["B1", "B2", "B3"], theirs: [],
    }  # fmt: skip
    [pair] = world.sql(
        "select conversation_id, same_person_as, refusal from public.conversation_bookkeeping where refusal is not null"
    )
    assert pair == {"conversation_id": ours["id"], "same_person_as": theirs, "refusal": why}
    assert len(world.sql("select * from public.chat_settings")) == (2 if why == "23505" else 0)
    assert len(world.sql("select * from public.tasks")) == (1 if why == "23001" else 0)


def test_a_platform_that_writes_while_a_merge_runs_loses_nothing(world: World, line: Line, platform: None) -> None:
    """Its rows wait for the merge, and are told that the conversation is gone; or they were first, and are moved."""
    receive_all(world, line, [lid_text("C1")])
    [ours] = conversations(world, line)
    theirs = opened(world, line, f"{WITH}@s.whatsapp.net")
    written = []

    def write(number: int) -> None:
        with psycopg.connect(world.stack.database_url, autocommit=True) as connection:
            for place in range(20):
                try:
                    connection.execute(
                        "insert into public.tasks (conversation_id, note) values (%s, %s)",
                        (ours["id"], f"{number}-{place}"),
                    )
                    written.append(f"{number}-{place}")
                except psycopg.errors.ForeignKeyViolation:
                    return

    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        merged = pool.submit(post_all, world, line, [lid_text("C2", phone=WITH, at=AT + 1)])
        for each in writers:
            each.result()
        assert merged.result() == [200]

    [conversation] = conversations(world, line)
    assert conversation["id"] == theirs
    assert {(row["note"], row["conversation_id"]) for row in world.sql("select * from public.tasks")} == {
        (note, theirs) for note in written
    }


# Types that a platform's table refuses.


@pytest.mark.parametrize("form", ["check", "enum"])
def test_a_table_that_refuses_a_new_type_gets_a_text_with_the_word(world: World, line: Line, form: str) -> None:
    change, back = {
        "check": ("add constraint known_types check (message_type in ('text', 'image'))", "drop constraint known_types"),
        "enum": ("alter column message_type type public.kinds using message_type::public.kinds", "alter column message_type type text"),
    }[form]  # fmt: skip
    world.sql("create type public.kinds as enum ('text', 'image')")
    world.sql("alter table public.wapi_messages alter column message_type drop default")
    world.sql(f"alter table public.wapi_messages {change}")
    try:
        events = [
            received({"stickerMessage": {"mimetype": "image/webp"}}, phone=WITH, message_id="R1"),
            received({"imageMessage": {"mimetype": "image/png"}}, phone=WITH, message_id="R2", at=AT + 1),
            received({"messageStubType": 2}, phone=WITH, message_id="R3", at=AT + 2),
            received({"orderMessage": {"itemCount": 2}}, phone=WITH, message_id="R3", at=AT + 2),
            received({"reactionMessage": {"key": {"id": "R2"}, "text": "❤"}}, phone=WITH, message_id="R4", at=AT + 3),
        ]
        # A session that has planned the old column plans anew.
        assert "failed" not in receive_all(world, line, events)
        [conversation] = conversations(world, line)
        rows = {row["message_id"]: row for row in messages(world, conversation)}
    finally:
        world.sql(f"alter table public.wapi_messages {back}")
        world.sql("alter table public.wapi_messages alter column message_type set default 'text'")
        world.sql("drop type public.kinds")
    assert [(row["message_type"], row["content"], row["metadata"].get("type")) for row in rows.values()] == [
        ("text", "Figurinha", "sticker"), ("image", None, None), ("text", "Pedido (2 itens)", "order"), ("text", "❤", "reaction"),
    ]  # fmt: skip
    assert (conversation["unread_count"], conversation["last_message_content"]) == (3, "Pedido (2 itens)")


# Random histories.


def history(seed: int) -> tuple[list[tuple[str, bool]], list[dict[str, Any]], int, int]:
    """People, what they and we write under every address they have, and how many messages and unread ones that makes."""
    chance = random.Random(seed)
    people, events, numbers = [], [], itertools.count(1)
    incoming = 0
    for person in range(4):
        eight = f"{chance.randint(6, 9)}{seed % 100:02d}{person:05d}"
        forms = [f"5531{eight}", f"55319{eight}"]
        lid = f"1000000{seed % 1000:03d}{person:05d}@lid"
        own = chance.choice(forms)  # WhatsApp writes one form; we dial either
        people.append((chance.choice([lid, *(f"{form}@s.whatsapp.net" for form in forms)]), chance.random() < 0.5))
        ways = ["phone", "lid", "both", "echo", "dialled"]
        for way in [*ways, *(chance.choice(ways) for _ in range(6))]:
            message_id, at = f"H{seed}-{next(numbers)}", AT + chance.randint(0, 600)
            incoming += way in ("phone", "lid", "both")
            match way:
                case "phone":
                    events.append(text(own, message_id, at=at))
                case "lid":
                    events.append(text(lid, message_id, at=at) | {"sender": {"id": lid, "pushName": "Ana"}})
                case "both":
                    events.append(
                        text(lid, message_id, at=at) | {"sender": {"id": own, "senderLid": lid, "pushName": "Ana"}}
                    )
                case "echo":
                    events.append(echo({"conversation": "x"}, phone=lid, message_id=message_id, at=at))
                case _:
                    events.append(echo({"conversation": "x"}, phone=chance.choice(forms), message_id=message_id, at=at))
    return people, events, len(events), incoming


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_history_one_person_is_one_conversation(world: World, line: Line, seed: int) -> None:
    people, events, count, incoming = history(seed)
    theirs = {opened(world, line, jid) for jid, is_theirs in people if is_theirs}
    chance = random.Random(seed)
    posted = events * 2
    chance.shuffle(posted)
    # The same at once from many sides: each copy another body, so that no copy is known by its key.
    assert set(
        post_all(world, line, [event | {"copy": n} for n, event in enumerate(posted)], threads=8 if seed % 2 else 1)
    ) == {200}
    receive_all(world, line, [event | {"again": 1} for event in events])

    found = conversations(world, line)
    assert len(found) == len(people)
    assert theirs <= {row["id"] for row in found}
    assert sum(len(messages(world, row)) for row in found) == count
    assert sum(row["unread_count"] for row in found) == incoming
    assert {row["contact_phone"] for row in found} != {""}
    assert tables(world, line)
