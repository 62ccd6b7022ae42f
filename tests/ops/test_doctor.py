"""The doctor on the real stack: each finding is provoked, and a healthy project has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from doctoring import Doctor, healthy, swept
from pydantic import SecretStr
from world import OLD_SECRET, SECRET, World

from dev.facts import role_key
from ops.common.rest import Rest
from ops.doctor.cli import main

if TYPE_CHECKING:
    from uuid import UUID

ROOT = Path(__file__).parents[2]


@pytest.fixture
def doctor(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(world, monkeypatch, capsys)


def event(world: World, key: str, **columns: object) -> None:
    row = {"event_key": key, "kind": "message", "outcome": "stored", **columns}
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    world.sql(f"insert into public.wapi_webhook_events ({names}) values ({marks})", *row.values())
    world.sql(
        "update public.wapi_webhook_events set received_at = received_at - interval '20 minutes' where event_key = %s",
        key,
    )


# Health


def test_a_healthy_project_is_fine_and_nothing_of_it_is_changed(doctor: Doctor, world: World) -> None:
    healthy(world)
    rows = world.sql("select * from public.wapi_instances order by id")

    examined = doctor.examine()

    assert examined.code == 0, examined.text
    assert examined.wrong == set()
    assert {"key.good", "migrations.there", "database.fine", "function.answers", "token.accepted", "webhook.good"} <= (
        examined.checks
    )
    assert set(world.simulator.calls()) == {"status-instance", "fetch-instance"}
    assert world.sql("select * from public.wapi_instances order by id") == rows
    assert world.sql("select * from public.wapi_webhook_events") == []


def test_what_sweeps_have_recorded_of_registrations_is_shown(doctor: Doctor, world: World) -> None:
    watched, mended, failing, unread = healthy(world, 4)

    def recorded(line: Any, columns: str) -> None:
        world.sql(f"update public.instance_registrations set {columns} where instance_id = %s", line.id)

    recorded(mended, "set_at = now() - interval '2 days', ends_at = now() + interval '3 days', payment = 'paid'")
    recorded(failing, "failing_since = now() - interval '5 hours', tries = 3, cause = 'without_effect'")
    recorded(unread, "tries = 1, cause = 'http_500', read_at = null")
    world.behave(mended, expires="")
    world.behave(mended, payment_status="")

    examined = doctor.examine()
    assert "set that of 1 again in the last 7 days" in examined.finding("registration.watched")["what"]
    assert examined.ids("registration.failing") == {str(failing.id)}
    assert examined.finding("registration.failing")["concerns"][0]["detail"] == "for 5 h: without_effect"
    assert examined.ids("registration.unread") == {str(unread.id)}
    assert examined.ids("subscription.ends_soon") == {str(mended.id)}
    assert str(watched.id) not in examined.text

    world.sql("update public.instance_registrations set read_at = now() - interval '25 hours', failing_since = null")
    assert "registration.unwatched" in doctor.examine().wrong


def test_the_command_runs_as_an_operator_runs_it(doctor: Doctor, world: World) -> None:
    healthy(world)
    environment = {name: value for name, value in doctor.environment.items() if value}
    ran = subprocess.run(
        [sys.executable, "-m", "ops.doctor", "--json"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "ENV_FILE": os.devnull, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["exit_code"] == 0


def test_the_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "Exit code: 0 = fine" in capsys.readouterr().out


def test_without_a_database_address_it_says_what_was_not_checked(doctor: Doctor, world: World) -> None:
    healthy(world)
    examined = doctor.examine(DATABASE_URL=None)
    assert examined.code == 0
    unchecked = {each["what"] for each in examined.said["unchecked"]}
    assert "cron jobs of a second checker" in unchecked
    assert not any(each["failed"] for each in examined.said["unchecked"])


# Settings and key


def test_missing_settings_are_named_and_no_value_is_shown(doctor: Doctor) -> None:
    code, out, err = doctor.run(
        SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY="no-key-at-all", DATABASE_URL="mysql://u:pw@h/d"
    )
    assert code == 2
    assert "SUPABASE_URL is missing" in err
    assert "SUPABASE_SERVICE_ROLE_KEY" in err
    assert "DATABASE_URL: must look like postgresql://user:password@host" in err
    assert not {word for word in ("no-key-at-all", "pw@h") if word in out + err}


def test_without_the_webhooks_settings_the_rest_is_checked(doctor: Doctor, world: World) -> None:
    healthy(world)
    examined = doctor.examine(WEBHOOK_URL=None, WAPI_WEBHOOK_SECRETS="too-short")
    assert examined.code == 1
    assert examined.wrong == {"settings.incomplete"}
    assert "WEBHOOK_URL is missing" in examined.finding("settings.incomplete")["what"]
    assert "too-short" not in examined.text
    assert "token.accepted" in examined.checks


def test_a_database_that_is_away_is_two_and_one_clear_line(doctor: Doctor) -> None:
    code, out, err = doctor.run(SUPABASE_URL="http://127.0.0.1:1")
    assert (code, out) == (2, "")
    assert err.startswith("Supabase does not answer at SUPABASE_URL")
    assert err.count("\n") == 1
    code, out, err = doctor.run("--json", SUPABASE_URL="http://127.0.0.1:1")
    assert (code, json.loads(out)["exit_code"]) == (2, 2)


def test_a_postgrest_that_is_away_is_no_wrong_key(doctor: Doctor, world: World) -> None:
    world.stack.stop_postgrest()
    try:
        code, _, err = doctor.run()
    finally:
        world.stack.start_postgrest()
    assert code == 2
    assert "does not answer" in err


def test_a_key_of_another_role_is_a_finding(doctor: Doctor, world: World) -> None:
    examined = doctor.examine(SUPABASE_SERVICE_ROLE_KEY=world.stack.anon_key)
    assert examined.code == 1
    assert "its role is anon" in examined.finding("key.wrong")["what"]


def test_a_key_of_another_project_is_a_finding(doctor: Doctor) -> None:
    examined = doctor.examine(SUPABASE_SERVICE_ROLE_KEY=role_key("service_role", "another-project's-secret-0123456789"))
    assert examined.code == 1
    assert "refuses SUPABASE_SERVICE_ROLE_KEY" in examined.finding("key.wrong")["what"]


def test_a_new_key_is_as_good_as_an_old_one(doctor: Doctor, world: World) -> None:
    healthy(world)
    assert doctor.examine(SUPABASE_SERVICE_ROLE_KEY=world.stack.secret_key).wrong == set()
    assert doctor.examine(SUPABASE_SERVICE_ROLE_KEY="sb_secret_of_another_project").wrong == {"key.wrong"}


async def test_a_key_whose_token_is_of_the_future_for_a_moment_is_no_wrong_key() -> None:
    """Supabase's gateway makes a token of a new key at each request; about one in a hundred is refused for its time."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            return httpx.Response(401, json={"code": "PGRST303", "message": "JWT issued at future"})
        return httpx.Response(200, json=[])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        await Rest(http, "http://127.0.0.1:9", SecretStr("sb_secret_x")).reach()
    assert len(asked) == 2


