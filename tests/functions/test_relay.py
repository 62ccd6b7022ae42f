"""The relay: the platform's own handler gets every event as it came, in order per line, and never fails ours."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
from loopback import http
from served import FunctionServer
from waiting import until
from world import SECRET, check_environment, webhook_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from world import World

HANDLER_KEY = "the-handlers-own-key"


class Handler:
    """The platform's handler, on loopback: what it got, and how it behaves."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.of: list[str | None] = []
        self.status = 200
        self.takes = 0.0
        self.status_of: Callable[[dict[str, Any]], int] = lambda _: 200
        self.hangs = threading.Event()
        self.hangs.set()  # set: it answers
        handler = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                handler.hangs.wait(30)
                time.sleep(handler.takes)  # how slow it is
                status = handler.status_of(json.loads(body)) if handler.status == 200 else handler.status
                if status == 200:
                    handler.raw.append(body)
                    handler.of.append(self.headers["X-Instance-Id"])
                    handler.got.append(json.loads(body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?key={HANDLER_KEY}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hangs.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def handler() -> Iterator[Handler]:
    with Handler() as running:
        yield running


@pytest.fixture
def hook(world: World, handler: Handler) -> Iterator[FunctionServer]:
    with FunctionServer(
        "wapi_webhook", webhook_environment(world.stack, world.simulator) | {"EVENT_RELAY_URL": handler.url}
    ) as server:
        yield server


@pytest.fixture
def check(world: World, handler: Handler) -> Iterator[FunctionServer]:
    with FunctionServer(
        "follow_up_check", check_environment(world.stack, world.simulator) | {"EVENT_RELAY_URL": handler.url}
    ) as server:
        yield server


def event(line: int, number: int) -> dict[str, Any]:
    return {"event": "webhookReceived", "instanceId": f"LITE-{line}", "n": number, "messageId": f"{line}-{number}"}


def post(hook: FunctionServer, body: Any) -> dict[str, Any]:
    answer = http.post(hook.url, params={"key": SECRET}, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def states(world: World) -> Counter[str | None]:
    return Counter(row["relay"] for row in world.sql("select relay from public.wapi_webhook_events"))


def test_an_event_is_forwarded_as_it_came_after_it_is_committed_in_one_more_round_trip(
    world: World, hook: FunctionServer, handler: Handler
) -> None:
    post(hook, {"event": "warm"})
    world.stack.postgrest_requests.reset()
    body = b'{"event" : "webhookReceived",\n "instanceId": "LITE-1", "o": "\\u00e7\xc3\xa7"}'
    answer = http.post(hook.url, params={"key": SECRET}, content=body)

    assert answer.status_code == 200
    assert handler.raw[-1] == body
    assert world.stack.postgrest_requests.total == 2
    assert states(world) == {"done": 2}


def test_connection_events_are_not_forwarded_unless_asked_for(
    world: World, hook: FunctionServer, handler: Handler
) -> None:
    line = world.line(world.company(), session="disconnected")
    post(hook, world.disconnection(line))
    post(hook, world.connection(line))
    assert handler.got == []
    assert states(world) == {None: 2}

    environment = webhook_environment(world.stack, world.simulator) | {
        "EVENT_RELAY_URL": handler.url, "EVENT_RELAY_CONNECTIONS": "true",
    }  # fmt: skip
    with FunctionServer("wapi_webhook", environment) as asked:
        post(asked, world.disconnection(line, moment=time.time() + 62))
    assert [each["event"] for each in handler.got] == ["webhookDisconnected"]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_could_not_be_forwarded_waits_and_the_sweep_forwards_it_backlog_first(
    world: World, hook: FunctionServer, check: FunctionServer, handler: Handler, status: int
) -> None:
    handler.status = status
    for number in range(8):
        assert post(hook, event(1, number))["outcome"] == "unknown_instance"
    assert handler.got == []
    assert states(world) == {"pending": 8}

    handler.status = 200
    http.post(check.url).raise_for_status()
    assert [each["n"] for each in handler.got] == list(range(8))
    assert states(world) == {"done": 8}
    http.post(check.url).raise_for_status()
    assert len(handler.got) == 8


def test_the_next_event_of_a_line_takes_its_backlog_along_in_order(
    world: World, hook: FunctionServer, handler: Handler
) -> None:
    handler.status = 500
    for number in range(3):
        post(hook, event(1, number))
    handler.status = 200
    post(hook, event(1, 3))

    assert [each["n"] for each in handler.got] == [0, 1, 2, 3]


def test_a_handler_that_hangs_costs_one_request_two_seconds_and_the_next_ones_nothing(
    world: World, hook: FunctionServer, handler: Handler
) -> None:
    handler.hangs.clear()
    post(hook, event(0, 0))  # the handler never answers
    failed = [fact for fact in hook.facts() if fact["message"] == "relay.failed"]
    assert [fact["problem"] for fact in failed] == ["timeout"]
    # Nobody waits for the handler any more.
    world.stack.postgrest_requests.reset()
    for number in range(1, 7):
        post(hook, event(number, number))
    assert world.stack.postgrest_requests.total == 6
    assert states(world) == {"pending": 7}


def test_a_handler_that_takes_longer_than_a_request_waits_gets_the_first_event_twice_at_most(
    world: World, hook: FunctionServer, check: FunctionServer, handler: Handler
) -> None:
    """It was delivered when the request gave up: again and again it had its effect there, and the others never came."""
    handler.takes = 2.5
    for number in range(4):
        post(hook, event(1, number))
    http.post(check.url)

    assert states(world) == {"done": 4}
    assert sorted(each["n"] for each in handler.got) == [0, 0, 1, 2, 3]


def test_a_handler_that_is_not_there_never_fails_ours(world: World, handler: Handler) -> None:
    environment = webhook_environment(world.stack, world.simulator) | {"EVENT_RELAY_URL": "http://127.0.0.1:9/none"}
    with FunctionServer("wapi_webhook", environment) as server:
        post(server, event(1, 1))
    assert states(world) == {"pending": 1}


def test_down_then_back_everything_arrives_in_order_per_line(
    world: World, hook: FunctionServer, check: FunctionServer, handler: Handler
) -> None:
    events = [event(line, number) for number in range(12) for line in range(6)]
    handler.status = 500
    down = threading.Event()

    def of_line(line: int) -> None:
        for each in events:
            if each["instanceId"] == f"LITE-{line}":
                post(hook, each)
                if each["n"] == 6:
                    down.set()
                    handler.status = 200

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(of_line, range(6)))

    def caught_up() -> bool:
        http.post(check.url).raise_for_status()
        return states(world) == {"done": 72}

    until(caught_up)
    for line in range(6):
        assert [each["n"] for each in handler.got if each["instanceId"] == f"LITE-{line}"] == list(range(12))
    assert len(handler.got) == 72  # at least once is the promise; here none came twice


def test_concurrent_events_of_one_line_are_forwarded_by_one_at_a_time(
    world: World, hook: FunctionServer, check: FunctionServer, handler: Handler
) -> None:
    bodies = [event(1, number) for number in range(40)]
    random.Random(2).shuffle(bodies)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda body: post(hook, body), bodies))
    http.post(check.url).raise_for_status()

    # Which of two that came at once was first, nobody can say; but each came, and came once.
    assert sorted(each["n"] for each in handler.got) == list(range(40))
    assert states(world) == {"done": 40}


