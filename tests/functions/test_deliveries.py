"""Who is told by a further channel, when, by whom and how often: the outbox on the real database."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from composites import mark_down
from outbox import NO, NOTHING_HEARD, OPERATOR, YES, Receiver, bring_back, contact, deliver, deliveries_of, sender
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.core.alerts import AlertCause
from shared.core.delivery import SendAnswer, SendResult
from shared.core.notices import TEXTS
from shared.core.policy import DeliveryPolicy
from shared.database.composites import delivery_policy_row
from shared.errors import StoreUnavailable

if TYPE_CHECKING:
    from uuid import UUID

    from wire import OnTheWire
    from world import Line, World

    from shared.core.delivery import OutgoingMessage, Post
    from shared.database.outbox import Outbox

MINUTE = timedelta(minutes=1)
ANA, BIA = "ana@example.com", "bia@example.com"
PHONE = "5511988887777"


def down(world: World, company: UUID, unit: str = "Centro") -> Line:
    line = world.line(company, unit)
    mark_down(world, line)
    return line


def alert_line(world: World, **columns: object) -> Line:
    return world.line(world.company("A plataforma"), "Alertas", **columns)


# What is due


async def test_a_contact_hears_of_a_line_whose_notice_nobody_has_read_and_of_its_end(
    world: World, ours: OnTheWire
) -> None:
    company = world.company(users=1)
    contact(world, company, ANA, after=15)
    line, receiver = down(world, company), Receiver()

    world.pass_time(14 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.got == []

    world.pass_time(2 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)
    await deliver(sender(receiver), ours.store.outbox)
    [(address, post)] = receiver.got
    assert address == ANA
    assert post.title == "WhatsApp desconectado"
    assert post.text == "WhatsApp da unidade Centro perdeu conexão. Reconecte via QR Code em Configurações."

    bring_back(world, line)
    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.to(ANA)[1:] == ["WhatsApp da unidade Centro voltou a funcionar depois de 16 min."]


async def test_a_company_where_nobody_could_be_told_is_told_by_its_contacts(world: World, ours: OnTheWire) -> None:
    company = world.company(users=0)
    contact(world, company, ANA)
    receiver = Receiver()

    line = down(world, company)
    await deliver(sender(receiver), ours.store.outbox)
    assert len(receiver.to(ANA)) == 1

    bring_back(world, line)
    await deliver(sender(receiver), ours.store.outbox)
    assert ["voltou" in text for text in receiver.to(ANA)] == [False, True]


def read_it(world: World) -> None:
    world.sql("update public.notifications set read = true")


def delete_it(world: World) -> None:
    world.sql("delete from public.notifications")


@pytest.mark.parametrize(
    ("happens", "heard"),
    [
        pytest.param(read_it, 0, id="somebody has read it"),
        pytest.param(delete_it, 1, id="a job has deleted it, which is no reading"),
    ],
)
async def test_reading_the_notice_stops_what_waits(world: World, ours: OnTheWire, happens: object, heard: int) -> None:
    company = world.company(users=2)
    contact(world, company, ANA, after=15)
    receiver = Receiver()
    down(world, company)
    happens(world)  # type: ignore[operator]

    world.pass_time(16 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)

    assert len(receiver.got) == heard


async def test_a_line_that_is_back_before_it_was_due_is_told_to_nobody(world: World, ours: OnTheWire) -> None:
    company = world.company(users=1)
    contact(world, company, ANA, after=15)
    line, receiver = down(world, company), Receiver()
    bring_back(world, line)

    world.pass_time(30 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)

    assert receiver.got == []
    assert deliveries_of(world) == [(ANA, "down", "cancelled", "back")]


async def test_contacts_hear_of_their_own_company_alone_also_when_a_line_has_moved(
    world: World, ours: OnTheWire
) -> None:
    here, there = world.company("Aqui", users=1), world.company("Ali", users=1)
    contact(world, here, ANA, after=15)
    contact(world, there, BIA, after=15)
    line, receiver = down(world, here), Receiver()
    world.set(line, "company_id = %s", there)

    world.pass_time(16 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)

    assert receiver.got == []
    assert deliveries_of(world) == [(ANA, "down", "cancelled", "moved")]


@pytest.mark.parametrize("how", ["pause", "delete"])
async def test_a_line_that_is_paused_or_gone_is_told_to_nobody(world: World, ours: OnTheWire, how: str) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    line, receiver = down(world, company), Receiver()
    if how == "pause":
        world.set(line, "is_active = false")
    else:
        world.sql("delete from public.wapi_instances where id = %s", line.id)

    await deliver(sender(receiver), ours.store.outbox)

    assert receiver.got == []


async def test_several_lines_of_a_company_are_one_message(world: World, ours: OnTheWire) -> None:
    company = world.company(users=1)
    contact(world, company, ANA, after=15)
    lines = [down(world, company, unit) for unit in ("Centro", "Norte")]
    world.pass_time(MINUTE)
    lines.append(down(world, company, "Sul"))
    receiver = Receiver()

    world.pass_time(14 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.got == [], "the third is due within two minutes: one message"
    world.pass_time(MINUTE)
    await deliver(sender(receiver), ours.store.outbox)

    [text] = receiver.to(ANA)
    assert [unit for unit in ("Centro", "Norte", "Sul") if f"unidade {unit} perdeu" in text] == [
        "Centro",
        "Norte",
        "Sul",
    ]
    for line in lines:
        bring_back(world, line)
    await deliver(sender(receiver), ours.store.outbox)
    assert len(receiver.got) == 2


async def test_nobody_is_woken_and_hears_in_the_morning_of_what_is_still_down(world: World, ours: OnTheWire) -> None:
    company = world.company(users=1)
    [hours] = world.sql(
        "select (now() at time zone 'America/Sao_Paulo')::time - interval '1 hour' as begin,"
        " (now() at time zone 'America/Sao_Paulo')::time + interval '1 hour' as end"
    )
    contact(world, company, ANA, quiet_from=hours["begin"], quiet_until=hours["end"])
    back, _still = down(world, company, "Centro"), down(world, company, "Norte")
    receiver = Receiver()

    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.got == []
    bring_back(world, back)
    [waiting] = world.sql("select due_at - now() as wait from public.notice_deliveries where state = 'waiting'")
    assert 58 * MINUTE < waiting["wait"] <= 60 * MINUTE

    world.sql(
        "update public.alert_contacts set quiet_from = quiet_until, quiet_until = quiet_until + interval '1 hour'"
    )
    world.pass_time(61 * MINUTE)  # the hour of day in the rows has not moved: so the window did
    world.sql("update public.alert_contacts set quiet_from = null, quiet_until = null")
    await deliver(sender(receiver), ours.store.outbox)
    [text] = receiver.to(ANA)
    assert "Norte" in text
    assert "Centro" not in text


@pytest.mark.parametrize(
    ("window", "at", "until"),
    [
        pytest.param(("22:00", "08:00"), "2026-01-10 23:30-03", "2026-01-11 08:00-03", id="before midnight"),
        pytest.param(("22:00", "08:00"), "2026-01-10 22:00-03", "2026-01-11 08:00-03", id="at ten"),
        pytest.param(("22:00", "08:00"), "2026-01-11 00:00-03", "2026-01-11 08:00-03", id="after midnight"),
        pytest.param(("22:00", "08:00"), "2026-01-11 08:00-03", None, id="at eight"),
        pytest.param(("22:00", "08:00"), "2026-01-11 21:59-03", None, id="a minute before ten"),
        pytest.param(("13:00", "14:00"), "2026-01-11 13:15-03", "2026-01-11 14:00-03", id="a siesta"),
        pytest.param(("13:00", "14:00"), "2026-01-11 12:59-03", None, id="before a siesta"),
    ],
)
def test_the_quiet_hours_end_in_the_contacts_zone(
    world: World, window: tuple[str, str], at: str, until: str | None
) -> None:
    who = contact(world, world.company(), ANA, quiet_from=window[0], quiet_until=window[1])
    [row] = world.sql(
        "select public.quiet_until(c, %s::timestamptz) is not distinct from %s::timestamptz as so"
        " from public.alert_contacts c where id = %s",
        at, until, who,
    )  # fmt: skip
    assert row["so"]


# Positions and WhatsApp


def ack(world: World, line: Line) -> None:
    world.sql("update public.wapi_messages set status = 'delivered'")
    assert world.sql("select 1 from public.wapi_messages where metadata ->> 'source' = 'system_alert'"), line


async def test_what_was_only_queued_lets_the_next_position_be_due_after_five_minutes(
    world: World, ours: OnTheWire
) -> None:
    sending = alert_line(world)
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp", position=1)
    contact(world, company, BIA, position=2)
    down(world, company)
    receiver = Receiver(lambda _, __: SendAnswer(SendResult.SENT, message_id="ALERT-1"))
    deliveries = sender(receiver, line=sending.external_id)

    await deliver(deliveries, ours.store.outbox)
    world.pass_time(4 * MINUTE)
    await deliver(deliveries, ours.store.outbox)
    assert [address for address, _ in receiver.got] == [PHONE]

    world.pass_time(2 * MINUTE)
    await deliver(deliveries, ours.store.outbox)
    assert [address for address, _ in receiver.got] == [PHONE, BIA]


async def test_whom_no_try_has_reached_in_five_minutes_lets_the_next_position_be_due(
    world: World, ours: OnTheWire
) -> None:
    company, receiver = world.company(users=1), Receiver(lambda address, _: NO if address == ANA else YES)
    contact(world, company, ANA)
    contact(world, company, BIA, position=2)
    down(world, company)
    for heard in (0, 0, 1):
        await deliver(sender(receiver), ours.store.outbox)
        assert len(receiver.to(BIA)) == heard
        world.pass_time(3 * MINUTE)


async def test_who_is_left_in_peace_lets_the_next_position_be_due(world: World, ours: OnTheWire) -> None:
    company, receiver = world.company(users=1), Receiver()
    contact(world, company, ANA, quiet_from="00:00", quiet_until="24:00")
    contact(world, company, BIA, position=2)
    down(world, company)
    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.to(BIA) != []
    assert receiver.to(ANA) == []


async def test_who_was_not_needed_was_not_given_up(world: World, ours: OnTheWire) -> None:
    company, receiver = world.company(users=1), Receiver()
    contact(world, company, ANA)
    contact(world, company, BIA, position=2)
    contact(world, company, "carla@example.com", position=3)
    down(world, company)
    for hours in (0, 1, 24, 1):
        world.pass_time(60 * hours * MINUTE)
        await deliver(sender(receiver, operator=False), ours.store.outbox)
    assert [row[2:] for row in deliveries_of(world)] == [("sent", None)] + [("cancelled", "not_needed")] * 2


async def test_a_channel_that_hangs_keeps_no_other_waiting(world: World, ours: OnTheWire) -> None:
    """Sixty mails fill a claim; the operator and everybody's WhatsApp come behind them."""
    line = alert_line(world)
    for number in range(60):
        company = world.company(users=0)
        contact(world, company, f"a{number}@example.com")
        down(world, company)
    company = world.company(users=0)
    contact(world, company, PHONE, channel="whatsapp")
    down(world, company)
    receiver = Receiver(lambda address, _: NOTHING_HEARD if "@" in address else YES)

    await deliver(sender(receiver, line=str(line.id)), ours.store.outbox)

    assert len(receiver.to(PHONE)) == 1