def test_a_database_address_that_answers_nobody_makes_no_fine_run(doctor: Doctor, world: World) -> None:
    healthy(world)
    examined = doctor.examine(DATABASE_URL="postgresql://made-up-user:made-up-password@127.0.0.1:1/postgres")
    assert examined.code == 2
    assert [each["what"] for each in examined.said["unchecked"] if each["failed"]] == ["the database itself"]
    assert "made-up" not in examined.text


# The function at its address


def test_another_address_than_the_functions_is_a_finding(doctor: Doctor, world: World) -> None:
    healthy(world, 1)
    examined = doctor.examine(WEBHOOK_URL=world.simulator.url)
    assert {"function.away", "webhook.elsewhere"} <= examined.wrong
    assert "127.0.0.1" in examined.finding("webhook.elsewhere")["concerns"][0]["detail"]


def test_a_secret_that_the_function_does_not_know_is_a_finding(doctor: Doctor, world: World) -> None:
    healthy(world, 1)
    examined = doctor.examine(WAPI_WEBHOOK_SECRETS=f"a-secret-not-deployed-yet,{SECRET}")
    assert "number 1 of" in examined.finding("function.wrong_key")["what"]
    assert "webhook.old_key" in examined.wrong


# Lines and their tokens


def test_refused_unknown_and_missing_tokens_are_different_findings(doctor: Doctor, world: World) -> None:
    company = world.company(users=1)
    swept(world)
    refused = world.line(company, session="token_refused")
    forbidden = world.line(company, session="token_refused_403")
    gone = world.line(company, at_provider=False)
    unclear = world.line(company)
    world.behave(unclear, faults={"status-instance": "502_html"})
    tokenless = world.line(company, instance_token="  ", at_provider=False)
    nameless = world.line(company, instance_id=None, at_provider=False)
    down = world.line(company, session="disconnected")
    fine = world.line(company)

    examined = doctor.examine()

    assert examined.code == 1
    assert examined.ids("token.refused") == {str(refused.id), str(forbidden.id)}
    assert examined.ids("token.not_found") == {str(gone.id)}
    assert examined.ids("token.unknown") == {str(unclear.id)}
    assert examined.ids("line.cannot_be_asked") == {str(tokenless.id), str(nameless.id)}
    assert examined.ids("line.says_connected") == {str(down.id)}
    assert examined.finding("token.accepted")["what"].startswith("2 tokens")
    assert str(fine.id) not in examined.text


