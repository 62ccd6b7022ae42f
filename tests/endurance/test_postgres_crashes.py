"""Postgres dies again and again under two sweeps and events: nothing that was answered is lost, nobody is told twice.

On a stack of its own, with ``synchronous_commit = on``: without it a database may forget what it has answered, and the
test would show nothing. ``HARD=1`` kills it twenty-five times, ``make test`` twice.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from loopback import http
from psycopg.rows import dict_row
from served import FunctionServer
from waiting import GENEROUS_SECONDS
from world import SECRET, World, check_environment, webhook_environment

from dev.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import Line

    from dev.simulator import Simulator

HARD = os.environ.get("HARD") == "1"
KILLS = 25 if HARD else 2
WRITERS = 4 if HARD else 2
CHANCE = random.Random(int(os.environ.get("HARD_SEED", "1")))
# Loaded machines answer late, and a look that gives up is not what is tried here.
PATIENT = {"LOOK_TIMEOUT_SECONDS": "20", "RESTART_VERIFY_SECONDS": "0.05", "GHOST_CONFIRM_SECONDS": "0"}


def database_of(stack: Stack) -> psycopg.Connection[dict[str, Any]]:
    return psycopg.connect(stack.database_url, autocommit=True, row_factory=dict_row)


@pytest.fixture
def durable() -> Iterator[Stack]:
    with Stack.start(seed=False) as stack:
        stack.keep_what_is_committed()
        yield stack


class Load:
    """Two sweeps and writers that never rest; what they were answered."""

    def __init__(self, world: World, hook: FunctionServer, checks: list[FunctionServer]) -> None:
        self.world = world
        self._hook = hook
        self._checks = checks
        self.over = threading.Event()
        self.answered = threading.Semaphore(0)
        self.kept: dict[str, set[str]] = {}
        self.codes: Counter[int] = Counter()
        self.swept: Counter[int] = Counter()

    def write(self, line: Line) -> None:
        """Messages of a line, one after another, each until it is taken: the provider would not ask again, we do."""
        self.kept[line.external_id] = set()
        for number in itertools.count():
            event = self.world.message(line, messageId=f"M{number}", moment=int(time.time()))
            while not self.over.is_set():
                if self.post(event) == 200:
                    self.kept[line.external_id].add(f"M{number}")
                    self.answered.release()
                    break
            else:
                return

    def post(self, event: dict[str, Any]) -> int:
        answer = http.post(self._hook.url, params={"key": SECRET}, json=event)
        self.codes[answer.status_code] += 1
        return answer.status_code

    def tell(self, event: dict[str, Any]) -> None:
        while self.post(event) != 200:
            """Once more, until it is taken."""

    def sweep(self, check: FunctionServer) -> None:
        while not self.over.is_set():
            self.swept[http.post(check.url, timeout=120).status_code] += 1

    def wait_for(self, events: int) -> None:
        for _ in range(events):
            assert self.answered.acquire(timeout=GENEROUS_SECONDS), "no more events are taken"


def test_a_database_that_is_killed_under_load_loses_nothing_and_rings_no_bell_twice(
    durable: Stack, simulator: Simulator
) -> None:
    """Section 9: Postgres killed 25 times under load. 51 of 990 events were answered 500."""
    simulator.reset()
    with ExitStack() as running, database_of(durable) as database:
        world = World(durable, simulator, database, lambda _: checks[0])
        settings = check_environment(durable, simulator) | PATIENT
        with ThreadPoolExecutor(3) as starting:
            servers = [
                *(starting.submit(FunctionServer, "follow_up_check", settings) for _ in range(2)),
                starting.submit(FunctionServer, "wapi_webhook", webhook_environment(durable, simulator)),
            ]
            *checks, hook = [running.enter_context(each.result()) for each in servers]
        company = world.company(users=2)
        writers = world.lines(company, WRITERS)
        found, told = world.lines(company, 2, session="disconnected")
        simulator.set_lines([found.external_id, told.external_id], restart="refused")
        load = Load(world, hook, checks)
        assert world.sql("show synchronous_commit") == [{"synchronous_commit": "on"}]

        with ThreadPoolExecutor(WRITERS + 3) as pool:
            tasks = [pool.submit(load.write, line) for line in writers]
            tasks += [pool.submit(load.sweep, check) for check in checks]
            tasks.append(pool.submit(load.tell, world.disconnection(told)))
            try:
                for _ in range(KILLS):
                    load.wait_for(CHANCE.randrange(5, 15))
                    durable.crash_postgres()
                    durable.start_postgres()
                load.wait_for(10)
            finally:
                load.over.set()
            for task in tasks:
                task.result()

        world.database = running.enter_context(database_of(durable))
        assert set(load.codes) <= {200, 503}, load.codes
        assert set(load.swept) <= {200, 503}, load.swept
        rows = world.sql(
            "select i.instance_id, m.message_id from public.wapi_messages m"
            " join public.wapi_conversations c on c.id = m.conversation_id join public.wapi_instances i on i.id = c.instance_id"
        )
        stored = Counter((row["instance_id"], row["message_id"]) for row in rows)
        answered = {(line, message) for line, messages in load.kept.items() for message in messages}
        assert answered - stored.keys() == set(), "answered, and lost"
        assert max(stored.values()) == 1
        assert world.sql("select sum(unread_count) as n from public.wapi_conversations") == [{"n": len(stored)}]
        assert world.sql("select * from public.wapi_webhook_events where processed_at is null") == []
        assert [world.restarts(line) for line in writers] == [0] * WRITERS
        assert max(world.restarts(line) for line in (found, told)) <= 1

        # What a kill has cut off between a restart's claim and its verdict the next sweep sees that finds its lease over;
        # it ends ten minutes later.
        for _ in range(2):
            world.pass_time(timedelta(minutes=11))
            world.sweep()
        assert {world.status(line) for line in writers} == {"connected"}
        assert [world.status(line) for line in (found, told)] == ["disconnected"] * 2
        assert max(world.restarts(line) for line in (found, told)) <= 1
        assert Counter(bell["data"]["instance_id"] for bell in world.bells()) == {str(found.id): 2, str(told.id): 2}
        world.behave(told, session="alive")
        load.tell(world.connection(told))
        assert len(world.bells(told, kind="instance_reconnected")) == 2
        print(
            f"\nPostgres killed {KILLS} times: {len(answered)} events, answered {dict(load.codes)};"
            f" sweeps {dict(load.swept)}; nothing lost, nobody told twice"
        )
