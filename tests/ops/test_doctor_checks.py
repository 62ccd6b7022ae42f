"""The doctor's pure parts: what rows and a subscription say, how foreign words are shown."""

from __future__ import annotations

import io
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import Call, program
from rich.console import Console

from ops.common.shown import LONGEST, cause_in_words, counted, shown, shown_age, shown_external_id, shown_host
from ops.doctor.checks import schema
from ops.doctor.checks.lines import check_other_providers, check_outages, check_rows
from ops.doctor.checks.mutes import check_mutes
from ops.doctor.checks.schema import CALLED_FUNCTIONS, check_interface, missing_of
from ops.doctor.checks.sweeps import check_sweeps
from ops.doctor.checks.telling import check_waiting
from ops.doctor.checks.wapi_send import check_wapi_send
from ops.doctor.checks.webhooks import check_subscriptions
from ops.doctor.cloud import Service, check_exclusions, check_services, read_exclusions, read_services
from ops.doctor.facts import Asked, DueRow, FallRow, Fleet, LineRow, MuteRow, OutageRow, RunRow
from ops.doctor.findings import Exit, Finding, Report, Severity, Subject, Unchecked
from ops.doctor.render import print_report
from shared.core.look import Look
from shared.core.model import Observation
from shared.core.registration import Registration
from shared.core.subscription import Subscription
from shared.providers.wapi.payments import read_end, read_word

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
COMPANY = UUID(int=77)


def line(**columns: Any) -> LineRow:
    row = dict.fromkeys(LineRow.model_fields) | {
        "id": uuid4(),
        "external_id": "LITE-AB12CD-000001",
        "instance_token": "t",
    }
    return LineRow.model_validate(row | columns)


def test_rows_of_two_companies_with_one_external_id_are_named_the_paused_one_too() -> None:
    one, other = uuid4(), uuid4()
    shared = [line(company_id=one), line(company_id=other, is_active=False)]
    own = [line(company_id=one, external_id="LITE-TWICE") for _ in range(2)] + [
        line(company_id=each, external_id=" ") for each in (one, other)
    ]
    found = {each.check: each.concerns for each in check_rows(Fleet((*shared, *own), {}), now=NOW)}
    assert [(each.id, each.detail) for each in found["line.two_companies"]] == [
        (str(shared[0].id), "active"),
        (str(shared[1].id), "paused"),
    ]


def subscription(status: str | None, expires: str | None) -> dict[str, str]:
    one = line()
    told = Subscription(read_word(status), status, read_end(expires), expires)
    fleet = Fleet((one,), {one.id: Asked(registration=Registration({}, told))})
    return {each.check: each.concerns[0].detail for each in check_subscriptions(fleet, {}, now=NOW)}


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


# Rows


def checks(*lines: LineRow, others: tuple[LineRow, ...] = ()) -> dict[str, list[tuple[str, str]]]:
    """What is said of rows: name (or id) and detail of each concern, by finding."""
    found = check_rows(Fleet(lines, {}, others), now=NOW)
    return {finding.check: [(each.name, each.detail) for each in finding.concerns] for finding in found}


@pytest.mark.parametrize(
    ("external_id", "is_odd"),
    [
        pytest.param("LITE-AB12CD-EF34GH", False, id="of the plan LITE"),
        pytest.param("AB12CD-EF34GH-IJ56KL", False, id="of the plan PRO"),
        pytest.param("  AB12CD-EF34GH-IJ56KL ", False, id="blanks around it are nothing"),
        pytest.param("\tLITE-AB12CD-EF34GH", True, id="a tab is one: SQL does not trim it"),
        pytest.param("LITE-AB12CD-EF34G", True, id="too short"),
        pytest.param("LITE-AB12CD-EF34GH-IJ56KL", True, id="both at once"),
        pytest.param("lite-ab12cd-ef34gh", True, id="small letters"),
        pytest.param("3EB0C767D082C9FD4A", True, id="of another provider, by its looks"),
        pytest.param("ÄB12CD-EF34GH-IJ56KL", True, id="no ASCII"),
        pytest.param("  ", False, id="none at all is another finding"),
        pytest.param(None, False, id="null is, too"),
    ],
)
def test_an_external_id_without_w_apis_form_is_noted(external_id: str | None, is_odd: bool) -> None:
    one = line(external_id=external_id, unit="Moema", last_health_check=NOW)
    assert checks(one).get("line.odd_external_id") == ([("Moema", "")] if is_odd else None)