def test_one_refusal_that_the_next_answer_takes_back_condemns_no_token(doctor: Doctor, world: World) -> None:
    line = healthy(world, 1)[0]
    world.behave(line, faults={"status-instance": {"fault": "401_json", "times": 1}})
    assert "token.refused" not in doctor.examine().checks


@pytest.mark.parametrize("fault", ["500", "200_html", "401_html"])
def test_a_provider_that_is_down_refuses_no_token(doctor: Doctor, world: World, fault: str) -> None:
    healthy(world, 3)
    world.simulator.set_provider(down=fault)
    examined = doctor.examine()
    assert examined.code == 1
    assert examined.wrong == {"token.unknown"}
    assert examined.finding("token.unknown")["count"] == 3


def test_a_provider_that_answers_nobody_is_not_asked_about_every_line(doctor: Doctor, world: World) -> None:
    healthy(world, 60)
    world.simulator.set_provider(down="500")
    code, out, _ = doctor.run("--json")
    asked = world.simulator.calls()["status-instance"]
    assert code == 1
    assert 16 <= asked <= 24
    unchecked = [each for each in json.loads(out)["unchecked"] if each["failed"]]
    assert [each["what"] for each in unchecked] == [f"tokens and webhooks of {60 - asked} lines"]


def test_a_route_that_is_gone_is_drift(doctor: Doctor, world: World) -> None:
    healthy(world, 1)
    world.simulator.set_provider(down="404_html_cannot_get")
    assert doctor.examine().wrong == {"provider.drifted"}


def test_it_waits_where_the_provider_asks_to_and_keeps_to_few_at_once(doctor: Doctor, world: World) -> None:
    healthy(world, 10)
    world.simulator.set_provider(
        max_concurrent_requests=6, tells_retry_after=True, retry_after_seconds=0, latency_ms=300
    )
    code, out, _ = doctor.run("--json")
    summary = world.simulator.summary()
    assert (code, summary["max_in_flight"] <= 8) == (0, True), out
    assert summary["rate_limited"] > 0


def test_wapi_send_is_looked_through_when_the_sweep_looks_through_it(doctor: Doctor, world: World) -> None:
    healthy(world, 1)
    assert "wapi_send.answers" in doctor.examine(WAPI_SEND_URL=world.simulator.wapi_send_url).checks
    assert doctor.examine(WAPI_SEND_URL=f"{world.simulator.url}/functions/v1/gone").wrong == {"wapi_send.away"}


