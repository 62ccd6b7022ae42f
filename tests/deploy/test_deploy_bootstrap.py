"""The bootstrap, and what all scripts have in common, against a gcloud that only pretends."""

from __future__ import annotations

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
        ("wapi-webhook-secrets", "wapi-webhook"), ("event-log-key", "wapi-webhook"),
    }  # fmt: skip
    assert {(on, who) for on, role, who in cloud.bindings if role == "run.invoker"} == {
        ("follow-up-check", "serviceAccount:scheduler-invoker"), ("wapi-webhook", "allUsers"),
    }  # fmt: skip
    of_the_project = {(role, who) for on, role, who in cloud.bindings if on == "p"}
    assert {who for _, who in of_the_project} == {"serviceAccount:deployer"}
    assert not {role for role, _ in of_the_project} & {"run.admin", "owner", "editor", "secretmanager.secretAccessor"}


def test_the_scheduler_calls_every_five_minutes_with_an_identity(bootstrapped_once: FakeCloud) -> None:
    job = bootstrapped_once.state["jobs"]["follow-up-check"]

    assert job["schedule"] == "*/5 * * * *"
    assert job["http-method"] == "POST"  # a GET only says what the address is
    assert job["uri"] == job["oidc-token-audience"] == "https://follow-up-check-abc.a.run.app"
    assert job["oidc-service-account-email"] == "scheduler-invoker@p.iam.gserviceaccount.com"
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


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_asks_google_nothing_and_shows_no_secret(cloud: FakeCloud, script: str) -> None:
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


@pytest.mark.parametrize("script", [*SCRIPTS, "migrate"])
def test_an_unknown_argument_stops_a_script(cloud: FakeCloud, script: str) -> None:
    done = cloud.run(script, "--dryrun", **SETTINGS, **SECRETS, DATABASE_URL="postgresql://u@127.0.0.1/d")

    assert done.status == 2
    assert "--dryrun" in done.err
    assert not cloud.calls


def test_functions_can_be_deployed_as_functions(cloud: FakeCloud) -> None:
    done = cloud.run("bootstrap", "--functions", **SETTINGS, **SECRETS)
    assert done.status == 0, done.err
    (check, webhook) = [line for line in cloud.asked if line.startswith("functions deploy")]

    assert flags(check)["--entry-point"] == "follow_up_check"
    assert flags(webhook)["--concurrency"] == "40"
    assert "--no-allow-unauthenticated" in check
    assert "LOG_EXECUTION_ID=false" in check
    assert not [line for line in cloud.asked if line.startswith("run deploy")]
