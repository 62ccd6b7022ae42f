"""Each channel against a real server: what it says yes to, and that what hangs, lies or fails is no yes."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import logging
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP
from composites import mark_down
from outbox import contact, deliver, deliveries_of
from pydantic import SecretStr
from wire import When

from shared import logs
from shared.channels.configured import channels_of, fingerprint_of
from shared.channels.mail import AppriseChannel
from shared.channels.signed import ID, SIGNATURE, TIMESTAMP, SignedWebhook, is_genuine
from shared.core.alerts import AlertCause
from shared.core.delivery import EMAIL, Post, SendAnswer, SendResult
from shared.deliveries import Deliveries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiosmtpd.smtp import Envelope, Session
    from wire import OnTheWire
    from world import Line, World

SECOND = timedelta(seconds=1)
LONG = timedelta(seconds=30)
SHORT = timedelta(seconds=0.2)
ANA = SecretStr("ana@example.com")
PHONE = "5511988887777"
POST = Post(
    "alert-7",
    "WhatsApp desconectado",
    "WhatsApp da unidade <Centro> & Cia perdeu conexão.\nOutra linha",
    ({"kind": "down"},),
)
SECRET = SecretStr("a-secret-of-sixteen-and-more")
PASSWORD = "hunter2-of-the-mail-server"


class Mailbox:
    """What a mail server was given, and its answer to it."""

    def __init__(self, answer: str = "250 OK") -> None:
        self.answer = answer
        self.got: list[tuple[list[str], email.message.EmailMessage]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        content = envelope.content or b""
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        self.got.append((envelope.rcpt_tos, message))
        return self.answer


@asynccontextmanager
async def mail_server(mailbox: Mailbox) -> AsyncIterator[SecretStr]:
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield SecretStr(f"mailto://127.0.0.1:{port}?from=alerts@example.com")


@asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Whatever a test wants to stand behind a port."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def with_care(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(with_care, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in open_ones:
            writer.transport.abort()


async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.transport.abort()


# Mail


def said_by_us(caplog: pytest.LogCaptureFixture) -> str:
    """The log without the mail server's own."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name != "mail.log")


async def test_a_contact_gets_a_mail_of_their_own_as_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = Mailbox()
    caplog.set_level(1)
    async with mail_server(mailbox) as url:
        answer = await AppriseChannel(url, to_contacts=True).send(ANA, POST, within=LONG)

    assert answer == SendAnswer(SendResult.SENT)
    [(to, message)] = mailbox.got
    assert to == ["ana@example.com"]
    assert message["subject"] == POST.title
    assert "alerts@example.com" in message["from"]
    body = message.get_body(("plain", "html"))
    assert body is not None
    assert [line.strip() for line in body.get_content().strip().splitlines()] == POST.text.splitlines()
    assert ANA.get_secret_value() not in said_by_us(caplog)


@pytest.mark.parametrize("answer", ["550 no such user", "451 try again", "554 refused"])
async def test_a_mail_server_that_says_no_is_no_yes(answer: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    async with mail_server(Mailbox(answer)) as url:
        assert await AppriseChannel(url, to_contacts=True).send(ANA, POST, within=LONG) == SendAnswer(
            SendResult.REFUSED, "refused"
        )
    assert ANA.get_secret_value() not in said_by_us(caplog)
    assert [record.name for record in caplog.records if record.name.split(".")[0] == "apprise"] == []


async def test_a_mail_server_that_hangs_costs_its_time_and_no_more() -> None:
    async with raw_server(says_nothing) as port:
        url = SecretStr(f"mailto://user:{PASSWORD}@127.0.0.1:{port}?from=alerts@example.com")
        answer = await AppriseChannel(url, to_contacts=True).send(ANA, POST, within=SHORT)
    assert answer.result in (SendResult.UNCLEAR, SendResult.REFUSED)
    assert answer.cause in ("timeout", "refused")


async def test_a_server_that_keeps_every_thread_of_a_channel_keeps_no_other_channels() -> None:
    async with raw_server(drips) as port, mail_server(mailbox := Mailbox()) as url:
        slow = AppriseChannel(SecretStr(f"mailto://127.0.0.1:{port}?from=alerts@example.com"), to_contacts=True)
        answers = await asyncio.gather(*(slow.send(ANA, POST, within=SHORT) for _ in range(20)))
        other = await AppriseChannel(url, to_contacts=True).send(ANA, POST, within=LONG)
    assert Counter(answer.cause for answer in answers) == {"timeout": 16, "threads_hang": 4}
    assert {answer.result for answer in answers if answer.cause == "threads_hang"} == {SendResult.NOT_TRIED}
    assert (other.result, len(mailbox.got)) == (SendResult.SENT, 1)


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"220-wait\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_a_no_of_one_of_several_targets_is_no_no_of_all() -> None:
    class Picky(Mailbox):
        async def handle_RCPT(  # noqa: N802 - aiosmtpd's
            self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
        ) -> str:
            if address.startswith("bad"):
                return "550 no such user"
            envelope.rcpt_tos.append(address)
            return "250 OK"

    async with mail_server(mailbox := Picky()) as url:
        several = SecretStr(f"{url.get_secret_value()}&to=good@example.com,bad@example.com")
        answer = await AppriseChannel(several).send(ANA, POST, within=LONG)
    assert [to for to, _ in mailbox.got] == [["good@example.com"]]
    assert (answer.result, answer.cause) == (SendResult.UNCLEAR, "in_part")


@pytest.mark.parametrize("url", ["mailto://127.0.0.1:1?from=a@example.com", "nonsense://x", "tgram://x"])
async def test_what_cannot_be_reached_or_is_no_address_is_a_no(url: str) -> None:
    assert (await AppriseChannel(SecretStr(url)).send(ANA, POST, within=LONG)).result is SendResult.REFUSED


@pytest.mark.parametrize("address", ["a@xn--e1afmkfd.xn--p1ai", "a@example.com-", "b-@y1.yx.yx1"])
async def test_a_mail_goes_to_the_address_that_is_stored_or_to_nobody(address: str) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox) as url:
        answer = await AppriseChannel(url, to_contacts=True).send(SecretStr(address), POST, within=LONG)
    assert [to for to, _ in mailbox.got] in ([], [[address]])
    assert answer.result is (SendResult.SENT if mailbox.got else SendResult.REFUSED)


