"""The webhook under 64 clients: each kind of event beside a no-op handler with one raw RPC for the same rows.

A disconnection that is denied takes two calls of each side by its contract, and so does its floor. The floor makes one
call an event; ours lets events that arrive together travel together, so it can be faster than its floor.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.platform import PROJECT, SECRET, external_id, phone
from bench.result import Result, at_least, at_most, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.platform import Platform

CLIENTS = 64
LINES = 64
CHATS_A_LINE = 10
OLD_MESSAGES_A_CHAT = 80
OLD_EVENTS = 50_000
FLOOR_FUNCTIONS = PROJECT / "bench" / "floor_functions" / "main.py"
KINDS = ("message", "echo", "ack", "connection", "presence", "disconnection denied")


def events(kind: str, count: int, *, run: int, lines: int = LINES) -> list[dict[str, Any]]:
    """Events of one kind, no two of them the same, spread over lines and chats."""
    now = int(time.time())
    made = []
    for number in range(count):
        line = number % lines
        chat = f"55118{line * CHATS_A_LINE + number // lines % CHATS_A_LINE:08d}"
        # Over ten minutes: a chat seldom has two messages in one second.
        common = {"instanceId": external_id(line), "moment": now - 600 + number * 600 // count}
        phones = {"connectedPhone": phone(line)}
        message = {"isGroup": False, "messageId": f"3EB0{run:04d}{number:012d}", "chat": {"id": chat}}
        match kind:
            case "message":
                text = {"conversation": f"Oi, tem data em maio? ({number})"}
                who = {"sender": {"id": chat, "pushName": "Ana"}, "fromMe": False}
                made.append({"event": "webhookReceived", **common, **phones, **message, **who, "msgContent": text})
            case "echo":
                text = {"conversation": f"Temos, sim! ({number})"}
                who = {"sender": {"id": phone(line)}, "fromMe": True, "fromApi": True}
                made.append({"event": "webhookDelivery", **common, **phones, **message, **who, "msgContent": text})
            case "ack":
                made.append({"event": "webhookStatus", **common, **phones, **message, "fromMe": True, "status": "READ"})
            case "connection":
                made.append({"event": "webhookConnected", **common, **phones, "connected": True, "nr": number})
            case "presence":
                made.append({"event": "webhookChatPresence", **common, **phones, "chat": {"id": chat}, "nr": number})
            case _:
                # Now, or it were older than what its line knows.
                made.append(
                    {"event": "webhookDisconnected", **common, "moment": now, "disconnected": True, "nr": number}
                )
    return made


def post(
    url: str, bodies: list[dict[str, Any]], clients: int = CLIENTS, *, rate: float | None = None
) -> tuple[float, float]:
    """Post them from so many clients; answer requests a second and the 99th percentile in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(body) + "\n" for body in bodies)
        file.flush()
        command = [sys.executable, "-m", "bench.load", url, file.name, str(clients), *([str(rate)] if rate else [])]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    return len(bodies) / seen["took"], statistics.quantiles(seen["latencies"], n=100)[98] * 1000


def fill(platform: Platform, *, messages_a_chat: int = OLD_MESSAGES_A_CHAT) -> None:
    """A platform that has been in use: chats, messages, an inbox. On empty tables no plan is a real one."""
    platform.database.execute(
        """
        insert into public.wapi_conversations (instance_id, remote_jid, contact_phone, contact_name, company_id)
        select i.id, jid || '@s.whatsapp.net', jid, 'Ana', i.company_id
        from public.wapi_instances i, generate_series(0, %(chats)s - 1) n,
          lateral (select '55118' || lpad((right(i.instance_id, 6)::int * %(chats)s + n)::text, 8, '0') as jid) as chat
        """,
        {"chats": CHATS_A_LINE},
    )
    platform.database.execute(
        """
        insert into public.wapi_messages
          (conversation_id, message_id, from_me, message_type, content, status, "timestamp", company_id, metadata)
        select c.id, 'OLD' || n || left(c.id::text, 8), n %% 2 = 0, 'text', 'Oi', 'read', now() - n * interval '1 minute',
          c.company_id, '{}'
        from public.wapi_conversations c, generate_series(1, %s) n
        """,
        (messages_a_chat,),
    )
    platform.database.execute(
        """
        insert into public.wapi_webhook_events (event_key, external_id, event, kind, moment, body, outcome, processed_at)
        select md5(n::text), 'LITE-BENCH0-000000', 'webhookStatus', 'ack', now(), '{}', 'applied', now()
        from generate_series(1, %s) n
        """,
        (OLD_EVENTS,),
    )
    platform.database.execute("vacuum analyze")