def test_a_transaction_pooler_is_refused_with_the_reason(doctor: Doctor) -> None:
    code, out, err = doctor.run(DATABASE_URL="postgresql://u:pass-word@pool.example.com:6543/postgres")
    assert code == 2
    assert "DATABASE_URL: port 6543 is the transaction pooler" in err
    assert "pass-word" not in out + err


# Rows


def test_paused_duplicates_raw_words_and_lines_nobody_looks_at_are_told(doctor: Doctor, world: World) -> None:
    company = world.company(users=1)
    swept(world)
    new = world.line(company, seen_before=False, created_at="2026-01-01T00:00:00Z")
    old = world.line(company)
    world.set(old, "last_health_check = now() - interval '3 hours'")
    paused = world.line(company, is_active=False)
    twin = world.line(company, is_active=False, status_reason="duplicate_external_id")
    spaced = world.line(company)
    world.set(spaced, "instance_id = %s", f"{old.external_id}\t")  # a blank that SQL's btrim leaves
    raw = world.line(company, status="instance_not_found")

    examined = doctor.examine()

    assert examined.ids("line.never_looked_at") == {str(new.id)}
    assert examined.ids("line.not_looked_at_lately") == {str(old.id)}
    assert examined.finding("line.not_looked_at_lately")["concerns"][0]["detail"] == "last look 3 h ago"
    assert examined.ids("line.paused") == {str(paused.id)}
    assert examined.ids("line.paused_duplicate") == {str(twin.id)}
    assert examined.ids("line.shared_external_id") == {str(old.id), str(spaced.id)}
    assert examined.ids("rival.status_words") == {str(raw.id)}


def test_lines_of_other_providers_are_left_out_of_everything_and_counted(doctor: Doctor, world: World) -> None:
    line = healthy(world, 1)[0]
    alone = world.company("Sem Usuários")
    others = [
        world.line(alone, provider=provider, seen_before=False, created_at="2026-01-01T00:00:00Z", **columns)
        for provider, columns in (
            ("zapi", {}),
            ("zapi", {"status": "instance_not_found"}),
            ("evolution", {"instance_token": None, "is_active": False}),
            ("evolution", {"instance_id": line.external_id}),
        )
    ]
    ours = [world.line(world.company(users=1), provider=provider) for provider in (None, "W-API")]
    world.simulator.forget_calls()

    examined = doctor.examine("--fix-webhooks")

    assert examined.code == 0, examined.text
    assert {each["name"]: each["detail"] for each in examined.finding("line.other_provider")["concerns"]} == {
        "zapi": "2 lines",
        "evolution": "2 lines",
    }
    assert examined.finding("line.statuses")["what"].startswith("3 active lines")
    assert not [other for other in others if str(other.id) in examined.text]
    assert [world.simulator.calls(other.external_id) for other in others] == [{}] * len(others)
    for each in (line, *ours):
        assert world.simulator.calls(each.external_id)["status-instance"] == 1


def test_a_row_whose_external_id_is_not_w_apis_is_noted_and_asked_like_any(doctor: Doctor, world: World) -> None:
    line = healthy(world, 2)[0]
    odd = world.line(world.company(users=1), instance_id="a-token-in-the-wrong-column", at_provider=False)
    examined = doctor.examine()
    assert examined.ids("line.odd_external_id") == examined.ids("token.not_found") == {str(odd.id)}
    assert examined.finding("line.odd_external_id")["severity"] == "note"
    assert "a-token" not in examined.text
    assert str(line.id) not in examined.text


