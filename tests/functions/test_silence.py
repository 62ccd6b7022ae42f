"""Lines about which nobody can find out anything, and lines that are to be left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from world import Line, World

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def silent(world: World, line: Line) -> None:
    world.behave(line, faults={"status-instance": "500"})


def test_a_partial_outage_of_the_provider_rings_nobody_and_restarts_nothing(world: World) -> None:
    """Regression: 5 of 30 lines answer 500 for 45 min: 10 restarts, 5 bells."""
    lines = world.lines(world.company(users=1), 30)
    for line in lines[:5]:
        silent(world, line)

    for _ in range(15):
        assert world.sweep()["unknown"] == 5
        world.pass_time(5 * MINUTE)

    assert world.simulator.calls().get("restart", 0) == 0
    assert world.bells() == []
    assert {world.status(line) for line in lines} == {"connected"}
    facts = world.facts("follow_up_check", "lines.silent_together")
    assert [fact["count"] for fact in facts[-1:]] == [5]

    lines_before = len(facts)
    for _ in range(3):
        world.sweep()
        world.pass_time(5 * MINUTE)
    assert len(world.facts("follow_up_check", "lines.silent_together")) == lines_before  # said once


def test_lines_that_stay_silent_after_an_outage_of_all_are_said_once_to_the_operator(world: World) -> None:
    lines = world.lines(world.company(users=1), 12)
    for line in lines:
        silent(world, line)
    said = len(world.facts("follow_up_check", "lines.silent_together"))
    for _ in range(14):  # 70 minutes under the brake
        assert world.sweep()["braked"]
        world.pass_time(5 * MINUTE)
    for line in lines[3:]:
        world.behave(line, faults={})
    for _ in range(3):
        assert not world.sweep()["braked"]
        world.pass_time(5 * MINUTE)

    facts = world.facts("follow_up_check", "lines.silent_together")[said:]
    assert [fact["count"] for fact in facts] == [3]
    assert world.bells() == []


def test_a_line_alone_in_its_silence_is_told_after_an_hour_once_and_again_when_it_lives(world: World) -> None:
    company = world.company(users=2)
    line = world.line(company, "Jardins")
    world.lines(company, 5)
    silent(world, line)
    world.sweep()
    world.pass_time(59 * MINUTE)
    assert world.sweep()["notified"] == 0
    world.pass_time(1 * MINUTE)

    assert world.sweep()["notified"] == 2
    world.pass_time(5 * MINUTE)
    assert world.sweep()["notified"] == 0

    bells = world.bells(line)
    assert {(bell["type"], bell["data"]["reason"]) for bell in bells} == {("instance_unverified", "unverified")}
    assert all(
        bell["message"].startswith("Não conseguimos verificar o WhatsApp da unidade Jardins desde ")
        and bell["message"].endswith(". Confira no celular se as mensagens chegam.")
        for bell in bells
    )
    assert world.status(line) == "degraded"
    assert world.outages(line) == []
    assert world.restarts(line) == 0

    world.behave(line, faults={})
    assert world.sweep()["notified"] == 2
    back = world.bells(line, kind="instance_reconnected")
    assert {bell["message"] for bell in back} == {"WhatsApp da unidade Jardins foi verificado: está funcionando."}
    row = world.row(line)
    assert (row["status"], row["unverified_since"], row["unknown_since"]) == ("connected", None, None)
    assert world.sweep()["notified"] == 0


def test_a_ghost_whose_device_never_answers_is_told_after_an_hour_and_never_called_back(world: World) -> None:
    """Regression: `device` away in every sixth sweep, a ghost line: 6 false "voltou", 6 restarts."""
    company = world.company(users=1)
    line = world.line(company)
    world.lines(company, 3)
    world.behave(line, session="ghost", faults={"device": "504_html"})

    told = []
    for _ in range(14):
        told.append(world.sweep()["notified"])
        world.pass_time(5 * MINUTE)

    assert sum(told) == 1
    assert [bell["type"] for bell in world.bells(line)] == ["instance_unverified"]
    assert world.restarts(line) == 0


def test_nobody_is_told_while_no_other_line_answers(world: World) -> None:
    line = world.line(world.company(users=1))
    silent(world, line)
    world.sweep()
    world.pass_time(2 * HOUR)

    assert world.sweep()["notified"] == 0
    assert world.status(line) == "connected"


def test_a_line_that_sent_an_event_meanwhile_is_not_silent(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company)
    world.line(company)
    silent(world, line)
    world.sweep()
    world.pass_time(30 * MINUTE)
    world.event(world.message(line))
    assert world.row(line)["unknown_since"] is None
    world.sweep()
    world.pass_time(31 * MINUTE)

    assert world.sweep()["notified"] == 0


def test_an_event_tells_that_a_line_whose_silence_was_told_works(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company)
    world.line(company)
    silent(world, line)
    world.sweep()
    world.pass_time(HOUR)
    assert world.sweep()["notified"] == 1

    world.event(world.message(line))

    assert [bell["type"] for bell in world.bells(line)] == ["instance_unverified", "instance_reconnected"]
    assert world.status(line) == "connected"


def test_a_death_after_a_told_silence_is_told_as_such_and_one_word_answers_both(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company)
    world.line(company)
    silent(world, line)
    world.sweep()
    world.pass_time(HOUR)
    world.sweep()
    world.behave(line, faults={}, session="disconnected", restart="refused")
    world.pass_time(5 * MINUTE)
    world.sweep()
    [outage] = world.outages(line)
    assert outage["told_at"] is not None
    world.behave(line, session="alive")
    world.pass_time(5 * MINUTE)
    world.sweep()

    types = [bell["type"] for bell in world.bells(line)]
    assert types == ["instance_unverified", "instance_disconnected", "instance_reconnected"]
    assert world.row(line)["unverified_since"] is None


@pytest.mark.parametrize("count", [1, 12])
def test_three_blind_sweeps_in_a_row_are_an_error_of_their_own_and_said_once(world: World, count: int) -> None:
    lines = world.lines(world.company(users=1), count)
    world.simulator.set_provider(down="500")
    before = len(world.facts("follow_up_check", "sweep.blind"))

    for blind in (0, 0, 1, 1):
        world.sweep()
        assert len(world.facts("follow_up_check", "sweep.blind")) - before == blind

    ended = len(world.facts("follow_up_check", "sweep.sees_again"))
    world.simulator.set_provider(down=None)
    world.sweep()
    assert len(world.facts("follow_up_check", "sweep.sees_again")) == ended + 1
    assert {world.status(line) for line in lines} == {"connected"}


def test_a_sweep_without_a_line_says_nothing_about_blindness(world: World) -> None:
    line = world.line(world.company())
    silent(world, line)
    world.sweep()
    world.sweep()
    world.set(line, "is_active = false")
    world.sweep()
    [state] = world.sql("select blind_sweeps from public.provider_state")
    assert state["blind_sweeps"] == 2


# Left alone


@pytest.mark.parametrize("word", ["connecting", "qr", "pairing", "awaiting_qr"])
def test_a_line_that_is_being_paired_is_left_alone_for_half_an_hour(world: World, word: str) -> None:
    """Regression: a QR code being scanned: restarted under the user's hands."""
    line = world.line(world.company(users=1), status=word, session="disconnected")

    assert world.sweep()["dead"] == 1
    world.pass_time(29 * MINUTE)
    world.sweep()
    assert (world.restarts(line), world.bells(), world.outages(line)) == (0, [], [])
    assert world.status(line) == word

    world.pass_time(1 * MINUTE)
    assert world.sweep()["notified"] == 1  # pairing has failed: read as disconnected
    assert world.restarts(line) == 0  # somebody may be scanning again


