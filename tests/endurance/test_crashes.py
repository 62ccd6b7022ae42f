"""At every call that a sweep or an event makes, the process is killed, or the call goes wrong: nothing is lost or doubled.

Real functions under the real server; a proxy in front of the database, of the provider and of the platform's handler
counts their calls and lets the k-th of them go wrong. The first run counts, the next ones go through every k.
``HARD=1`` plays every mishap at every call.
"""

from __future__ import annotations

import io
import json
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil
import pytest
from composites import mark_down
from history import History, Posted
from invariants import check_invariants
from loopback import http
from outbox import contact
from served import FunctionServer
from world import SECRET, World, check_environment, empty, webhook_environment

from dev.fault_proxy import FaultProxy, Mishap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from world import Line

    from dev.fault_proxy import Call
    from dev.simulator import Simulator
    from dev.stack import Stack

HARD = os.environ.get("HARD") == "1"
USERS = 2
CHANCE = random.Random(int(os.environ.get("HARD_SEED", "1")))
EVENT_ROUNDS = 3
KILLS = (Mishap.KILLED_BEFORE, Mishap.KILLED_AFTER)
AT_ONE_CALL = (
    *KILLS, Mishap.DROPPED, Mishap.LOST, Mishap.LOST_500, Mishap.REFUSED_500, Mishap.UNAVAILABLE_503_JSON,
    Mishap.UNAVAILABLE_503_HTML, Mishap.PAGE_200, Mishap.HALF_A_BODY, Mishap.DELAYED, Mishap.LATE,
)  # fmt: skip
MINUTE = timedelta(minutes=1)
TO_HANDLER = ""
FIRST_LINE = "LITE-AB12CD-000001"
"""A world's first line: where there are contacts, it sends what they hear."""
DOWN, BACK = "instance_disconnected", "instance_reconnected"


class Handler:
    """The platform's own handler of events: what it got, by what it was told."""

    def __init__(self) -> None:
        self.got: list[int] = []
        got = self.got

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["n"])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True)
class Bench:
    """Both functions, the proxy through which they reach everything, and a second ``check`` that needs no proxy."""

    stack: Stack
    simulator: Simulator
    database: Any
    proxy: FaultProxy
    handler: Handler
    check: FunctionServer
    hook: FunctionServer
    next_check: FunctionServer
    log: io.StringIO = field(default_factory=io.StringIO)
    read: dict[int, int] = field(default_factory=dict)

    def emptied(self) -> World:
        """A new world for a new story."""
        self.proxy.plan(None)
        self.proxy.settle()
        empty(self.database)
        self.simulator.reset()
        self.handler.got.clear()
        return World(self.stack, self.simulator, self.database, lambda _: self.check)

    def logs(self) -> str:
        """Everything that they have logged, in the order in which it was read."""
        for server in (self.check, self.hook, self.next_check):
            read = self.read.get(server.pid, 0)
            output = server.output()
            self.log.write(output[read:])
            self.read[server.pid] = len(output)
        return self.log.getvalue()

    def strike(self, number: int, mishap: Mishap) -> None:
        """Let one call go wrong. A handler that answers 200 has taken the event, whatever page it sends with it."""

        def plan(call: Call) -> Mishap | None:
            if call.number != number:
                return None
            return Mishap.LOST_500 if mishap is Mishap.PAGE_200 and call.path == TO_HANDLER else mishap

        self.proxy.plan(plan)

    def forget_failures(self, server: FunctionServer, met: Call | None) -> None:
        """A new process does not rest from a handler that failed five times."""
        if met is not None and met.path == TO_HANDLER:
            with suppress(psutil.NoSuchProcess, ValueError):  # just killed
                os.kill(worker_of(server), 9)

    def call(self, server: FunctionServer, content: str = "") -> int | None:
        """Call a function; None when it died or hung up."""
        self.proxy.victim = lambda: worker_of(server)
        try:
            return self.post(server, content)
        finally:
            self.proxy.settle()

    def post(self, server: FunctionServer, content: str) -> int | None:
        """Call it while others do."""
        try:
            answer = http.post(server.url, params={"key": SECRET}, content=content)
        except httpx.TransportError:
            return None
        return answer.status_code


