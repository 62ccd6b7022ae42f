"""The doctor on further channels: who was told, what waits, what is dead, and a message that proves one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from composites import mark_down
from outbox import NO, Receiver, contact, deliver, sender

from ops.doctor.cli import main

if TYPE_CHECKING:
    from uuid import UUID

    from wire import OnTheWire
    from world import Line, World

    from ops.doctor.findings import Finding

ANA, PHONE = "ana@example.com", "5511988887777"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def sending(world: World, monkeypatch: pytest.MonkeyPatch) -> Line:
    line = world.line(world.company("A plataforma"), "Alertas")
    for name, value in {
        "SUPABASE_URL": world.stack.supabase_url, "SUPABASE_SERVICE_ROLE_KEY": world.stack.service_role_key,
        "WAPI_BASE_URL": world.simulator.wapi_url, "ALERT_INSTANCE_ID": line.external_id,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("ALERT_EMAIL_URL", "OPERATOR_ALERT_URLS", "OPERATOR_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return line


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())


def test_a_test_goes_to_one_contact_and_says_what_its_channel_said(
    world: World, sending: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    who = contact(world, world.company(), PHONE, channel="whatsapp")
    contact(world, world.company(), ANA)

    assert main(["--send-test", str(who)]) == 0
    assert said_by(capsys) == "whatsapp …7777 said yes\n"
    world.behave(sending, faults={"send-text": "429"})
    assert main(["--send-test", "7777"]) == 1
    assert said_by(capsys) == "whatsapp …7777 said no, or was not reached (http_429)\n"
    assert world.simulator.calls(sending.external_id)["send-text"] == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param(ANA, "ALERT_EMAIL_URL is missing", id="mail that is not configured"),
        pytest.param("9999", "no contact ends so", id="nobody"),
        pytest.param("com", "no contact ends so", id="too short to mean one"),
        pytest.param("operator", "OPERATOR_ALERT_URLS is missing", id="the operator without an address"),
    ],
)
@pytest.mark.usefixtures("sending")
def test_what_cannot_be_tried_is_said(world: World, capsys: pytest.CaptureFixture[str], asked: str, said: str) -> None:
    contact(world, world.company(), ANA)
    assert main(["--send-test", asked]) == 2
    assert said in said_by(capsys)


def test_a_line_that_may_not_send_is_said(world: World, sending: Line, capsys: pytest.CaptureFixture[str]) -> None:
    contact(world, world.company(), PHONE, channel="whatsapp")
    mark_down(world, sending)
    assert main(["--send-test", PHONE]) == 2
    assert "may not send" in said_by(capsys)


async def found(world: World, ours: OnTheWire) -> dict[str, Finding]:
    from pydantic import SecretStr  # noqa: PLC0415 - only here

    from ops.common.rest import Rest  # noqa: PLC0415
    from ops.doctor.checks.all import judge  # noqa: PLC0415
    from ops.doctor.facts import Fleet  # noqa: PLC0415
    from ops.doctor.gathering import read_tables  # noqa: PLC0415

    tables = await read_tables(Rest(ours._database, world.stack.supabase_url, SecretStr(world.stack.service_role_key)))
    assert tables.unchecked == ()
    return {each.check: each for each in judge(tables, Fleet(tuple(tables.lines), {}), None)}


async def test_the_doctor_says_who_was_told_what_waits_and_what_is_dead(world: World, ours: OnTheWire) -> None:
    company: UUID = world.company(users=1)
    contact(world, company, ANA, after=0)
    contact(world, company, "bia@example.org", after=120)
    mark_down(world, world.line(company, "Centro"))
    await deliver(sender(Receiver()), ours.store.outbox)
    world.pass_time(7 * MINUTE)

    told = await found(world, ours)
    [sent], [waiting] = told["deliveries.sent"].concerns, told["deliveries.waiting"].concerns
    assert (sent.name, sent.detail) == ("Centro", "down to email ….com, 7 min ago")
    assert (waiting.name, waiting.detail) == ("Centro", "down to email ….org, due in 1 h 53 min")
    assert "channel.dead" not in told

    failing = sender(Receiver(lambda _, __: NO))
    for _ in range(19):
        world.pass_time(10 * MINUTE)
        await deliver(failing, ours.store.outbox)
    told = await found(world, ours)
    assert told["channel.dead"].severity == "problem"
    assert {each.name.split(" ")[0] for each in told["channel.dead"].concerns} == {"email", "operator"}
    assert {each.name for each in told["alerts.open"].concerns} == {"A line is down for an hour", "A channel is dead"}
    assert "given_up" not in told

    for hours in (25, 5):  # a last try, and the end
        world.pass_time(60 * hours * MINUTE)
        await deliver(failing, ours.store.outbox)
    told = await found(world, ours)
    assert told["deliveries.given_up"].severity == "warning"
    text = str(told)
    assert ANA not in text
    assert "bia@" not in text