def test_a_turn_whose_holder_died_is_taken_over(world: World, check: FunctionServer, handler: Handler) -> None:
    world.sql(
        "insert into public.wapi_webhook_events (event_key, kind, external_id, body, relay) values ('k', 'other', 'L', '{\"n\": 1}', 'pending')"
    )
    world.sql("select public.claim_relay('L', 20, '10 seconds')")
    http.post(check.url).raise_for_status()
    assert handler.got == []

    world.sql("update public.relay_turns set until = now() - interval '1 second'")
    http.post(check.url).raise_for_status()
    assert handler.got == [{"n": 1}]


def test_the_handlers_url_never_shows(world: World, hook: FunctionServer, handler: Handler) -> None:
    handler.status = 500
    for number in range(6):
        post(hook, event(number, 1))
    assert HANDLER_KEY not in hook.output()
    assert "/hook" not in hook.output()


def test_a_body_that_waits_for_its_relay_outlives_the_usual_retention(world: World) -> None:
    for relay in ("pending", "done"):
        world.sql(
            "insert into public.wapi_webhook_events (event_key, kind, body, relay, received_at, processed_at)"
            " values (%s, 'other', '{}', %s, now() - interval '3 days', now())", relay, relay,
        )  # fmt: skip
    world.sql("select public.purge_history(1000, '48 hours', '14 days', '90 days', '30 days')")
    assert {row["relay"]: row["body"] for row in world.sql("select relay, body from public.wapi_webhook_events")} == {
        "pending": "{}", "done": None,
    }  # fmt: skip