async def test_whom_a_hanging_channel_leaves_untried_lets_the_next_position_be_due(
    world: World, ours: OnTheWire
) -> None:
    line = alert_line(world)
    companies = [world.company(users=0) for _ in range(10)]
    for number, company in enumerate(companies):
        contact(world, company, f"55119888800{number:02d}", channel="whatsapp")
        contact(world, company, f"a{number}@example.com", position=2)
        down(world, company)
    receiver = Receiver(lambda address, _: YES if "@" in address else NOTHING_HEARD)
    sending = sender(receiver, line=str(line.id))
    await deliver(sending, ours.store.outbox)  # of ten the first hangs, and the others are left
    world.pass_time(6 * MINUTE)

    await deliver(sending, ours.store.outbox)

    assert {address for address, _ in receiver.got if "@" in address} == {
        f"a{number}@example.com" for number in range(10)
    }


async def test_thousands_of_contacts_of_one_company_keep_no_other_from_being_told(
    world: World, ours: OnTheWire
) -> None:
    """Regression: with 10,000 at a second position each claim ran into the database's time-out, and nobody heard."""
    company, other = world.company(users=1), world.company(users=1)
    contact(world, company, "first@example.com")
    world.sql(
        "insert into public.alert_contacts (company_id, channel, address, position, after_minutes, quiet_from, quiet_until)"
        " select %s, 'email', 'c' || n || '@example.com', 2, 0, null, null from generate_series(1, 300) n",
        company,
    )
    contact(world, other, ANA, position=3)
    down(world, company)
    down(world, other)
    rows_read = "select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int as n from pg_stat_xact_user_tables"
    policy = Jsonb(delivery_policy_row(DeliveryPolicy()))
    with world.database.transaction():
        [before] = world.sql(rows_read)
        [claimed] = world.sql(CLAIM, policy)
        [after] = world.sql(rows_read)
    assert {message["address"] for message in claimed["messages"]} == {"first@example.com", ANA}
    assert after["n"] - before["n"] < 300 * 100, "rows read grow with the contacts, not with their square"


