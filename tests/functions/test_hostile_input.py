"""Whatever a stranger, the provider or a platform's user sends: it is answered, bounded, kept as text, and never obeyed."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
from history import History
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from invariants import check_invariants
from loopback import a_client, http
from pydantic import SecretStr
from waiting import GENEROUS_SECONDS
from world import SECRET

from shared import logs
from shared.core.secrets import is_line_key, knows_secret, line_key, read_key
from shared.web import WRONG_KEYS_SECONDS, WrongKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from served import FunctionServer
    from world import World

HARD = os.environ.get("HARD") == "1"
MEBIBYTE = 1024 * 1024
QUICKLY = 10  # seconds, on any machine

CLIENT = a_client()


def fuzzed(examples: int) -> settings:
    return settings(
        deadline=None,
        max_examples=20 * examples if HARD else examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


INJECTIONS = (
    "'; drop table public.wapi_instances; --",
    "$$; delete from public.notifications; $$",
    '"}, {"severity": "ERROR", "message": "forged',
    'x\n{"severity": "ERROR", "message": "forged"}',
    "x\r\n\u2028\u2029\x85 and more",
    "{unit} {downtime} %s %(key)s {0.__class__} ${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "\x1b[31m red \x07",
    "eq.1&or=(id.gt.0)&select=*",
    "../../etc/passwd",
    "\ud800 half a letter",
    "\u202e backwards",
)


def letters_of(text: str) -> str:
    """A text without what does not print, and without blanks."""
    return "".join(each for each in text if each.isprintable() and not each.isspace())


def worker_of(server: FunctionServer) -> psutil.Process:
    [worker] = psutil.Process(server.pid).children()
    return worker


def assert_only_json_lines(output: str) -> list[dict[str, Any]]:
    """One JSON object a line, as the log's reader splits them."""
    return [json.loads(line) for line in output.split("\n") if line]


@pytest.fixture
def hook(world: World) -> Iterator[FunctionServer]:
    """Serves through the test: nothing is restarted, nothing but our own lines is printed."""
    server = world._served("wapi_webhook")
    worker, before = worker_of(server).pid, len(server.output())
    yield server
    assert http.get(f"{server.url}/health").status_code == 200
    assert worker_of(server).pid == worker
    printed = server.output()[before:]
    facts = assert_only_json_lines(printed)
    assert SECRET not in printed
    assert [fact for fact in facts if fact["message"] in ("event.failed", "forged")] == []