def test_the_half_hour_of_pairing_begins_anew_only_after_another_word(world: World) -> None:
    line = world.line(world.company(users=1), status="qr", session="disconnected")
    world.sweep()
    world.pass_time(20 * MINUTE)
    world.set(line, "status = 'pairing'")
    world.sweep()
    world.pass_time(10 * MINUTE)
    assert world.sweep()["notified"] == 1

    other = world.line(world.company(users=1), status="qr", session="alive")
    world.sweep()
    assert world.status(other) == "connected"  # its good news counts
    assert world.row(other)["pairing_since"] is not None
    world.sweep()
    assert world.row(other)["pairing_since"] is None


def test_a_line_that_never_was_connected_is_left_alone_until_it_lives(world: World) -> None:
    line = world.line(world.company(users=1), status="disconnected", session="disconnected", phone_number=None)

    for _ in range(3):
        assert world.sweep()["restarted"] == 0
        world.pass_time(HOUR)
    assert (world.bells(), world.outages(line)) == ([], [])

    world.behave(line, session="alive")
    world.sweep()
    row = world.row(line)
    assert (row["status"], row["phone_number"]) == ("connected", line.phone)


@pytest.mark.parametrize("opener", ["event", "screen"])
def test_the_first_restart_waits_ten_minutes_when_an_event_or_a_screen_opened_the_outage(
    world: World, opener: str
) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    if opener == "event":
        world.event(world.disconnection(line))
    else:
        world.set(line, "status = 'disconnected'")
    world.sweep()
    assert len(world.bells(line)) == 1
    world.pass_time(9 * MINUTE)
    assert world.sweep()["restarted"] == 0
    world.pass_time(1 * MINUTE)
    assert world.sweep()["restarted"] == 1