def worker_of(server: FunctionServer) -> int:
    """The process that serves; its master starts a new one as Cloud Run starts a new instance."""
    [worker] = [each for each in psutil.Process(server.pid).children() if each.status() != psutil.STATUS_ZOMBIE]
    return worker.pid


@pytest.fixture(scope="module")
def served(stack: Stack, simulator: Simulator) -> Iterator[dict[str, Any]]:
    with ExitStack() as running:
        handler = running.enter_context(Handler())
        routes = {
            "/rest/v1/": f"{stack.supabase_url}/rest/v1/",
            "/v1/": f"{simulator.wapi_url}/",
            "/handler": handler.url,
        }
        proxy = running.enter_context(FaultProxy(routes))
        through_the_proxy = {
            "SUPABASE_URL": proxy.url,
            "WAPI_BASE_URL": f"{proxy.url}/v1",
            "EVENT_RELAY_URL": f"{proxy.url}/handler",
            "LOOK_TIMEOUT_SECONDS": "0.5",
        }
        one_by_one = {"LOOK_CONCURRENCY": "1", "RESTART_CONCURRENCY": "1"}  # the k-th call is the same in every run
        checks = check_environment(stack, simulator) | {"GHOST_CONFIRM_SECONDS": "0", "RESTART_VERIFY_SECONDS": "0.05"}
        checks |= {"ALERT_INSTANCE_ID": FIRST_LINE}
        hooks = webhook_environment(stack, simulator) | through_the_proxy
        with ThreadPoolExecutor(3) as starting:
            check = starting.submit(FunctionServer, "follow_up_check", checks | through_the_proxy | one_by_one)
            hook = starting.submit(FunctionServer, "wapi_webhook", hooks)
            next_check = starting.submit(FunctionServer, "follow_up_check", checks | {"EVENT_RELAY_URL": handler.url})
        yield {
            "proxy": proxy,
            "handler": handler,
            "check": running.enter_context(check.result()),
            "hook": running.enter_context(hook.result()),
            "next_check": running.enter_context(next_check.result()),
        }


@pytest.fixture
def bench(stack: Stack, simulator: Simulator, database: Any, served: dict[str, Any]) -> Bench:
    return Bench(stack, simulator, database, **served)


