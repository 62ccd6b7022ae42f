"""The sweep through the served function, the real PostgREST and the simulator: each row of the decision table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from loopback import http
from waiting import until
from world import SECRET

if TYPE_CHECKING:
    from world import World

MINUTE = timedelta(minutes=1)
DISCONNECTED = "WhatsApp da unidade Jardins perdeu conexão. Reconecte via QR Code em Configurações."
REFUSED = "WhatsApp da unidade Jardins parou: o provedor recusou o token da instância. Fale com o suporte."


def test_a_healthy_line_stays_connected_and_its_look_is_recorded(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company)
    before = world.row(line)

    answer = world.sweep()

    assert (answer["checked"], answer["alive"], answer["restarted"], answer["left"]) == (1, 1, 0, 0)
    after = world.row(line)
    assert after["status"] == "connected"
    assert after["last_health_check"] > before["last_health_check"]
    assert after["last_alive_at"] is not None
    assert after["connected_at"] == before["connected_at"]
    assert after["health_lease_until"] is None
    assert world.outages(line) == []
    assert world.bells() == []


@pytest.mark.parametrize("session", ["disconnected", "ghost", "ghost_401"])
def test_a_dead_line_that_a_restart_cures_disturbs_nobody(world: World, session: str) -> None:
    company = world.company(users=2)
    line = world.line(company, session=session)

    answer = world.sweep()

    assert (answer["dead"], answer["restarted"], answer["recovered"], answer["failed"]) == (1, 1, 1, 0)
    assert world.restarts(line) == 1
    row = world.row(line)
    assert (row["status"], row["auto_recovery_attempts"], row["bad_since"]) == ("connected", 1, None)
    [outage] = world.outages(line)
    assert (outage["closed_as"], outage["told_at"], outage["restarts"]) == ("recovered", None, 1)
    assert world.bells() == []
    assert world.audit(line) == ["outage_opened", "restart_requested", "outage_closed", "restart_recovered"]


@pytest.mark.parametrize(
    "restart",
    ["refused", "refused_400", "accepted_no_effect", "http_500", "hang"],
    ids=lambda how: f"the restart is {how}",
)
def test_a_restart_that_does_not_help_marks_the_line_and_rings_every_users_bell(world: World, restart: str) -> None:
    company = world.company(users=3)
    line = world.line(company, "Jardins", session="disconnected", auto_recovery_attempts=2)
    world.behave(line, restart=restart)

    answer = world.sweep()

    assert (answer["restarted"], answer["failed"], answer["disconnected"], answer["notified"]) == (1, 1, 1, 3)
    row = world.row(line)
    assert (row["status"], row["auto_recovery_attempts"]) == ("disconnected", 0)
    [outage] = world.outages(line)
    assert outage["closed_at"] is None
    bells = world.bells(line)
    assert {bell["message"] for bell in bells} == {DISCONNECTED}
    assert {(bell["type"], bell["title"]) for bell in bells} == {("instance_disconnected", "WhatsApp desconectado")}
    assert len({bell["user_id"] for bell in bells}) == 3
    assert bells[0]["company_id"] == company
    assert bells[0]["data"] == {
        "instance_id": str(line.id),
        "instance_name": "Jardins",
        "outage_id": str(outage["id"]),
        "reason": "disconnected",
        "action": "scan_qr",
        "down_since": bells[0]["data"]["down_since"],
    }


def test_a_restart_whose_connection_breaks_is_not_sent_again(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, faults={"restart": "reset"})

    assert world.sweep()["failed"] == 1
    assert world.restarts(line) == 1


@pytest.mark.parametrize("how", ["empty_200", "non_json_200"])
def test_a_restart_with_an_unreadable_answer_is_judged_by_the_looks(world: World, how: str) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart=how)

    assert world.sweep()["recovered"] == 1
    assert world.status(line) == "connected"


def test_a_dead_line_restarted_lately_is_degraded_and_told_after_ten_minutes(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company, session="disconnected")
    world.set(line, "last_restart_at = now() - interval '10 minutes'")

    assert world.sweep()["skipped"] == 1
    assert world.restarts(line) == 0
    row = world.row(line)
    assert (row["status"], row["degraded_since"] is not None) == ("degraded", True)
    assert [outage["closed_at"] for outage in world.outages(line)] == [None]
    assert world.bells() == []

    world.pass_time(9 * MINUTE)
    assert world.sweep()["skipped"] == 1
    assert world.bells() == []

    world.pass_time(1 * MINUTE)
    assert world.sweep()["disconnected"] == 1
    assert world.status(line) == "disconnected"
    assert len(world.bells(line)) == 1
    assert len(world.outages(line)) == 1


def test_a_degraded_line_is_restarted_when_the_cool_down_is_over(world: World) -> None:
    line = world.line(world.company(users=1), status="degraded", session="disconnected")
    world.set(line, "last_restart_at = now() - interval '30 minutes', degraded_since = now() - interval '1 minute'")

    assert world.sweep()["recovered"] == 1
    row = world.row(line)
    assert (row["status"], row["degraded_since"]) == ("connected", None)


def test_a_degraded_line_that_lives_again_by_itself_closes_its_outage_in_silence(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_restart_at = now()")
    world.sweep()
    world.behave(line, session="alive")

    answer = world.sweep()

    assert (answer["alive"], answer["restored"], answer["restarted"]) == (1, 0, 0)
    assert world.status(line) == "connected"
    assert [outage["closed_as"] for outage in world.outages(line)] == ["alive"]
    assert world.bells() == []


@pytest.mark.parametrize("session", ["token_refused", "token_refused_403"])
def test_a_refused_token_is_told_with_its_own_text_and_never_restarted(world: World, session: str) -> None:
    line = world.line(world.company(users=2), "Jardins", session=session)

    answer = world.sweep()

    assert (answer["refused"], answer["restarted"], answer["disconnected"]) == (1, 0, 1)
    assert world.restarts(line) == 0
    bells = world.bells(line)
    assert {bell["message"] for bell in bells} == {REFUSED}
    assert {(bell["type"], bell["data"]["action"]) for bell in bells} == {("instance_disconnected", "check_token")}

    assert world.sweep()["disconnected"] == 0
    assert len(world.bells(line)) == 2


def test_a_line_unknown_to_the_provider_is_restarted_then_told(world: World) -> None:
    line = world.line(world.company(users=1), session="not_found")

    answer = world.sweep()

    assert (answer["dead"], answer["restarted"], answer["failed"]) == (1, 1, 1)
    assert world.status(line) == "disconnected"
    [bell] = world.bells(line)
    assert bell["message"].endswith("parou: a instância não existe mais no provedor. Fale com o suporte.")
    assert bell["data"]["action"] == "call_support"


def test_a_disconnected_line_that_lives_again_is_restored_and_who_was_told_hears_it(world: World) -> None:
    company = world.company()
    stays, leaves = world.user(company), world.user(company)
    line = world.line(company, "Jardins", session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.sql("delete from public.user_companies where user_id = %s", leaves)
    joined = world.user(company)
    world.pass_time(42 * MINUTE)
    world.behave(line, session="alive")

    answer = world.sweep()

    assert (answer["restored"], answer["notified"]) == (1, 1)
    row = world.row(line)
    assert (row["status"], row["status_reason"]) == ("connected", None)
    assert row["connected_at"] is not None
    [outage] = world.outages(line)
    assert outage["closed_as"] == "alive"
    [bell] = world.bells(line, kind="instance_reconnected")
    assert bell["user_id"] == stays
    assert joined not in {each["user_id"] for each in world.bells(line)}
    assert bell["title"] == "WhatsApp reconectado"
    assert bell["message"] == "WhatsApp da unidade Jardins voltou a funcionar depois de 42 min."
    assert bell["data"]["down_seconds"] >= 42 * 60
    assert bell["data"]["action"] is None


def test_an_outage_has_restarts_now_after_30_60_and_120_minutes_then_one_a_day_and_one_bell(world: World) -> None:
    """Regression: logged-out lines were restarted 48 times a day."""
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="accepted_no_effect")
    restarts = []
    for minutes in (0, 29, 1, 59, 1, 119, 1, 1439, 1, 1439, 1):
        world.pass_time(minutes * MINUTE)
        world.sweep()
        restarts.append(world.restarts(line))

    assert restarts == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert world.status(line) == "disconnected"
    assert [bell["type"] for bell in world.bells(line)] == ["instance_disconnected", "instance_still_disconnected"]
    assert len(world.outages(line)) == 1


def test_a_restart_that_cures_a_told_line_restores_it_and_says_so(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.pass_time(30 * MINUTE)
    world.behave(line, restart="works")

    assert world.sweep()["recovered"] == 1
    assert world.status(line) == "connected"
    assert [outage["closed_as"] for outage in world.outages(line)] == ["recovered"]
    assert len(world.bells(line, kind="instance_reconnected")) == 1


@pytest.mark.parametrize("fault", ["500", "504_html", "404_html_cannot_get", "200_html", "hang", "connected_string"])
def test_a_look_that_cannot_find_out_moves_nothing_but_its_own_count(world: World, fault: str) -> None:
    """Regressions: all lines of two companies red (gateway 504); every line dead at launch (an unknown route's 404)."""
    line = world.line(world.company(users=1))
    world.behave(line, faults={"status-instance": fault})
    before = world.row(line)

    for count in (1, 2, 3, 4):
        answer = world.sweep()
        assert (answer["unknown"], answer["restarted"], answer["disconnected"]) == (1, 0, 0)
        assert world.row(line)["unknown_looks"] == count

    after = world.row(line)
    assert after["last_health_check"] > before["last_health_check"]
    assert (after["status"], after["bad_since"], after["last_alive_at"]) == ("connected", None, before["last_alive_at"])
    assert world.outages(line) == []
    assert world.bells() == []


def test_a_restart_after_which_nobody_can_say_leaves_the_line_degraded_for_the_next_sweep(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="hang")
    with ThreadPoolExecutor() as threads:
        sweep = threads.submit(world.sweep)
        until(lambda: world.restarts(line) == 1)
        world.behave(line, faults={"status-instance": "500"})
        answer = sweep.result()

    assert (answer["restarted"], answer["unverified"], answer["disconnected"]) == (1, 1, 0)
    assert world.status(line) == "degraded"
    assert world.bells() == []


def test_a_raw_status_of_the_platform_is_read_as_disconnected_and_told_now(world: World) -> None:
    """Regression: rows nobody checked again (the screen wrote raw statuses, the query filtered by status)."""
    company = world.company(users=1)
    line = world.line(company, status="instance_not_found", session="disconnected")
    world.behave(line, restart="refused")

    answer = world.sweep()

    assert (answer["restarted"], answer["notified"]) == (0, 1)
    assert world.status(line) == "disconnected"
    [outage] = world.outages(line)
    assert (outage["opened_by"], outage["told_at"] is not None) == ("screen", True)
    world.pass_time(10 * MINUTE)
    assert world.sweep()["restarted"] == 1
    assert len(world.bells(line)) == 1


def test_the_very_first_look_at_a_dead_disconnected_line_opens_its_outage_in_silence(world: World) -> None:
    line = world.line(world.company(users=1), status="disconnected", session="disconnected", seen_before=False)
    world.behave(line, restart="refused")

    assert world.sweep()["restarted"] == 1
    for _ in range(2):
        world.pass_time(6 * MINUTE)
        world.sweep()

    assert len(world.outages(line)) == 1
    assert world.bells() == []


def test_a_flapping_lines_next_death_is_told_before_it_is_restarted(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected", auto_recovery_attempts=3)

    answer = world.sweep()

    assert (answer["disconnected"], answer["restarted"], answer["recovered"], answer["notified"]) == (1, 1, 1, 2)
    assert world.audit(line) == [
        "outage_opened", "status_changed", "restart_requested", "status_changed", "restart_recovered",
    ]  # fmt: skip
    row = world.row(line)
    assert (row["status"], row["auto_recovery_attempts"]) == ("connected", 4)
    assert len(world.bells(line, kind="instance_disconnected")) == 1


def test_a_day_of_life_after_the_last_restart_puts_the_attempts_back_to_zero(world: World) -> None:
    line = world.line(world.company(users=1), auto_recovery_attempts=3)
    world.set(line, "last_restart_at = now() - interval '23 hours'")
    world.sweep()
    assert world.row(line)["auto_recovery_attempts"] == 3

    world.pass_time(timedelta(hours=1, seconds=1))
    world.sweep()
    assert world.row(line)["auto_recovery_attempts"] == 0


def test_a_death_within_30_minutes_of_a_silent_cure_reopens_that_outage(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    assert world.sweep()["recovered"] == 1
    world.pass_time(20 * MINUTE)
    world.behave(line, session="disconnected")

    assert world.sweep()["skipped"] == 1

    [outage] = world.outages(line)
    assert (outage["closed_at"], outage["restarts"]) == (None, 1)
    assert "outage_reopened" in world.audit(line)


def test_a_paused_line_is_neither_looked_at_nor_told_and_its_outage_closes_at_once(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.set(line, "is_active = false")

    assert [outage["closed_as"] for outage in world.outages(line)] == ["paused"]
    world.simulator.forget_calls()
    world.pass_time(60 * MINUTE)
    assert world.sweep()["checked"] == 0
    assert world.simulator.calls(line.external_id) == {}

    world.set(line, "is_active = null")
    assert world.sweep()["checked"] == 1


def test_deleting_a_line_keeps_what_people_were_told_and_the_next_sweep_closes_its_outage(world: World) -> None:
    line = world.line(world.company(users=1), "Jardins", session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()

    world.sql("delete from public.wapi_instances where id = %s", line.id)
    assert [outage["closed_as"] for outage in world.outages(line)] == [None]
    world.sweep()

    [outage] = world.outages(line)
    assert (outage["closed_as"], outage["unit"]) == ("deleted", "Jardins")
    assert len(world.bells(line)) == 1


def test_two_units_of_one_company_down_at_once_are_two_bells(world: World) -> None:
    """Regression: the second unit went down in silence ("already notified this company in 6 h")."""
    company = world.company(users=2)
    down = world.lines(company, 2, session="disconnected")
    for line in down:
        world.behave(line, restart="refused")

    assert world.sweep()["notified"] == 4
    assert [len(world.bells(line)) for line in down] == [2, 2]


def test_a_user_of_two_companies_hears_only_what_is_theirs(world: World) -> None:
    """Regression: users got other companies' alerts."""
    mine, also_mine, foreign = world.company("A"), world.company("B"), world.company("C")
    both, one, stranger = world.user(mine, also_mine), world.user(mine), world.user(foreign)
    down = world.line(mine, session="disconnected")
    world.line(also_mine)
    world.behave(down, restart="refused")

    world.sweep()

    assert {bell["user_id"] for bell in world.bells()} == {both, one}
    assert world.bells(user=stranger) == []


def test_a_company_without_users_is_no_error_and_is_logged(world: World) -> None:
    line = world.line(world.company(), session="disconnected")
    world.behave(line, restart="refused")

    assert world.sweep()["errors"] == 0
    assert world.status(line) == "disconnected"
    assert str(line.id) in {fact["instance"] for fact in world.facts("follow_up_check", "notice.without_recipients")}


@pytest.mark.parametrize(
    ("company", "phone", "name"),
    [
        ("Buffet Alegria", "+55 (11) 90000-0001", "Buffet Alegria (final 0001)"),
        ("Buffet Alegria", None, "Buffet Alegria"),
        (" ", "5511900000001", None),
    ],
)
def test_a_line_without_a_unit_goes_by_company_and_last_digits_else_by_its_external_id(
    world: World, company: str, phone: str | None, name: str | None
) -> None:
    line = world.line(world.company(company, users=1), session="disconnected")
    world.set(line, "unit = null, phone_number = %s", phone)
    world.behave(line, restart="refused")

    world.sweep()

    [bell] = world.bells(line)
    assert f"WhatsApp da unidade {name or line.external_id} perdeu conexão" in bell["message"]
    assert bell["data"]["instance_name"] == name or line.external_id


def test_a_ghost_that_sent_an_event_within_ten_minutes_is_left_alone(world: World) -> None:
    line = world.line(world.company(users=1), session="ghost")
    world.set(line, "last_event_at = now() - interval '9 minutes'")
    assert world.sweep()["unknown"] == 1

    world.set(line, "last_event_at = now() - interval '11 minutes'")
    assert world.sweep()["recovered"] == 1


def test_a_ghost_for_one_look_only_is_alive(world: World) -> None:
    line = world.line(world.company(users=1))
    world.behave(line, faults={"status-instance": {"fault": "401_json", "times": 1}})

    answer = world.sweep()

    assert (answer["alive"], answer["refused"], answer["restarted"]) == (1, 0, 0)


def test_a_skipped_line_is_not_forgotten_detection_does_not_wait_for_the_cool_down(world: World) -> None:
    """Regression: detection took 35 minutes (the cool-down of the restart was applied to the look)."""
    line = world.line(world.company(users=1))
    world.set(line, "last_restart_at = now() - interval '1 minute'")
    world.behave(line, session="disconnected")

    assert world.sweep()["dead"] == 1
    assert world.status(line) == "degraded"


def test_looks_have_no_side_effects_at_the_provider(world: World) -> None:
    """Regression: a monitor caused the outage it saw (it used a connect verb to verify)."""
    line = world.line(world.company(users=1))
    world.sweep()
    dead = world.line(world.company(users=1), session="disconnected")
    world.sweep()
    looks = {"status-instance": 3, "device": 3}  # one of them as a witness, before the dead line was restarted
    assert world.simulator.calls(line.external_id) == looks
    assert set(world.simulator.calls(dead.external_id)) == {"status-instance", "device", "restart"}


def test_a_line_without_token_or_external_id_is_not_looked_at(world: World) -> None:
    company = world.company()
    world.line(company, instance_token=None, at_provider=False)
    world.line(company, instance_id="", at_provider=False)

    assert world.sweep()["checked"] == 0


def test_through_wapi_send_a_restart_that_says_success_false_leads_to_disconnected_and_bells(world: World) -> None:
    """Regression: dead lines stayed green for ever, restarted every 30 minutes, nobody told (HTTP 200, success:false)."""
    company = world.company(users=2)
    line = world.line(company, session="disconnected")
    world.behave(line, restart="refused")
    healthy = world.line(company)

    answer = world.sweep(through_wapi_send=True)

    assert (answer["checked"], answer["alive"], answer["failed"], answer["notified"]) == (2, 1, 1, 2)
    assert (world.status(line), world.status(healthy)) == ("disconnected", "connected")
    assert world.simulator.calls(line.external_id).get("status-instance", 0) == 0
    assert world.simulator.calls(line.external_id)["wapi-send:restart-instance"] == 1


@pytest.mark.parametrize("restart", ["accepted_no_effect", "works"])
def test_through_wapi_send_the_looks_decide_after_an_accepted_restart(world: World, restart: str) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart=restart)

    answer = world.sweep(through_wapi_send=True)

    recovered = restart == "works"
    assert (answer["recovered"], answer["failed"]) == (int(recovered), int(not recovered))
    assert world.status(line) == ("connected" if recovered else "disconnected")


def test_each_line_is_checked_once_a_sweep_even_with_no_interval(world: World) -> None:
    lines = world.lines(world.company(), 7)

    assert world.sweep()["checked"] == 7
    assert all(world.simulator.calls(line.external_id)["status-instance"] == 1 for line in lines)


def test_every_sweep_writes_its_run(world: World) -> None:
    company = world.company(users=1)
    world.lines(company, 2)
    dead = world.line(company, session="disconnected")
    world.behave(dead, restart="refused")

    answer = world.sweep()

    [run] = world.sql("select * from public.health_check_runs")
    assert str(run["id"]) == answer["run_id"]
    assert run["finished_at"] >= run["started_at"]
    assert (run["checked"], run["braked"], run["left_due"]) == (3, False, 0)
    assert run["observations"] == {"ALIVE": 2, "DISCONNECTED": 1}
    assert (run["outcomes"]["restarted"], run["outcomes"]["failed"]) == (1, 1)
    assert run["took_ms"] > 0


def test_a_get_looks_at_no_line_and_says_what_the_address_is(world: World) -> None:
    """Regression: the preview of a pasted link restarted lines."""
    line = world.line(world.company(users=1), session="disconnected")
    url = world._served("follow_up_check").url
    assert http.get(f"{url}/health").json() == {"status": "ok"}
    for method, path in (("GET", "/"), ("HEAD", "/"), ("GET", "/anything?at=all")):
        answer = http.request(method, f"{url}{path}", headers={"X-Sweep-Helper": "x"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert ("This is follow_up_check" in answer.text) is (method == "GET")
    assert http.put(url).status_code == 405
    assert (world.simulator.calls(line.external_id), world.status(line)) == ({}, "connected")
    assert world.sql("select 1 from public.health_check_runs") == []


def test_an_outage_of_which_nobody_heard_is_told_when_the_platforms_screen_writes_the_status(world: World) -> None:
    """Regression: an untold open outage and a status written by the screen rang no bell for ever."""
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_restart_at = now() - interval '5 minutes'")
    world.sweep()
    assert world.status(line) == "degraded"
    world.set(line, "status = 'disconnected'")

    world.sweep()

    assert len(world.bells(line)) == 1
    assert len(world.outages(line)) == 1


def test_a_line_that_moved_to_another_company_rings_the_bells_of_its_people_of_today(world: World) -> None:
    before, today = world.company("A"), world.company("B")
    world.user(before)
    mine = world.user(today)
    line = world.line(before, session="disconnected")
    world.set(line, "last_restart_at = now()")
    world.sweep()
    world.set(line, "company_id = %s", today)
    world.pass_time(11 * MINUTE)
    world.sweep()

    assert [bell["user_id"] for bell in world.bells(line)] == [mine]


def test_the_connection_event_of_our_own_restart_does_not_make_it_another_kind_of_cure(world: World) -> None:
    """Regression: the outage closed as "event", so a death ten minutes later opened a new one with new restarts."""
    line = world.line(world.company(users=1), session="disconnected")
    hook = world._served("wapi_webhook").url
    world.simulator.set_provider(webhook_url=f"{hook}/", webhook_secret=SECRET)
    world.behave(line, restart_events=True)

    assert world.sweep()["recovered"] == 1

    assert [outage["closed_as"] for outage in world.outages(line)] == ["recovered"]


def test_a_user_row_without_a_user_silences_nobody_else(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company, session="token_refused")
    world.sql("alter table public.user_companies alter column user_id drop not null")
    try:
        world.sql("insert into public.user_companies (user_id, company_id) values (null, %s)", company)
        assert world.sweep()["notified"] == 1
    finally:
        world.sql("delete from public.user_companies where user_id is null")
        world.sql("alter table public.user_companies alter column user_id set not null")
    assert world.status(line) == "disconnected"