def test_a_paused_line_may_have_any_external_id() -> None:
    assert "line.odd_external_id" not in checks(line(external_id="x", is_active=False))


def test_lines_of_other_providers_are_counted_by_provider_and_make_one_note() -> None:
    others = [line(provider=provider) for provider in ("zapi", "evolution", "zapi", "\x1b[31m", "")]
    (finding,) = check_other_providers(others)
    assert (finding.check, finding.severity) == ("line.other_provider", Severity.NOTE)
    assert [(each.name, each.detail) for each in finding.concerns] == [
        ("zapi", "2 lines"),
        ("evolution", "1 line"),
        ("\N{REPLACEMENT CHARACTER}[31m", "1 line"),
        ("(no name)", "1 line"),
    ]
    assert check_other_providers([]) == []


@pytest.mark.parametrize("provider", ["wapi", "W-API", "WAPI", "w-a-p-i", None])
def test_the_same_providers_are_ours_as_in_sql(provider: str | None) -> None:
    assert line(provider=provider).is_ours


@pytest.mark.parametrize("provider", ["", "zapi", "evolution", "w api", "wapi2", " wapi"])
def test_all_others_are_not_and_nobody_asks_about_them(provider: str) -> None:
    other = line(provider=provider)
    assert not other.is_ours
    assert not other.can_be_asked


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
    called = re.findall(
        r'(?:rpc\.call\(|_take_in\(|rpc\.ask(?:_if_any)?\(\w+,) ?"(\w+)"',
        "".join(path.read_text("utf-8") for path in (ROOT / "shared" / "database").glob("*.py")),
    )
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
    def answer(call: Call) -> str:
        (tmp_path / "asked").write_text(" ".join(call.words), "utf-8")
        return (tmp_path / "sink").read_text("utf-8")

    program(tmp_path / "gcloud", answer)
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


def service(name: str, **settings: str) -> dict[str, Any]:
    """As `gcloud run services list` tells it; a secret is a reference."""
    variables: list[dict[str, Any]] = [{"name": setting, "value": value} for setting, value in settings.items()]
    variables.append({"name": "SUPABASE_SERVICE_ROLE_KEY", "valueFrom": {"secretKeyRef": {"key": "1", "name": "k"}}})
    return {"metadata": {"name": name}, "spec": {"template": {"spec": {"containers": [{"env": variables}]}}}}


async def test_deployed_settings_that_cannot_work_are_told(gcloud: Path) -> None:
    deployed = [
        service("follow-up-check", SUPABASE_URL="https://ours.example.com/", WAPI_BASE_URL="http://127.0.0.1:8787/v1"),
        service("wapi-webhook", SUPABASE_URL="https://other.example.com", EVENT_RELAY_CONNECTIONS="true"),
        service("shop", SUPABASE_URL="http://localhost"),
    ]
    (gcloud / "sink").write_text(json.dumps(deployed), "utf-8")
    services = await read_services("a-project")
    assert not isinstance(services, Unchecked)
    found = {each.check: each for each in check_services(services, supabase_url="https://ours.example.com")}
    assert {check: [(one.name, one.detail) for one in each.concerns] for check, each in found.items()} == {
        "deployed.loopback": [("follow-up-check", "WAPI_BASE_URL")],
        "deployed.other_project": [("wapi-webhook", "other.example.com")],
    }
    assert "run services list --project=a-project" in (gcloud / "asked").read_text("utf-8")


def test_deployed_settings_that_work_are_no_finding() -> None:
    services = [Service("follow-up-check", {"SUPABASE_URL": "https://ours.example.com", "LOG_EXECUTION_ID": "false"})]
    assert check_services(services, supabase_url="https://ours.example.com") == []


REFUSED_BY_THE_GATEWAY = Look(Observation.UNKNOWN, "http_401")
ALIVE = Look(Observation.ALIVE, "send_connected")


@pytest.mark.parametrize(
    ("looks", "key_is_jwt", "check", "do"),
    [
        pytest.param([REFUSED_BY_THE_GATEWAY] * 3, False, "wapi_send.unauthorized", "--no-verify-jwt", id="a key that is no JWT"),
        pytest.param([REFUSED_BY_THE_GATEWAY] * 3, True, "wapi_send.unauthorized", "switched off", id="a JWT that is refused"),
        pytest.param([REFUSED_BY_THE_GATEWAY, ALIVE], False, "wapi_send.answers", "", id="one line's own trouble"),
        pytest.param([Look(Observation.UNKNOWN, "http_500")], False, "wapi_send.away", "log", id="away"),
    ],
)  # fmt: skip
def test_what_wapi_send_answers_is_told(looks: list[Look], key_is_jwt: bool, check: str, do: str) -> None:
    (finding,) = check_wapi_send(looks, key_is_jwt=key_is_jwt)
    assert finding.check == check
    assert do in finding.do