async def test_an_ack_spares_the_next_position(world: World, ours: OnTheWire) -> None:
    sending = alert_line(world)
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp", position=1)
    contact(world, company, BIA, position=2)
    line = down(world, company)
    receiver = Receiver(lambda _, __: SendAnswer(SendResult.SENT, message_id="ALERT-1"))
    deliveries = sender(receiver, line=str(sending.id))

    await deliver(deliveries, ours.store.outbox)
    ack(world, sending)
    world.pass_time(30 * MINUTE)
    await deliver(deliveries, ours.store.outbox)
    assert [address for address, _ in receiver.got] == [PHONE]
    bring_back(world, line)
    await deliver(deliveries, ours.store.outbox)
    assert [address for address, _ in receiver.got] == [PHONE, PHONE], "only who was reached hears that it is back"


async def test_a_contact_whose_channel_has_changed_is_told_and_counted_by_the_new_one(
    world: World, ours: OnTheWire
) -> None:
    sending = alert_line(world)
    company = world.company(users=1)
    who = contact(world, company, PHONE, channel="whatsapp")
    contact(world, company, BIA, position=2)
    down(world, company)
    world.sql("update public.alert_contacts set channel = 'email', address = %s where id = %s", ANA, who)
    receiver = Receiver()
    for _ in range(2):
        await deliver(sender(receiver, line=sending.external_id), ours.store.outbox)
        world.pass_time(6 * MINUTE)

    assert [address for address, _ in receiver.got] == [ANA], "a mail needs no ack"
    assert [row["channel"] for row in world.sql("select channel from public.alert_channels")] == ["email"]


async def test_what_was_sent_to_a_phone_is_kept_as_sent_to_it_whatever_the_contact_says_by_then(
    world: World, ours: OnTheWire
) -> None:
    sending = alert_line(world)
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp")
    down(world, company)

    def meanwhile(_: str, __: Post) -> SendAnswer:
        world.sql("update public.alert_contacts set channel = 'email', address = %s", ANA)
        return SendAnswer(SendResult.SENT, message_id="ALERT-1")

    await deliver(sender(Receiver(meanwhile), line=sending.external_id), ours.store.outbox)

    assert [row["contact_phone"] for row in world.sql("select contact_phone from public.wapi_conversations")] == [PHONE]
    assert [row["channel"] for row in world.sql("select channel from public.alert_channels")] == ["whatsapp"]


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param(
            "company_id = (select id from public.companies where is_active is false)", id="of a company that sleeps"
        ),
        pytest.param("status = 'disconnected'", id="down"),
        pytest.param("is_active = false", id="paused"),
        pytest.param("connected_at = now() - interval '59 minutes'", id="back for less than an hour"),
        pytest.param("provider = 'evolution'", id="of another provider"),
        pytest.param("bad_since = now()", id="it looks dead"),
        pytest.param("unverified_since = now()", id="nobody could find out"),
        pytest.param(
            "insert into public.instance_outages (instance_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)"
            " values (%s, now(), now(), 'sweep', 'ghost', now() - interval '59 minutes', 'recovered')",
            id="restarted less than an hour ago",
        ),
        pytest.param(
            "insert into public.instance_mutes (instance_id, proof, silent_since, since, suspected_at)"
            " values (%s, 'habit', now(), now(), now())",
            id="mute",
        ),
    ],
)
async def test_a_line_that_may_not_send_sends_nothing_and_nobody_elses_does(
    world: World, ours: OnTheWire, unfit: str
) -> None:
    sending = alert_line(world)
    world.line(world.company(), "Uma linha sã")
    world.sql("update public.companies set is_active = false where id = %s", world.company())
    if unfit.startswith("insert"):
        world.sql(unfit, sending.id)
    else:
        world.set(sending, unfit)
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp", position=1)
    contact(world, company, BIA, position=2)
    down(world, company)
    receiver = Receiver()

    await deliver(sender(receiver, line=sending.external_id), ours.store.outbox)

    assert [address for address, _ in receiver.got] == [BIA], "who has a channel hears at once"