class Tally:
    """What was tried, for whoever reads the output."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.answered: Counter[object] = Counter()
        self.calls: set[str] = set()

    def add(self, mishap: Mishap, path: str, answered: object) -> None:
        self.tried[mishap] += 1
        self.answered[answered] += 1
        self.calls.add(path)

    def tell(self, what: str, began: float) -> None:
        print(
            f"\n{what}: {self.tried.total()} times at {len(self.calls)} kinds of calls in {time.monotonic() - began:.0f} s;"
            f" {', '.join(f'{mishap} {n}' for mishap, n in self.tried.items())}; answered {dict(self.answered)}; nothing lost"
        )


def mishaps_of(calls: int, mishaps: tuple[Mishap, ...]) -> Iterator[tuple[int, Mishap]]:
    """Every call with every mishap in ``HARD``; else a kill at every fourth call, and every eighth call goes wrong."""
    if HARD:
        yield from ((number, mishap) for number in range(calls) for mishap in mishaps)
        return
    step = 4 if mishaps is KILLS else 8
    for number in range(CHANCE.randrange(step), calls, step):
        yield number, CHANCE.choice(mishaps)


# Sweeps


@dataclass(frozen=True)
class Fleet:
    """A line of every kind of decision, each with how it must end whatever happens in between."""

    users: int
    lines: dict[str, Line]
    ends: dict[str, tuple[str, set[tuple[int, int]]]]

    def problem(self, world: World) -> str:
        """What is not yet as it must end: statuses, and how often each user heard that it is down and back."""
        for name, line in self.lines.items():
            status, heard = self.ends[name]
            if world.status(line) != status:
                return f"{name}: {world.status(line)} instead of {status}"
            bells = world.bells(line)
            users = {bell["user_id"] for bell in bells}
            each = {
                tuple(sum(bell["user_id"] == user and bell["type"] == kind for bell in bells) for kind in (DOWN, BACK))
                for user in users
            } or {(0, 0)}
            if not each <= heard or len(users) not in (0, self.users):
                return f"{name}: bells {each} for {len(users)} users instead of {heard}"
        waiting = world.sql("select count(*) as n from public.wapi_webhook_events where relay = 'pending'")[0]["n"]
        return f"{waiting} events not forwarded" if waiting else ""


def a_fleet(world: World) -> Fleet:
    """Fewer than five of its connected lines are dead, also when one more cannot be asked: below the brake."""
    dead = {"session": "disconnected"}
    company = _company_with_neighbours(world)
    lines = {
        "alive": world.line(company),
        "cured": world.line(company, **dead),
        "lost": world.line(company, **dead),
        "flapping": world.line(company, auto_recovery_attempts=3, **dead),
        "back": world.line(company),
    }
    world.simulator.set_lines([lines["lost"].external_id], restart="refused")
    mark_down(world, lines["back"])
    return _fleet_of(world, lines)


def a_fleet_of_others(world: World) -> Fleet:
    """Below the brake as well: lines in other states than those of the first."""
    dead = {"session": "disconnected"}
    company = _company_with_neighbours(world)
    lines = {
        "alive": world.line(company),
        "cured": world.line(company, **dead),
        "refused": world.line(company, session="token_refused"),
        "waiting": world.line(company, status="degraded", **dead),
        "unseen": world.line(company, status="disconnected", **dead),
    }
    world.set(
        lines["waiting"],
        "degraded_since = now() - interval '11 minutes', bad_since = now() - interval '15 minutes', last_restart_at = now() - interval '15 minutes'",
    )
    world.simulator.set_lines([lines[name].external_id for name in ("waiting", "unseen")], restart="refused")
    return _fleet_of(world, lines)


def _company_with_neighbours(world: World) -> UUID:
    company = world.company(users=USERS)
    world.company("Casa de Festas", users=1)
    return company


def _fleet_of(world: World, lines: dict[str, Line]) -> Fleet:
    for number in range(2 if HARD else 1):
        world.sql(
            "insert into public.wapi_webhook_events (event_key, external_id, kind, body, relay, processed_at, outcome)"
            " values (%s, 'LITE-X', 'other', %s, 'pending', now(), 'kept')",
            f"waiting-{number}", json.dumps({"n": number}),
        )  # fmt: skip
    ends: dict[str, tuple[str, set[tuple[int, int]]]] = {
        "alive": ("connected", {(0, 0)}),
        "cured": ("connected", {(0, 0), (1, 1)}),  # told when its restart was claimed and never sent
        "lost": ("disconnected", {(1, 0)}),
        "refused": ("disconnected", {(1, 0)}),
        "flapping": ("connected", {(1, 1)}),
        "waiting": ("disconnected", {(1, 0)}),
        "back": ("connected", {(1, 1)}),
        "unseen": ("disconnected", {(1, 0)}),
    }
    return Fleet(USERS, lines, {name: ends[name] for name in lines})


def a_fleet_under_the_brake(world: World) -> Fleet:
    """All five dead at once: one canary, whose recovery frees the others."""
    lines = {str(number): world.line(world.company(users=1), session="disconnected") for number in range(5)}
    return Fleet(1, lines, dict.fromkeys(lines, ("connected", {(0, 0), (1, 1)})))


def sweep_through(bench: Bench, world: World, fleet: Fleet, history: History) -> None:
    """Let half an hour and more pass, sweep by sweep, until everything is as it must end."""
    problem = "no sweep yet"
    for minutes in (5, 31, 31, 31, 31):
        history.pass_time(minutes * MINUTE)
        history.absorb()
        assert bench.call(bench.next_check) == 200
        history.step.sweeps = 1
        check_invariants(world, history)
        problem = fleet.problem(world)
        if not problem:
            break
    assert not problem
    assert set(bench.handler.got) >= {
        json.loads(row["body"])["n"] for row in world.sql("select body from public.wapi_webhook_events")
    }


@pytest.mark.parametrize(
    ("make", "mishaps"),
    [
        pytest.param(a_fleet, KILLS, id="killed, a line of every kind"),
        pytest.param(a_fleet, AT_ONE_CALL[2:], id="a call goes wrong, a line of every kind"),
        pytest.param(a_fleet_of_others, KILLS, id="killed, lines of other kinds", marks=pytest.mark.skipif(not HARD, reason="HARD=1")),
        pytest.param(a_fleet_of_others, AT_ONE_CALL[2:], id="a call goes wrong, lines of other kinds", marks=pytest.mark.skipif(not HARD, reason="HARD=1")),
        pytest.param(a_fleet_under_the_brake, KILLS, id="killed, under the brake", marks=pytest.mark.skipif(not HARD, reason="HARD=1")),
        pytest.param(a_fleet_under_the_brake, AT_ONE_CALL[2:], id="a call goes wrong, under the brake", marks=pytest.mark.skipif(not HARD, reason="HARD=1")),
    ],
)  # fmt: skip
def test_a_sweep_may_be_cut_at_every_call(
    bench: Bench, make: Callable[[World], Fleet], mishaps: tuple[Mishap, ...]
) -> None:
    world = bench.emptied()
    make(world)
    bench.proxy.plan(None)
    assert bench.call(bench.check) == 200
    calls = len(bench.proxy.calls)
    assert {call.path for call in bench.proxy.calls} > {"rpc/claim_restart", "instance/restart", "rpc/purge_history"}
    began, tally = time.monotonic(), Tally()

    planned = list(mishaps_of(calls, mishaps))
    for number, mishap in planned:
        world = bench.emptied()
        fleet = make(world)
        history = History(world, logs=bench.logs)
        bench.strike(number, mishap)
        answered = bench.call(bench.check)
        [met] = bench.proxy.met or [None]
        bench.proxy.plan(None)
        try:
            if met is not None:
                tally.add(mishap, met.path, answered)
                assert (answered is None) is (mishap in KILLS)
            check_invariants(world, history)
            sweep_through(bench, world, fleet, history)
            bench.forget_failures(bench.check, met)
        except AssertionError as error:
            error.add_note(
                f"{mishap} at call {number} of {calls} ({met.path if met else 'not reached'}), answered {answered}"
            )
            raise
    assert tally.tried.total() >= 0.8 * len(planned)  # a few may not be reached: what goes wrong makes a sweep shorter
    tally.tell("A sweep", began)


# Messages to contacts


@pytest.mark.parametrize("mishap", KILLS)
@pytest.mark.parametrize("path", ["rpc/claim_deliveries", "message/send-text", "rpc/finish_delivery"])
def test_a_message_may_be_cut_at_every_call_and_is_sent_all_the_same(bench: Bench, path: str, mishap: Mishap) -> None:
    world = bench.emptied()
    sending = world.line(world.company("A plataforma"))
    assert sending.external_id == FIRST_LINE
    company = world.company(users=1)
    contact(world, company, "5511988887777", channel="whatsapp")
    line = world.line(company, status="disconnected", session="disconnected", last_restart_at=datetime.now(UTC))
    mark_down(world, line)

    bench.proxy.plan(lambda call: mishap if call.path == path else None)
    assert bench.call(bench.check) is None
    bench.proxy.plan(None)
    for _ in range(2):
        world.pass_time(3 * MINUTE)  # no lease of a dead process is left
        assert bench.call(bench.next_check) == 200

    [row] = world.sql("select state, tries from public.notice_deliveries")
    heard_twice = (path, mishap) in {
        ("message/send-text", Mishap.KILLED_AFTER), ("rpc/finish_delivery", Mishap.KILLED_BEFORE),
    }  # fmt: skip
    assert row["state"] == "sent"
    assert world.simulator.calls(FIRST_LINE)["send-text"] == (2 if heard_twice else 1)


# Registrations


@pytest.fixture(scope="module")
def keeper(stack: Stack, simulator: Simulator, served: dict[str, Any]) -> Iterator[FunctionServer]:
    """A ``check`` that keeps the lines' webhooks at ``hook``; it reaches that through the proxy, too."""
    proxy: FaultProxy = served["proxy"]
    proxy.route("/hook", served["hook"].url.rstrip("/"))
    environment = check_environment(stack, simulator) | {
        "SUPABASE_URL": proxy.url,
        "WAPI_BASE_URL": f"{proxy.url}/v1",
        "WEBHOOK_URL": f"{proxy.url}/hook",
        "WAPI_WEBHOOK_SECRETS": SECRET,
        "LOOK_TIMEOUT_SECONDS": "0.5",
    }
    with FunctionServer("follow_up_check", environment) as server:
        yield server