def test_a_direct_address_of_the_database_is_a_note() -> None:
    assert schema.check_address(is_direct=False) == []
    (finding,) = schema.check_address(is_direct=True)
    assert "pooler.supabase.com:5432" in finding.do


async def test_a_gcloud_that_says_nothing_useful_and_no_project_are_said(gcloud: Path) -> None:
    (gcloud / "sink").write_text("not JSON", "utf-8")
    failed, skipped = await read_exclusions("a-project"), await read_exclusions(None)
    assert isinstance(failed, Unchecked)
    assert isinstance(skipped, Unchecked)
    assert (failed.failed, skipped.failed) == (True, False)


def test_what_is_said_of_many_lines_of_a_company_is_said_once_and_companies_come_in_order() -> None:
    def subjects(company: str, numbers: range, detail: str) -> list[Subject]:
        return [Subject(f"Unidade {number}", f"LITE-{number}", str(number), detail, company) for number in numbers]

    unsorted = [*subjects("Zênite", range(2), "HTTP 500"), *subjects("Alegria", range(9, 3, -1), "HTTP 500")]
    names = {each.id: each.company for each in unsorted if each.id}
    finding = Finding("x", Severity.PROBLEM, "lines are ill", concerns=tuple(unsorted)).of(names)
    said = io.StringIO()
    print_report(Report((finding,)), Console(file=said, width=80), most=2)
    assert said.getvalue().splitlines()[:4] == [
        "✗ lines are ill (8)",
        "    - Alegria: 6 lines (Unidade 4, Unidade 5, Unidade 6, Unidade 7, Unidade 8, Unidade 9): HTTP 500",
        "    - Zênite · Unidade 0 (LITE-0, 0): HTTP 500",
        "    … and 1 more (--json has all)",
    ]


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("http_402", "HTTP 402: payment required, the subscription or the project's quota has ended"),
        ("http_401", "HTTP 401: the key or token is refused"),
        ("http_500", "HTTP 500 Internal Server Error"),
        ("http_999", "HTTP 999"),
        ("timeout", "timeout"),
    ],
)
def test_a_cause_is_said_by_name(cause: str, words: str) -> None:
    assert cause_in_words(cause) == words


@pytest.mark.parametrize(
    ("restarts", "last", "told", "observation", "said"),
    [
        (1, timedelta(minutes=10), True, Observation.DISCONNECTED, "users told; 1 restart so far, the next in 20 min"),
        (0, None, False, Observation.UNKNOWN, "nobody told yet; no restart so far, the next at the next sweep"),
        (4, timedelta(hours=1), True, Observation.GHOST, "users told; 4 restarts did not help, the next in "),
        (1, None, True, Observation.REFUSED, "users told; no restart helps: see its token and id"),
    ],
)
def test_each_line_that_is_down_says_what_is_being_done(
    restarts: int,
    last: timedelta | None,
    told: bool,
    observation: Observation,
    said: str,
) -> None:
    one = line(company_id=COMPANY, last_restart_at=None if last is None else NOW - last)
    fleet = Fleet((one,), {one.id: Asked(Look(observation, "x"))})
    outage = OutageRow.model_validate(
        {
            "id": UUID(int=1), "instance_id": one.id, "started_at": NOW - timedelta(hours=2), "restarts": restarts,
            "told_at": NOW if told else None, "opened_by": "sweep",
        }
    )  # fmt: skip
    (finding,) = check_outages(fleet, {one.id: outage}, now=NOW, with_users={COMPANY})
    assert finding.concerns[0].detail.startswith(f"for 2 h; {said}")
    (lonely,) = check_outages(fleet, {one.id: outage}, now=NOW, with_users=set())
    assert "nobody to tell: its company has no users" in lonely.concerns[0].detail


@pytest.mark.parametrize(
    ("told_as", "said"),
    [
        ("down", "users told;"),
        ("down_lasting", "users told;"),
        ("unstable", "users told that it is unstable;"),
        ("damped", "nobody disturbed: its users know that it is unstable, and are told if it lasts;"),
    ],
)
def test_a_line_that_is_down_says_as_what_its_users_were_told(told_as: str, said: str) -> None:
    one = line(company_id=COMPANY)
    outage = OutageRow.model_validate(
        {
            "id": UUID(int=1), "instance_id": one.id, "started_at": NOW - timedelta(hours=2), "restarts": 0,
            "told_at": NOW, "told_as": told_as, "opened_by": "sweep",
        }
    )  # fmt: skip
    (finding,) = check_outages(Fleet((one,), {}), {one.id: outage}, now=NOW, with_users={COMPANY})
    assert finding.concerns[0].detail.startswith(f"for 2 h; {said}")


