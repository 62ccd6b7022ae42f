"""A deployment and the way back from it, against a gcloud that only pretends."""

from __future__ import annotations

import pytest
from cloud import PLACE, SECRETS, SETTINGS, FakeCloud, flags
from fake_gcloud import SECRET_MARK

from shared.settings import SweepSettings, WebhookSettings


def test_a_deployment_serves_only_after_its_smoke_test(ready: FakeCloud) -> None:
    before = len(ready.asked)
    ready.deploy("r1")
    lines = ready.asked[before:]
    releases = [n for n, line in enumerate(lines) if line.startswith("run deploy")]
    smokes = [n for n, line in enumerate(lines) if line.startswith("auth print-identity-token")]
    promotions = [n for n, line in enumerate(lines) if line.startswith("run services update-traffic")]

    assert [len(releases), len(smokes), len(promotions)] == [2, 1, 2]
    assert max(releases) < min(smokes) <= max(smokes) < min(promotions)
    assert all("--no-traffic" in flags(lines[n]) for n in releases)
    assert [ready.serving(service) for service in ("follow-up-check", "wapi-webhook")] == [
        "follow-up-check-r1",
        "wapi-webhook-r1",
    ]
    assert [line.split()[-1] for line in ready.curls[-4:]] == [
        f"https://candidate---{service}-abc.a.run.app/{path}"
        for service in ("wapi-webhook", "follow-up-check")
        for path in ("health", "ready")
    ]


def test_the_private_candidate_is_asked_with_a_token_that_no_argument_shows(ready: FakeCloud) -> None:
    done = ready.deploy("r1")
    token = flags(next(line for line in reversed(ready.asked) if line.startswith("auth")))

    assert token["--audiences"] == "https://follow-up-check-abc.a.run.app"
    assert token["--impersonate-service-account"] == "scheduler-invoker@my-project.iam.gserviceaccount.com"
    assert f'header = "Authorization: Bearer token-{SECRET_MARK}"' in (ready.folder / "curl.stdin").read_text("utf-8")
    assert SECRET_MARK not in done.out + done.err + " ".join(ready.curls)


def test_a_candidate_that_is_not_healthy_never_serves(ready: FakeCloud) -> None:
    before = {service: ready.serving(service) for service in ("follow-up-check", "wapi-webhook")}
    (ready.folder / "health").write_text("302", "utf-8")
    done = ready.run("deploy", **PLACE, RELEASE="r1")

    assert done.status == 2
    assert "answered 302" in done.err
    assert {service: ready.serving(service) for service in before} == before


def test_a_candidate_that_does_not_reach_a_migrated_database_never_serves(ready: FakeCloud) -> None:
    before = {service: ready.serving(service) for service in ("follow-up-check", "wapi-webhook")}
    (ready.folder / "ready").write_text("503", "utf-8")
    (ready.folder / "said").write_text('{"error":"migrations are missing: run deploy/migrate"}', "utf-8")
    done = ready.run("deploy", **PLACE, RELEASE="r1")

    assert done.status == 2
    assert 'answered 503: {"error":"migrations are missing: run deploy/migrate"}; nothing was promoted' in done.err
    assert {service: ready.serving(service) for service in before} == before


def test_a_candidate_of_somebody_else_is_not_promoted(ready: FakeCloud) -> None:
    ready.deploy("r1", "release")
    ready.deploy("r2", "release")
    done = ready.run("deploy", "smoke", **PLACE, RELEASE="r1")

    assert done.status == 2
    assert "somebody else deploys" in done.err


def test_the_steps_of_the_pipeline_are_the_whole(ready: FakeCloud) -> None:
    for step in ("release", "smoke", "promote"):
        ready.deploy("b1", step)

    assert ready.serving("wapi-webhook") == "wapi-webhook-b1"
    assert "update-traffic" not in " ".join(ready.deploy("b1", "promote").commands)


def test_a_deployment_before_the_bootstrap_is_refused(cloud: FakeCloud) -> None:
    done = cloud.run("deploy", **PLACE)

    assert done.status == 2
    assert "deploy/bootstrap first" in done.err


def test_a_deployment_pins_the_newest_versions_of_the_secrets(ready: FakeCloud) -> None:
    ready.run("rotate", "begin", **SETTINGS)

    assert ready.deployment("wapi-webhook")["--set-secrets"] == (
        "SUPABASE_SERVICE_ROLE_KEY=supabase-service-role-key:1,WAPI_WEBHOOK_SECRETS=wapi-webhook-secrets:2,"
        "EVENT_LOG_KEY=event-log-key:1,EVENT_RELAY_URL=event-relay-url:1"
    )
    assert ready.deployment("follow-up-check")["--set-secrets"] == (
        "SUPABASE_SERVICE_ROLE_KEY=supabase-service-role-key:1,WAPI_WEBHOOK_SECRETS=wapi-webhook-secrets:2,"
        "EVENT_RELAY_URL=event-relay-url:1,"
        "ALERT_EMAIL_URL=alert-email-url:1,OPERATOR_ALERT_URLS=operator-alert-urls:1,"
        "OPERATOR_WEBHOOK_SECRET=operator-webhook-secret:1"
    )