def test_registrations_may_be_cut_at_every_call_and_are_set_by_the_next_sweeps(
    bench: Bench, keeper: FunctionServer
) -> None:
    """In a process of its own; every call of a round on both sides is in ``test_registrations``."""
    began, tally = time.monotonic(), Tally()

    def a_lost_line() -> tuple[World, Line]:
        world = bench.emptied()
        line = world.line(world.company(users=1))
        world.sql("delete from public.instance_registrations")
        world.behave(line, expires=int(time.time()) + 5 * 24 * 3600)
        return world, line

    world, line = a_lost_line()
    assert bench.call(keeper) == 200
    paths = [call.path for call in bench.proxy.calls]
    first, last = paths.index("rpc/claim_registrations"), len(paths) - paths[::-1].index("rpc/record_registrations")
    assert last - first == 12  # claim, two readings, our own address twice, five webhooks, read back, record
    mishaps = (
        AT_ONE_CALL if HARD else (*KILLS, Mishap.LOST, Mishap.LOST_500, Mishap.UNAVAILABLE_503_HTML, Mishap.PAGE_200)
    )
    planned = [
        (number, mishap)
        for number in (range(first, last) if HARD else range(first + CHANCE.randrange(4), last, 4))
        for mishap in (mishaps if HARD else [CHANCE.choice(mishaps)])
    ]
    for number, mishap in planned:
        world, line = a_lost_line()
        bench.strike(number, mishap)
        answered = bench.call(keeper)
        tally.add(mishap, paths[number], answered)
        assert (answered is None) is (mishap in KILLS)
        bench.proxy.plan(None)
        for _ in range(3):
            world.pass_time(15 * MINUTE)  # no lease of a dead process is left, and the first wait is over
            assert bench.call(keeper) == 200
        [row] = world.sql("select * from public.instance_registrations")
        assert (row["found"], row["tries"], row["lease_until"], row["ending_days"]) == ("good", 0, None, 7), (
            number,
            mishap,
        )
        urls = world.simulator.line(line.external_id)["webhooks"]
        assert len(urls) == 5, (number, mishap)
        assert world.status(line) == "connected"
        [alert] = world.sql("select cause from public.operator_alerts where resolved_at is null")
        assert alert == {"cause": "subscription_ending"}
    tally.tell("Registrations", began)


