"""The bootstrap, and what all scripts have in common, against a gcloud that only pretends."""

from __future__ import annotations

import base64
import json
import re

import pytest
from cloud import PLACE, SECRETS, SETTINGS, FakeCloud, flags
from fake_gcloud import SECRET_MARK

from shared.settings import WebhookSettings

MAKES = re.compile(
    r"^(secrets create|secrets versions add|iam service-accounts create|run deploy|scheduler jobs create)"
)
SCRIPTS = ["bootstrap", "deploy", "rollback", "rotate", "cleanup", "as-functions"]


def test_a_second_bootstrap_makes_nothing_again(ready: FakeCloud, bootstrapped_once: FakeCloud) -> None:
    ready.bootstrap()

    assert [line for line in bootstrapped_once.asked if MAKES.match(line)]
    assert not [line for line in ready.asked if MAKES.match(line)]
    assert ready.state == bootstrapped_once.state


def test_an_interrupted_bootstrap_goes_on_where_it_stopped(cloud: FakeCloud) -> None:
    cloud.fail("versions add wapi-webhook-secrets")
    stopped = cloud.run("bootstrap", **SETTINGS, **SECRETS)
    last = cloud.asked[-1]
    cloud.mend()
    cloud.bootstrap()

    assert stopped.status != 0
    assert last.startswith("secrets versions add wapi-webhook-secrets")
    assert [each["value"] for each in cloud.state["secrets"]["wapi-webhook-secrets"]["versions"]] == [
        SECRETS["WAPI_WEBHOOK_SECRETS"]
    ]


@pytest.mark.parametrize("what", ["secrets list", "service-accounts list", "sinks describe", "run services list", "run deploy", "services describe", "jobs create"])  # fmt: skip
def test_whatever_fails_stops_the_bootstrap(cloud: FakeCloud, what: str) -> None:
    cloud.fail(what)
    done = cloud.run("bootstrap", **SETTINGS, **SECRETS)

    assert done.status != 0
    assert what in cloud.asked[-1]


def test_a_right_that_google_does_not_know_yet_is_asked_for_again(cloud: FakeCloud) -> None:
    cloud.fail("run services add-iam-policy-binding", times=2)
    cloud.bootstrap()

    assert cloud.sleeps == ["10", "10"]
    assert ("follow-up-check", "run.invoker", "serviceAccount:scheduler-invoker") in cloud.bindings


def test_each_account_has_the_rights_it_needs_and_no_other(cloud: FakeCloud) -> None:
    cloud.bootstrap(DATABASE_URL="")

    read = {
        (secret, who.removeprefix("serviceAccount:"))
        for secret, role, who in cloud.bindings
        if role == "secretmanager.secretAccessor"
    }
    assert read == {
        ("supabase-service-role-key", "follow-up-check"), ("event-relay-url", "follow-up-check"),
        ("supabase-service-role-key", "wapi-webhook"), ("event-relay-url", "wapi-webhook"),
        ("wapi-webhook-secrets", "wapi-webhook"), ("wapi-webhook-secrets", "follow-up-check"), ("event-log-key", "wapi-webhook"),
        ("alert-email-url", "follow-up-check"), ("operator-alert-urls", "follow-up-check"),
        ("operator-webhook-secret", "follow-up-check"),
    }  # fmt: skip
    assert {(on, who) for on, role, who in cloud.bindings if role == "run.invoker"} == {
        ("follow-up-check", "serviceAccount:scheduler-invoker"), ("wapi-webhook", "allUsers"),
    }  # fmt: skip
    of_the_project = {(role, who) for on, role, who in cloud.bindings if on == PLACE["PROJECT"]}
    assert {who for _, who in of_the_project} == {"serviceAccount:deployer"}
    assert not {role for role, _ in of_the_project} & {"run.admin", "owner", "editor", "secretmanager.secretAccessor"}


def test_the_scheduler_calls_every_five_minutes_with_an_identity(bootstrapped_once: FakeCloud) -> None:
    job = bootstrapped_once.state["jobs"]["follow-up-check"]

    assert job["schedule"] == "*/5 * * * *"
    assert job["http-method"] == "POST"  # a GET only says what the address is
    assert job["uri"] == job["oidc-token-audience"] == "https://follow-up-check-abc.a.run.app"
    assert job["oidc-service-account-email"] == "scheduler-invoker@my-project.iam.gserviceaccount.com"
    assert (job["attempt-deadline"], job["max-retry-attempts"]) == ("600s", "2")
    assert int(bootstrapped_once.deployment("follow-up-check")["--timeout"].rstrip("s")) < 600


def test_the_webhooks_requests_stay_out_of_the_log_before_there_is_one(bootstrapped_once: FakeCloud) -> None:
    lines = bootstrapped_once.asked

    assert 'service_name="wapi-webhook"' in bootstrapped_once.state["exclusions"]["wapi-webhook-requests"]
    assert next(n for n, line in enumerate(lines) if "add-exclusion" in line) < next(n for n, line in enumerate(lines) if line.startswith("run deploy"))  # fmt: skip