@pytest.mark.parametrize("release", ["R1", "1r", "r1-", "r_1", "r" * 41])
def test_a_release_that_names_no_revision_is_refused(cloud: FakeCloud, release: str) -> None:
    assert cloud.run("deploy", **PLACE, RELEASE=release).status == 2
    assert not cloud.calls


def test_one_command_goes_back_to_what_served_before(ready: FakeCloud) -> None:
    ready.deploy("r1")
    (ready.folder / "health").write_text("500", "utf-8")
    assert ready.run("deploy", **PLACE, RELEASE="r2").status == 2
    (ready.folder / "health").unlink()
    ready.deploy("r3")
    assert [ready.run("rollback", **PLACE).status for _ in range(2)] == [0, 0]

    assert [ready.serving(service) for service in ("follow-up-check", "wapi-webhook")] == [
        "follow-up-check-r1",
        "wapi-webhook-r1",
    ]


def test_a_rollback_of_which_one_half_is_impossible_changes_nothing(ready: FakeCloud) -> None:
    ready.deploy("r1")
    ready.run("rotate", "begin", **SETTINGS)
    assert ready.run("rotate", "finish", **SETTINGS).status == 0
    before = {service: ready.serving(service) for service in ("follow-up-check", "wapi-webhook")}
    done = ready.run("rollback", **PLACE)

    assert done.status == 2
    assert "follow-up-check has no revision before" in done.err
    assert {service: ready.serving(service) for service in before} == before


def settings_passed(ready: FakeCloud, service: str) -> dict[str, str]:
    return dict(
        each.split("=", 1) for each in ready.deployment(service)["--update-env-vars"].removeprefix("^@@^").split("@@")
    )


@pytest.mark.parametrize(("service", "kind"), [("follow-up-check", SweepSettings), ("wapi-webhook", WebhookSettings)])
def test_every_setting_of_a_function_reaches_it(
    cloud: FakeCloud, service: str, kind: type[SweepSettings | WebhookSettings]
) -> None:
    cloud.bootstrap()
    names = (
        {name.upper() for name in kind.model_fields}
        - SECRETS.keys()
        - {"GOOGLE_CLOUD_PROJECT", "SWEEP_FANOUT", "SWEEP_FANOUT_URL"}
    )
    chosen = {
        name: f"https://{name.lower().replace('_', '-')}.example.com,1" if name.endswith("_URL") else f"of-{name},1"
        for name in names
    }
    cloud.deploy("r1", **chosen)
    secrets = {each.split("=")[0] for each in cloud.deployment(service)["--set-secrets"].split(",")}

    assert settings_passed(cloud, service) == chosen | {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "LOG_EXECUTION_ID": "false",
    }
    assert secrets == {name.upper() for name in kind.model_fields} & SECRETS.keys()


def test_the_sweep_knows_the_webhooks_address_from_the_first_deployment_on(
    cloud: FakeCloud, bootstrapped_once: FakeCloud
) -> None:
    assert settings_passed(bootstrapped_once, "follow-up-check")["WEBHOOK_URL"] == "https://wapi-webhook-abc.a.run.app"
    assert "WEBHOOK_URL" not in settings_passed(bootstrapped_once, "wapi-webhook")
    cloud.begin_as(bootstrapped_once)
    cloud.deploy("r1")
    assert "WEBHOOK_URL" not in settings_passed(cloud, "follow-up-check")  # it stays as it was deployed
    cloud.deploy("r2", WEBHOOK_URL="")
    assert settings_passed(cloud, "follow-up-check")["WEBHOOK_URL"] == ""


def test_who_wishes_another_address_or_none_says_so_to_the_bootstrap(cloud: FakeCloud) -> None:
    cloud.bootstrap(WEBHOOK_URL="https://hook.example.com")
    assert settings_passed(cloud, "follow-up-check")["WEBHOOK_URL"] == "https://hook.example.com"


def test_what_a_deployment_does_not_name_stays_as_it_was(ready: FakeCloud) -> None:
    ready.deploy("r1", WAPI_SEND_URL="")

    assert settings_passed(ready, "wapi-webhook") == {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "LOG_EXECUTION_ID": "false",
        "WAPI_SEND_URL": "",
    }
    assert "--max-instances" not in ready.deployment("wapi-webhook")


def test_a_sweep_that_asks_for_help_may_call_itself_and_has_room(cloud: FakeCloud) -> None:
    cloud.bootstrap(SWEEP_FANOUT="3")
    cloud.deploy("r1", SWEEP_FANOUT="3")
    told = settings_passed(cloud, "follow-up-check")

    assert (told["SWEEP_FANOUT"], told["SWEEP_FANOUT_URL"]) == ("3", "https://follow-up-check-abc.a.run.app")
    assert int(cloud.deployment("follow-up-check")["--max-instances"]) >= 2 * (1 + 3)
    assert ("follow-up-check", "run.invoker", "serviceAccount:follow-up-check") in cloud.bindings
    assert "SWEEP_FANOUT" not in settings_passed(cloud, "wapi-webhook")


@pytest.mark.parametrize("fanout", ["many", "-1", "51"])
def test_a_fanout_out_of_bounds_is_refused(cloud: FakeCloud, fanout: str) -> None:
    done = cloud.run("deploy", "--dry-run", **PLACE, SWEEP_FANOUT=fanout)

    assert done.status == 2
    assert "SWEEP_FANOUT must be" in done.err