def test_a_screen_that_writes_connected_over_an_outage_begins_no_new_restarts(world: World) -> None:
    """Regression: the spacing held only while the row said disconnected."""
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="accepted_no_effect")
    for minutes in (0, 30, 60, 120):
        world.pass_time(minutes * MINUTE)
        world.set(line, "status = 'connected'")
        world.sweep()
    assert world.restarts(line) == 4

    for _ in range(6):
        world.pass_time(35 * MINUTE)
        world.set(line, "status = 'connected'")
        world.sweep()
    assert world.restarts(line) == 4
    assert len(world.bells(line)) == 1


@pytest.mark.parametrize(
    "how", ["status = 'qr'", "status = 'disconnected', phone_number = null, connected_at = null", "asleep"]
)
def test_a_disconnection_of_a_line_that_is_left_alone_is_recorded_without_effect(world: World, how: str) -> None:
    company = world.company(users=1)
    line = world.line(company, session="disconnected")
    if how == "asleep":
        world.sql("update public.companies set is_active = false where id = %s", company)
    else:
        world.set(line, how)
    status = world.status(line)

    assert world.event(world.disconnection(line)) == "left_alone"

    assert (world.status(line), world.bells(), world.outages(line)) == (status, [], [])
    assert world.audit(line) == ["disconnection_ignored"]
    world.event(world.message(line))
    assert world.status(line) == "connected"  # its good news counts


def test_lines_of_a_company_that_is_not_active_are_left_alone(world: World) -> None:
    company = world.company(users=1)
    down = world.line(company, session="disconnected")
    world.behave(down, restart="refused")
    world.sweep()
    world.sql("update public.companies set is_active = false where id = %s", company)
    other = world.line(world.company(users=1))
    world.simulator.forget_calls()

    answer = world.sweep()

    assert (answer["checked"], answer["left"]) == (1, 0)
    assert [outage["closed_as"] for outage in world.outages(down)] == ["paused"]
    assert set(world.simulator.calls(other.external_id)) == {"status-instance", "device"}
    assert world.simulator.calls(down.external_id) == {}