def test_secrets_travel_by_standard_input_alone(bootstrapped_once: FakeCloud) -> None:
    said = (bootstrapped_once.folder / "said").read_text("utf-8")

    assert "gcloud secrets versions add wapi-webhook-secrets --data-file=-" in said
    assert SECRET_MARK not in said
    assert not [line for line in bootstrapped_once.asked if SECRET_MARK in line]
    assert not [call for call in bootstrapped_once.calls if call["leaked"]]
    assert {call["stdin"] for call in bootstrapped_once.calls} == {*SECRETS.values(), ""}


def test_what_nobody_gave_is_made_and_fits(cloud: FakeCloud) -> None:
    done = cloud.run("bootstrap", **SETTINGS, SUPABASE_SERVICE_ROLE_KEY=SECRETS["SUPABASE_SERVICE_ROLE_KEY"])
    made = {name: secret["versions"][0]["value"] for name, secret in cloud.state["secrets"].items()}
    settings = WebhookSettings.model_validate(
        {
            "supabase_url": SETTINGS["SUPABASE_URL"],
            "supabase_service_role_key": made["supabase-service-role-key"],
            "wapi_webhook_secrets": made["wapi-webhook-secrets"],
            "event_log_key": made["event-log-key"],
        }
    )

    assert len(settings.wapi_webhook_secrets[0].get_secret_value()) == 64
    assert made["wapi-webhook-secrets"] not in done.out + done.err + " ".join(cloud.asked)
    assert made["event-log-key"] not in done.out + done.err + " ".join(cloud.asked)
    assert made.keys() == {"supabase-service-role-key", "wapi-webhook-secrets", "event-log-key"}


def test_an_empty_event_log_key_makes_none(cloud: FakeCloud) -> None:
    cloud.bootstrap(EVENT_LOG_KEY="")

    assert "event-log-key" not in cloud.state["secrets"]
    assert "EVENT_LOG_KEY" not in cloud.deployment("wapi-webhook")["--set-secrets"]


STEPS = {"bootstrap": 8, "deploy": 4, "rotate": 3, "as-functions": 2}
HEADING = re.compile(r"^# (\d) of (\d): .+ \(.*\b(?:seconds?|s|min|minute)\b.*\)$", re.MULTILINE)
MADE_UP_ADDRESS = re.compile(r"https://[\w.-]+\.example\.run\.app")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_asks_google_nothing_shows_no_secret_and_says_what_is_made_up(cloud: FakeCloud, script: str) -> None:
    done = cloud.run(script, "--dry-run", **SETTINGS, **SECRETS)

    assert done.status == 0, done.err
    assert len(done.commands) > 2
    assert SECRET_MARK not in done.out + done.err
    assert not cloud.calls
    assert not cloud.curls
    assert not cloud.doctor
    if script in ("bootstrap", "deploy", "rotate", "cleanup"):  # they end with a word of their own, here with another
        assert "# a dry run: Google was asked nothing, and nothing was changed" in done.out
        assert not re.search(r"^# (done|rotated|release \S+ serves|the webhook is)", done.out, re.MULTILINE)
    steps = STEPS.get(script, 0)  # each with its number and how long it takes
    assert HEADING.findall(done.out) == [(str(number), str(steps)) for number in range(1, steps + 1)]
    marked = [line for line in done.err.splitlines() if line.startswith("#   made up for this dry run: ")]
    assert {*MADE_UP_ADDRESS.findall(done.out)} <= {*MADE_UP_ADDRESS.findall(" ".join(marked))}


@pytest.mark.parametrize(
    ("script", "arguments", "missing"),
    [
        *[("bootstrap", (), name) for name in SETTINGS],
        *[(script, (), name) for script in ("deploy", "rollback", "cleanup", "as-functions") for name in PLACE],
        *[("rotate", (), name) for name in SETTINGS],
        ("bootstrap", (), "SUPABASE_SERVICE_ROLE_KEY"), ("deploy", ("release",), "RELEASE"), ("deploy", ("promote",), "RELEASE"),
        ("migrate", (), "DATABASE_URL"),
    ],
)  # fmt: skip
def test_a_missing_setting_is_named(cloud: FakeCloud, script: str, arguments: tuple[str, ...], missing: str) -> None:
    given = {name: value for name, value in (SETTINGS | SECRETS).items() if name != missing}
    done = cloud.run(script, *arguments, **given)

    assert done.status == 2
    assert f"{missing} is missing" in done.err
    assert not [line for line in cloud.asked if MAKES.match(line)]


