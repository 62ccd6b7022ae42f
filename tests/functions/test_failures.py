"""When something is away or wrong: the database gone, settings missing, secrets that must not show."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from loopback import http
from pydantic import SecretStr
from served import FunctionServer
from waiting import until
from world import SECRET, check_environment, webhook_environment

from dev.processes import StackError
from shared.core.policy import Limits, Policy
from shared.database.client import supabase_client
from shared.database.store import Store, connect
from shared.errors import StoreError, StoreUnavailable
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from world import World


def test_without_the_database_both_functions_answer_503_and_work_again_when_it_is_back(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="refused")
    check, hook = world._served("follow_up_check"), world._served("wapi_webhook")
    world.stack.stop_postgrest()
    try:
        swept = http.post(check.url)
        taken = world.post(world.disconnection(line))
    finally:
        world.stack.start_postgrest()

    assert (swept.status_code, taken.status_code) == (503, 503)
    assert int(taken.headers["retry-after"]) > 0
    assert world.facts("follow_up_check", "store.unavailable")
    assert world.facts("wapi_webhook", "store.unavailable")
    assert http.get(f"{hook.url}/health").status_code == 200
    until(lambda: http.post(check.url).status_code == 200)
    assert world.status(line) == "disconnected"
    assert world.event(world.connection(line)) == "restored"


def test_a_restarted_postgres_is_survived(world: World) -> None:
    line = world.line(world.company())
    world.sweep()
    world.stack.restart_postgres()

    check = world._served("follow_up_check")
    until(lambda: http.post(check.url).status_code == 200)
    assert world.simulator.calls(line.external_id)["status-instance"] >= 2


def test_a_database_that_refuses_is_500_with_a_logged_reason(world: World) -> None:
    environment = check_environment(world.stack, world.simulator) | {"SUPABASE_SERVICE_ROLE_KEY": world.stack.anon_key}
    with FunctionServer("follow_up_check", environment) as server:
        answer = http.post(server.url)
        [fact] = [fact for fact in server.facts() if fact["message"] == "store.refused"]

    assert answer.status_code == 500
    assert (fact["severity"], fact["operation"], fact["code"]) == ("ERROR", "begin_sweep", "42501")


@pytest.mark.parametrize(
    ("target", "name", "value", "said"),
    [
        ("wapi_webhook", "WAPI_WEBHOOK_SECRETS", "", "WAPI_WEBHOOK_SECRETS is missing"),
        ("wapi_webhook", "WAPI_WEBHOOK_SECRETS", "short-secret", "WAPI_WEBHOOK_SECRETS"),
        ("follow_up_check", "SUPABASE_URL", "", "SUPABASE_URL is missing"),
        ("follow_up_check", "SUPABASE_URL", "http://example.com", "SUPABASE_URL"),
        ("follow_up_check", "SUPABASE_SERVICE_ROLE_KEY", "not-a-key-at-all", "SUPABASE_SERVICE_ROLE_KEY"),
        ("follow_up_check", "LOOK_CONCURRENCY", "many", "LOOK_CONCURRENCY"),
    ],
)
def test_a_function_with_wrong_settings_does_not_start_and_names_them(
    world: World, target: str, name: str, value: str, said: str
) -> None:
    make = webhook_environment if target == "wapi_webhook" else check_environment
    with pytest.raises(StackError) as caught:
        FunctionServer(target, make(world.stack, world.simulator) | {name: value})

    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not value or value not in str(caught.value).replace(said, "")


def test_a_new_style_service_key_works_as_well(world: World) -> None:
    world.line(world.company())
    environment = check_environment(world.stack, world.simulator) | {
        "SUPABASE_SERVICE_ROLE_KEY": world.stack.secret_key
    }
    with FunctionServer("follow_up_check", environment) as server:
        answer = http.post(server.url)
    assert answer.json()["alive"] == 1


@pytest.mark.parametrize("log_execution_id", ["true", "false"])
def test_no_token_secret_phone_or_message_ever_shows_in_logs_or_answers(world: World, log_execution_id: str) -> None:
    company = world.company(users=1)
    lines = [world.line(company, session=session) for session in ("alive", "disconnected", "ghost", "token_refused")]
    world.behave(lines[1], restart="refused")
    extra = {"LOG_EXECUTION_ID": log_execution_id, "GOOGLE_CLOUD_PROJECT": "a-project"}
    answers: list[str] = []
    with (
        FunctionServer("follow_up_check", check_environment(world.stack, world.simulator) | extra) as check,
        FunctionServer("wapi_webhook", webhook_environment(world.stack, world.simulator) | extra) as hook,
    ):

        def post(event: Any, key: str = SECRET) -> None:
            headers = {"traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}
            answers.append(http.post(hook.url, params={"key": key}, json=event, headers=headers).text)

        for _ in range(2):
            answers.append(http.post(check.url).text)
            post(
                {
                    "event": "webhookReceived",
                    "instanceId": lines[0].external_id,
                    "msgContent": {"conversation": "segredo do cliente"},
                }
            )
            post(world.disconnection(lines[0]))
            post(world.connection(lines[1]))
            post(["segredo do cliente"])
            post({"event": "x"}, key="wrong-key-of-a-stranger")
            answers.append(http.post(hook.url, params={"key": SECRET}, content=b"segredo do cliente").text)
        said = check.output() + hook.output() + "".join(answers)
        facts = check.facts() + hook.facts()

    printed = said.removesuffix("".join(answers)).splitlines()
    assert [row for row in printed if not row.startswith("{")] == []  # nothing but our own JSON lines
    assert "sweep.finished" in said
    assert "event.taken" in said
    for secret in (
        world.stack.service_role_key, world.stack.jwt_secret, SECRET, "wrong-key-of-a-stranger", "segredo do cliente",
        *(line.token for line in lines), *(line.phone for line in lines),
    ):  # fmt: skip
        assert secret not in said
    assert all({"severity", "message", "time"} <= fact.keys() for fact in facts)
    assert any("logging.googleapis.com/trace" in fact for fact in facts)


def test_an_error_of_the_database_that_quotes_a_row_does_not_show(world: World) -> None:
    line = world.line(world.company(), session="alive")
    world.sql(
        "alter table public.wapi_webhook_events add constraint not_that_phone check (body not like '%%5511988888888%%') not valid"
    )
    try:
        answer = world.post(world.connection(line) | {"connectedPhone": "5511988888888"})
    finally:
        world.sql("alter table public.wapi_webhook_events drop constraint not_that_phone")

    assert answer.status_code == 500
    fact = world.facts("wapi_webhook", "store.refused")[-1]
    assert fact["code"] == "23514"
    shown = json.dumps(fact) + answer.text
    assert "5511988888888" not in shown
    assert line.token not in shown


@pytest.mark.parametrize("answer", [b"<html>", b"", b"null", b"[]"])
async def test_a_200_that_is_no_answer_of_ours_is_a_database_that_is_away(answer: bytes) -> None:
    def speak(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answer, headers={"content-type": "application/json"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(speak)) as http:
        store = connect("https://project.example", SecretStr("sb_secret_0123456789"), http, Policy())
        with pytest.raises(StoreError) as caught:
            await store.begin_sweep()
    assert isinstance(caught.value, StoreUnavailable)


async def test_a_batch_that_cannot_be_recorded_does_not_cut_restarts_short(world: World) -> None:
    company = world.company(users=1)
    dead = world.line(company, seen_before=False)
    world.behave(dead, session="disconnected")
    world.lines(company, 3)

    async with pooled_http(httpx.Timeout(10)) as database, pooled_http(httpx.Timeout(10)) as provider:

        class Failing(Store):
            async def record_looks(self, sightings: list[Any], **how: bool) -> int:
                if any(each.instance.id != dead.id for each in sightings):
                    raise StoreUnavailable("record_looks", "503")
                return await super().record_looks(sightings, **how)

        client = supabase_client(world.stack.supabase_url, SecretStr(world.stack.service_role_key), database)
        limits = Limits(check_interval=timedelta(0), restart_verify=timedelta(seconds=0.3), batch_size=1)
        store = Failing(client, Policy())
        with pytest.raises(StoreUnavailable):
            await run_sweep(store, WapiClient(provider, world.simulator.wapi_url), policy=Policy(), limits=limits)

    assert world.audit(dead)[-1] == "restart_recovered"
    assert [outage["closed_as"] for outage in world.outages(dead)] == ["recovered"]
