"""When the database is away: patience, 503, the sealed log line, and the replay that brings everything in."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from loopback import a_client, http
from pydantic import SecretStr
from served import FunctionServer
from waiting import GENEROUS_SECONDS
from world import SECRET, webhook_environment

from ops.replay.cli import in_words
from shared import logs
from shared.core.event import EventOutcome, Noise
from shared.errors import UndeliveredUnreadable
from shared.providers.wapi.events import parse_event
from shared.webhook.dead_letters import PART_BYTES, log_undelivered, read_undelivered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import World

KEY = SecretStr(Fernet.generate_key().decode())
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sealing_webhook(world: World) -> Iterator[FunctionServer]:
    environment = webhook_environment(world.stack, world.simulator) | {"EVENT_LOG_KEY": KEY.get_secret_value()}
    with FunctionServer("wapi_webhook", environment) as server:
        yield server


def message(line: int, number: int) -> dict[str, Any]:
    return {
        "event": "webhookReceived", "instanceId": f"LITE-AB12CD-{line:06d}", "connectedPhone": "5511900000001",
        "messageId": f"M{line}-{number}", "fromMe": False, "chat": {"id": f"5511940000{line:03d}"},
        "sender": {"pushName": "Ana"}, "moment": 1_790_000_000 + number, "msgContent": {"conversation": f"segredo {number}"},
    }  # fmt: skip


def replay(world: World, log: str, tmp_path: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "export.log"
    file.write_text(log)
    return replay_with(world, [str(file)], **changes)


def replay_with(world: World, arguments: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "ENV_FILE": os.devnull,
        "SUPABASE_URL": world.stack.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": world.stack.service_role_key,
        "WAPI_BASE_URL": world.simulator.wapi_url,
        "EVENT_LOG_KEY": KEY.get_secret_value(),
        **changes,
    }
    return subprocess.run(
        [sys.executable, "-m", "ops.replay", *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_of_500_events_around_three_seconds_without_the_database_none_is_lost(
    world: World, sealing_webhook: FunctionServer, tmp_path: Path
) -> None:
    company = world.company()
    lines = world.lines(company, 10)
    events = [message(line, number) for line in range(1, 11) for number in range(50)]
    random.Random(1).shuffle(events)
    began = threading.Event()

    with a_client() as client, ThreadPoolExecutor(32) as pool:

        def post(event: dict[str, Any]) -> int:
            if event is events[60]:
                began.set()
            return client.post(sealing_webhook.url, params={"key": SECRET}, json=event).status_code

        posts = [pool.submit(post, event) for event in events]
        began.wait()
        world.stack.stop_postgrest()
        down_since = time.monotonic()
        # The three seconds are the fault itself.
        threading.Event().wait(3)
        world.stack.start_postgrest()
        assert time.monotonic() - down_since >= 3
        codes = [posted.result() for posted in posts]

    assert set(codes) <= {200, 503}
    kept = {row["event_key"] for row in world.sql("select event_key from public.wapi_webhook_events")}
    said = [fact for fact in sealing_webhook.facts() if fact["message"] == "event.undelivered"]
    all_keys = {parse_event(json.dumps(event).encode()).key for event in events}
    assert kept | {fact["event_key"] for fact in said} == all_keys
    assert codes.count(503) == len(said)

    if said:  # a fast machine seals none
        done = replay(world, sealing_webhook.output(), tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert {row["event_key"] for row in world.sql("select event_key from public.wapi_webhook_events")} == all_keys
    assert world.sql("select count(*) from public.wapi_messages")[0]["count"] == 500
    unread = world.sql("select unread_count from public.wapi_conversations")
    assert [row["unread_count"] for row in unread] == [50] * 10
    assert len(lines) == 10


def test_an_outage_without_end_is_503_in_bounded_time_and_sealed(
    world: World, sealing_webhook: FunctionServer, tmp_path: Path
) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    secret_event = message(1, 1) | {"instanceId": line.external_id}
    world.stack.stop_postgrest()
    try:
        began = time.monotonic()
        answer = http.post(sealing_webhook.url, params={"key": SECRET}, json=secret_event)
        took = time.monotonic() - began
        http.post(sealing_webhook.url, params={"key": SECRET}, json=world.disconnection(line))
    finally:
        world.stack.start_postgrest()

    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert took < GENEROUS_SECONDS
    log = sealing_webhook.output()
    assert "segredo" not in log

    exported = json.dumps(
        [{"jsonPayload": json.loads(row)} for row in log.splitlines() if row.startswith("{")], indent=1
    )
    first = replay(world, exported, tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[-1] == (
        "2 events delivered: its message is stored (1), the line is marked as disconnected, its people are notified (1);"
        " none not delivered"
    )
    assert line.external_id in first.stdout
    again = replay(world, exported, tmp_path)
    assert (again.stdout.count("was here already"), again.stderr) == (3, "")
    assert world.status(line) == "disconnected"
    assert len(world.bells(line)) == 1
    assert world.sql("select count(*) from public.wapi_messages")[0]["count"] == 1


def test_without_a_key_only_size_and_event_key_are_logged(world: World) -> None:
    with FunctionServer("wapi_webhook", webhook_environment(world.stack, world.simulator)) as server:
        world.stack.stop_postgrest()
        try:
            assert http.post(server.url, params={"key": SECRET}, json=message(1, 1)).status_code == 503
        finally:
            world.stack.start_postgrest()
        [fact] = [fact for fact in server.facts() if fact["message"] == "event.undelivered"]

    said = {"severity", "message", "time", "event_key", "size", "received_at", "serviceContext", "context", "@type"}
    assert fact.keys() == said
    [read] = read_undelivered(json.dumps(fact), KEY, parse=parse_event)
    assert read.event is None
    assert "EVENT_LOG_KEY was not set" in read.problem


def logged(capsys: pytest.CaptureFixture[str], body: bytes, key: SecretStr | None = KEY) -> str:
    logs.configure()
    capsys.readouterr()
    log_undelivered(parse_event(body), key)
    return capsys.readouterr().out


def test_a_large_event_is_logged_in_numbered_parts_that_fit_a_log_entry(capsys: pytest.CaptureFixture[str]) -> None:
    noise = random.Random(3).randbytes(500_000).hex()
    body = json.dumps({"event": "x", "noise": noise}).encode()
    printed = logged(capsys, body)
    rows = printed.splitlines()

    assert len(rows) > 3
    assert all(len(row) < 256_000 for row in rows)
    assert all(len(json.loads(row)["sealed"]) <= PART_BYTES for row in rows)
    random.Random(4).shuffle(rows)
    [read] = read_undelivered("\n".join(rows), KEY, parse=parse_event)
    assert read.event is not None
    assert read.event.body.encode() == body
    [incomplete] = read_undelivered("\n".join(rows[1:]), KEY, parse=parse_event)
    assert incomplete.event is None
    assert "is not in the file" in incomplete.problem


def test_a_replayed_event_without_a_moment_happened_when_it_arrived(capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"event": "webhookDisconnected", "instanceId": "LITE-1", "disconnected": true}'
    printed = logged(capsys, body)
    arrived = datetime.fromisoformat(json.loads(printed)["received_at"])

    [read] = read_undelivered(printed * 2, KEY, parse=parse_event)

    assert read.event is not None
    assert (read.event.moment, read.event.key) == (arrived, read.event_key)
    assert (datetime.now(UTC) - arrived).total_seconds() < 60


def test_a_replayed_event_is_the_lines_whose_key_it_came_with(capsys: pytest.CaptureFixture[str]) -> None:
    told = parse_event(b'{"event": "webhookDisconnected", "disconnected": true, "moment": 1790000000}').said_by(
        "LITE-1"
    )
    assert told is not None
    logs.configure()
    capsys.readouterr()
    log_undelivered(told, KEY)

    [read] = read_undelivered(capsys.readouterr().out, KEY, parse=parse_event)

    assert read.event == told
    assert told.external_id == "LITE-1"


def test_another_key_reads_nothing_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    printed = logged(capsys, b'{"event": "x"}')
    [read] = read_undelivered(printed, SecretStr(Fernet.generate_key().decode()), parse=parse_event)
    assert (read.event, read.problem) == (None, "it cannot be decrypted with this EVENT_LOG_KEY")
    with pytest.raises(UndeliveredUnreadable):
        list(read_undelivered(printed, SecretStr("no key"), parse=parse_event))


@given(st.text(max_size=300))
def test_any_file_is_read_or_refused(log: str) -> None:
    with contextlib.suppress(UndeliveredUnreadable):
        assert list(read_undelivered(log, KEY, parse=parse_event)) == []


def test_a_replay_without_a_key_or_a_file_says_what_is_missing(world: World, tmp_path: Path) -> None:
    nothing = replay(world, '[{"jsonPayload": {"message": "event.taken"}}]', tmp_path)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no undelivered event is in it. Looked for JSON log entries" in nothing.stderr
    assert replay(world, "\x00\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), tmp_path).returncode == 1
    done = replay(world, "", tmp_path, EVENT_LOG_KEY="")
    assert (done.returncode, done.stderr.strip()) == (1, "settings: EVENT_LOG_KEY is missing")
    assert replay(world, "", tmp_path, SUPABASE_URL="").stderr.strip() == "settings: SUPABASE_URL is missing"


def test_of_two_sealings_of_one_event_a_whole_one_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"event": "x", "noise": random.Random(3).randbytes(300_000).hex()}).encode()
    first, second = logged(capsys, body).splitlines(), logged(capsys, body).splitlines()
    assert len(first) > 1

    [read] = read_undelivered("\n".join([second[0], *first]), KEY, parse=parse_event)

    assert read.event is not None


def test_a_line_that_is_cut_off_costs_no_other_event_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, cut = (logged(capsys, json.dumps({"event": "x", "n": n}).encode()) for n in range(2))
    log = f"{whole}{cut[:-20]}\n{{not json\n"
    first, second = read_undelivered(log, KEY, parse=parse_event)
    assert first.event is not None
    assert (second.event_key, second.event) == ("line 2", None)
    assert second.problem == "it is cut off, or no log entry of ours"


@pytest.mark.parametrize(
    "odd",
    [{"parts": "1"}, {"parts": 1.0}, {"parts": 10**9}, {"parts": True}, {"parts": -1}, {"parts": [1]}, {"part": [1]}, {"part": {}}, {"sealed": 5}, {"received_at": 7}],
    ids=str,
)  # fmt: skip
def test_an_entry_that_somebody_has_changed_is_named_and_costs_no_other_anything(
    capsys: pytest.CaptureFixture[str], odd: dict[str, Any]
) -> None:
    good, changed = (json.loads(logged(capsys, json.dumps({"event": "x", "n": n}).encode())) for n in range(2))
    read = {
        each.event_key: each
        for each in read_undelivered("\n".join(map(json.dumps, (changed | odd, good))), KEY, parse=parse_event)
    }
    assert read[good["event_key"]].event is not None
    assert read[changed["event_key"]].event is None
    assert read[changed["event_key"]].problem


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_any_shell_is_read(
    world: World, tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = world.line(world.company())
    entry = json.loads(logged(capsys, json.dumps(world.message(line)).encode()))
    file = tmp_path / "export.json"
    file.write_text(json.dumps([{"jsonPayload": entry}]), encoding)
    done = replay_with(world, [str(file)])
    assert "its message is stored" in done.stdout, done.stderr


def test_what_a_rule_of_the_platform_refused_is_brought_in_when_it_is_mended(world: World) -> None:
    line = world.line(world.company())
    assert replay_with(world, ["--failed"]).stdout.startswith("no event of the inbox has failed")
    world.sql("alter table public.wapi_messages add constraint theirs check (content <> 'Oi')")
    try:
        assert world.event(world.message(line, messageId="A")) == "failed"
        assert world.event(world.message(line, messageId="B")) == "failed"
        refused = replay_with(world, ["--failed"])
    finally:
        world.sql("alter table public.wapi_messages drop constraint theirs")
    assert (refused.returncode, refused.stdout.count("refuse its message (23514)")) == (0, 2)

    done = replay_with(world, ["--failed"])

    assert (done.returncode, done.stderr) == (0, "")
    assert "2 events delivered: its message is stored (2); none not delivered" in done.stdout
    assert [row["message_id"] for row in world.sql("select message_id from public.wapi_messages order by 1")] == [
        "A",
        "B",
    ]


def test_an_export_that_is_newest_first_is_read_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    printed = [logged(capsys, json.dumps({"event": "x", "n": n}).encode()) for n in range(3)]
    read = read_undelivered("".join(reversed(printed)), KEY, parse=parse_event)
    assert [json.loads(each.event.body)["n"] for each in read if each.event] == [0, 1, 2]


def test_a_flood_of_one_line_without_the_database_is_sealed_in_bounded_time(
    world: World, sealing_webhook: FunctionServer
) -> None:
    def flood(number: int) -> int:
        url, params = sealing_webhook.url, {"key": SECRET}
        return http.post(url, params=params, json=message(1, number)).status_code

    world.stack.stop_postgrest()
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(30) as pool:
            codes = set(pool.map(flood, range(30)))
        took = time.monotonic() - began
    finally:
        world.stack.start_postgrest()
    assert codes == {503}
    assert took < GENEROUS_SECONDS
    sealed = {fact["event_key"] for fact in sealing_webhook.facts() if fact["message"] == "event.undelivered"}
    assert len(sealed) == 30


def test_an_event_that_meets_a_refusing_database_is_sealed_as_well(
    world: World, sealing_webhook: FunctionServer
) -> None:
    world.sql("alter table public.wapi_webhook_events add constraint no_such_event check (event <> 'refused')")
    try:
        answer = http.post(sealing_webhook.url, params={"key": SECRET}, json={"event": "refused"})
    finally:
        world.sql("alter table public.wapi_webhook_events drop constraint no_such_event")
    assert answer.status_code == 500
    assert [fact for fact in sealing_webhook.facts() if fact["message"] == "event.undelivered"]


def test_what_became_of_an_event_is_said_in_words() -> None:
    for outcome in EventOutcome:
        assert "_" not in in_words(outcome), outcome
        assert not in_words(outcome).startswith("kept ("), outcome
    assert {in_words(noise) for noise in Noise} == {"kept; there is no message in it", "kept; our reader fails on it"}
    assert in_words("a_word_of_tomorrow\x1b[2J") == "kept (a_word_of_tomorrow\N{REPLACEMENT CHARACTER}[2J)"