async def test_what_was_sent_stands_in_the_lines_conversation_as_no_message_of_the_staff(
    world: World, ours: OnTheWire
) -> None:
    sending = alert_line(world)
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp")
    down(world, company)
    receiver = Receiver(lambda _, __: SendAnswer(SendResult.SENT, message_id="ALERT-1"))

    await deliver(sender(receiver, line=sending.external_id), ours.store.outbox)
    world.event(
        world.message(sending, chat=PHONE, event="webhookDelivery", fromMe=True, fromApi=True, messageId="ALERT-1",
        msgContent={"conversation": receiver.got[0][1].text})
    )  # fmt: skip

    [row] = world.sql("select from_me, content, metadata ->> 'source' as source from public.wapi_messages")
    assert row == {"from_me": True, "content": receiver.got[0][1].text, "source": "system_alert"}


async def test_an_echo_that_came_first_is_marked(world: World, ours: OnTheWire) -> None:
    sending = alert_line(world)
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp")
    down(world, company)

    def echo_first(_: str, __: Post) -> SendAnswer:
        world.event(
            world.message(sending, chat=PHONE, event="webhookDelivery", fromMe=True, fromApi=True, messageId="ALERT-1")
        )
        return SendAnswer(SendResult.SENT, message_id="ALERT-1")

    await deliver(sender(Receiver(echo_first), line=sending.external_id), ours.store.outbox)

    assert [row["source"] for row in world.sql("select metadata ->> 'source' as source from public.wapi_messages")] == [
        "system_alert"
    ]


# At least once, never twice for a yes that was heard


async def test_a_message_that_fails_is_tried_again_with_growing_waits_and_given_up_after_a_day(
    world: World, ours: OnTheWire
) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    down(world, company)
    receiver = Receiver(lambda _, __: NO)
    tried_after = []
    for passed in range(0, 27 * 60, 5):
        before = len(receiver.to(ANA))
        await deliver(sender(receiver, operator=False), ours.store.outbox)
        if len(receiver.to(ANA)) > before:
            tried_after.append(passed)
        world.pass_time(5 * MINUTE)

    assert tried_after[:7] == [0, 5, 15, 35, 75, 155, 315]
    assert {b - a for a, b in itertools.pairwise(tried_after[6:])} == {240}
    assert tried_after[-1] < 24 * 60
    assert deliveries_of(world)[0] == (ANA, "down", "given_up", "http_500")


async def test_after_a_day_in_which_nobody_swept_what_is_still_so_is_told(world: World, ours: OnTheWire) -> None:
    """Regression: what nobody had even looked at for a day was cancelled as not needed, "voltou" among it."""
    company = world.company(users=1)
    contact(world, company, ANA)
    line = down(world, company)
    receiver = Receiver()
    world.pass_time(25 * 60 * MINUTE)
    await deliver(sender(receiver, operator=False), ours.store.outbox)
    assert len(receiver.to(ANA)) == 1

    bring_back(world, line)
    world.pass_time(25 * 60 * MINUTE)
    await deliver(sender(receiver, operator=False), ours.store.outbox)
    assert [text for text in receiver.to(ANA)[1:] if "voltou" in text]


async def test_what_had_to_wait_is_told_although_nobody_swept_for_days_after(world: World, ours: OnTheWire) -> None:
    """Regression: what a night, a full day or a channel without a yes had put off was given up untried by the next look."""
    night, refused, full, without = "night@example.com", ANA, BIA, PHONE
    company = world.company(users=1)
    line = world.line(company, "Centro")
    quiet = contact(world, company, night, quiet_from="00:00", quiet_until="24:00")
    contact(world, company, refused)
    contact(world, company, without, channel="whatsapp")
    world.sql(
        "insert into public.notice_deliveries"
        " (occasion, contact_id, kind, company_id, instance_id, channel, state, created_at, due_at, sent_at)"
        " select n::text, %s, 'down', %s, %s, 'email', 'sent', now(), now(), now() - n * interval '1 hour'"
        " from generate_series(1, 7) n",
        contact(world, company, full), company, line.id,
    )  # fmt: skip
    mark_down(world, line)
    await deliver(sender(Receiver(lambda _, __: NO), operator=False), ours.store.outbox)
    waiting = {(row[0], row[3]) for row in deliveries_of(world) if row[2] == "waiting"}
    assert waiting == {(night, "quiet"), (refused, "http_500"), (full, "enough"), (without, "not_configured")}

    sending = alert_line(world)
    world.sql("update public.alert_contacts set (quiet_from, quiet_until) = (null, null) where id = %s", quiet)
    world.pass_time(4 * 24 * 60 * MINUTE)
    receiver = Receiver()
    await deliver(sender(receiver, line=sending.external_id, operator=False), ours.store.outbox)

    assert {address for address, _ in receiver.got} == {night, refused, full, without}


async def test_what_kills_its_sender_is_given_up_after_a_day(world: World, ours: OnTheWire) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    down(world, company)

    policy = Jsonb(delivery_policy_row(DeliveryPolicy()))
    for _ in range(6):
        [claimed] = world.sql(CLAIM, policy)
        assert len(claimed["messages"]) == 1
        world.pass_time(5 * 60 * MINUTE)
    receiver = Receiver()
    await deliver(sender(receiver, operator=False), ours.store.outbox)
    assert receiver.got == []
    assert deliveries_of(world)[0][2] == "given_up"


async def test_a_night_of_quiet_does_not_let_a_dead_channel_be_tried_for_ever(world: World, ours: OnTheWire) -> None:
    """Regression: each night gave another day of tries, and nobody was told that nothing arrives."""
    company = world.company(users=1)
    who = contact(world, company, ANA)
    down(world, company)
    receiver = Receiver(lambda _, __: NO)
    for _ in range(5):
        for quiet in ("('00:00', '24:00')", "(null, null)"):
            world.sql(f"update public.alert_contacts set (quiet_from, quiet_until) = {quiet} where id = %s", who)
            world.sql("update public.notice_deliveries set due_at = now() where state = 'waiting'")
            await deliver(sender(receiver, operator=False), ours.store.outbox)
            world.pass_time(12 * 60 * MINUTE)
    assert len(receiver.got) <= 2, "the first night alone postpones the end"
    assert deliveries_of(world)[0][2] == "given_up"


