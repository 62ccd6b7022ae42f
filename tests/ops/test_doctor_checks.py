"""The doctor's pure parts: where a URL points, what a subscription says, how foreign words are shown."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ops.common.shown import LONGEST, counted, shown, shown_age, shown_external_id, shown_host
from ops.doctor.checks.schema import CALLED_FUNCTIONS, check_interface, missing_of
from ops.doctor.checks.sweeps import check_sweeps
from ops.doctor.checks.webhooks import check_subscriptions
from ops.doctor.cloud import check_exclusions, read_exclusions
from ops.doctor.facts import Asked, Fleet, LineRow, RunRow
from ops.doctor.findings import Exit, Finding, Report, Severity, Unchecked
from shared.providers.answer import HttpAnswer
from shared.providers.wapi.webhooks import (
    Registration,
    Target,
    Unanswered,
    WebhookKind,
    WebhookState,
    judge_url,
    read_registration,
    wrong_kinds,
)

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TARGET = Target("https://hook.example", (SecretStr("new secret/with+signs&"), SecretStr("the-old-secret-0001")))


@pytest.mark.parametrize(
    ("url", "state"),
    [
        pytest.param(TARGET.url_to_set, WebhookState.GOOD, id="what it sets itself"),
        pytest.param(
            "https://HOOK.example:443?key=new+secret%2Fwith%2Bsigns%26", WebhookState.GOOD, id="spelt otherwise"
        ),
        pytest.param(
            "  https://hook.example/?a=b&key=new%20secret/with%2Bsigns%26 ", WebhookState.GOOD, id="with more"
        ),
        pytest.param("https://hook.example/?key=the-old-secret-0001", WebhookState.OLD_KEY, id="an older key"),
        pytest.param(
            "https://hook.example/?key=the-old-secret-0001&key=x", WebhookState.WRONG_KEY, id="the last one counts"
        ),
        pytest.param("https://hook.example/", WebhookState.WRONG_KEY, id="no key"),
        pytest.param("https://hook.example/?Key=the-old-secret-0001", WebhookState.WRONG_KEY, id="another name"),
        pytest.param("http://hook.example/?key=the-old-secret-0001", WebhookState.ELSEWHERE, id="not encrypted"),
        pytest.param("https://hook.example:8443/?key=the-old-secret-0001", WebhookState.ELSEWHERE, id="another port"),
        pytest.param("https://hook.example/other?key=the-old-secret-0001", WebhookState.ELSEWHERE, id="another path"),
        pytest.param(
            "https://hook.example.evil.example/?key=the-old-secret-0001", WebhookState.ELSEWHERE, id="another host"
        ),
        pytest.param("https://hook.example@evil.example/", WebhookState.ELSEWHERE, id="a host as user"),
        pytest.param("https://[broken", WebhookState.ELSEWHERE, id="no URL"),
        pytest.param("https://hook.example:notaport/", WebhookState.ELSEWHERE, id="no port"),
        pytest.param("", WebhookState.MISSING, id="empty"),
        pytest.param(" ", WebhookState.MISSING, id="blank"),
        pytest.param(None, WebhookState.UNTOLD, id="not told"),
    ],
)
def test_where_a_url_points_to(url: str | None, state: WebhookState) -> None:
    assert judge_url(url, TARGET) is state


def test_typing_may_go_anywhere_but_not_here_with_a_wrong_key() -> None:
    good = dict.fromkeys(WebhookKind, TARGET.url_to_set)
    for url in ("", "https://other.example"):
        assert wrong_kinds(Registration(good | {WebhookKind.CHAT_PRESENCE: url}, None, None), TARGET) == {}
    here = Registration(good | {WebhookKind.CHAT_PRESENCE: "https://hook.example/?key=x"}, None, None)
    assert wrong_kinds(here, TARGET) == {WebhookKind.CHAT_PRESENCE: WebhookState.WRONG_KEY}


def test_what_the_answer_does_not_tell_is_not_known_to_be_wrong() -> None:
    assert wrong_kinds(Registration({WebhookKind.CONNECTED: TARGET.url_to_set}, None, None), TARGET) == {}


def answer(body: Any, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, "application/json", body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        pytest.param(answer({"error": True, "webhookConnectedUrl": ""}), "error_true", id="an error with 200"),
        pytest.param(answer([]), "unreadable", id="no object"),
        pytest.param(answer(b"<html>"), "unreadable", id="a page"),
        pytest.param(answer({"instanceId": "x", "token": "t"}), "tells_no_webhooks", id="another shape"),
        pytest.param(answer({}, 403), "http_403", id="forbidden"),
    ],
)
def test_a_registration_that_cannot_be_read_says_why(told: HttpAnswer, cause: str) -> None:
    assert read_registration(told) == Unanswered(cause)


def test_a_registration_is_read_tolerantly_and_keeps_no_token() -> None:
    told = {
        "token": "a-token",
        "webhookConnectedUrl": None,
        "webhookStatusUrl": 5,
        "paymentStatus": {},
        "expires": True,
    }
    found = read_registration(answer(told))
    assert isinstance(found, Registration)
    assert found.urls == {WebhookKind.CONNECTED: "", WebhookKind.MESSAGE_STATUS: "5"}
    assert (found.payment_status, found.expires) == (None, None)
    assert "a-token" not in repr(found)


@pytest.mark.parametrize(
    ("expires", "day"),
    [
        pytest.param("1790000000", "2026-09-21", id="seconds"),
        pytest.param("1790000000000", "2026-09-21", id="milliseconds"),
        pytest.param("1790000000.0", "2026-09-21", id="a float of seconds"),
        pytest.param("2026-09-21T10:00:00.000Z", "2026-09-21", id="ISO with milliseconds"),
        pytest.param("2026-09-21", "2026-09-21", id="a date"),
        pytest.param("21/09/2026", "2026-09-21", id="a Brazilian date"),
        pytest.param("30", None, id="days, perhaps"),
        pytest.param("99/99/2026", None, id="no date"),
        pytest.param("9999999999999999", None, id="a number beyond all dates"),
        pytest.param("soon", None, id="a word"),
    ],
)
def test_an_expiry_is_read_where_it_can_be(expires: str, day: str | None) -> None:
    found = Registration({}, None, expires).expires_at
    assert (found and f"{found:%Y-%m-%d}") == day


def line(**columns: Any) -> LineRow:
    row = dict.fromkeys(LineRow.model_fields) | {
        "id": uuid4(),
        "external_id": "LITE-AB12CD-000001",
        "instance_token": "t",
    }
    return LineRow.model_validate(row | columns)


def subscription(status: str | None, expires: str | None) -> dict[str, str]:
    one = line()
    fleet = Fleet((one,), {one.id: Asked(registration=Registration({}, status, expires))})
    return {each.check: each.concerns[0].detail for each in check_subscriptions(fleet, now=NOW)}


@pytest.mark.parametrize(
    ("status", "expires", "found"),
    [
        pytest.param("active", "1893456000", {}, id="paid until 2030"),
        pytest.param("PAID", None, {}, id="paid"),
        pytest.param("Em dia", None, {}, id="paid, in Portuguese"),
        pytest.param(None, None, {}, id="nothing is told"),
        pytest.param("overdue", None, {"subscription.lapsed": "paymentStatus overdue"}, id="overdue"),
        pytest.param(
            "inactive", "1893456000", {"subscription.lapsed": "paymentStatus inactive"}, id="inactive is not active"
        ),
        pytest.param("unpaid", None, {"subscription.lapsed": "paymentStatus unpaid"}, id="unpaid is not paid"),
        pytest.param("active", "2026-11-25", {"subscription.lapsed": "expired on 2026-11-25"}, id="expired"),
        pytest.param("active", "2026-11-30", {"subscription.ends_soon": "expires on 2026-11-30"}, id="soon"),
        pytest.param("grace", None, {"subscription.unclear": "paymentStatus grace"}, id="a word we do not know"),
        pytest.param("active", "12", {"subscription.unclear": "expires 12"}, id="a number we do not know"),
    ],
)
def test_a_subscription_is_told_as_it_was_seen(status: str | None, expires: str | None, found: dict[str, str]) -> None:
    assert subscription(status, expires) == found


def run(began: timedelta, ended: timedelta | None) -> RunRow:
    return RunRow(
        id=uuid4(),
        started_at=NOW - began,
        finished_at=NOW - ended if ended is not None else None,
        braked=False,
        left_due=0,
    )


def test_a_sweep_that_runs_just_now_is_not_cut_off() -> None:
    runs = [run(timedelta(minutes=6), timedelta(minutes=5)), run(timedelta(minutes=1), None)]
    assert [each.check for each in check_sweeps(runs, now=NOW)] == ["sweep.lately"]


def test_only_sweeps_that_never_ended_are_silence() -> None:
    assert "sweep.silent" in [each.check for each in check_sweeps([run(timedelta(hours=1), None)], now=NOW)]


# What is shown


@given(st.text())
def test_whatever_a_unit_is_called_one_short_printable_line_is_shown(text: str) -> None:
    seen = shown(text)
    assert len(seen) <= LONGEST
    assert seen.isprintable()
    assert not re.search(r"\d{8}", seen)


@pytest.mark.parametrize("phone", ["5511987654321", "+55 11 98765-4321", "(11) 98765-4321", "9876-54321"])
def test_of_a_phone_the_last_four_digits_are_shown(phone: str) -> None:
    assert shown(f"Unidade {phone}!").endswith("…4321!")


def test_of_what_is_no_external_id_only_the_end_is_shown() -> None:
    assert shown_external_id("LITE-AB12CD-EF34GH") == "LITE-AB12CD-EF34GH"
    assert shown_external_id("AB12CD-EF34GH-IJ56KL") == "AB12CD-EF34GH-IJ56KL"
    assert shown_external_id("a-token-in-the-wrong-column") == "…lumn"
    assert shown_external_id("") == "without external id"


def test_of_a_url_the_host_is_shown() -> None:
    assert shown_host("https://user:pass@Host.example:1/path?key=k") == "host.example"
    assert shown_host("no url") == "something that is no URL"
    assert shown_host("https://[broken") == "something that is no URL"


def test_numbers_and_ages_are_words() -> None:
    assert (counted(1, "line"), counted(2, "line"), counted(0, "company")) == ("1 line", "2 lines", "0 companies")
    ages = [
        timedelta(seconds=-5),
        timedelta(minutes=59),
        timedelta(hours=2, minutes=5),
        timedelta(hours=48),
        timedelta(hours=47),
    ]
    assert [shown_age(age) for age in ages] == ["0 min", "59 min", "2 h 5 min", "2 days", "47 h"]


# Exit codes, migrations, logs


def test_findings_come_before_what_could_not_be_checked_and_notes_are_fine() -> None:
    note, warning = Finding("a", Severity.NOTE, "n"), Finding("b", Severity.WARNING, "w")
    failed, skipped = Unchecked("x", "y", failed=True), Unchecked("x", "y")
    assert Report((note,), (skipped,)).exit_code is Exit.FINE
    assert Report((note,), (failed,)).exit_code is Exit.NOT_CHECKED
    assert Report((warning,), (failed,)).exit_code is Exit.FINDINGS


def test_the_functions_that_it_looks_for_are_those_that_the_store_calls() -> None:
    called = re.findall(r'_call\("(\w+)"', (ROOT / "shared" / "database" / "store.py").read_text("utf-8"))
    assert set(CALLED_FUNCTIONS) == set(called)


def test_what_postgrest_does_not_show_is_named() -> None:
    interface = {"definitions": {"t": {"properties": {"a": {}}}}, "paths": {"/rpc/f": {}}}
    missing = missing_of(interface, {"t": ("a", "b"), "u": ()}, ("f", "g"))
    assert missing == {"t.b", "u", "g()"}
    (finding,) = check_interface(missing)
    assert finding.severity is Severity.PROBLEM
    assert [each.name for each in finding.concerns] == ["g()", "t.b", "u"]


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake = tmp_path / "gcloud"
    fake.write_text(f"#!{sys.executable}\nimport pathlib, sys\nhere = pathlib.Path({str(tmp_path)!r})\n"
                    "(here / 'asked').write_text(' '.join(sys.argv[1:]))\nprint((here / 'sink').read_text())\n", "utf-8")  # fmt: skip
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("sink", "check"),
    [
        ({"exclusions": [{"filter": 'logName:"run.googleapis.com%2Frequests"'}]}, "log.keys_left_out"),
        ({"exclusions": [{"filter": 'log_id("run.googleapis.com/requests")', "disabled": True}]}, "log.keys_kept"),
        ({}, "log.keys_kept"),
    ],
)
async def test_a_request_log_that_keeps_keys_is_told(gcloud: Path, sink: dict[str, Any], check: str) -> None:
    (gcloud / "sink").write_text(json.dumps(sink), "utf-8")
    filters = await read_exclusions("a-project")
    assert not isinstance(filters, Unchecked)
    assert [each.check for each in check_exclusions(filters)] == [check]
    assert "describe _Default --project=a-project" in (gcloud / "asked").read_text("utf-8")


async def test_a_gcloud_that_says_nothing_useful_and_no_project_are_said(gcloud: Path) -> None:
    (gcloud / "sink").write_text("not JSON", "utf-8")
    failed, skipped = await read_exclusions("a-project"), await read_exclusions(None)
    assert isinstance(failed, Unchecked)
    assert isinstance(skipped, Unchecked)
    assert (failed.failed, skipped.failed) == (True, False)
