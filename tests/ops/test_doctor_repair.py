"""``--fix-webhooks``: only what is wrong, of a line one after another, and nothing else."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from doctoring import Doctor, healthy
from pydantic import SecretStr
from waiting import until
from world import OLD_SECRET, SECRET, World

from dev.simulator.provider import key_of
from ops.common.interrupted import Interrupted
from ops.doctor.facts import LineRow
from ops.doctor.provider import AT_ONCE, Registry
from ops.doctor.repair import Order, repair
from shared.core.registration import Target, WebhookKind
from shared.providers.exchange import pooled_http
from shared.providers.limiter import Limiter
from shared.providers.wapi.client import WapiClient

if TYPE_CHECKING:
    from ops.doctor.findings import Change

KINDS = ["disconnected", "connected", "received", "delivery", "message-status"]


@pytest.fixture
def doctor(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    doctor = Doctor(world, monkeypatch, capsys)
    world.simulator.set_provider(webhook_url=None)
    return doctor


def registered(world: World, line: Any) -> dict[str, Any]:
    webhooks: Any = world.simulator.line(line.external_id)["webhooks"]
    return webhooks


def puts(world: World, line: Any | None = None) -> dict[str, int]:
    calls = world.simulator.calls(line.external_id) if line else world.simulator.calls()
    return {call: number for call, number in calls.items() if call.startswith("update-webhook-")}


def row(line: Any) -> LineRow:
    told = dict.fromkeys(LineRow.model_fields)
    return LineRow.model_validate(told | {"id": line.id, "external_id": line.external_id, "instance_token": line.token})


def test_only_what_is_wrong_is_set_one_after_another_and_a_second_run_sets_nothing(
    doctor: Doctor, world: World
) -> None:
    fresh, moved, half = healthy(world, 3)
    good = {line: f"{doctor.function_url}/?key={key_of(line.external_id, SECRET)}" for line in (fresh, moved, half)}
    paused = world.line(world.company(users=1), is_active=False)
    world.behave(moved, webhooks=dict.fromkeys([*KINDS, "chat-presence"], "https://old.example/hook?key=theirs"))
    world.behave(
        half,
        webhooks=dict.fromkeys(KINDS, good[half])
        | {
            "disconnected": f"{doctor.function_url}/?key={SECRET}",
            "connected": f"{doctor.function_url}/?key={OLD_SECRET}",
            "received": f"{doctor.function_url}/?key={key_of(half.external_id, OLD_SECRET)}",
            "delivery": good[moved],
            "chat-presence": f"{doctor.function_url}/?key=wrong",
        },
    )
    rows = world.sql("select * from public.wapi_instances order by id")
    before = doctor.examine()
    assert before.ids("webhook.missing") == {str(fresh.id)}
    assert before.ids("webhook.foreign") == {str(moved.id)}
    assert before.ids("webhook.wrong_key") == {str(half.id)}
    assert before.ids("webhook.old_key") == {str(half.id)}
    [plain] = before.finding("webhook.plain_key")["concerns"]
    assert (plain["id"], plain["detail"]) == (str(half.id), "disconnected, connected")
    assert puts(world) == {}
    world.simulator.forget_calls()
    world.simulator.set_provider(latency_ms=5)

    fixed = doctor.examine("--fix-webhooks", "--company", "Buffet Alegria")

    assert fixed.code == 0, fixed.text
    assert {each["line"]["id"]: each["kinds"] for each in fixed.said["changes"]} == {
        str(fresh.id): KINDS, str(moved.id): KINDS, str(half.id): ["disconnected", "connected", "received", "delivery", "chat-presence"],
    }  # fmt: skip
    assert registered(world, fresh) == dict.fromkeys(KINDS, good[fresh])
    assert registered(world, moved) == dict.fromkeys(KINDS, good[moved]) | {
        "chat-presence": "https://old.example/hook?key=theirs"
    }
    assert registered(world, half) == dict.fromkeys([*KINDS, "chat-presence"], good[half])
    assert puts(world, paused) == {}
    assert sum(puts(world).values()) == 15
    assert not [secret for secret in (SECRET, *good.values()) if secret in fixed.text]
    assert world.sql("select * from public.wapi_instances order by id") == rows

    again = doctor.examine("--fix-webhooks")
    assert (again.code, again.said["changes"], sum(puts(world).values())) == (0, [], 15)


def test_puts_of_one_line_never_meet(doctor: Doctor, world: World) -> None:
    line = healthy(world, 1)[0]
    world.behave(line, latency_ms=20)
    assert doctor.examine("--fix-webhooks").code == 0
    assert world.simulator.summary()["max_in_flight"] == 1
    assert sum(puts(world, line).values()) == 5


def test_where_parallel_puts_meet_429_lines_are_set_one_by_one(doctor: Doctor, world: World) -> None:
    lines = healthy(world, 8)
    world.simulator.set_provider(latency_ms=5, max_concurrent_puts=1)
    assert doctor.examine("--fix-webhooks").code == 0
    assert all(puts(world, line) for line in lines)


async def test_many_lines_are_set_at_once_and_each_is_known_when_it_is_done(world: World) -> None:
    lines = world.lines(world.company(), 6)
    world.simulator.set_provider(latency_ms=50)
    orders = [Order(row(line), (WebhookKind.RECEIVED, WebhookKind.DELIVERY)) for line in lines]
    done: list[Change] = []
    async with pooled_http(httpx.Timeout(None)) as http:
        registry = Registry(WapiClient(http, world.simulator.wapi_url), Limiter(AT_ONCE), timedelta(seconds=10))
        target = Target("https://hook.example", (SecretStr(SECRET),))
        after = await repair(orders, target, registry, done=done.append)
    assert [change.kinds for change in done] == [("received", "delivery")] * 6
    assert len(after) == 6
    assert world.simulator.summary()["max_in_flight"] == 6


def test_a_fix_that_is_cut_off_says_which_lines_were_set(doctor: Doctor, world: World) -> None:
    line, stuck = healthy(world, 2)
    world.behave(stuck, faults={"update-webhook-connected": "timeout"})
    said: list[str] = []

    def cut_off() -> None:
        until(
            lambda: registered(world, line).keys() == set(KINDS) and puts(world, stuck).get("update-webhook-connected")
        )
        until(lambda: world.simulator.calls(line.external_id).get("fetch-instance") == 2)
        signal.raise_signal(signal.SIGINT)

    killer = threading.Thread(target=cut_off)
    killer.start()
    try:
        with pytest.raises(Interrupted) as interrupted:
            doctor.run("--fix-webhooks", LOOK_TIMEOUT_SECONDS="600")
        said.append(str(interrupted.value))
    finally:
        killer.join()
    unit = world.row(line)["unit"]
    assert said == [
        f"set for 1 line (Buffet Alegria · {unit}), not for the others; run it again, what is set stays set"
    ]


def test_a_dry_run_says_what_it_would_set_and_sets_nothing(doctor: Doctor, world: World) -> None:
    line = healthy(world, 1)[0]
    code, out, _ = doctor.run("--fix-webhooks", "--dry-run")
    assert code == 1
    assert f"would be set:\n  Buffet Alegria · {world.row(line)['unit']} ({line.external_id}, {line.id}):" in out
    assert puts(world) == {}


def test_no_url_is_set_with_a_key_that_the_function_does_not_know(doctor: Doctor, world: World) -> None:
    healthy(world, 1)
    examined = doctor.examine("--fix-webhooks", WAPI_WEBHOOK_SECRETS="a-secret-that-is-not-deployed")
    assert {"function.wrong_key", "fix.refused"} <= examined.wrong
    assert puts(world) == {}


def test_a_line_that_could_not_be_read_is_not_touched(doctor: Doctor, world: World) -> None:
    unread, refused, fine = healthy(world, 3)
    world.behave(unread, faults={"fetch-instance": "200_error_true"})
    world.behave(refused, session="token_refused")
    examined = doctor.examine("--fix-webhooks")
    assert examined.ids("webhook.unread") == {str(unread.id)}
    assert {each["line"]["id"] for each in examined.said["changes"]} == {str(fine.id)}
    assert (puts(world, unread), puts(world, refused)) == ({}, {})


def test_a_put_that_is_throttled_is_repeated_and_one_that_is_refused_is_told(doctor: Doctor, world: World) -> None:
    throttled, broken = healthy(world, 2)
    world.behave(throttled, faults={"update-webhook-received": {"fault": "429_retry_after", "times": 1}})
    world.behave(broken, faults={"update-webhook-received": "200_error_true"})
    world.simulator.set_provider(retry_after_seconds=0)
    examined = doctor.examine("--fix-webhooks")
    assert examined.code == 1
    assert registered(world, throttled).keys() == set(KINDS)
    assert [each["detail"] for each in examined.finding("fix.failed")["concerns"]] == ["refused"]
    (change,) = [each for each in examined.said["changes"] if each["failed"]]
    assert (change["line"]["id"], change["kinds"]) == (str(broken.id), ["disconnected", "connected"])
    assert examined.ids("webhook.missing") == {str(broken.id)}


def test_fixing_needs_to_know_where_to(doctor: Doctor) -> None:
    code, _, err = doctor.run("--fix-webhooks", WEBHOOK_URL=None)
    assert (code, err) == (2, "settings: WEBHOOK_URL is missing\n")