async def test_a_contact_hears_of_a_line_seven_times_a_day_at_most_and_then_what_is_so(
    world: World, ours: OnTheWire
) -> None:
    """Invariant 13. Regression: a line down for 16 of every 30 minutes was 46 messages a day to the manager's phone."""
    company = world.company(users=1)
    who = contact(world, company, ANA)
    line = world.line(company, "Centro")
    world.sql(
        "insert into public.notice_deliveries"
        " (occasion, contact_id, kind, company_id, instance_id, channel, state, created_at, due_at, sent_at)"
        " select n::text, %s, 'down', %s, %s, 'email', 'sent', now(), now(), now() - n * interval '1 hour'"
        " from generate_series(1, 7) n",
        who, company, line.id,
    )  # fmt: skip
    mark_down(world, line)
    receiver = Receiver()
    deliveries = sender(receiver, operator=False)
    heard = []
    for hour in range(21):
        if hour == 18:
            bring_back(world, line)
        await deliver(deliveries, ours.store.outbox)
        heard.append(len(receiver.got))
        world.pass_time(60 * MINUTE)
    assert heard == [0] * 17 + [1, 1, 2, 2], "the last place of a day is for bad news only"
    assert ["perdeu" in text for text in receiver.to(ANA)] == [True, False]


async def test_who_was_not_reached_does_not_hear_that_it_is_back_and_who_may_have_been_does(
    world: World, ours: OnTheWire
) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    contact(world, company, BIA)
    line = down(world, company)
    receiver = Receiver(lambda address, _: NO if address == ANA else NOTHING_HEARD)
    await deliver(sender(receiver), ours.store.outbox)
    bring_back(world, line)

    receiver = Receiver()
    await deliver(sender(receiver), ours.store.outbox)

    assert [address for address, _ in receiver.got] == [BIA]
    assert "voltou a funcionar" in receiver.got[0][1].text


@pytest.mark.parametrize(
    ("says", "heard"), [(SendAnswer(SendResult.SENT), [True, False]), (NO, [True])], ids=["yes", "a no that was heard"]
)
async def test_a_line_that_came_back_while_a_message_was_on_its_way_is_told_after_it(
    world: World, ours: OnTheWire, says: SendAnswer, heard: list[bool]
) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    line = down(world, company)

    def meanwhile(_: str, post: Post) -> SendAnswer:
        if "perdeu" in post.text:
            bring_back(world, line)
        return says

    receiver = Receiver(meanwhile)
    await deliver(sender(receiver), ours.store.outbox)
    world.pass_time(10 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)

    assert ["perdeu" in text for text in receiver.to(ANA)] == heard


async def test_what_may_be_on_its_way_is_waited_for_and_a_late_yes_is_a_yes(world: World, ours: OnTheWire) -> None:
    company, receiver, outbox = world.company(users=1), Receiver(), ours.store.outbox
    contact(world, company, ANA)
    line = down(world, company)
    claimed = await outbox.claim(channels=["email"], operator=[], line=None, lease=2 * MINUTE, limit=10)
    bring_back(world, line)
    await deliver(sender(receiver), outbox)
    assert receiver.got == [], "nobody knows yet whether there is anything to take back"

    world.pass_time(3 * MINUTE)
    await deliver(sender(receiver), outbox)
    assert [row[1:] for row in deliveries_of(world)] == [("down", "cancelled", "back"), ("back", "sent", None)]
    await outbox.finish(claimed.messages[0], SendAnswer(SendResult.SENT))
    assert deliveries_of(world)[0][2] == "sent"


async def test_what_was_claimed_and_not_tried_is_as_if_nobody_had_claimed_it(world: World, ours: OnTheWire) -> None:
    company, outbox = world.company(users=1), ours.store.outbox
    contact(world, company, ANA)
    down(world, company)
    claimed = await outbox.claim(channels=["email"], operator=[], line=None, lease=2 * MINUTE, limit=10)
    await outbox.finish(claimed.messages[0], SendAnswer(SendResult.NOT_TRIED))
    names = "state, note, lease_until, tries, unheard, first_tried_at, batch"
    [row] = world.sql(f"select {names} from public.notice_deliveries")
    assert tuple(row.values()) == ("waiting", None, None, 0, 0, None, None)
    assert world.sql("select 1 from public.alert_channels") == []


async def test_a_voltou_that_a_new_fall_took_back_is_told_when_that_is_over(world: World, ours: OnTheWire) -> None:
    company, receiver = world.company(users=1), Receiver()
    contact(world, company, ANA)
    line = down(world, company)
    await deliver(sender(receiver), ours.store.outbox)
    bring_back(world, line)
    for text, kind in (("disconnected", "down"), ("reconnected", "back")):
        world.sql(
            "select public.write_deliveries(row('outage:another', instance_id, external_id, unit, company_id, id, started_at),"
            " %s, %s, now(), %s) from public.instance_outages",
            text, Jsonb(TEXTS), kind,
        )  # fmt: skip
    await deliver(sender(receiver), ours.store.outbox)
    assert ["voltou" in text for text in receiver.to(ANA)] == [False, True]


async def test_a_contact_hears_what_is_told_from_its_beginning_on(world: World, ours: OnTheWire) -> None:
    company, receiver = world.company(users=1), Receiver()
    [row] = world.sql("select now() + interval '1 hour' as at")
    contact(world, company, ANA, starts_at=row["at"])
    line = down(world, company)
    contact(world, company, BIA)
    for _ in range(2):
        await deliver(sender(receiver), ours.store.outbox)
        bring_back(world, line)
        world.pass_time(61 * MINUTE)
    assert receiver.got == [], "who came later hears neither of the fall nor of its end"


