"""A phone and a LID are one person from the moment on when somebody says so, whatever says it and in whatever order."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from test_messages import AT, ack, conversations, echo, messages, post_all, received, tables

from shared.core.policy import Policy
from shared.database.composites import event_row, policy_row
from shared.providers.wapi.events import parse_event

if TYPE_CHECKING:
    from world import Line, World

PHONE, LID, GROUP = "5511966665555", "700000000000001@lid", "120363000000000009@g.us"
BY_LID = {"chat": {"id": LID}, "sender": {"id": LID}}
BY_BOTH = {"chat": {"id": LID}, "sender": {"id": PHONE, "senderLid": LID}}


@pytest.fixture
def company(world: World) -> Any:
    return world.company(users=1)


def revoked(message_id: str, *, at: int, **fields: Any) -> dict[str, Any]:
    content = {"protocolMessage": {"key": {"id": message_id}, "type": "REVOKE"}}
    return received(content, phone=PHONE, message_id=f"REVOKE{message_id}", at=at, **fields)


def edited(message_id: str, text: str, *, at: int, **fields: Any) -> dict[str, Any]:
    change = {"type": 14, "key": {"id": message_id}, "editedMessage": {"conversation": text}}
    return received({"protocolMessage": change}, phone=PHONE, message_id=f"EDIT{message_id}", at=at, **fields)


def reacted(target: str, *, at: int, **fields: Any) -> dict[str, Any]:
    content = {"reactionMessage": {"key": {"id": target}, "text": "❤️", "senderTimestampMs": str(at * 1000)}}
    return received(content, phone=PHONE, message_id=f"REACT{target}", at=at, **fields)


HISTORIES = {
    "our own message by phone, deleted by LID": [
        echo({"conversation": "preço errado: R$ 1"}, phone=PHONE, message_id="OUT"),
        revoked("OUT", at=AT + 2, chat={"id": LID}, sender={"id": "5511900000001"}, fromMe=True),
        received({"conversation": "oi"}, phone=PHONE, message_id="IN", at=AT + 5, **BY_BOTH),
    ],
    "theirs by LID, edited by phone": [
        received({"conversation": "dia 10"}, phone=PHONE, message_id="IN", **BY_LID),
        edited("IN", "dia 11", at=AT + 2),
        received({"conversation": "?"}, phone=PHONE, message_id="IN2", at=AT + 5, **BY_BOTH),
    ],
    "a reaction tells who is who": [
        received({"conversation": "oi"}, phone=PHONE, message_id="A", **BY_LID),
        reacted("A", at=AT + 2, **BY_BOTH),
        received({"conversation": "alô"}, phone=PHONE, message_id="B", at=AT + 4),
    ],
    "a deletion tells who is who": [
        received({"conversation": "oi"}, phone=PHONE, message_id="A", **BY_LID),
        revoked("A", at=AT + 2, **BY_BOTH),
        received({"conversation": "alô"}, phone=PHONE, message_id="B", at=AT + 4),
    ],
    "an edit tells who is who": [
        received({"conversation": "oi"}, phone=PHONE, message_id="A"),
        edited("A", "olá", at=AT + 2, **BY_BOTH),
        received({"conversation": "alô"}, phone=PHONE, message_id="B", at=AT + 4, **BY_LID),
    ],
}


@pytest.mark.parametrize("events", HISTORIES.values(), ids=HISTORIES)
def test_every_order_ends_in_one_conversation_with_every_change(
    world: World, company: Any, events: list[dict[str, Any]]
) -> None:
    ends = []
    for order in itertools.permutations(events):
        line = world.line(company)
        assert set(post_all(world, line, list(order))) == {200}
        assert world.sql("select outcome from public.wapi_webhook_events where outcome = 'waiting'") == []
        ends.append([_without_the_line(each) for each in tables(world, line)])
    assert len(ends[0]) == 1
    assert all(end == ends[0] for end in ends)
    changed = [row["metadata"] for row in ends[0][0]["messages"]]
    assert any(row.keys() & {"deleted", "versions", "reactions"} for row in changed)


def _without_the_line(conversation: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in conversation.items() if name != "instance_id"}


def test_whose_it_is_not_does_not_change_it_when_that_comes_to_light(world: World, company: Any) -> None:
    line, stranger = world.line(company), "5511977776666"
    post_all(
        world,
        line,
        [
            received({"conversation": "PIX: 123"}, phone=PHONE, message_id="PIX"),
            edited("PIX", "PIX: 666", at=AT + 2, **BY_LID),
            received({"conversation": "sou outro"}, phone=stranger, message_id="X", at=AT + 5)
            | {"sender": {"id": stranger, "senderLid": LID}},
        ],
    )
    assert [row["content"] for each in conversations(world, line) for row in messages(world, each)] == [
        "PIX: 123",
        "sou outro",
    ]
    outcomes = [row["outcome"] for row in world.sql("select outcome from public.wapi_webhook_events order by id")]
    assert outcomes == ["stored", "not_theirs", "stored"]


def test_a_reaction_in_a_group_stays_when_its_senders_lid_becomes_known(world: World, company: Any) -> None:
    line = world.line(company)
    group = {"isGroup": True, "chat": {"id": GROUP}}
    post_all(
        world,
        line,
        [
            received({"conversation": "alvo"}, phone="x", message_id="T", **group, sender={"id": "5511988880000"}),
            reacted("T", at=AT + 2, **group, sender={"id": PHONE}),
            # A name that sorts before the phone: it comes first, and the phone's row has to go first.
            reacted("T", at=AT + 2, **group, sender={"id": PHONE, "senderLid": "100000000009999@lid"}),
        ],
    )
    [conversation] = conversations(world, line)
    rows = messages(world, conversation)
    assert [(row["message_id"], row["message_type"]) for row in rows] == [("REACTT", "reaction"), ("T", "text")]
    [reaction] = world.sql("select row_id from public.message_reactions where emoji <> ''")
    assert reaction["row_id"] == rows[0]["id"]


def test_of_many_edits_the_first_text_and_the_newest_stay(world: World, company: Any) -> None:
    line = world.line(company)
    edits = [edited("E", f"{n}", at=AT + n) | {"messageId": f"EDIT{n}"} for n in range(1, 41)]
    post_all(world, line, [received({"conversation": "0"}, phone=PHONE, message_id="E"), *edits[::2], *edits[1::2]])
    [conversation] = conversations(world, line)
    [row] = messages(world, conversation)
    assert row["content"] == "40"
    assert [version["content"] for version in row["metadata"]["versions"]] == [
        "0",
        *(str(n) for n in range(21, 41)),
    ]


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ({"imageMessage": {"url": "https://m.example/1"}}, ("image", "Imagem")),
        ({"audioMessage": {"url": "https://m.example/2"}}, ("audio", "Áudio")),
        ({"imageMessage": {"url": "https://m.example/3", "caption": "o salão"}}, ("image", "o salão")),
    ],
    ids=["a picture", "a voice", "a caption"],
)
def test_where_each_message_must_have_a_text_a_picture_stays_one(
    world: World, company: Any, content: dict[str, Any], row: tuple[str, str]
) -> None:
    line = world.line(company)
    world.sql("alter table public.wapi_messages alter column content set not null")
    try:
        post_all(world, line, [received(content, phone=PHONE, message_id="P")])
    finally:
        world.sql("alter table public.wapi_messages alter column content drop not null")
    [conversation] = conversations(world, line)
    assert [(each["message_type"], each["content"]) for each in messages(world, conversation)] == [row]


def test_a_message_that_another_row_of_the_platform_keeps_out_is_not_called_stored(world: World, company: Any) -> None:
    """Two lines of one platform write to each other: one id, two messages."""
    first, second = world.line(company), world.line(company)
    world.sql("create unique index theirs on public.wapi_messages (message_id)")
    try:
        assert world.event(world.message(first, messageId="SAME")) == "stored"
        assert world.event(world.message(second, messageId="SAME")) == "failed"
    finally:
        world.sql("drop index public.theirs")
    assert world.event(world.message(second, messageId="SAME")) == "stored"


def test_acks_move_a_status_that_is_an_enum(world: World, company: Any) -> None:
    line = world.line(company)
    sent = echo({"conversation": "Oi"}, phone=PHONE, message_id="OUT")
    seen = ack("READ", message_id="OUT")
    again = echo({"conversation": "Oi!"}, phone=PHONE, message_id="OUT", at=AT + 1)
    # In a session of its own and undone: what sessions have planned for a text does not fit an enum.
    with psycopg.connect(world.stack.database_url, autocommit=True) as own, own.transaction(force_rollback=True):
        own.execute("create type public.their_status as enum ('sent', 'delivered', 'read', 'received')")
        own.execute(
            "alter table public.wapi_messages alter column status drop default,"
            " alter column status type public.their_status using status::public.their_status"
        )
        outcomes = [take(own, line, event) for event in (sent, seen, again)]
        stored = own.execute("select status::text from public.wapi_messages").fetchall()
    assert outcomes == ["stored", "applied", "already_stored"]
    assert stored == [("read",)]


def take(own: psycopg.Connection[Any], line: Line, event: dict[str, Any]) -> str:
    row = event_row(
        parse_event(json.dumps(event | {"instanceId": line.external_id}).encode()), relay=False, relay_limit=0
    )
    answer = own.execute(
        "select public.receive_events(array(select e from jsonb_populate_recordset(null::public.webhook_event, %s) e),"
        " '{}', interval '1 minute', jsonb_populate_record(null::public.recovery_policy, %s))",
        (Jsonb([row]), Jsonb(policy_row(Policy()))),
    ).fetchone()
    assert answer is not None
    outcome: str = answer[0][0]["outcome"]
    return outcome


def test_whoever_is_one_in_a_group_edits_their_message_and_reacts_once(world: World, company: Any) -> None:
    group = {"isGroup": True, "chat": {"id": GROUP}}
    by_phone, by_lid = {"sender": {"id": PHONE}}, {"sender": {"id": LID}}
    told = {"sender": {"id": PHONE, "senderLid": LID}}
    theirs = received({"conversation": "dia 10"}, phone="x", message_id="A", **group, **by_lid)
    corrected = edited("A", "dia 11", at=AT + 2, **group, **by_phone)
    first = reacted("A", at=AT + 3, **group, **by_phone) | {"messageId": "R1"}
    second = reacted("A", at=AT + 4, **group, **by_lid) | {"messageId": "R2"}
    tells = received({"conversation": "sou eu"}, phone="x", message_id="B", at=AT + 5, **group, **told)
    ends = []
    for order in itertools.permutations([theirs, corrected, first, second, tells]):
        line = world.line(company)
        assert set(post_all(world, line, list(order))) == {200}
        ends.append([_without_the_line(each) for each in tables(world, line)])
    assert all(end == ends[0] for end in ends)
    rows = {row["message_id"]: row for row in ends[0][0]["messages"]}
    assert rows["A"]["content"] == "dia 11"
    assert [reaction["emoji"] for reaction in rows["A"]["metadata"]["reactions"]] == ["❤️"]
    assert rows.keys() == {"A", "B", "R2"}


def test_a_stranger_in_a_group_edits_nothing_whoever_tells_who_they_are(world: World, company: Any) -> None:
    line = world.line(company)
    group = {"isGroup": True, "chat": {"id": GROUP}}
    stranger = {"sender": {"id": "5511977776666", "senderLid": LID}}
    post_all(
        world,
        line,
        [
            received({"conversation": "PIX: 123"}, phone="x", message_id="A", **group, sender={"id": PHONE}),
            edited("A", "PIX: 666", at=AT + 2, **group, sender={"id": LID}),
            received({"conversation": "sou outro"}, phone="x", message_id="B", at=AT + 5, **group, **stranger),
        ],
    )
    [conversation] = conversations(world, line)
    assert [row["content"] for row in messages(world, conversation)] == ["PIX: 123", "sou outro"]


def test_many_changes_that_wait_for_ever_cost_a_new_acquaintance_no_lock_each(world: World, company: Any) -> None:
    """Sixteen thousand locks in one transaction are more than PostgreSQL has."""
    line = world.line(company)
    world.sql(
        "insert into public.wapi_webhook_events (event_key, external_id, instance_id, kind, outcome, processed_at, message_id, change)"
        " select 'waits' || n, %s, %s, 'message', 'waiting', now(), 'GONE' || n,"
        " jsonb_build_object('do', 'delete', 'message_id', 'GONE' || n, 'who', jsonb_build_object('lid', %s::text, 'from_me', false))"
        " from generate_series(1, 20000) n",
        line.external_id,
        line.id,
        LID,
    )
    assert post_all(world, line, [received({"conversation": "oi"}, phone=PHONE, message_id="A", **BY_BOTH)]) == [200]


def test_a_message_that_a_filter_of_the_platform_keeps_out_is_kept_and_not_failed(world: World, company: Any) -> None:
    line = world.line(company)
    world.sql(
        "create function public.no_spam() returns trigger language plpgsql as $$ begin"
        " return case when new.content <> 'spam' then new end; end $$;"
        " create trigger no_spam before insert on public.wapi_messages for each row execute function public.no_spam()"
    )
    try:
        assert world.event(world.message(line, msgContent={"conversation": "spam"})) == "kept"
        assert world.event(world.message(line, messageId="M2")) == "stored"
    finally:
        world.sql("drop function public.no_spam() cascade")
    assert [row["message_id"] for row in world.sql("select message_id from public.wapi_messages")] == ["M2"]