async def test_an_address_of_the_operators_is_any_that_apprise_knows() -> None:
    await sends_whole(POST)


async def test_what_a_service_takes_in_no_single_message_comes_in_several() -> None:
    """An outage of hundreds of lines: Telegram takes 4,096 characters, and refused it for ever."""
    lines = [f"Unidade {number}: perdeu conexão às 14:35" for number in range(1_000)]
    got = await sends_whole(replace(POST, text="\n".join(lines)))
    assert len(got) > 1


async def sends_whole(post: Post) -> list[bytes]:
    """Send through apprise; everything arrives, in one message or in several."""
    got: list[bytes] = []

    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        got.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(takes) as port:
        answer = await AppriseChannel(SecretStr(f"json://127.0.0.1:{port}/x")).send(ANA, post, within=LONG)

    assert answer.result is SendResult.SENT
    assert json.loads(got[0])["title"].startswith(post.title)
    whole = "".join(json.loads(each)["message"] for each in got)
    assert whole.replace("\n", "") == post.text.replace("\n", "")
    return got


# The signed webhook


def answering(status: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\n\r\n".encode())
        await writer.drain()

    return answer


async def sent_to(port: int, within: timedelta = LONG, clock: float = 1_800_000_000.5) -> SendAnswer:
    async with httpx.AsyncClient(timeout=None, trust_env=False) as http:
        url = SecretStr(f"http://127.0.0.1:{port}/alerts?key=k")
        return await SignedWebhook(http, url, SECRET, lambda: clock).send(ANA, POST, within=within)


async def test_the_receiver_can_verify_who_sent_it_and_when() -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with raw_server(takes) as port:
        assert await sent_to(port) == SendAnswer(SendResult.SENT)

    [(headers, body)] = got
    received = {name: headers[name.lower()] for name in (ID, TIMESTAMP, SIGNATURE)}
    assert received[ID] == "alert-7"
    assert json.loads(body) == {"id": "alert-7", "title": POST.title, "text": POST.text, "alerts": [{"kind": "down"}]}
    assert is_genuine(SECRET, received, body, now=1_800_000_000)
    assert is_genuine(SECRET, received, body, now=1_800_000_299)
    assert not is_genuine(SECRET, received, body, now=1_800_000_301)
    assert not is_genuine(SECRET, received, body, now=1_799_999_699)
    assert not is_genuine(SECRET, received, body + b" ", now=1_800_000_000)
    assert not is_genuine(SecretStr("another-secret-of-sixteen"), received, body, now=1_800_000_000)
    assert not is_genuine(SECRET, received | {TIMESTAMP: "1800000001"}, body, now=1_800_000_000)
    assert not is_genuine(SECRET, {}, body, now=1_800_000_000)


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500, 503])
async def test_another_status_than_a_2xx_is_a_no(status: int) -> None:
    async with raw_server(answering(status)) as port:
        assert await sent_to(port) == SendAnswer(SendResult.REFUSED, f"http_{status}")


async def test_who_hangs_or_hangs_up_may_have_it() -> None:
    async with raw_server(says_nothing) as port:
        assert await sent_to(port, SHORT) == SendAnswer(SendResult.UNCLEAR, "timeout")
    async with raw_server(hangs_up) as port:
        assert (await sent_to(port)).result is SendResult.UNCLEAR


async def test_who_is_not_there_has_nothing() -> None:
    assert await sent_to(1) == SendAnswer(SendResult.REFUSED, "not_reached")