async def test_a_notice_that_was_read_does_not_stop_a_later_one_of_the_same_fall(world: World, ours: OnTheWire) -> None:
    company, receiver = world.company(users=1), Receiver()
    contact(world, company, ANA)
    down(world, company)
    read_it(world)
    world.sql("update public.notice_deliveries set kind = 'down_lasting'")
    await deliver(sender(receiver), ours.store.outbox)
    assert len(receiver.to(ANA)) == 1


async def test_two_housekeepings_at_once_send_each_message_once(world: World, ours: OnTheWire) -> None:
    company = world.company(users=1)
    for n in range(12):
        contact(world, company, f"c{n}@example.com")
    for n in range(3):
        down(world, company, f"Unidade {n}")
    receiver = Receiver()

    await asyncio.gather(*(deliver(sender(receiver), ours.store.outbox) for _ in range(3)))

    assert sorted(address for address, _ in receiver.got) == sorted(f"c{n}@example.com" for n in range(12))
    assert all(post.text.count("perdeu conexão") == 3 for _, post in receiver.got)


CLAIM = (
    "select public.claim_deliveries(array['email'], '{}', null, interval '2 minutes', 10,"
    " jsonb_populate_record(null::public.delivery_policy, %s)) -> 'messages' as messages"
)


def test_what_one_housekeeping_claims_for_a_contact_no_other_adds_to(world: World) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    policy = Jsonb(delivery_policy_row(DeliveryPolicy()))
    down(world, company, "Centro")
    with psycopg.connect(world.stack.database_url, row_factory=dict_row) as first:
        [claimed] = first.execute(CLAIM, [policy]).fetchall()
        down(world, company, "Norte")
        [meanwhile] = world.sql(CLAIM, policy)
    [later] = world.sql(CLAIM, policy)

    assert (len(claimed["messages"]), len(meanwhile["messages"]), len(later["messages"])) == (1, 0, 1)


async def test_who_dies_with_a_lease_leaves_the_message_to_the_next_with_the_same_id(
    world: World, ours: OnTheWire
) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    down(world, company)
    first = await ours.store.outbox.claim(channels=["email"], operator=[], line=None, lease=2 * MINUTE, limit=10)
    receiver = Receiver()
    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.got == [], "somebody is at it"

    down(world, company, "Norte")
    world.pass_time(3 * MINUTE)
    await deliver(sender(receiver), ours.store.outbox)

    assert next(post.id for _, post in receiver.got) == first.messages[0].post().id
    assert ["Norte" in post.text for _, post in receiver.got] == [False, True], "what was tried stays one message"


class Forgetful:
    """An outbox whose database is away when a yes is to be kept."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.away = True

    async def claim(self, **how: object) -> object:
        return await self._outbox.claim(**how)  # type: ignore[arg-type]

    async def finish(self, message: OutgoingMessage, answer: SendAnswer, **how: object) -> None:
        if self.away:
            raise StoreUnavailable("finish_delivery", "503")
        await self._outbox.finish(message, answer, **how)  # type: ignore[arg-type]


async def test_a_yes_that_could_not_be_kept_is_kept_before_anything_is_sent_again(
    world: World, ours: OnTheWire
) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    down(world, company)
    receiver, outbox = Receiver(), Forgetful(ours.store.outbox)
    deliveries = sender(receiver)
    await deliver(deliveries, outbox)  # type: ignore[arg-type]
    world.pass_time(5 * MINUTE)  # the lease is over
    await deliver(deliveries, outbox)  # type: ignore[arg-type]
    outbox.away = False
    await deliver(deliveries, outbox)  # type: ignore[arg-type]

    assert len(receiver.got) == 1
    assert deliveries_of(world)[0][2] == "sent"


@pytest.mark.parametrize(
    "says", [NOTHING_HEARD, SendAnswer(SendResult.REFUSED, "http_429")], ids=["nothing", "to wait"]
)
async def test_a_channel_that_hangs_or_asks_to_wait_costs_the_others_nothing_and_is_not_asked_again_in_that_round(
    world: World, ours: OnTheWire, says: SendAnswer
) -> None:
    company = world.company(users=1)
    sending = alert_line(world)
    for n in range(9):
        contact(world, company, f"c{n}@example.com")
    contact(world, company, PHONE, channel="whatsapp")
    down(world, company)
    receiver = Receiver(lambda address, _: SendAnswer(SendResult.SENT, message_id="A") if address == PHONE else says)

    await deliver(sender(receiver, line=sending.external_id), ours.store.outbox)

    assert len(receiver.to(PHONE)) == 1
    assert 1 <= len(receiver.got) - 1 <= 4, "some are sent at once, the rest waits"
    tries = [row["tries"] for row in world.sql("select tries from public.notice_deliveries where channel = 'email'")]
    assert min(tries) == 0


# The operator


async def test_an_alert_is_one_message_and_one_more_when_it_is_over(world: World, ours: OnTheWire) -> None:
    receiver = Receiver()
    deliveries = sender(receiver)
    outbox = ours.store.outbox
    assert await outbox.raise_alert(AlertCause.LINE_MUTE, "x", {"unit": "Centro", "company": "B", "since": "14:35"})
    assert not await outbox.raise_alert(AlertCause.LINE_MUTE, "x", {"unit": "Centro"})
    for _ in range(2):
        await deliver(deliveries, outbox)
    assert await outbox.resolve_alert(AlertCause.LINE_MUTE, "x")
    assert not await outbox.resolve_alert(AlertCause.LINE_MUTE, "x")
    for _ in range(2):
        await deliver(deliveries, outbox)
        world.pass_time(15 * MINUTE)

    assert [post.title for _, post in receiver.got] == ["A line is mute", "Resolved: A line is mute"]
    assert receiver.got[0][1].text == "Centro (B) lives, but its events do not reach us since 14:35."


async def test_an_alert_that_comes_and_goes_is_one(world: World, ours: OnTheWire) -> None:
    """Regression: the brake on and off in turns was twelve messages an hour to each of the operator's channels."""
    receiver = Receiver()
    deliveries, outbox = sender(receiver), ours.store.outbox
    for n in range(12):
        assert await outbox.raise_alert(AlertCause.OWN_ADDRESS, details={"why": "401"}) is (n == 0)
        await deliver(deliveries, outbox)
        world.pass_time(5 * MINUTE)
        assert await outbox.resolve_alert(AlertCause.OWN_ADDRESS)
        await deliver(deliveries, outbox)
        world.pass_time(5 * MINUTE)
    assert len(receiver.got) == 1
    world.pass_time(10 * MINUTE)
    await deliver(deliveries, outbox)
    assert [post.title.startswith("Resolved") for _, post in receiver.got] == [False, True]
    assert await outbox.raise_alert(AlertCause.OWN_ADDRESS), "who has heard that it is over hears of it anew"
    await deliver(deliveries, outbox)
    assert len(receiver.got) == 3


