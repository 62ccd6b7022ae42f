"""Processes sweep one fleet while others post events about it: nothing happens twice, nothing is lost.

Four and two of them; with ``HARD=1`` eight and four, twice the lines, and for longer.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from loopback import a_client, http
from served import FunctionServer
from world import SECRET, check_environment, webhook_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import Line, World

    from dev.simulator import Simulator
    from dev.stack import Stack

HARD = os.environ.get("HARD") == "1"
LINES, SWEEPERS, POSTERS = (200, 8, 4) if HARD else (100, 4, 2)
SWEEPS_EACH, EVENTS_EACH = (25, 5000) if HARD else (2, 100)
EVENTS_AT_ONCE = 12
"""More than the four calls that a process makes at once: the others travel together."""


@pytest.fixture
def crowd(stack: Stack, simulator: Simulator) -> Iterator[tuple[list[FunctionServer], list[FunctionServer]]]:
    with ExitStack() as running, ThreadPoolExecutor(4) as starting:
        checks = [
            starting.submit(FunctionServer, "follow_up_check", check_environment(stack, simulator))
            for _ in range(SWEEPERS)
        ]
        hooks = [
            starting.submit(FunctionServer, "wapi_webhook", webhook_environment(stack, simulator))
            for _ in range(POSTERS)
        ]
        yield (
            [running.enter_context(each.result()) for each in checks],
            [running.enter_context(each.result()) for each in hooks],
        )


def events_about(world: World, lines: list[Line], seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(EVENTS_EACH):
        line = chance.choice(lines)
        chat = f"55118{chance.randrange(20):08d}"
        came = world.connection(line)
        match chance.randrange(6):
            case 0:
                made.append(world.disconnection(line, nr=f"{seed}-{number}"))
            case 1:
                made.append({**came, "nr": f"{seed}-{number}"})
            case 2:
                made.append(
                    {
                        **came,
                        "event": "webhookStatus",
                        "messageId": f"M{seed}-{number}",
                        "chat": {"id": chat},
                        "status": "READ",
                        "fromMe": True,
                    }
                )
            case 3 if made:
                made.append(chance.choice(made))  # the provider sends it twice
            case _:
                made.append(world.message(line, chat=chat, messageId=f"M{seed}-{number}"))
    return made  # fmt: skip


def test_a_crowd_of_sweeps_and_events_does_nothing_twice_and_loses_nothing(
    world: World, crowd: tuple[list[FunctionServer], list[FunctionServer]]
) -> None:
    checks, hooks = crowd
    company, other = world.company(users=3), world.company("Buffet Estrela", users=2)
    lines = world.lines(company, LINES // 2) + world.lines(other, LINES // 2)
    cured, lost = lines[:20], lines[-20:]
    for line in cured:
        world.behave(line, session="disconnected", restart="works")
    for line in lost:
        world.behave(line, session="disconnected", restart="refused")
    alive = lines[20:-20]
    posted = [events_about(world, alive, seed) for seed in range(POSTERS)]
    deadlocks_before = world.sql("select deadlocks from pg_stat_database where datname = current_database()")[0][
        "deadlocks"
    ]

    def sweep(server: FunctionServer) -> list[int]:
        with a_client(timeout=120) as client:
            return [client.post(server.url).status_code for _ in range(SWEEPS_EACH)]

    def post(server: FunctionServer, events: list[dict[str, Any]]) -> list[int]:
        with (
            a_client(params={"key": SECRET}) as client,
            ThreadPoolExecutor(EVENTS_AT_ONCE) as senders,
        ):
            return list(senders.map(lambda event: client.post(server.url, json=event).status_code, events))

    began = time.monotonic()
    with ThreadPoolExecutor(SWEEPERS + POSTERS) as pool:
        sweeping = [pool.submit(sweep, server) for server in checks]
        posting = [pool.submit(post, server, events) for server, events in zip(hooks, posted, strict=True)]
        answers = Counter(status for each in [*sweeping, *posting] for status in each.result())
    took = time.monotonic() - began
    last = http.post(checks[0].url, timeout=120).json()

    assert answers == {200: SWEEPERS * SWEEPS_EACH + POSTERS * EVENTS_EACH}
    # One restart for each dead line within these seconds, whoever asked.
    restarted = {line.external_id: world.restarts(line) for line in lines if world.restarts(line)}
    assert restarted == {line.external_id: 1 for line in [*cured, *lost]}
    assert {world.status(line) for line in cured} == {"connected"}
    assert {world.status(line) for line in lost} == {"disconnected"}
    assert {world.status(line) for line in alive} == {"connected"}
    # Bells: one for each lost line and member; a denied disconnection rings none.
    assert Counter(str(bell["data"]["instance_id"]) for bell in world.bells(kind="instance_disconnected")) == {
        str(line.id): 2 for line in lost
    }
    assert world.bells(kind="instance_reconnected") == []
    assert (
        world.sql(
            "select instance_id from public.instance_outages where closed_at is null group by 1 having count(*) > 1"
        )
        == []
    )
    # Every distinct event once, done; every message once, its chat counted right.
    distinct = {str(sorted(event.items(), key=str)) for events in posted for event in events}
    kept = world.sql("select count(*) as n, count(processed_at) as done from public.wapi_webhook_events")[0]
    assert (kept["n"], kept["done"]) == (len(distinct), len(distinct))
    messages = {
        (event["instanceId"], event["messageId"])
        for events in posted
        for event in events
        if event["event"] == "webhookReceived"
    }
    stored = world.sql(
        "select count(*) as n, count(distinct (c.instance_id, m.message_id)) as ids from public.wapi_messages m"
        " join public.wapi_conversations c on c.id = m.conversation_id"
    )[0]
    assert (stored["n"], stored["ids"]) == (len(messages), len(messages))
    assert world.sql("select sum(unread_count) as n from public.wapi_conversations")[0]["n"] == len(messages)
    # Nobody is left behind or leased.
    assert last["left"] == 0
    assert world.sql("select count(*) as n from public.instance_health where health_lease_until > now()")[0]["n"] == 0
    met = (
        world.sql("select deadlocks from pg_stat_database where datname = current_database()")[0]["deadlocks"]
        - deadlocks_before
    )
    retried = sum(fact["message"] == "store.retried" for server in [*checks, *hooks] for fact in server.facts())
    looked = sum(fact["checked"] for server in checks for fact in server.facts() if fact["message"] == "sweep.finished")
    print(
        f"{SWEEPERS} sweepers x {SWEEPS_EACH} sweeps ({looked} looks), {POSTERS} posters x {EVENTS_EACH} events in {took:.1f} s:"
        f" {met} deadlocks met, {retried} retries by us, nothing lost"
    )