def test_one_event_that_the_handler_does_not_want_holds_its_line_for_ten_minutes_and_no_other_line(
    world: World, hook: FunctionServer, check: FunctionServer, handler: Handler
) -> None:
    handler.status_of = lambda body: 400 if body.get("n") == 0 and body["instanceId"] == "LITE-1" else 200
    for number in range(4):
        post(hook, event(1, number))
        post(hook, event(2, number))
    assert [each["instanceId"] for each in handler.got] == ["LITE-2"] * 4
    assert not [fact for fact in hook.facts() if fact["message"] == "relay.broken"]
    http.post(check.url).raise_for_status()
    assert states(world)["pending"] == 4

    world.pass_time(timedelta(minutes=11))
    until(lambda: bool(http.post(check.url)) and states(world) == {"done": 7, "refused": 1})
    assert [each["n"] for each in handler.got if each["instanceId"] == "LITE-1"] == [1, 2, 3]


def test_a_slow_handler_gets_next_to_nothing_twice(
    world: World, hook: FunctionServer, check: FunctionServer, handler: Handler
) -> None:
    handler.status = 500
    for number in range(4):
        post(hook, event(1, number))
    handler.status = 200
    handler.takes = 0.3
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: post(hook, event(1, number)), range(4, 16)))
    until(lambda: bool(http.post(check.url)) and states(world) == {"done": 16})

    assert len(handler.got) == 16


@pytest.mark.parametrize(
    ("sizes", "turns"),
    [
        pytest.param([1_000] * 5, [5], id="small ones together"),
        pytest.param([30_000, 30_000, 30_000, 10], [2, 2], id="what fits into 64 KiB"),
        pytest.param([100_000, 10, 100_000, 10], [1, 1, 1, 1], id="a large one alone, in its place"),
    ],
)
def test_a_turn_brings_no_more_than_fits_into_an_answer_and_the_next_one_the_rest(
    world: World, sizes: list[int], turns: list[int]
) -> None:
    for number, size in enumerate(sizes):
        world.sql(
            "insert into public.wapi_webhook_events (event_key, external_id, kind, body, relay) values (%s, 'L', 'other', %s, 'pending')",
            f"key-{number}", "x" * size,
        )  # fmt: skip
    [row] = world.sql("select public.claim_relay('L', 20, '10 seconds') as turn")
    brought: list[list[int]] = []
    while turn := row["turn"]:
        brought.append([each["id"] for each in turn["events"]])
        [row] = world.sql(
            "select public.finish_relay('L', %s, %s, null, 5, '10 minutes', true, 20, '10 seconds') as turn",
            turn["token"],
            brought[-1],
        )

    assert [len(each) for each in brought] == turns
    ids = [each for events in brought for each in events]
    assert ids == sorted(ids)
    assert states(world) == {"done": len(sizes)}