async def test_an_alert_that_was_over_before_anybody_heard_is_told_to_nobody(world: World, ours: OnTheWire) -> None:
    receiver = Receiver()
    await deliver(sender(receiver), ours.store.outbox)  # the operator's contact is known from now on
    await ours.store.outbox.raise_alert(AlertCause.OWN_ADDRESS)
    await ours.store.outbox.resolve_alert(AlertCause.OWN_ADDRESS)
    await deliver(sender(receiver), ours.store.outbox)

    assert receiver.got == []
    await ours.store.outbox.raise_alert(AlertCause.OWN_ADDRESS)
    await deliver(sender(receiver), ours.store.outbox)
    assert len(receiver.got) == 1, "it is so again, and nobody has heard of it"


SILENT = "update public.instance_health set unknown_since = now() - interval '61 minutes'"


@pytest.mark.parametrize(
    ("how", "alerts"),
    [
        pytest.param(f"{SILENT}", ["lines_silent"], id="two lines"),
        pytest.param(f"{SILENT} where instance_id = (select min(id::text)::uuid from public.wapi_instances)", [], id="one line"),
        pytest.param(f"{SILENT}, last_event_at = now() - interval '5 minutes'", [], id="they are heard"),
        pytest.param(f"{SILENT}, unverified_since = now()", [], id="their users were told"),
        pytest.param("update public.instance_health set unknown_since = now() - interval '59 minutes'", [], id="not for long"),
        pytest.param(f"{SILENT}; update public.wapi_instances set is_active = false", [], id="they are paused"),
        pytest.param(f"{SILENT}; update public.companies set is_active = false", [], id="their company sleeps"),
        pytest.param(
            f"{SILENT}; insert into public.provider_state (provider, blind_sweeps) values ('wapi', 3)", ["sweep_blind"], id="nobody answers",
        ),
        pytest.param(
            f"{SILENT}; insert into public.provider_state (provider, braked_since) values ('wapi', now())", ["brake"], id="half the fleet",
        ),
    ],
)  # fmt: skip
async def test_lines_that_fell_silent_together_are_told_to_the_operator(
    world: World, ours: OnTheWire, how: str, alerts: list[str]
) -> None:
    for line in world.lines(world.company(), 2):
        world.set(line, "unknown_looks = 12")
    for statement in how.split("; "):
        world.sql(statement)
    await ours.store.outbox.claim(channels=[], operator=[OPERATOR], line=None, lease=2 * MINUTE, limit=10)
    assert [row["cause"] for row in world.sql("select cause from public.operator_alerts")] == alerts


@pytest.fixture
def causes(world: World) -> dict[str, tuple[str, str]]:
    """What our tables say of themselves: how a cause begins, and how it ends."""
    world.sql("insert into public.provider_state (provider) values ('wapi')")
    state = "update public.provider_state set"
    company = world.company(users=1)
    line = world.line(company, "Centro")
    run = (
        "insert into public.health_check_runs (started_at, finished_at, checked, outcomes)"
        " values (clock_timestamp(), now(), 9, jsonb_build_object('drifted', {})), (now() + interval '1 hour', now(), 0, '{{}}')"
    )
    silent = f"array['{world.line(company).id}', '{world.line(company).id}']::uuid[]"
    world.sql(f"insert into public.instance_health (instance_id) select unnest({silent})")
    world.sql(
        "insert into public.notices (occasion, kind, user_id, company_id, instance_id, text, since, state, told_at, sqlstate)"
        " values ('x', 'down', gen_random_uuid(), %s, %s, 'disconnected', now(), 'refused', now(), '23514')",
        company, line.id,
    )  # fmt: skip
    mark_down(world, line, since=61 * MINUTE)
    world.sql("update public.instance_outages set opened_by = 'adoption'")
    notices = "update public.notices set next_try_at"
    outages = "update public.instance_outages set"
    return {
        "brake": (f"{state} braked_since = now()", f"{state} braked_since = null"),
        "sweep_blind": (f"{state} blind_sweeps = 3", f"{state} blind_sweeps = 2"),
        "contract_drifted": (
            f"{state} device_silent_since = now() - interval '61 minutes'", f"{state} device_silent_since = now()",
        ),
        "contract_drifted, a route": (
            run.format(1), run.format(0),
        ),
        "lines_silent": (
            f"update public.instance_health set unknown_since = now() - interval '61 minutes' where instance_id = any ({silent})",
            f"update public.instance_health set unknown_since = null where instance_id = any ({silent})",
        ),
        "notices_refused": (f"{notices} = now()", f"{notices} = null"),
        "line_down": (
            f"{outages} opened_by = 'sweep'", f"{outages} closed_at = now(), closed_as = 'alive'",
        ),
    }  # fmt: skip