def test_long_outages_and_companies_without_users_are_told(doctor: Doctor, world: World) -> None:
    lonely = world.company("Só Nós")
    swept(world)
    line, lately = world.lines(lonely, 2, status="disconnected", session="disconnected")
    for each, age in ((line, timedelta(days=3)), (lately, timedelta(minutes=10))):
        world.sql(
            "insert into public.instance_outages (instance_id, company_id, started_at, life_counts_from, opened_by, reason)"
            " values (%s, %s, now() - %s, now(), 'sweep', 'disconnected')",
            each.id, lonely, age,
        )  # fmt: skip
    world.line(world.company("Fechada"), is_active=False)

    examined = doctor.examine()

    assert examined.ids("outage.long") == {str(line.id)}
    assert examined.finding("outage.long")["concerns"][0]["detail"] == (
        "for 3 days; nobody to tell: its company has no users; no restart so far, the next at the next sweep"
    )
    assert examined.finding("outage.long")["concerns"][0]["company"] == "Só Nós"
    assert examined.ids("outage.open") == {str(lately.id)}
    assert examined.ids("company.without_users") == {str(lonely)}
    assert "Só Nós" in examined.finding("company.without_users")["concerns"][0]["name"]


# Sweeps


def test_a_scheduler_that_never_ran_or_stopped_is_a_problem(doctor: Doctor, world: World) -> None:
    world.line(world.company(users=1))
    assert doctor.examine().wrong == {"sweep.never"}
    swept(world, ago=timedelta(days=2))
    examined = doctor.examine()
    assert examined.wrong == {"sweep.silent"}
    assert "2 days ago" in examined.finding("sweep.silent")["what"]


def test_gaps_brakes_cut_off_sweeps_and_growing_backlogs_are_told(doctor: Doctor, world: World) -> None:
    world.line(world.company(users=1))
    for minutes, left in ((62, 5), (7, 9), (2, 30)):
        swept(world, ago=timedelta(minutes=minutes), left_due=left, braked=minutes == 2)
    swept(world, ago=timedelta(minutes=12), ended=False)
    examined = doctor.examine()
    assert examined.wrong == {
        "sweep.gaps", "sweep.braked", "sweep.left_grows", "sweep.unfinished", "registration.unwatched",
    }  # fmt: skip
    assert "the longest 50 min" in examined.finding("sweep.gaps")["what"]


# Events


def test_events_that_came_to_nothing_are_told_by_line(doctor: Doctor, world: World) -> None:
    line = healthy(world, 1)[0]
    event(world, "f1", outcome="failed", external_id=line.external_id, instance_id=line.id)
    event(world, "u1", outcome="unknown_instance", external_id="LITE-ZZ12CD-STRANGE1")
    event(world, "u2", outcome="unknown_instance", external_id="LITE-ZZ12CD-STRANGE1")
    event(world, "l1", outcome="look", kind="disconnection", external_id=line.external_id, instance_id=line.id)
    event(world, "w1", relay="pending", external_id=line.external_id, body="{}", processed_at="2026-01-01T00:00:00Z")
    event(world, "r1", relay="refused", external_id=line.external_id, body="{}", processed_at="2026-01-01T00:00:00Z")

    examined = doctor.examine()

    assert examined.wrong == {
        "event.failed",
        "event.unknown_instance",
        "event.unfinished",
        "relay.waiting",
        "relay.refused",
    }
    (stranger,) = examined.finding("event.unknown_instance")["concerns"]
    assert (stranger["name"], stranger["detail"]) == ("LITE-ZZ12CD-STRANGE1", "2 events")


# A second checker


def audit(world: World, line: Any, kind: str, was: str, became: str, *, ago: timedelta) -> None:
    world.sql(
        "insert into public.instance_events (at, instance_id, kind, source, from_status, to_status)"
        " values (now() - %s, %s, %s, 'sweep', %s, %s)",
        ago, line.id, kind, was, became,
    )  # fmt: skip


def blink(world: World, line: Any, ago: timedelta) -> None:
    for kind, at in (("disconnection", ago), ("connection", ago - timedelta(seconds=20))):
        world.sql(
            "insert into public.wapi_webhook_events (event_key, kind, outcome, instance_id, external_id, received_at, processed_at)"
            " values (%s, %s, 'alive', %s, %s, now() - %s, now())",
            str(uuid4()), kind, line.id, line.external_id, at,
        )  # fmt: skip