# Events


def disconnection(world: World) -> tuple[Line, dict[str, Any]]:
    line = world.line(world.company(users=2), session="disconnected")
    world.behave(line, restart="refused")
    return line, world.disconnection(line)


def connection(world: World) -> tuple[Line, dict[str, Any]]:
    line = world.line(world.company(users=2))
    mark_down(world, line, since=timedelta(minutes=9))
    return line, world.connection(line)


def message(world: World) -> tuple[Line, dict[str, Any]]:
    line = world.line(world.company(users=2))
    return line, world.message(line, n=7)


def ends_well(world: World, line: Line, event: dict[str, Any], handler: Handler) -> None:
    kinds = Counter(bell["type"] for bell in world.bells(line))
    match event["event"]:
        case "webhookDisconnected":
            assert (world.status(line), kinds) == ("disconnected", {DOWN: 2})
        case "webhookConnected":
            assert (world.status(line), kinds) == ("connected", {DOWN: 2, BACK: 2})
        case _:
            [stored] = world.sql(
                "select count(*) as n, sum(c.unread_count) as unread from public.wapi_messages m join public.wapi_conversations c on c.id = m.conversation_id"
            )
            assert stored == {"n": 1, "unread": 1}
            assert set(handler.got) == {7}


@pytest.mark.parametrize("make", [disconnection, connection, message])
def test_an_event_may_be_cut_at_every_call_and_comes_again(
    bench: Bench, make: Callable[[World], tuple[Line, dict[str, Any]]]
) -> None:
    world = bench.emptied()
    line, event = make(world)
    bench.proxy.plan(None)
    assert bench.call(bench.hook, json.dumps(event)) == 200
    calls = len(bench.proxy.calls)
    assert calls == {"webhookDisconnected": 3, "webhookConnected": 1, "webhookReceived": 3}[event["event"]]
    began, tally = time.monotonic(), Tally()

    for number in range(calls):
        for mishap in AT_ONE_CALL * EVENT_ROUNDS if HARD else (*KILLS, Mishap.LOST, CHANCE.choice(AT_ONE_CALL[4:])):
            world = bench.emptied()
            line, event = make(world)
            body = json.dumps(event)
            history = History(world, logs=bench.logs)
            posted = Posted(body, datetime.now(history.before.now.tzinfo))
            history.posted.append(posted)
            bench.strike(number, mishap)
            try:
                answered = bench.call(bench.hook, body)
                [met] = bench.proxy.met
                tally.add(mishap, met.path, answered)
                assert (answered is None) is (mishap in KILLS)
                bench.proxy.plan(None)
                posted.answered = int(answered == 200)
                check_invariants(world, history)
                # The provider sends it again, as it may also when it was answered.
                assert bench.call(bench.hook, body) == 200
                posted.answered += 1
                check_invariants(world, history)
                if event["event"] == "webhookReceived" and not bench.handler.got:
                    history.pass_time(MINUTE)  # a turn that nobody holds any more ends
                    assert bench.call(bench.next_check) == 200
                ends_well(world, line, event, bench.handler)
                bench.forget_failures(bench.hook, met)
            except AssertionError as error:
                error.add_note(f"{mishap} at call {number} of {event['event']}")
                raise
    tally.tell(f"A {event['event']}", began)