# Bodies


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(INJECTIONS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
events = st.fixed_dictionaries(
    {"event": st.sampled_from(["webhookDisconnected", "webhookConnected", "webhookReceived", "webhookStatus", "webhookDelivery"])},
    optional={
        "instanceId": values, "moment": values, "connectedPhone": values, "messageId": values, "fromMe": values,
        "isGroup": values, "chat": values | st.fixed_dictionaries({"id": values}), "sender": values | st.fixed_dictionaries({"id": values, "pushName": values}),
        "status": values, "msgContent": values | st.fixed_dictionaries({"conversation": values}), "disconnected": values, "connected": values,
    },
)  # fmt: skip


@fuzzed(150)
@given(body=st.binary(max_size=3000))
@example(b"\x00")
@example(b"\x1f\x8b\x08\x00" + b"\x00" * 100)
def test_any_bytes_are_kept_or_refused(world: World, hook: FunctionServer, body: bytes) -> None:
    answer = CLIENT.post(hook.url, params={"key": SECRET}, content=body)
    assert answer.status_code in (200, 400)
    answer.json()


@fuzzed(40)
@given(event=events)
def test_any_event_of_a_known_line_is_kept_and_leaves_every_invariant_standing(
    world: World, hook: FunctionServer, event: dict[str, Any]
) -> None:
    rows = world.sql("select instance_id from public.wapi_instances limit 1")
    known = rows[0]["instance_id"] if rows else world.line(world.company(users=1), "'; --").external_id
    history = History(world, logs=hook.output)
    body = json.dumps({"instanceId": known, "connectedPhone": "5511900000001", **event})

    answer = CLIENT.post(hook.url, params={"key": SECRET}, content=body)

    assert answer.status_code in (200, 400), answer.text
    check_invariants(world, history)


@pytest.mark.parametrize("depth", [50, 500, 950, 5_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")], ids=["objects", "arrays"])
def test_deep_json_inside_a_message_is_kept_or_refused(
    world: World, hook: FunctionServer, depth: int, opening: str, closing: str
) -> None:
    line = world.line(world.company())
    content = opening * depth + "1" + closing * depth
    body = f'{{"event":"webhookReceived","instanceId":"{line.external_id}","messageId":"M1","chat":{{"id":"5511944440001"}},"msgContent":{content}}}'
    answer = CLIENT.post(hook.url, params={"key": SECRET}, content=body)
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize("number", ["1" * 5000, "1e999999", "-1e-999999", "0." + "9" * 5000])
def test_numbers_without_measure_are_kept_or_refused(world: World, hook: FunctionServer, number: str) -> None:
    line = world.line(world.company())
    body = (
        f'{{"event":"webhookConnected","instanceId":"{line.external_id}","moment":{number},"connectedPhone":{number}}}'
    )
    answer = CLIENT.post(hook.url, params={"key": SECRET}, content=body)
    assert answer.status_code in (200, 400)
    assert world.status(line) == "connected"


# Connections


def opened(hook: FunctionServer) -> socket.socket:
    address = urlsplit(hook.url)
    return socket.create_connection((address.hostname, address.port), timeout=GENEROUS_SECONDS)


def poured(connection: socket.socket, chunks: Iterable[bytes]) -> bytes:
    """Send until the other side has had enough; what it answered."""
    with suppress(OSError):
        for chunk in chunks:
            connection.sendall(chunk)
    answered = b""
    with suppress(OSError):
        while got := connection.recv(65536):
            answered += got
            if b"\r\n\r\n" in answered:
                break
    return answered


def test_ten_megabytes_in_chunks_without_a_length_are_413_and_not_held_in_memory(
    world: World, hook: FunctionServer
) -> None:
    worker = worker_of(hook)
    head = f"POST /?key={SECRET} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    before = worker.memory_info().rss

    def stream(_: int) -> bytes:
        with opened(hook) as connection:
            return poured(connection, [head, *[chunk] * 160, b"0\r\n\r\n"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(stream, range(16)))

    # The sender may see its connection cut before it reads the answer.
    assert {answer.split(b" ", 2)[1] for answer in answers if answer} <= {b"413"}
    assert any(answers)
    assert worker.memory_info().rss - before < 64 * MEBIBYTE


def test_hundreds_of_connections_that_never_end_their_request_hold_nobody_up(
    world: World, hook: FunctionServer
) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    began = time.monotonic()
    with ExitStack() as slow:
        for number in range(300):
            connection = slow.enter_context(opened(hook))
            if number % 3:
                connection.sendall(f"POST /?key={SECRET} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())
            else:
                connection.sendall(f"POST /?key={SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        asked = time.monotonic()
        assert world.event(world.disconnection(line)) == "disconnected"
        assert time.monotonic() - asked < QUICKLY
        if HARD:  # a body may take 15 s, no more
            held = opened(hook)
            held.sendall(f"POST /?key={SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
            held.settimeout(30)
            assert b" 408 " in held.recv(65536).split(b"\r\n", 1)[0]
            held.close()
    assert time.monotonic() - began < 90


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([b"X-Bomb: " + b"x" * MEBIBYTE + b"\r\n"], id="one header of a megabyte"),
        pytest.param([b"X-%d: x\r\n" % number for number in range(20_000)], id="twenty thousand headers"),
        pytest.param([b"Content-Length: 1\r\n", b"Content-Length: 2\r\n"], id="two lengths"),
        pytest.param([b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"], id="a length and chunks"),
        pytest.param([b"Content-Length: -5\r\n"], id="a length below nothing"),
        pytest.param([b"Content-Length: " + b"9" * 40 + b"\r\n"], id="a length of forty digits"),
        pytest.param([b"\x00\xff: \x00\xff\r\n"], id="a header of no letters"),
        pytest.param([b"traceparent: " + b"0" * 100_000 + b"\r\n"], id="a trace without measure"),
    ],
)
def test_a_head_that_is_a_bomb_is_answered_or_cut_and_harms_nobody(
    world: World, hook: FunctionServer, head: list[bytes]
) -> None:
    worker = worker_of(hook)
    before = worker.memory_info().rss
    with opened(hook) as connection:
        answered = poured(
            connection, [f"POST /?key={SECRET} HTTP/1.1\r\nHost: x\r\n".encode(), *head, b"Connection: close\r\n\r\n"]
        )
    assert answered == b"" or answered.split(b" ", 2)[1] in (b"200", b"400", b"411", b"413", b"431")
    assert worker.memory_info().rss - before < 32 * MEBIBYTE
    assert world.event({"event": "x", "nr": str(uuid4())}) == "unknown_instance"


# Keys


def test_every_secret_is_compared_whichever_fits_and_with_a_comparison_in_constant_time() -> None:
    asked: list[str] = []

    class Watched(SecretStr):
        def get_secret_value(self) -> str:
            value = super().get_secret_value()
            asked.append(value)
            return value

    secrets = [Watched("the-first-secret-1"), Watched("the-other-secret-2")]
    for given_key in ("the-first-secret-1", "the-other-secret-2", "wrong", None):
        asked.clear()
        knows_secret(given_key, secrets)
        assert asked == ["the-first-secret-1", "the-other-secret-2"]
    for given_key in (
        "the-first-secret-1",
        line_key(secrets[0], "LITE-X"),
        line_key(secrets[1], "LITE-X"),
        "wrong",
    ):
        asked.clear()
        read_key(given_key, secrets)
        assert asked == ["the-first-secret-1", "the-other-secret-2"] * 2
    assert "compare_digest" in knows_secret.__code__.co_names
    assert "compare_digest" in is_line_key.__code__.co_names


def test_wrong_keys_by_the_thousand_are_401_counted_and_no_flood_of_the_log(world: World, hook: FunctionServer) -> None:
    count = 10_000 if HARD else 1_500
    before, began = len(world.facts("wapi_webhook", "webhook.unauthorized")), time.monotonic()
    with a_client() as client, ThreadPoolExecutor(16) as pool:

        def guess(number: int) -> int:
            return client.post(hook.url, params={"key": f"a-guess-{number}"}, content=b"x" * 1000).status_code

        codes = set(pool.map(guess, range(count)))
    took = time.monotonic() - began

    assert codes == {401}
    said = world.facts("wapi_webhook", "webhook.unauthorized")[before:]
    assert 1 <= len(said) <= 5 * (took // WRONG_KEYS_SECONDS + 2)
    assert max(fact["count"] for fact in said) >= 100
    assert "a-guess" not in hook.output()
    assert world.sql("select count(*) as n from public.wapi_webhook_events") == [{"n": 0}]


def test_a_stranger_who_goes_on_shows_in_every_minute_and_never_more_than_a_dozen_times() -> None:
    """The alert counts minutes with at least one line."""
    now = 0.0
    text = io.StringIO()
    with redirect_stdout(text):
        logs.configure()
        wrong = WrongKeys(clock=lambda: now)
        minutes: list[int] = []
        for second in range(1, 601):
            now = float(second)
            lines = len(text.getvalue().splitlines())
            for _ in range(50):
                wrong.note()
            minutes += [second // 60] * (len(text.getvalue().splitlines()) - lines)
    assert set(minutes) >= set(range(10))
    assert max(minutes.count(minute) for minute in set(minutes)) <= 12
    said = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [fact["count"] for fact in said[:4]] == [1, 10, 100, 1000]
    assert said[-1]["total"] > 25_000


def test_a_slow_drip_of_wrong_keys_is_logged_each_time() -> None:
    now = 0.0
    text = io.StringIO()
    with redirect_stdout(text):
        logs.configure()
        wrong = WrongKeys(clock=lambda: now)
        for _ in range(5):
            now += WRONG_KEYS_SECONDS
            wrong.note()
    assert [json.loads(line)["total"] for line in text.getvalue().splitlines()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "query",
    [b"key=%FF%FE", b"key=%00", b"key=%", b"key=\xff\xfe", b"key=" + b"x" * 60_000, b"key=a&key=b", b"key[]=1", b"=", b"&&&", b"%6bey=wrong"],
    ids=lambda query: f"{query[:16]!r}",
)  # fmt: skip
def test_a_key_of_any_bytes_is_refused(world: World, hook: FunctionServer, query: bytes) -> None:
    with opened(hook) as connection:
        answered = poured(
            connection,
            [b"POST /?" + query + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"],
        )
    assert answered == b"" or answered.split(b" ", 2)[1] in (b"400", b"401", b"414", b"431")
    assert world.sql("select count(*) as n from public.wapi_webhook_events") == [{"n": 0}]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"POST /?key=%b HTTP/9.9\r\n\r\n", id="a version that is none"),
        pytest.param(b"POST /?key=%b\r\n\r\n", id="no version"),
        pytest.param(b"\x16\x03\x01 /?key=%b \x00\x00\r\n\r\n", id="TLS to a plain port"),
        pytest.param(b"POST /?key=%b HTTP/1.1\r\nHost x\r\n\r\n", id="a header without a colon"),
        pytest.param(b"POST /?key=%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\n", id="a chunk without a size"),
    ],
)  # fmt: skip
def test_a_secret_in_a_broken_request_is_not_logged(world: World, hook: FunctionServer, garbage: bytes) -> None:
    before = len(hook.output())
    with opened(hook) as connection:
        connection.settimeout(1)
        poured(connection, [garbage.replace(b"%b", SECRET.encode())])
    assert SECRET not in hook.output()[before:]


# Injection


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_what_looks_like_sql_a_log_line_or_a_template_stays_text_everywhere(
    world: World, hook: FunctionServer, text: str
) -> None:
    storable = text.replace("\ud800", "?")
    company = world.company(storable, users=1)
    line = world.line(company, storable, session="disconnected", status_reason=storable)
    world.behave(line, restart="refused")
    check = world._served("follow_up_check")
    printed = len(check.output())
    world.sweep()
    [bell] = world.bells(line)
    told = f"WhatsApp da unidade {storable} perdeu conexão. Reconecte via QR Code em Configurações."
    assert letters_of(bell["message"]) == letters_of(told)
    assert bell["message"].isprintable(), "neither line breaks nor signs that turn the writing"
    assert_only_json_lines(check.output()[printed:])

    before = len(hook.output())
    message = world.connection(line) | {
        "event": "webhookReceived", "messageId": text, "chat": {"id": "5511944440001"}, "fromMe": False, "isGroup": False,
        "sender": {"id": "5511944440001", "pushName": text}, "msgContent": {"conversation": text},
    }  # fmt: skip
    for event in (
        message,
        {"event": text, "instanceId": text, "messageId": text},
        {"event": "webhookDisconnected", "instanceId": text, "disconnected": True},
        {
            "event": "webhookStatus",
            "instanceId": line.external_id,
            "messageId": text,
            "status": text,
            "chat": {"id": text},
        },
        world.connection(line) | {"connectedPhone": text},
    ):
        answer = CLIENT.post(hook.url, params={"key": SECRET}, content=json.dumps(event))
        assert answer.status_code == 200, answer.text
    facts = assert_only_json_lines(hook.output()[before:])
    assert {fact["message"] for fact in facts} <= {"event.taken", "notice.without_recipients"}
    stored = world.sql(
        "select m.content, c.contact_name from public.wapi_messages m join public.wapi_conversations c on c.id = m.conversation_id"
    )
    assert len(stored) <= 1
    for row in stored:
        assert row["content"].replace("\ufffd", "?") == storable
    assert world.sql("select count(*) as n from public.wapi_instances") == [{"n": 1}]
    assert world.sql("select count(*) as n from public.notifications where type = 'instance_disconnected'") == [
        {"n": 1}
    ]


def test_a_forged_event_with_a_valid_key_changes_nothing_but_the_line_that_it_names(
    world: World, hook: FunctionServer
) -> None:
    mine, theirs = world.company("Minha", users=2), world.company("Deles", users=2)
    target = world.line(mine, session="disconnected")
    other, down = world.line(theirs), world.line(theirs, session="disconnected")
    chat = {"chat": {"id": "5511944440001"}, "isGroup": False, "sender": {"id": "5511944440001", "pushName": "Ana"}}
    assert world.event(world.disconnection(down)) == "disconnected"
    assert (
        world.event(
            world.connection(other)
            | chat
            | {"event": "webhookReceived", "messageId": "M1", "fromMe": False, "msgContent": {"conversation": "Oi"}}
        )
        == "stored"
    )
    history = History(world, logs=hook.output)

    named = {
        "id": str(other.id), "instance_id": str(other.id), "company_id": str(theirs), "instance_name": other.external_id,
        "instanceToken": "a-forged-token", "connectedPhone": other.phone, "user_id": str(uuid4()), "status": "READ",
    }  # fmt: skip
    forged: list[dict[str, Any]] = [
        world.disconnection(target) | named,
        world.connection(target) | named,
        *(
            {**named, **chat, "event": "webhookReceived", "instanceId": target.external_id, "messageId": f"F{number}", "fromMe": True, "msgContent": content}
            for number, content in enumerate(
                (
                    {"protocolMessage": {"key": {"id": "M1", "remoteJid": "5511944440001@s.whatsapp.net"}, "type": "REVOKE"}},
                    {"protocolMessage": {"key": {"id": "M1"}, "type": 14, "editedMessage": {"conversation": "trocado"}}},
                    {"reactionMessage": {"key": {"id": "M1"}, "text": "x"}},
                    {"extendedTextMessage": {"text": "x", "contextInfo": {"stanzaId": "M1"}}},
                )
            )
        ),
        {**named, **chat, "event": "webhookStatus", "instanceId": target.external_id, "messageId": "M1", "fromMe": True},
    ]  # fmt: skip
    for event in forged:
        assert world.post(event).status_code == 200

    history.look()
    before, after = history.before, history.after
    for untouched in (other, down):
        assert after.lines[str(untouched.id)] == before.lines[str(untouched.id)]
    for table in ("instance_outages", "instance_events", "wapi_conversations"):
        new = [row for row in after.tables[table] if row not in before.tables[table]]
        assert {row["instance_id"] for row in new} <= {str(target.id)}
        assert all(row in after.tables[table] for row in before.tables[table])
    assert all(row in after.tables["wapi_messages"] for row in before.tables["wapi_messages"])
    assert {row["company_id"] for row in history.new_bells()} == {str(mine)}
    check_invariants(world, history)
