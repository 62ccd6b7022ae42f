"""Not too often, not too seldom (section 3.4): what users hear of a line that falls once, again, or stays down."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import psycopg
import pytest
from composites import POLICY, POLICY_ROW
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from telling import Told, minutes, moment

from shared.core.notices import TEXTS

if TYPE_CHECKING:
    from uuid import UUID

    from world import World

HOUR, DAY = 60, 1440


@pytest.fixture
def user_and_told(world: World) -> tuple[UUID, Told]:
    company = world.company()
    user = world.user(company)
    return user, Told(world, world.line(company, "Moema", status="connected"))


@pytest.fixture
def told(user_and_told: tuple[UUID, Told]) -> Told:
    return user_and_told[1]


def downs(told: Told) -> list[tuple[float, float | None]]:
    return [
        (minutes(each["started_at"]), each["closed_at"] and minutes(each["closed_at"]))
        for each in told.world.outages(told.line)
    ]


def test_one_fall_rings_and_unrings_at_once(told: Told) -> None:
    told.falls(0)
    told.sweeps(1)
    told.rises(42)
    told.sweeps_until(45, 2 * DAY, each=60)

    assert told.heard() == [(0, "down"), (42, "back")]
    assert told.world.bells()[1]["message"] == "WhatsApp da unidade Moema voltou a funcionar depois de 42 min."


def test_the_second_fall_is_told_to_be_back_when_it_has_held_for_five_minutes(told: Told) -> None:
    told.falls(0)
    told.rises(1)
    told.falls(10)
    told.sweeps(12)
    assert told.rises(13)["told"] is None
    told.sweeps(17)
    assert [kind for _, kind in told.heard()] == ["down", "back", "down"]
    told.sweeps(18)

    assert told.heard() == [(0, "down"), (1, "back"), (10, "down"), (18, "back")]
    [bell] = [bell for bell in told.world.bells() if minutes(bell["created_at"]) == 18]
    assert bell["message"] == "WhatsApp da unidade Moema voltou a funcionar depois de 3 min."
    assert bell["data"]["down_seconds"] == 180


def test_the_second_fall_of_a_day_later_is_a_first_one(told: Told) -> None:
    told.falls(0)
    told.rises(1)
    told.falls(DAY)
    told.rises(DAY + 1)
    assert [kind for _, kind in told.heard()] == ["down", "back"] * 2


def test_a_line_up_and_down_every_minute_for_70_minutes_is_told_five_times(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    truth: list[tuple[float, float | None]] = []
    for at in range(0, 70, 2):
        told.falls(at)
        told.rises(at + 1)
        told.sweeps(at + 1)
        truth.append((at, at + 1))
    told.sweeps_until(70, 300)

    assert told.heard() == [(0, "down"), (1, "back"), (2, "down"), (4, "unstable"), (130, "back")]
    assert downs(told) == truth
    assert "WhatsApp da unidade Moema está instável: caiu 3 vezes em 24 h. Avisaremos quando ficar estável." in (
        told.messages(user)
    )


@pytest.mark.parametrize("down", [7, 15])
def test_a_line_up_and_down_every_15_minutes_for_a_day_is_told_at_most_seven_times(told: Told, down: int) -> None:
    truth: list[tuple[float, float | None]] = []
    for at in range(0, DAY, 15 if down < 15 else 30):
        told.falls(at)
        told.sweeps_until(at, at + down)
        told.rises(at + down)
        told.sweeps_until(at + down, at + 14 if down < 15 else at + 29)
        truth.append((at, at + down))
    told.sweeps_until(DAY, 2 * DAY)

    heard = told.heard()
    assert downs(told) == truth
    assert heard[:5] == [(0, "down"), (down, "back"), *(
        [(15, "down"), (27, "back"), (30, "unstable")] if down < 15
        else [(30, "down"), (50, "back"), (60, "unstable")]
    )]  # fmt: skip
    for at, _ in heard:
        assert sum(at - DAY < other <= at for other, _ in heard) <= 7
    if down < 15:  # silence until it has held for an hour
        assert heard[5:] == [(truth[-1][1] + 60 + 3, "back")]
    else:
        assert heard[5:7] == [(75, "down_lasting"), (105, "down_lasting")]
        # The bound is full, and what was heard last is right again and again. At the end it has held.
        assert heard[7:] == [(truth[-1][1] + 60, "back")]


def test_a_third_fall_in_a_day_is_unstable_although_each_voltou_was_told(told: Told) -> None:
    for at in (0, 100, 200):
        told.falls(at)
        told.rises(at + 1)
        told.sweeps_until(at + 6, at + 99)
    assert told.heard() == [
        (0, "down"), (1, "back"), (100, "down"), (106, "back"), (200, "unstable"), (261, "back"),
    ]  # fmt: skip
    # Another one within the day is unstable again.
    told.falls(300)
    assert told.heard()[-1] == (300, "unstable")


def unstable(told: Told) -> None:
    """Three falls; the last of them at 4."""
    for at in (0, 2):
        told.falls(at)
        told.rises(at + 1)
    told.falls(4)


def test_a_fall_that_lasts_15_minutes_is_told_also_the_one_told_as_unstable(told: Told) -> None:
    unstable(told)
    told.sweeps(18)
    assert told.heard()[-1] == (4, "unstable")
    told.sweeps_until(19, 30)
    assert told.heard()[3:] == [(4, "unstable"), (19, "down_lasting")]
    told.rises(31)
    told.falls(40, text="token_refused")
    told.sweeps_until(41, 54, each=1)
    assert told.heard()[-1] == (19, "down_lasting")
    told.sweeps(55)
    assert told.heard()[-1] == (55, "down_lasting")
    assert told.world.bells()[-1]["data"]["action"] == "check_token"
    assert told.world.outages(told.line)[-1]["told_at"] == moment(55)


def test_a_line_that_falls_while_its_voltou_waits_is_unstable_however_long_the_fall_before_was(told: Told) -> None:
    told.falls(0)
    told.rises(1)
    told.falls(10)
    told.rises(10 + DAY + 60)
    told.falls(12 + DAY + 60)
    assert told.heard()[-1] == (12 + DAY + 60, "unstable")
    assert "caiu 2 vezes em 24 h" in told.world.bells()[-1]["message"]


def test_a_fall_that_was_noticed_late_has_lasted_since_it_began_but_not_in_the_moment_it_is_told(told: Told) -> None:
    for at in (0, 2):
        told.falls(at)
        told.rises(at + 1)
    told.falls(24, dead_since=6)
    told.sweeps_until(24, 38, each=1)
    assert told.heard()[-1] == (24, "unstable")
    told.sweeps(39)
    assert told.heard()[-1] == (39, "down_lasting")
    told.rises(40)
    told.falls(60, dead_since=50)
    told.sweeps_until(60, 64, each=1)
    assert told.heard()[-1] == (39, "down_lasting")
    told.sweeps(65)
    assert told.heard()[-1] == (65, "down_lasting")


def test_that_nobody_could_find_out_is_no_proof_that_a_line_has_held(told: Told) -> None:
    unstable(told)
    told.rises(5)
    told.world.set(told.line, "unknown_since = %s", moment(40))
    told.sweeps_until(60, 90)
    assert told.heard()[-1] == (4, "unstable")
    # An event after the hour proves it, whatever looks say.
    told.world.set(told.line, "last_event_at = %s", moment(91))
    told.sweeps(92)
    assert told.heard()[-1] == (92, "back")


def test_a_silence_that_began_when_the_line_had_held_keeps_nothing_back(told: Told) -> None:
    unstable(told)
    told.rises(5)
    told.world.set(told.line, "unknown_since = %s", moment(66))
    told.sweeps(67)
    assert told.heard()[-1] == (67, "back")


def test_a_silent_cure_is_no_fall_but_begins_the_waiting_anew(told: Told) -> None:
    told.falls(0)
    told.rises(1)
    told.falls(10)
    told.rises(11)
    told.falls(13, text=None)
    told.rises(14, as_="recovered")
    told.sweeps_until(16, 18, each=1)
    assert told.heard()[-1] == (10, "down")
    told.sweeps(19)
    assert told.heard()[-1] == (19, "back")
    told.falls(50, text=None)
    told.rises(51, as_="recovered")
    assert [each["told_as"] for each in told.world.outages(told.line)] == ["down", "down", None, None]


def test_what_a_silent_cure_held_is_no_time_that_people_are_told_of(told: Told) -> None:
    """Section 3.1: what people are told counts only the time it was down."""
    told.falls(0, text=None)
    told.rises(1, as_="recovered")
    told.falls(26, dead_since=21)
    told.rises(31)
    assert told.world.bells()[-1]["message"] == "WhatsApp da unidade Moema voltou a funcionar depois de 11 min."
    assert told.world.bells()[-1]["data"]["down_seconds"] == 660


def test_falls_of_more_than_a_day_ago_are_not_counted_however_lately_they_ended(told: Told) -> None:
    told.falls(0)
    told.rises(DAY + 10)
    told.falls(DAY + 20)
    told.rises(DAY + 21)
    told.falls(DAY + 100)
    assert told.heard()[-1] == (DAY + 100, "down")


def test_nobody_is_told_that_it_lasts_while_somebody_pairs_the_line(told: Told) -> None:
    unstable(told)
    told.world.set(told.line, "status = 'qr_code', pairing_since = %s", moment(10))
    told.sweeps_until(19, 39)
    assert told.heard()[-1] == (4, "unstable")
    told.sweeps(41)
    assert told.heard()[-1] == (41, "down_lasting")


def test_a_company_that_sleeps_is_not_reminded(told: Told) -> None:
    told.falls(0)
    told.world.sql("update public.companies set is_active = false")
    told.sweeps_until(DAY, 2 * DAY, each=HOUR)
    assert told.heard() == [(0, "down")]


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        pytest.param("A\r\nB", "A B", id="lines"),
        pytest.param("\u202eA\u2066B\u200b", "A B", id="signs that turn the writing"),
        pytest.param(
            "{unit} {downtime} <b>*A*</b> \\1", "{unit} {downtime} <b>*A*</b> \\1", id="markup and placeholders"
        ),
        pytest.param("x" * 10_000, "x" * 99 + "…", id="ten thousand characters"),
        pytest.param("\n\u200f", "Buffet Alegria (final 0001)", id="nothing that can be read"),
    ],
)
def test_a_name_is_one_line_of_a_message_and_says_nothing_more(told: Told, unit: str, name: str) -> None:
    told.world.set(told.line, "unit = %s, phone_number = '5511999990001'", unit)
    told.falls(0)
    assert told.world.bells()[0]["message"] == (
        f"WhatsApp da unidade {name} perdeu conexão. Reconecte via QR Code em Configurações."
    )


def test_a_line_that_looks_bad_is_not_told_to_be_back(told: Told) -> None:
    told.falls(0)
    told.rises(1)
    told.falls(10)
    told.rises(11)
    told.world.set(told.line, "bad_since = %s", moment(15))
    told.sweeps_until(16, 30)
    assert told.heard()[-1] == (10, "down")
    told.world.set(told.line, "bad_since = null")
    told.sweeps(35)
    assert told.heard()[-1] == (35, "back")


def filled(told: Told, user: UUID, count: int, at: float) -> None:
    """Notices of other things, of the same line."""
    for number in range(count):
        told.world.sql(
            "insert into public.notices (occasion, kind, user_id, instance_id, text, since, state, told_at)"
            " values ('mute:' || gen_random_uuid(), 'mute', %s, %s, 'x', %s, 'sent', %s)",
            user, told.line.id, moment(at), moment(at + number),
        )  # fmt: skip


def kinds(told: Told) -> list[tuple[float, str]]:
    return [each for each in told.heard() if each[1] != "mute"]


def test_the_seventh_notice_of_a_day_is_for_bad_news_only_and_the_rest_is_told_when_a_place_is_free(
    user_and_told: tuple[UUID, Told],
) -> None:
    user, told = user_and_told
    filled(told, user, 6, -600)
    told.falls(0)
    told.sweeps(5)
    assert told.heard() == [(0, "down")]
    told.rises(30)
    told.sweeps_until(35, DAY - 600)
    assert told.heard() == [(0, "down")]
    # With the second place of the first seven the good news has one: six with it.
    told.sweeps(DAY - 599)
    assert told.heard() == [(0, "down"), (DAY - 599, "back")]


def test_what_is_told_when_a_place_is_free_is_the_state_of_that_moment(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    filled(told, user, 7, -600)
    told.falls(0, text="not_found")
    assert told.world.outages(told.line)[0]["told_as"] == "down"
    told.rises(30)
    told.sweeps_until(35, 100)
    told.falls(700)
    told.sweeps_until(700, DAY - 601)
    assert told.heard() == []
    told.sweeps(DAY - 600)
    assert told.heard() == [(DAY - 600, "down")]
    told.rises(DAY)
    told.sweeps_until(DAY + 5, DAY + 10)
    assert told.heard() == [(DAY - 600, "down"), (DAY + 5, "back")]


def test_who_heard_nothing_because_of_the_bound_and_is_right_hears_nothing(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    filled(told, user, 7, -600)
    told.falls(0)
    told.rises(30)
    told.sweeps_until(35, 2 * DAY)
    assert told.heard() == []


def test_the_bound_of_one_user_is_nobody_elses(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    [company] = told.world.sql("select company_id from public.wapi_instances")
    other = told.world.user(company["company_id"])
    filled(told, user, 7, -600)
    told.falls(0)
    assert (told.heard(user), told.heard(other)) == ([], [(0, "down")])


def test_that_a_line_is_mute_is_told_to_each_as_soon_as_there_is_a_place(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    [row] = told.world.sql("select company_id from public.wapi_instances")
    other = told.world.user(row["company_id"])
    filled(told, user, 7, -600)
    [mute] = told.world.sql(
        "insert into public.instance_mutes (instance_id, external_id, company_id, unit, proof, silent_since, since, suspected_at)"
        " values (%s, %s, %s, 'Moema', 'sends', %s, %s, %s) returning id",
        told.line.id, told.line.external_id, row["company_id"], *[moment(-60)] * 3,
    )  # fmt: skip
    tell = f"select public.tell_mute('{mute['id']}', %(texts)s, {POLICY}, %(now)s) as answer"
    for at in (0, 5, DAY - 601, DAY - 600, DAY):
        told._call(tell, at, "ALIVE")
    bells = told.world.bells(kind="instance_mute")
    assert [(bell["user_id"], minutes(bell["created_at"])) for bell in bells] == [(other, 0), (user, DAY - 600)]


def test_who_joins_a_company_whose_line_is_unstable_hears_of_it_when_it_lasts_and_not_before(
    user_and_told: tuple[UUID, Told],
) -> None:
    _, told = user_and_told
    unstable(told)
    told.rises(5)
    [row] = told.world.sql("select company_id from public.wapi_instances")
    joined = told.world.user(row["company_id"])
    told.falls(6)
    told.sweeps_until(6, 20, each=1)
    assert told.heard(joined) == []
    told.sweeps(21)
    assert told.heard(joined) == [(21, "down_lasting")]


def test_subscriptions_take_no_place(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    filled(told, user, 7, -600)
    told.world.sql("update public.notices set kind = 'subscription'")
    told.falls(0)
    assert told.heard() == [(0, "down")]


# Reminders


def test_a_line_down_for_ten_days_is_told_again_after_one_and_three_days_and_then_weekly(
    user_and_told: tuple[UUID, Told],
) -> None:
    user, told = user_and_told
    [row] = told.world.sql("select company_id from public.wapi_instances")
    told.falls(0)
    joined: dict[float, UUID] = {}
    for at in range(5, 11 * DAY, 5):
        if at in (10 * HOUR, 36 * HOUR, 4 * DAY):
            joined[at] = told.world.user(row["company_id"])
        if at == 3 * DAY:
            told.world.sql("update public.notifications set read = true")
        if at % 30 == 5 or at % DAY < 10:
            told.sweeps(at)

    reminders = [(0, "down"), (DAY, "still_down"), (3 * DAY, "still_down"), (10 * DAY, "still_down")]
    assert told.heard(user) == reminders
    assert told.heard(joined[10 * HOUR]) == reminders[1:]
    for at, who in joined.items():
        heard = told.heard(who)
        assert heard[0][0] - at <= DAY
        assert {kind for _, kind in heard} == {"still_down"}
    assert told.heard(joined[36 * HOUR])[1:] == reminders[2:]
    assert told.heard(joined[4 * DAY])[1:] == reminders[3:]
    assert told.messages(user)[1:3] == [
        "WhatsApp da unidade Moema continua desconectado há 1 dia. Reconecte via QR Code em Configurações.",
        "WhatsApp da unidade Moema continua desconectado há 3 dias. Reconecte via QR Code em Configurações.",
    ]
    assert [bell["type"] for bell in told.world.bells(user=user)][1:] == ["instance_still_disconnected"] * 3

    told.rises(11 * DAY)
    assert {told.heard(who)[-1] for who in (user, *joined.values())} == {(11 * DAY, "back")}


def test_a_reminder_of_a_refused_token_says_so(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    told.falls(0, text="token_refused")
    told.sweeps_until(5, DAY + 5, each=DAY)
    told.sweeps(DAY + 5)
    assert told.messages(user)[-1] == (
        "WhatsApp da unidade Moema continua desconectado há 1 dia: o provedor recusou o token da instância. Fale com o suporte."
    )


def test_the_reminders_of_an_episode_count_from_its_first_notice(told: Told) -> None:
    unstable(told)
    told.sweeps_until(5, DAY + 10)
    # The voltou of the fall at 0 ended the one before.
    assert told.heard()[-2:] == [(20, "down_lasting"), (DAY + 5, "still_down")]


def test_a_line_down_since_before_the_adoption_is_told_to_nobody_until_it_has_lived(told: Told) -> None:
    told.world.set(told.line, "status = 'disconnected'")
    told._call(
        "select public.take_instance_down(i, public.lock_health(i.id), 'disconnected', %(now)s, %(now)s, 'adoption', null,"
        " %(texts)s, jsonb_populate_record(null::public.evidence, %(evidence)s),"
        f" {POLICY}, %(now)s) as answer from public.wapi_instances i where i.id = %(line)s",
        0,
        "DISCONNECTED",
    )
    told.sweeps_until(5, 4 * DAY, each=HOUR)
    assert told.heard() == []
    told.rises(4 * DAY)
    told.falls(4 * DAY + 10)
    assert told.heard() == [(4 * DAY + 10, "down")]


# People, companies, pauses


def test_nobody_hears_anything_of_a_line_that_was_paused_while_its_voltou_waited(told: Told) -> None:
    unstable(told)
    told.rises(5)
    told.world.set(told.line, "is_active = false")
    told.sweeps_until(5, DAY)
    told.world.set(told.line, "is_active = true")
    told.sweeps_until(DAY, 2 * DAY, each=HOUR)
    assert told.heard()[-1] == (4, "unstable")


def test_a_pause_answers_what_was_told_before_it(told: Told) -> None:
    told.falls(0)
    told.rises(1)
    told.falls(100)
    told.world.set(told.line, "is_active = false")
    told.world.set(told.line, "is_active = true, status = 'connected', bad_since = null, tell_at = %s", moment(105))
    told.sweeps_until(105, DAY, each=HOUR)
    assert told.heard()[-1] == (100, "down")


def test_who_left_hears_neither_voltou_nor_reminder(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    told.falls(0)
    told.world.sql("delete from public.user_companies where user_id = %s", user)
    told.sweeps_until(DAY, 2 * DAY, each=HOUR)
    told.rises(2 * DAY)
    assert told.heard() == [(0, "down")]


def test_the_new_company_of_an_unstable_line_hears_of_its_next_fall_and_the_old_one_nothing(
    user_and_told: tuple[UUID, Told],
) -> None:
    user, told = user_and_told
    unstable(told)
    told.rises(5)
    other = told.world.company()
    theirs = told.world.user(other)
    told.world.set(told.line, "company_id = %s", other)
    told.falls(6)
    told.sweeps_until(7, 30)
    assert (told.heard(user)[-1], told.heard(theirs)) == ((4, "unstable"), [(6, "down")])
    assert [each["answered_at"] is not None for each in told.world.outages(told.line)] == [True] * 3 + [False]
    told.rises(31)
    told.sweeps_until(32, DAY)
    assert (told.heard(user)[-1], told.heard(theirs)) == ((4, "unstable"), [(6, "down"), (31, "back")])


def test_a_line_that_moves_while_it_is_down_is_told_to_its_new_company_and_comes_back_to_that_alone(
    user_and_told: tuple[UUID, Told],
) -> None:
    user, told = user_and_told
    told.falls(0)
    other = told.world.company()
    theirs = told.world.user(other)
    told.world.set(told.line, "company_id = %s", other)
    told.sweeps_until(5, 30)
    told.falls(31)
    told.sweeps(32)
    told.rises(40)
    assert (told.heard(user), told.heard(theirs)) == ([(0, "down")], [(31, "down"), (40, "back")])


def test_a_company_that_had_nobody_is_told_as_soon_as_somebody_is_there(world: World) -> None:
    company = world.company()
    told = Told(world, world.line(company, status="connected"))
    for at in (0, 5, 10):
        told.falls(at)
        told.sweeps(at)
    user = world.user(company)
    told.falls(15)
    told.sweeps_until(15, 15 + DAY, each=HOUR)
    assert told.heard(user) == [(15, "down"), (15 + DAY, "still_down")]


def test_why_a_late_notice_rang_is_what_its_outage_was_found_by(told: Told) -> None:
    unstable(told)
    told.sweeps(19)
    told.rises(20)
    told.sweeps(80)
    rows = told.world.sql(
        "select n.kind, e.reason, e.details ->> 'observation' as observation, e.details ->> 'later' as later"
        " from public.notices n join public.instance_events e on e.id = n.event_id where e.kind = 'users_told' order by n.id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("down_lasting", "disconnected", "DISCONNECTED", "down_lasting"), ("back", "alive", "ALIVE", "back"),
    ]  # fmt: skip


def test_two_sweeps_at_once_tell_what_waits_once(world: World) -> None:
    company = world.company(users=3)
    lines = [Told(world, world.line(company, status="connected")) for _ in range(8)]
    for told in lines:
        told.falls(0)
    barrier = threading.Barrier(2)

    def sweep() -> None:
        with psycopg.connect(world.stack.database_url, autocommit=True, row_factory=dict_row) as connection:
            barrier.wait()
            connection.execute(
                f"select public.tell_what_is_due(%(texts)s, 100, {POLICY}, %(now)s)",
                {"texts": Jsonb(TEXTS), "policy": POLICY_ROW, "now": moment(DAY + 5)},
            )

    for at_once in ([threading.Thread(target=sweep) for _ in range(2)] for _ in range(2)):
        for thread in at_once:
            thread.start()
        for thread in at_once:
            thread.join()
    for told in lines:
        assert sorted(told.heard()) == [(0, "down")] * 3 + [(DAY + 5, "still_down")] * 3


def test_a_line_that_somebody_holds_is_told_by_the_next_sweep(told: Told) -> None:
    told.falls(0)
    with psycopg.connect(told.world.stack.database_url) as screen:
        screen.execute("select from public.wapi_instances where id = %s for update", [told.line.id])
        told.world.sql("set statement_timeout = '60s'")  # a sweep that waited for it would do so for ever
        assert told.sweeps(DAY + 5)["seen"] == 0
    told.sweeps(DAY + 6)
    assert told.heard()[-1] == (DAY + 6, "still_down")


def test_one_line_that_cannot_be_told_costs_the_others_nothing(world: World) -> None:
    company = world.company(users=1)
    lines = [Told(world, world.line(company, status="connected")) for _ in range(2)]
    for told in lines:
        told.falls(0)
    world.sql("update public.instance_outages set told_text = 'nonsense' where instance_id = %s", lines[0].line.id)
    answer = lines[0].sweeps(DAY)
    assert {each["instance_id"]: each.get("failed") for each in answer["lines"]} == {
        str(lines[0].line.id): "22023", str(lines[1].line.id): None,
    }  # fmt: skip
    assert lines[1].heard()[-1] == (DAY, "still_down")


def test_a_reminder_that_is_refused_is_tried_again_and_an_older_one_is_not(user_and_told: tuple[UUID, Told]) -> None:
    user, told = user_and_told
    told.falls(0)
    rule = "alter table public.notifications add constraint known_type check (type in ('x', 'instance_disconnected')) not valid"
    told.world.sql(rule)
    try:
        told.sweeps(DAY)
        told.sweeps(3 * DAY)
    finally:
        told.world.sql("alter table public.notifications drop constraint known_type")
    retry = f"select public.retry_notices(%(texts)s, 100, {POLICY}, %(now)s) as answer"
    told._call(retry, 3 * DAY + 5, "ALIVE")
    assert told.heard(user) == [(0, "down"), (3 * DAY + 5, "still_down")]


def test_a_minute_is_never_too_late(told: Told) -> None:
    """Nothing is due and nothing is asked again: a line that is well leaves no clock behind."""
    told.falls(0)
    told.rises(1)
    told.sweeps(2)
    assert told.world.row(told.line)["tell_at"] is None
    told.falls(3)
    told.sweeps(4)
    assert told.world.row(told.line)["tell_at"] - moment(3) == timedelta(days=1)


def test_the_gaps_of_reminders_are_the_policys(told: Told) -> None:
    """By the function that says when: 24 h, 72 h, then a week each."""
    query = f"select jsonb_build_object('at', public.reminder_at(%(now)s, %(n)s, {POLICY})) as answer"
    moments = [minutes(datetime.fromisoformat(told._call(query, 0, "ALIVE", n=n)["at"])) / DAY for n in range(1, 6)]
    assert moments == [1, 3, 10, 17, 24]
    assert [b - a for a, b in pairwise(moments)] == [2, 7, 7, 7]