def test_what_waits_to_be_told_is_named_and_what_nobody_tells_is_a_warning() -> None:
    up, down, gone = line(), line(), UUID(int=99)
    falls = [
        FallRow(id=UUID(int=number), instance_id=each, closed_at=NOW - timedelta(minutes=age))
        for number, (each, age) in enumerate([(up.id, 50), (up.id, 10), (down.id, 10), (gone, 10)])
    ]
    overdue = [DueRow(instance_id=each, tell_at=NOW - timedelta(minutes=20)) for each in (down.id, gone)]
    waits, late = check_waiting(Fleet((up, down), {}), falls, overdue, down={down.id}, now=NOW)
    assert (waits.check, waits.severity, [each.id for each in waits.concerns]) == (
        "notice.waits",
        Severity.NOTE,
        [str(up.id)],
    )
    assert waits.concerns[0].detail == "up again for 10 min"
    assert (late.check, late.severity, [each.id for each in late.concerns]) == (
        "notice.overdue", Severity.WARNING, [str(down.id)],
    )  # fmt: skip
    assert check_waiting(Fleet((up, down), {}), (), (), down=(), now=NOW) == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("infinity", None),
        ("-infinity", None),
        ("0044-03-15T00:00:00+00:00 BC", None),
        ("12026-01-01T00:00:00+00:00", None),
        (None, None),
        ("2026-11-26T12:00:00+00:00", NOW),
    ],
)
def test_a_moment_that_no_calendar_has_costs_its_row_nothing(written: str | None, read: datetime | None) -> None:
    assert line(last_health_check=written).last_health_check == read


def test_moments_that_cannot_be_are_named_with_their_columns() -> None:
    odd = line(last_health_check=NOW, odd_moments="connected_at,last_health_check")
    found = {each.check: each.concerns for each in check_rows(Fleet((odd, line()), {}), now=NOW)}
    assert [each.detail for each in found["line.odd_moments"]] == ["connected_at, last_health_check"]


def mute(of: LineRow, **columns: Any) -> MuteRow:
    row = {
        "id": uuid4(), "instance_id": of.id, "proof": "habit", "since": NOW - timedelta(hours=2), "suspected_at": NOW, "repairs": 1, "told_at": None,
        "closed_at": None, "closed_as": None,
    }  # fmt: skip
    return MuteRow.model_validate(row | columns)


def test_what_suspicions_of_mute_lines_have_been_worth_is_said_with_what_it_means() -> None:
    one, other = line(), line()
    closed = [("registration_lost", 14), ("provider_delivery", 2), ("inconclusive", 5)]
    mutes = [mute(one, closed_at=NOW, closed_as=word) for word, number in closed for _ in range(number)]
    mutes += [mute(one), mute(other, proof="sends", told_at=NOW, repairs=3)]
    found = {each.check: each for each in check_mutes(Fleet((one, other), {}), mutes, now=NOW)}
    assert found["mute.recorded"].what.endswith("registration lost 14, provider 2, inconclusive 5")
    assert "loses registrations" in found["mute.recorded"].do
    assert found["mute.recorded"].severity is Severity.NOTE
    [proven] = found["mute.proven"].concerns
    assert (proven.id, found["mute.proven"].severity) == (str(other.id), Severity.PROBLEM)
    assert proven.detail == "sends, since 2 h, registration set again 3 times, its users were told"
    assert [each.id for each in found["mute.suspected"].concerns] == [str(one.id)]
    assert check_mutes(Fleet((one,), {}), [], now=NOW) == []


@pytest.mark.parametrize(
    ("text", "as_shown"),
    [
        ("it ends on 2026-12-01.", "it ends on 2026-12-01."),
        ("down since 2026-11-29T04:00:12+00:00", "down since 2026-11-29T04:00:12+00:00"),
        ("2026-12-01 5511988887777", "2026-12-01 …7777"),
        ("call +55 (11) 98888-7777", "call …7777"),
        ("2026-12-0111988887777", "…7777"),
    ],
)
def test_a_date_is_no_phone_number_and_a_phone_number_no_date(text: str, as_shown: str) -> None:
    assert shown(text) == as_shown