def test_events_that_are_kept_together_may_be_cut_and_come_again(bench: Bench) -> None:
    began, tally = time.monotonic(), Tally()
    for mishap in AT_ONE_CALL * EVENT_ROUNDS if HARD else (*KILLS, Mishap.LOST, Mishap.REFUSED_500):
        met: list[Call] = []
        for _ in range(10):
            met = cut_together(bench, mishap)
            if met:
                break
        assert met, "events that come at once must meet in one call"
        tally.add(mishap, met[0].path, len(json.loads(met[0].body)["p_events"]))
    tally.tell("Events together", began)


def cut_together(bench: Bench, mishap: Mishap) -> list[Call]:
    """Let a dozen lines come back at once, and the first call about several of them go wrong; answer it."""
    world = bench.emptied()
    made = [connection(world) for _ in range(12)]
    history = History(world, logs=bench.logs)
    history.posted += [Posted(json.dumps(event), datetime.now(history.before.now.tzinfo)) for _, event in made]
    met: list[Call] = []

    def plan(call: Call) -> Mishap | None:
        if len(json.loads(call.body)["p_events"]) > 1 and not met:
            met.append(call)
            return mishap
        return Mishap.LATE if not met else None

    bench.proxy.plan(plan)
    bench.proxy.victim = lambda: worker_of(bench.hook)
    with ThreadPoolExecutor(len(made)) as senders:
        answers = list(senders.map(lambda posted: bench.post(bench.hook, posted.body), history.posted))
    bench.proxy.settle()
    bench.proxy.plan(None)
    for posted, answered in zip(history.posted, answers, strict=True):
        assert answered == 200 or mishap in KILLS
        posted.answered = int(answered == 200)
    check_invariants(world, history)
    for posted, (line, event) in zip(history.posted, made, strict=True):
        assert bench.call(bench.hook, posted.body) == 200
        posted.answered += 1
        ends_well(world, line, event, bench.handler)
    check_invariants(world, history)
    return met


def test_a_disconnection_that_never_comes_again_is_found_by_the_next_sweep(bench: Bench) -> None:
    for number in range(3):
        for mishap in KILLS:
            world = bench.emptied()
            line, event = disconnection(world)
            history = History(world, logs=bench.logs)
            bench.strike(number, mishap)
            assert bench.call(bench.hook, json.dumps(event)) is None
            bench.proxy.plan(None)
            check_invariants(world, history)

            history.pass_time(5 * MINUTE)
            history.absorb()
            assert bench.call(bench.next_check) == 200
            history.step.sweeps = 1
            check_invariants(world, history)
            ends_well(world, line, event, bench.handler)