# WhatsApp, from the simulator


@pytest.fixture
def sending(world: World) -> Line:
    return world.line(world.company("A plataforma"), "Alertas")


@pytest.mark.parametrize(
    ("behaves", "result"),
    [
        pytest.param({}, SendResult.SENT, id="it queues"),
        pytest.param({"session": "disconnected"}, SendResult.SENT, id="it queues on a dead session as well"),
        pytest.param({"faults": {"send-text": "429"}}, SendResult.REFUSED, id="429"),
        pytest.param({"session": "token_refused"}, SendResult.REFUSED, id="the token is refused"),
        pytest.param({"session": "not_found"}, SendResult.REFUSED, id="the line is unknown"),
        pytest.param({"faults": {"send-text": "500"}}, SendResult.UNCLEAR, id="500"),
        pytest.param({"faults": {"send-text": "200_html"}}, SendResult.UNCLEAR, id="a page with 200"),
        pytest.param({"faults": {"send-text": "200_error_true"}}, SendResult.REFUSED, id="error with 200"),
        pytest.param({"faults": {"send-text": "hang"}}, SendResult.UNCLEAR, id="it hangs"),
    ],
)
async def test_what_the_provider_says_to_a_text(
    world: World, ours: OnTheWire, sending: Line, behaves: dict[str, Any], result: SendResult
) -> None:
    world.behave(sending, **behaves)
    line = type(
        "Told",
        (),
        {
            "id": sending.id,
            "external_id": sending.external_id,
            "token": SecretStr(sending.token),
            "last_event_at": None,
        },
    )
    within = SHORT if "hang" in str(behaves) else LONG

    answer = await ours.provider.send_text(line, SecretStr(PHONE), "texto", within=within)  # type: ignore[arg-type]

    assert answer.result is result
    assert (answer.message_id is not None) is (result is SendResult.SENT)
    assert PHONE not in str(answer)
    assert world.simulator.calls(sending.external_id) == {"send-text": 1}


# All of it


def through(ours: OnTheWire, sending: Line, **channels: Any) -> Deliveries:
    return Deliveries(channels, ours.provider, line=sending.external_id)


@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("path", ["rpc/claim_deliveries", "send-text", "rpc/finish_delivery"])
async def test_whoever_dies_at_a_call_leaves_nothing_unsaid(
    world: World, ours: OnTheWire, sending: Line, path: str, when: When
) -> None:
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp")
    mark_down(world, world.line(company, "Centro"))

    assert await ours.wire.until_death(deliver(through(ours, sending), ours.store.outbox), 0, path, when)
    ours.begin_anew()
    await deliver(through(ours, sending), ours.store.outbox)
    world.pass_time(timedelta(minutes=3))
    await deliver(through(ours, sending), ours.store.outbox)
    await deliver(through(ours, sending), ours.store.outbox)

    assert deliveries_of(world) == [(PHONE, "down", "sent", None)]
    heard_twice = (path, when) in {("send-text", When.AFTER), ("rpc/finish_delivery", When.BEFORE)}
    assert world.simulator.calls(sending.external_id)["send-text"] == (2 if heard_twice else 1)


async def test_nothing_of_an_address_is_logged_whatever_happens(
    world: World, ours: OnTheWire, sending: Line, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logs.configure()
    company = world.company(users=1)
    contact(world, company, PHONE, channel="whatsapp")
    contact(world, company, ANA.get_secret_value())
    mark_down(world, world.line(company, "Centro"))
    world.behave(sending, faults={"send-text": "500"})
    operator = (SecretStr("http://127.0.0.1:1/alerts?key=secret-key-1"), SecretStr("tgram://123456789:secret-token/1"))
    mail = SecretStr(f"mailto://user:{PASSWORD}@127.0.0.1:1?from=alerts@example.com")
    async with httpx.AsyncClient(trust_env=False) as http:
        channels = channels_of(lambda: http, mail, operator[:1], SECRET)
        assert list(channels) == [EMAIL, f"operator:{fingerprint_of(operator[0])}"]
        deliveries = Deliveries(channels, ours.provider, line=sending.external_id)
        await deliver(deliveries, ours.store.outbox)
        await ours.store.outbox.raise_alert(AlertCause.OWN_ADDRESS, details={"why": "401"})
        await deliver(deliveries, ours.store.outbox)

    said = caplog.text + "".join(capsys.readouterr()) + str([record.__dict__ for record in caplog.records])
    assert "delivery.not_sent" in said
    for secret in (PHONE, PHONE[:8], ANA.get_secret_value(), PASSWORD, "secret-key-1", SECRET.get_secret_value()):
        assert secret not in said
    kept = str(world.sql("select * from public.notice_deliveries")) + str(
        world.sql("select * from public.alert_channels")
    )
    for secret in (PHONE, ANA.get_secret_value(), PASSWORD, "secret-key-1"):
        assert secret not in kept
