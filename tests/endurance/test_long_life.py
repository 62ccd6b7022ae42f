"""Weeks of work in one process: memory, connections and tables stay as they are. ``HARD=1`` plays the whole of it."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from served import FunctionServer
from world import SECRET, check_environment, webhook_environment

from bench.load import post_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import Line, World

    from dev.simulator import Simulator
    from dev.stack import Stack

HARD = os.environ.get("HARD") == "1"
ROUNDS, SWEEPS_A_ROUND, EVENTS_A_ROUND, LINES = (100, 20, 1000, 20) if HARD else (6, 4, 60, 6)
WARM_UP = ROUNDS // 5 + 1
A_ROUND_IS = timedelta(hours=8) if HARD else timedelta(days=5)
MOST_GROWTH = 1.10


@pytest.fixture
def servers(stack: Stack, simulator: Simulator) -> Iterator[tuple[FunctionServer, FunctionServer]]:
    with (
        FunctionServer("follow_up_check", check_environment(stack, simulator)) as check,
        FunctionServer("wapi_webhook", webhook_environment(stack, simulator)) as webhook,
    ):
        yield check, webhook


def worker_of(server: FunctionServer) -> psutil.Process:
    """The process that serves; the other one only waits for it."""
    serving = psutil.Process(server.pid)
    return (serving.children(recursive=True) or [serving])[-1]


def events_of(world: World, lines: list[Line], number: int) -> list[bytes]:
    """A day's mixture: messages, echoes, acks, presence, a line that goes and comes back."""
    made: list[dict[str, Any]] = []
    for index in range(EVENTS_A_ROUND):
        line = lines[index % len(lines)]
        chat = f"55118{index % 97:08d}"
        message = {"messageId": f"3EB0{number:06d}{index // 2:06d}", "chat": {"id": chat}, "isGroup": False}
        common = {**world.connection(line), **message}
        match index % 6:
            case 0:
                made.append(
                    {
                        **common,
                        "event": "webhookReceived",
                        "fromMe": False,
                        "sender": {"id": chat},
                        "msgContent": {"conversation": "Oi"},
                    }
                )
            case 1 | 3:
                made.append({**common, "event": "webhookStatus", "fromMe": True, "status": "READ"})
            case 2:
                made.append(
                    {
                        **common,
                        "event": "webhookDelivery",
                        "fromMe": True,
                        "sender": {"id": line.phone},
                        "msgContent": {"conversation": "Oi"},
                    }
                )
            case 4:
                made.append({**common, "event": "webhookChatPresence", "nr": number})
            case _:
                made.append(
                    world.disconnection(line, nr=number * EVENTS_A_ROUND + index)
                    if index % 60 == 5
                    else world.connection(line, nr=number * EVENTS_A_ROUND + index)
                )
    return [json.dumps(each).encode() for each in made]


def test_weeks_of_work_leave_memory_connections_and_tables_as_they_are(
    world: World, servers: tuple[FunctionServer, FunctionServer], record_property: Any
) -> None:
    check, webhook = servers
    company = world.company(users=2)
    lines = world.lines(company, LINES)
    world.behave(lines[0], session="disconnected", restart="accepted_no_effect")
    memory: dict[str, list[int]] = {"check": [], "webhook": []}
    files: dict[str, list[int]] = {"check": [], "webhook": []}
    inbox: list[int] = []

    async def work() -> None:
        import httpx  # noqa: PLC0415 - one client for the whole of it

        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            for number in range(ROUNDS):
                await post_all(f"{webhook.url}/?key={SECRET}", events_of(world, lines, number), 16)
                for _ in range(SWEEPS_A_ROUND):
                    assert (await client.post(check.url)).status_code == 200
                world.pass_time(A_ROUND_IS)
                for name, server in (("check", check), ("webhook", webhook)):
                    process = worker_of(server)
                    memory[name].append(process.memory_info().rss)
                    files[name].append(process.num_fds())
                inbox.append(world.sql("select count(*) as n from public.wapi_webhook_events")[0]["n"])

    asyncio.run(work())

    rounds_in_14_days = timedelta(days=14) / A_ROUND_IS
    assert max(inbox) <= (rounds_in_14_days + 2) * EVENTS_A_ROUND * 1.1, inbox
    assert (
        world.sql(
            "select count(*) as n from public.wapi_webhook_events where body is not null and received_at < now() - interval '15 days'"
        )[0]["n"]
        == 0
    )
    assert (
        world.sql("select count(*) as n from public.health_check_runs where started_at < now() - interval '40 days'")[
            0
        ]["n"]
        == 0
    )
    for name in ("check", "webhook"):
        assert max(files[name][WARM_UP:]) <= max(files[name][:WARM_UP]) + 20, files[name]
        growth = memory[name][-1] / memory[name][WARM_UP]
        record_property(f"{name}_growth", round(growth, 3))
        print(
            f"{name}: {memory[name][WARM_UP] / 1e6:.1f} MB after warm-up, {memory[name][-1] / 1e6:.1f} MB at the end ({growth:.3f}x); files {files[name][WARM_UP]} -> {files[name][-1]}"
        )
        assert growth <= MOST_GROWTH, memory[name]
    print(
        f"{ROUNDS * SWEEPS_A_ROUND} sweeps, {ROUNDS * EVENTS_A_ROUND} events, {ROUNDS * A_ROUND_IS} of time; inbox at most {max(inbox)} rows"
    )