def _send_what_will_be_read(platform: Platform, count: int, *, run: int) -> None:
    """Outgoing messages for the acks of a run."""
    platform.database.execute(
        """
        insert into public.wapi_messages
          (conversation_id, message_id, from_me, message_type, content, status, "timestamp", company_id, metadata)
        select c.id, '3EB0' || lpad(%s::text, 4, '0') || lpad(n::text, 12, '0'), true, 'text', 'Oi', 'sent',
          now() - interval '1 minute', c.company_id, '{}'
        from generate_series(0, %s - 1) n
        join public.wapi_instances i on i.instance_id = 'LITE-BENCH0-' || lpad((n %% %s)::text, 6, '0')
        join lateral (select * from public.wapi_conversations k where k.instance_id = i.id limit 1) c on true
        """,
        (run, count, LINES),
    )


def webhook(platform: Platform, *, quick: bool) -> Iterator[Result]:
    """Throughput and the 99th percentile of each kind of event, ours and the floor's by turns."""
    count, rounds = (400, 2) if quick else (3_000, 3)
    platform.fleet(LINES, latency_ms=0)
    fill(platform)
    platform.database.execute(Path(__file__).with_name("floor.sql").read_text("utf-8"))
    platform.stack.reload_schema()
    floor_environment = platform.environment()
    with (
        platform.function("wapi_webhook") as ours,
        platform.function("raw_event", floor_environment, source=FLOOR_FUNCTIONS) as floor,
        platform.function("raw_disconnection", floor_environment, source=FLOOR_FUNCTIONS) as denied_floor,
    ):
        ours_url = f"{ours.url}/?key={SECRET}"
        group = f"webhook, {CLIENTS} clients"
        for number, kind in enumerate(KINDS):
            urls = {"floor": denied_floor.url if kind == KINDS[-1] else floor.url, "ours": ours_url}
            rates, tails = _by_turns(platform, kind, urls, count, rounds=rounds, first_run=100 * number)
            value, base = (statistics.median(rates[name]) for name in ("ours", "floor"))
            yield at_least(group, f"{kind}: throughput", value, base, 0.7, unit="/s", samples=rates["ours"])
            value, base = (statistics.median(tails[name]) for name in ("ours", "floor"))
            yield at_most(group, f"{kind}: p99", value, base, 1.5, unit="ms")
        # Events that meet nobody travel alone: what a quiet platform feels.
        urls = {"floor": floor.url, "ours": ours_url}
        rates, _ = _by_turns(
            platform, "message", urls, count // 3, rounds=rounds, clients=1, first_run=100 * len(KINDS)
        )
        value, base = (1000 / statistics.median(rates[name]) for name in ("ours", "floor"))
        yield shown("webhook, one event after another", "message: time of an event", value, unit="ms", floor=base)


def _by_turns(
    platform: Platform,
    kind: str,
    urls: dict[str, str],
    count: int,
    *,
    rounds: int,
    first_run: int,
    clients: int = CLIENTS,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Post to one after the other, several rounds; answer each one's requests a second and 99th percentiles."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    tails: dict[str, list[float]] = {name: [] for name in urls}
    for turn in range(rounds + 1):
        for place, (name, url) in enumerate(urls.items()):
            run = first_run + len(urls) * turn + place
            if kind == "ack":
                _send_what_will_be_read(platform, count, run=run)
            before = _last_event(platform)
            rate, tail = post(url, events(kind, count, run=run), clients)
            _check(platform, kind, count, after=before)
            if turn:  # the first warms both up
                rates[name].append(rate)
                tails[name].append(tail)
    return rates, tails


def _last_event(platform: Platform) -> int:
    return platform.number("select coalesce(max(id), 0) from public.wapi_webhook_events")


def _check(platform: Platform, kind: str, count: int, *, after: int) -> None:
    """Every event of the run is there, with the effect that it should have."""
    wanted = {"message": "stored", "echo": "stored", "ack": "applied", "disconnection denied": "denied"}.get(kind)
    found = platform.database.execute(
        "select count(*) filter (where %s::text is null or outcome in (%s, 'floor')), array_agg(distinct outcome)"
        " from public.wapi_webhook_events where id > %s",
        (wanted, wanted, after),
    ).fetchone()
    if found is None or found[0] != count:
        raise AssertionError(f"{kind}: {found} of {count} events had their effect")