def test_restarts_that_were_not_ours_look_like_a_second_checker(doctor: Doctor, world: World) -> None:
    theirs, ours, rarely = healthy(world, 3)
    for number in range(1, 5):
        at = timedelta(minutes=30 * number)
        blink(world, theirs, at)
        blink(world, ours, at)
        audit(world, ours, "restart_requested", "connected", "connected", ago=at)
    blink(world, rarely, timedelta(hours=5))

    examined = doctor.examine()

    assert examined.ids("rival.restarts") == {str(theirs.id)}
    assert "looks like" in examined.finding("rival.restarts")["what"]
    assert examined.finding("rival.restarts")["concerns"][0]["detail"] == "4 times"


def test_statuses_and_bells_of_somebody_else_look_like_a_second_checker(doctor: Doctor, world: World) -> None:
    rewritten, quiet = healthy(world, 2)
    for hours in (9, 7, 5):  # ours: back to connected; in between somebody wrote disconnected
        audit(world, rewritten, "status_changed", "disconnected", "connected", ago=timedelta(hours=hours))
    world.set(rewritten, "status = 'disconnected'")
    audit(world, quiet, "status_changed", "degraded", "connected", ago=timedelta(hours=2))
    (user,) = [row["user_id"] for row in world.sql("select user_id from public.user_companies")]
    for kind, data in (
        ("instance_disconnected", "{}"),
        ("instance_disconnected", None),
        ("instance_disconnected", json.dumps({"outage_id": str(uuid4())})),  # ours
        ("lead", None),
    ):
        world.sql(
            "insert into public.notifications (user_id, type, title, data) values (%s, %s, 'caiu', %s)",
            user,
            kind,
            data,
        )

    examined = doctor.examine()

    assert examined.ids("rival.status_writes") == {str(rewritten.id)}
    assert examined.finding("rival.status_writes")["severity"] == "warning"
    assert examined.finding("rival.bells")["what"].startswith("2 notices ")


def test_the_platforms_own_screen_alone_is_only_noted(doctor: Doctor, world: World) -> None:
    line = healthy(world, 1)[0]
    audit(world, line, "status_changed", "connected", "disconnected", ago=timedelta(hours=2))  # then a person scanned
    examined = doctor.examine()
    assert examined.code == 0
    assert examined.finding("rival.status_writes")["severity"] == "note"


# What is shown


HOSTILE = "\x1b]0;owned\x07\x1b[31m[red]Uni\ndade[/red] \u202e+55 (11) 98765-4321"


def secrets_of(world: World, *lines: Any) -> set[str]:
    return {
        SECRET,
        OLD_SECRET,
        world.stack.service_role_key,
        *(line.token for line in lines),
        *(line.phone for line in lines),
    }


def test_no_secret_and_no_phone_is_ever_shown_and_hostile_names_do_no_harm(doctor: Doctor, world: World) -> None:
    company = world.company(HOSTILE)
    swept(world)
    lines = [
        world.line(company, HOSTILE, session=session, status=status)
        for session, status in (
            ("token_refused", "connected"),
            ("alive", "\x1b[2Junauthorized"),
            ("disconnected", "connected"),
        )
    ]
    named_like_its_token = world.line(company, seen_before=False)
    world.set(
        named_like_its_token, "instance_id = instance_token, instance_token = instance_id, created_at = '2026-01-01'"
    )
    for line in lines:
        world.behave(
            line,
            webhooks={
                "connected": f"{doctor.function_url}/?key=an-old-key-of-somebody",
                "received": "https://user:pass-word@elsewhere.example/hook/path-secret?key=query-secret",
                "delivery": "\x1b[31mnot a url",
            },
            payment_status="\x1b[5m[blink]lapsed?",
        )
    examined = doctor.examine()
    code, human, err = doctor.run()
    text = examined.text + human

    assert (code, err) == (1, "")
    secrets = secrets_of(world, *lines, named_like_its_token)
    secrets |= {"an-old-key-of-somebody", "pass-word", "path-secret", "query-secret", "98765"}
    assert {secret for secret in secrets if secret in text} == set()
    assert not {character for character in text if character != "\n" and not character.isprintable()}
    assert "[red]Uni dade[/red]" in human
    assert "elsewhere.example" in human
    assert {"webhook.wrong_key", "webhook.foreign", "token.refused"} <= examined.wrong