def test_all_nonsense_is_refused_at_once_and_before_the_first_command(cloud: FakeCloud) -> None:
    done = cloud.run(
        "bootstrap", PROJECT="My Project", REGION="southamerica-east1-a", SUPABASE_URL="http://127.0.0.1:54321",
        SUPABASE_SERVICE_ROLE_KEY=f"sb_publishable_{SECRET_MARK}", DATABASE_URL=f"postgresql://postgres:{SECRET_MARK}@pool.example.com:6543/postgres",
        EVENT_RELAY_URL=f"https://localhost/hook?key={SECRET_MARK}", WAPI_WEBHOOK_SECRETS=f"short,{SECRET_MARK}-{SECRET_MARK}",
        EVENT_LOG_KEY=f"{SECRET_MARK}", OPERATOR="ops@example.com", SWEEP_FANOUT="51", RELEASE="R1",
    )  # fmt: skip
    complaints = done.err.splitlines()

    assert done.status == 2
    assert not cloud.calls
    assert SECRET_MARK not in done.out + done.err
    assert [line.split()[1] for line in complaints] == [
        "PROJECT", "REGION", "SUPABASE_URL", "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "each", "EVENT_LOG_KEY", "OPERATOR",
        "EVENT_RELAY_URL", "DATABASE_URL", "SWEEP_FANOUT", "RELEASE",
    ]  # fmt: skip
    assert "the region is southamerica-east1" in complaints[1]


def a_jwt(**claims: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        pytest.param("PROJECT", "123456789012", "is no project id", id="a project's number"),
        pytest.param("PROJECT", "example.com:my-project", "", id="a project of a domain"),
        pytest.param("REGION", "sao-paulo", "is no region of Cloud Run", id="no region"),
        pytest.param("SUPABASE_URL", "https://[::1]:54321", "points to this machine", id="loopback, version 6"),
        pytest.param("SUPABASE_URL", "https://abcdefghijklmnopqrst.supabase.co/rest/v1", "must end after the host", id="an address with a path"),
        pytest.param("SUPABASE_URL", "https://abcdefghijklmnopqrst.supabase.co/", "", id="a slash at the end"),
        pytest.param("SUPABASE_URL", "https://db.my-shop.com.br", "warning: SUPABASE_URL does not look like", id="a domain of one's own"),
        pytest.param("SUPABASE_SERVICE_ROLE_KEY", a_jwt(role="anon", iss="supabase"), "not the service role's", id="the anon key"),
        pytest.param("SUPABASE_SERVICE_ROLE_KEY", a_jwt(role="service_role", iss="supabase", ref="a"), "", id="a legacy key"),
        pytest.param("SUPABASE_SERVICE_ROLE_KEY", "eyJhb", "must begin with sb_secret_", id="half a key"),
        pytest.param("WAPI_SEND_URL", "functions/v1/wapi-send", "must be an address that begins with https://", id="half an address"),
        pytest.param("DATABASE_URL", "postgresql://u:p@/w?d@127.0.0.1/d", "points to this machine", id="a database of this machine"),
        pytest.param("DATABASE_URL", "postgresql://postgres:x@db.abcdefghijklmnopqrst.supabase.co:5432/postgres", "warning: DATABASE_URL is a direct address, which has no IPv4", id="a direct address"),
        pytest.param("OPERATOR", "user:nobody", "names no e-mail address", id="an operator without an address"),
        pytest.param("WEBHOOK_MAX_INSTANCES", "many", "must be a number", id="not a number"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_refused_and_one_that_may_is_a_warning(
    cloud: FakeCloud, setting: str, value: str, why: str
) -> None:
    done = cloud.run("bootstrap", "--dry-run", **(SETTINGS | SECRETS | {setting: value}))

    assert why in done.err
    assert (done.status, not done.commands) == ((2, True) if why and "warning" not in why else (0, False)), done.err


def test_a_first_run_without_the_service_key_is_refused_and_a_dry_run_says_so(cloud: FakeCloud) -> None:
    refused, dry = cloud.run("bootstrap", **SETTINGS), cloud.run("bootstrap", "--dry-run", **SETTINGS)

    assert (refused.status, dry.status) == (2, 0)
    assert "SUPABASE_SERVICE_ROLE_KEY is missing" in refused.err
    assert "warning: SUPABASE_SERVICE_ROLE_KEY is not set" in dry.err
    assert [line for line in cloud.asked if not line.startswith("secrets list")] == []


@pytest.mark.parametrize("script", [*SCRIPTS, "migrate", "monitoring/install"])
def test_every_script_says_what_it_does(cloud: FakeCloud, script: str) -> None:
    done = cloud.run(script, "--help")

    assert (done.status, done.err, cloud.calls) == (0, "", [])
    assert f"deploy/{script}" in done.out
    assert "set -euo" not in done.out


@pytest.mark.parametrize("script", [*SCRIPTS, "migrate"])
def test_an_unknown_argument_stops_a_script(cloud: FakeCloud, script: str) -> None:
    done = cloud.run(script, "--dryrun", **SETTINGS, **SECRETS, DATABASE_URL="postgresql://u@127.0.0.1/d")

    assert done.status == 2
    assert "--dryrun" in done.err
    assert not cloud.calls


def test_functions_can_be_deployed_as_functions(cloud: FakeCloud) -> None:
    done = cloud.run("bootstrap", "--functions", **SETTINGS, **SECRETS)
    assert done.status == 0, done.err
    (webhook, check) = [line for line in cloud.asked if line.startswith("functions deploy")]

    assert flags(check)["--entry-point"] == "follow_up_check"
    assert flags(webhook)["--concurrency"] == "40"
    assert "--no-allow-unauthenticated" in check
    assert "LOG_EXECUTION_ID=false" in check
    assert not [line for line in cloud.asked if line.startswith("run deploy")]