async def test_what_our_tables_say_is_told_when_it_begins_and_when_it_ends(
    world: World, ours: OnTheWire, causes: dict[str, tuple[str, str]]
) -> None:
    receiver = Receiver()
    deliveries = sender(receiver)
    await deliver(deliveries, ours.store.outbox)
    assert receiver.got == []
    for cause, (begins, ends) in causes.items():
        told: list[tuple[str, str]] = []
        for statement in (begins, begins, ends, ends):
            world.sql(statement)
            await deliver(deliveries, ours.store.outbox)
        world.sql("update public.notice_deliveries set created_at = created_at - interval '15 minutes', due_at = now()"
                  " where state = 'waiting'")  # fmt: skip
        await deliver(deliveries, ours.store.outbox)
        told = [(fact["cause"], fact["kind"]) for _, post in receiver.got for fact in post.facts]
        name = cause.partition(",")[0]
        assert told == [(name, "alert"), (name, "resolved")]
        receiver.got.clear()


async def test_lines_that_are_down_for_an_hour_together_are_one_message(world: World, ours: OnTheWire) -> None:
    company = world.company("Buffet", users=1)
    for unit in ("Centro", "Norte", "Sul"):
        mark_down(world, world.line(company, unit), since=61 * MINUTE)
    receiver = Receiver()

    await deliver(sender(receiver), ours.store.outbox)

    [(_, post)] = receiver.got
    assert post.title == "A line is down for an hour (3)"
    assert "Centro (Buffet) is down since" in post.text


async def test_a_channel_that_fails_for_an_hour_is_told_by_another(world: World, ours: OnTheWire) -> None:
    company = world.company(users=1)
    contact(world, company, ANA)
    down(world, company)
    receiver = Receiver(lambda address, _: NO if address == ANA else SendAnswer(SendResult.SENT))
    for _ in range(13):
        await deliver(sender(receiver), ours.store.outbox)
        world.pass_time(5 * MINUTE)
    dead = [post.text for _, post in receiver.got if post.title == "A channel is dead"]
    assert len(dead) == 1
    assert dead[0].startswith("email (…mail) has failed since 20")
    assert ANA not in "".join(post.text for _, post in receiver.got)

    receiver.answers = lambda _, __: SendAnswer(SendResult.SENT)
    for passed in (5 * 60, 15):
        world.pass_time(passed * MINUTE)
        await deliver(sender(receiver), ours.store.outbox)
    assert [post.title for _, post in receiver.got if "Resolved" in post.title] == ["Resolved: A channel is dead"]


async def test_a_dead_channel_is_told_to_the_others_also_to_one_that_comes_later(world: World, ours: OnTheWire) -> None:
    outbox, others = ours.store.outbox, ["b" * 32, "c" * 32]
    await outbox.claim(channels=[], operator=[OPERATOR, others[0]], line=None, lease=2 * MINUTE, limit=10)
    await outbox.raise_alert(AlertCause.CHANNEL_DEAD, f"operator:{OPERATOR}")
    await outbox.claim(channels=[], operator=others, line=None, lease=2 * MINUTE, limit=10)
    assert world.sql("select 1 from public.operator_alerts where resolved_at is null") == [], (
        "what is taken away is over"
    )
    await outbox.raise_alert(AlertCause.CHANNEL_DEAD, f"operator:{OPERATOR}")
    await outbox.claim(channels=[], operator=[OPERATOR, *others], line=None, lease=2 * MINUTE, limit=10)
    assert {row[0] for row in deliveries_of(world)} == set(others)


async def test_a_channel_that_has_failed_and_has_nothing_to_send_is_not_dead(world: World, ours: OnTheWire) -> None:
    company = world.company()
    contact(world, company, ANA, after=15)
    down(world, company)  # which waits to be due
    world.sql("insert into public.alert_channels values ('email', now() - interval '2 hours', 'refused', null)")
    receiver = Receiver()
    await deliver(sender(receiver), ours.store.outbox)
    assert receiver.got == []


async def test_an_address_that_the_operator_takes_away_hears_nothing_more_and_a_new_one_hears_what_is_so(
    world: World, ours: OnTheWire
) -> None:
    receiver = Receiver()
    await deliver(sender(receiver), ours.store.outbox)
    await deliver(sender(receiver, operator=False), ours.store.outbox)
    await ours.store.outbox.raise_alert(AlertCause.OWN_ADDRESS, details={"why": "401"})
    await deliver(sender(receiver, operator=False), ours.store.outbox)
    assert receiver.got == []

    await deliver(sender(receiver), ours.store.outbox)
    assert [post.text for _, post in receiver.got] == ["Nothing is registered until it does: 401."]
    assert [(address, kind) for address, kind, _, _ in deliveries_of(world)] == [(OPERATOR, "alert")]


async def test_with_nothing_to_do_it_is_one_call(world: World, ours: OnTheWire) -> None:
    world.line(world.company(users=1))
    world.stack.postgrest_requests.reset()

    await deliver(sender(Receiver()), ours.store.outbox)

    assert world.stack.postgrest_requests.total == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("address", "ana@example.com?smtp=evil.example", id="an address with a query"),
        pytest.param("address", "Ana <ana@example.com>", id="an address with a name"),
        pytest.param("zone", "America/Sao Paulo", id="a zone that is none"),
        pytest.param("channel", "operator", id="the operator's channel for a company"),
        pytest.param("after_minutes", -1, id="a wait before the notice"),
    ],
)
def test_a_contact_that_could_not_be_told_cannot_be_written(world: World, column: str, value: object) -> None:
    company = world.company()
    who = contact(world, company, ANA)
    with pytest.raises(Exception, match="check constraint"):
        world.sql(f"update public.alert_contacts set {column} = %s where id = %s", value, who)