# Many lines


def test_all_of_many_lines_are_read_and_the_first_few_are_shown(doctor: Doctor, world: World) -> None:
    company: UUID = world.company(users=1)
    swept(world)
    world.sql(
        "insert into public.wapi_instances (company_id, user_id, unit, instance_id)"
        " select %s, gen_random_uuid(), 'Unidade ' || n, 'LITE-MANY00-' || lpad(n::text, 6, '0') from generate_series(1, 2345) n",
        company,
    )  # fmt: skip
    code, out, _ = doctor.run("--json")
    finding = next(each for each in json.loads(out)["findings"] if each["check"] == "line.cannot_be_asked")
    assert (code, finding["count"], len({each["id"] for each in finding["concerns"]})) == (1, 2345, 2345)

    code, human, err = doctor.run()
    assert (code, len(human) < 10_000) == (1, True)
    assert "- Buffet Alegria: 2345 lines (Unidade 1, Unidade 10, " in human
    assert "…): no token" in human
    assert err == "", "no bar where there is no terminal"


def test_one_company_or_one_line_can_be_chosen(doctor: Doctor, world: World) -> None:
    healthy(world, 1)
    other = world.company("Buffet Mágico", users=1)
    line = world.line(other, session="token_refused")
    second = world.line(other)
    assert doctor.examine("--company", "buffet mágico").finding("line.statuses")["what"].startswith("2 active lines")
    by_unit = ("--company", str(other), "--line", world.row(line)["unit"])
    for chosen in (by_unit, ("--line", line.external_id)):
        assert doctor.examine(*chosen).ids("token.refused") == {str(line.id)}
    assert doctor.examine("--line", str(second.id)).code == 0
    code, _, err = doctor.run("--line", "no such line")
    assert (code, err) == (2, "no line fits --company and --line\n")


# Conversations


def test_persons_with_two_conversations_are_named_by_ids_and_last_four_digits(doctor: Doctor, world: World) -> None:
    line, other = healthy(world, 2)

    def conversation(of: Any, phone: str) -> UUID:
        made = uuid4()
        world.sql(
            "insert into public.wapi_conversations (id, instance_id, remote_jid, contact_phone, contact_name) values (%s, %s, %s, %s, 'Ana')",
            made, of.id, f"{made}@lid", phone,
        )  # fmt: skip
        return made

    def pair(of: Any, stays: UUID, receives: UUID, refusal: str) -> None:
        world.sql(
            "insert into public.conversation_bookkeeping (conversation_id, instance_id, same_person_as, refusal) values (%s, %s, %s, %s)",
            stays, of.id, receives, refusal,
        )  # fmt: skip

    older, newer, lead = conversation(line, "5511944440001"), conversation(line, ""), conversation(line, "551144440001")
    theirs = [conversation(other, "5511955550002") for _ in range(2)]
    pair(line, newer, older, "both_of_the_platform")
    pair(line, lead, older, "two_leads")
    pair(line, uuid4(), older, "two_leads")  # the platform has merged it itself since
    pair(other, theirs[0], theirs[1], "23503")

    examined = doctor.examine()

    assert examined.ids("conversation.two") == {str(line.id)}
    assert {each["detail"] for each in examined.finding("conversation.two")["concerns"]} == {
        f"{newer} beside {older} (…0001), which receives: the platform made both, and what it made is never merged away",
        f"{lead} (…0001) beside {older} (…0001), which receives: each has a lead",
    }
    [refused] = examined.finding("conversation.refused")["concerns"]
    assert (refused["id"], refused["detail"]) == (
        str(other.id), f"{theirs[0]} (…0002) beside {theirs[1]} (…0002), which receives: SQLSTATE 23503",
    )  # fmt: skip
    assert "conversation.refused" in examined.wrong
    assert "conversation.two" not in examined.wrong
    assert not [word for word in ("44440001", "55550002", "Ana") if word in examined.text]
    assert "conversation.refused" not in doctor.examine("--line", line.external_id).checks