@pytest.mark.parametrize("column", ["instance_id", "instance_token"])
@pytest.mark.parametrize("value", ["null", "''", "'  '"])
def test_a_line_that_nobody_can_ask_about_is_counted_and_named_once(world: World, column: str, value: str) -> None:
    company = world.company()
    line = world.line(company)
    world.line(company)
    world.set(line, f"{column} = {value}")
    before = len(world.facts("follow_up_check", "lines.unwatched"))

    assert [world.sweep()["unwatched"] for _ in range(2)] == [1, 1]

    facts = world.facts("follow_up_check", "lines.unwatched")
    assert len(facts) == before + 1
    assert facts[-1]["instances"] == [str(line.id)]
    runs = world.sql("select unwatched, left_due from public.health_check_runs")
    assert {(run["unwatched"], run["left_due"]) for run in runs} == {(1, 0)}


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "12026-01-01", "2999-01-01"])
def test_a_moment_that_cannot_be_costs_its_row_nothing_and_is_named_once(world: World, moment: str) -> None:
    """Regression: `connected_at` ahead: a blind line; `last_event_at` = infinity: every sweep 500 for all companies."""
    company = world.company(users=1)
    line = world.line(company, session="disconnected")
    others = world.lines(company, 2)
    world.set(line, "connected_at = %s, last_health_check = %s", moment, moment)
    world.behave(line, restart="refused")
    before = len(world.facts("follow_up_check", "instance.odd_moments"))

    answer = world.sweep()

    assert (answer["checked"], answer["errors"], answer["notified"]) == (3, 0, 1)
    world.sweep()
    facts = world.facts("follow_up_check", "instance.odd_moments")[before:]
    assert next(fact["instance"] for fact in facts) == str(line.id)
    assert sum("connected_at" in fact["fields"] for fact in facts) <= 2
    assert {world.status(other) for other in others} == {"connected"}


def test_a_look_that_shows_another_number_writes_it_and_says_so(world: World) -> None:
    line = world.line(world.company(), phone_number="5511988887777")
    same = world.line(world.company(), phone_number=None)
    world.set(same, "phone_number = %s", f"+{same.phone[:2]} ({same.phone[2:4]}) {same.phone[4:]}")
    formatted = world.row(same)["phone_number"]

    world.sweep()
    world.sweep()

    assert world.row(line)["phone_number"] == line.phone
    assert world.audit(line) == ["phone_changed"]
    assert (world.row(same)["phone_number"], world.audit(same)) == (formatted, [])


def test_a_line_that_moves_while_it_is_down_is_told_to_its_new_company_and_to_nobody_elses(world: World) -> None:
    old, new = world.company(users=1), world.company(users=1)
    line = world.line(old, session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.set(line, "company_id = %s", new)
    world.pass_time(5 * MINUTE)
    world.sweep()
    world.behave(line, session="alive")
    world.sweep()

    told = [(bell["company_id"], bell["type"]) for bell in world.bells(line)]
    assert told == [(old, "instance_disconnected"), (new, "instance_disconnected"), (new, "instance_reconnected")]
    [outage] = world.outages(line)
    assert outage["company_id"] == new


def test_with_a_third_of_the_fleet_dead_the_last_company_hears_in_time(world: World) -> None:
    """Regression: with 1,000 of 3,000 lines dead the last company would hear after 80 min."""
    crowded, lonely = world.company("Rede", users=1), world.company("Casa", users=1)
    world.lines(crowded, 44)
    dead = world.lines(crowded, 20, session="disconnected")
    last = world.line(lonely, session="disconnected")
    world.simulator.set_lines([line.external_id for line in [*dead, last]], restart="accepted_no_effect")
    order = world.simulator.restarts

    world.sweep()

    assert world.status(last) == "disconnected"
    # Its turn came with the first, not behind twenty.
    assert last.external_id in [restart["external_id"] for restart in order()["restarts"][:16]]


def test_a_company_that_was_not_active_for_a_month_wakes_without_a_past(world: World) -> None:
    company = world.company(users=1)
    world.lines(world.company(), 3)
    doubtful, bad = world.line(company), world.line(company, session="disconnected")
    silent(world, doubtful)
    world.behave(bad, restart="refused")
    world.sweep()
    before = len(world.bells())
    world.sql("update public.companies set is_active = false where id = %s", company)
    world.sweep()
    world.pass_time(30 * 24 * HOUR)
    world.sql("update public.companies set is_active = true where id = %s", company)

    for _ in range(3):
        world.sweep()
        world.pass_time(5 * MINUTE)

    assert world.bells(doubtful) == []
    assert world.row(doubtful)["unknown_looks"] == 3
    [_, outage] = world.outages(bad)
    assert outage["opened_at"] - outage["started_at"] < HOUR
    assert len(world.bells()) - before == 1  # that it is down, for it is
