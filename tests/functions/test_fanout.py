"""A fleet larger than one sweep's budget, and more sweeps beside one that share a fleet by claims."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from loopback import http
from pydantic import SecretStr
from served import FunctionServer
from waiting import GENEROUS_SECONDS
from world import check_environment

from shared.core.policy import Limits, Policy
from shared.database.client import supabase_client
from shared.database.store import Store
from shared.errors import EventRejected
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.sweep.fanout import HEADER, Fanout, Help, read_help
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pytest_httpx import HTTPXMock
    from world import World

    from shared.database.results import Batch
    from shared.sweep.report import Report

URL = "https://follow-up-check-abc.a.run.app"
METADATA = "https://metadata.test/identity"
TOKEN = "header.payload.signature-0"
DUE_BEFORE = datetime(2026, 3, 2, 12, tzinfo=UTC)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def fleet(world: World, count: int, *, session: str = "alive") -> None:
    """Connected lines, made in two strokes."""
    company = world.company(users=1)
    world.sql(
        "insert into public.wapi_instances"
        " (user_id, company_id, unit, instance_id, instance_token, status, last_health_check)"
        " select %s, %s, 'U' || n, 'LITE-FLEET-' || n, 'token-of-line-' || n, 'connected', now() - interval '5 minutes'"
        " from generate_series(1, %s) n",
        uuid4(), company, count,
    )  # fmt: skip
    world.simulator.add_lines(
        {"external_id": f"LITE-FLEET-{n}", "token": f"token-of-line-{n}", "session": session}
        for n in range(1, count + 1)
    )
    world.read_registrations()


@pytest.fixture
async def sweep(world: World) -> AsyncIterator[Callable[..., Awaitable[Report]]]:
    """The sweep in this process, with limits of the test's own."""
    key = SecretStr(world.stack.service_role_key)
    async with pooled_http(httpx.Timeout(30)) as database, pooled_http(httpx.Timeout(None)) as http:
        store = Watched(supabase_client(world.stack.supabase_url, key, database), Policy())
        Watched.batches.clear()
        client = WapiClient(http, world.simulator.wapi_url)

        async def run(*, helping: Help | None = None, fanout: Fanout | None = None, **limits: Any) -> Report:
            usual: dict[str, Any] = {
                "check_interval": seconds(0),
                "ghost_confirm": seconds(0.01),
                "restart_verify": seconds(0.1),
            }
            return await run_sweep(
                store, client, policy=Policy(), limits=Limits(**usual | limits), helping=helping, fanout=fanout
            )

        yield run


# One sweep after the other


class Watched(Store):
    """Remembers which lines were claimed, batch by batch."""

    batches: ClassVar[list[set[str]]] = []

    async def claim_instances(self, **how: Any) -> Batch:
        batch = await super().claim_instances(**how)
        self.batches.append({instance.external_id for instance in batch.instances})
        return batch


async def test_the_next_sweep_goes_on_where_this_one_stopped(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    fleet(world, 20)
    slow = {f"LITE-FLEET-{n}" for n in range(3, 19, 2)}
    world.simulator.set_lines(slow, faults={"status-instance": "hang"})
    assert (await sweep(budget=seconds(1.5), look_timeout=seconds(60))).left >= len(slow)
    names = "select instance_id from public.wapi_instances where last_health_check < now() - interval '1 minute'"
    waited = {row["instance_id"] for row in world.sql(names)}
    assert slow <= waited

    world.simulator.set_lines(slow, faults={})
    Watched.batches.clear()
    again = await sweep(batch_size=len(waited))

    assert Watched.batches[0] == waited
    assert (again.checked, again.left) == (20, 0)


# Who asks, and whom


@pytest.fixture
async def fanout() -> AsyncIterator[Callable[..., Fanout]]:
    """A fan-out that is closed at the end."""
    async with asyncio.timeout(30):
        stack: list[Fanout] = []

        def make(helpers: int = 3, url: str | None = URL) -> Fanout:
            stack.append(Fanout(helpers, url, metadata_url=METADATA))
            return stack[-1]

        yield make
        for each in stack:
            await each.__aexit__(None, None, None)


def grants_identity(httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(url=f"{METADATA}?audience={URL.replace(':', '%3A').replace('/', '%2F')}", text=f"{TOKEN}\n")


async def test_helpers_are_asked_with_googles_word_for_who_we_are_and_told_what_to_do(
    fanout: Callable[..., Fanout], httpx_mock: HTTPXMock
) -> None:
    grants_identity(httpx_mock)
    httpx_mock.add_response(url=URL, method="POST", json={"checked": 500}, is_reusable=True)
    asking = fanout()
    asking.begin(due_before=DUE_BEFORE, within=seconds(200))

    assert (asking.asked, await asking.answered()) == (3, 3)
    identity, *asked = httpx_mock.get_requests()
    assert identity.headers["Metadata-Flavor"] == "Google"
    assert {request.headers["Authorization"] for request in asked} == {f"Bearer {TOKEN}"}
    assert {read_help(request.headers) for request in asked} == {Help(within_seconds=195, due_before=DUE_BEFORE)}


async def test_helpers_are_asked_once_a_sweep(fanout: Callable[..., Fanout], httpx_mock: HTTPXMock) -> None:
    grants_identity(httpx_mock)
    httpx_mock.add_response(url=URL, method="POST", is_reusable=True)
    asking = fanout(2)
    for _ in range(3):
        asking.begin(due_before=DUE_BEFORE, within=seconds(200))
    assert await asking.answered() == 2
    assert len(httpx_mock.get_requests()) == 1 + 2


@pytest.mark.parametrize(("helpers", "url"), [(0, URL), (0, None)])
async def test_without_the_setting_nobody_is_asked(
    fanout: Callable[..., Fanout], httpx_mock: HTTPXMock, helpers: int, url: str | None
) -> None:
    alone = fanout(helpers, url)
    alone.begin(due_before=DUE_BEFORE, within=seconds(200))
    assert (alone.asked, await alone.answered()) == (0, 0)
    assert httpx_mock.get_requests() == []


async def test_a_loopback_address_gets_no_identity(fanout: Callable[..., Fanout], httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(url="http://127.0.0.1:8080", method="POST")
    local = fanout(1, "http://127.0.0.1:8080")
    local.begin(due_before=DUE_BEFORE, within=seconds(200))
    assert await local.answered() == 1
    assert "Authorization" not in httpx_mock.get_requests()[0].headers


def failures(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.message == "fanout.failed"]


@pytest.mark.parametrize(
    ("played", "cause"),
    [
        pytest.param({"status_code": 503}, "http_503", id="no database there"),
        pytest.param({"status_code": 429}, "http_429", id="no instance to spare"),
        pytest.param({"status_code": 403}, "http_403", id="not allowed to call ourselves"),
        pytest.param({"status_code": 302, "headers": {"location": "https://elsewhere.test"}}, "http_302", id="moved"),
        pytest.param(httpx.ConnectError("refused"), "ConnectError", id="nobody there"),
        pytest.param(httpx.ReadTimeout("slow"), "timeout", id="no answer in time"),
    ],
)
async def test_a_helper_that_fails_is_logged_and_no_more(
    fanout: Callable[..., Fanout],
    httpx_mock: HTTPXMock,
    caplog: pytest.LogCaptureFixture,
    played: dict[str, Any] | Exception,
    cause: str,
) -> None:
    grants_identity(httpx_mock)
    httpx_mock.add_response(url=URL, method="POST")
    if isinstance(played, Exception):
        httpx_mock.add_exception(played, url=URL)
    else:
        httpx_mock.add_response(url=URL, **played)
    asking = fanout(2)
    asking.begin(due_before=DUE_BEFORE, within=seconds(200))
    assert (asking.asked, await asking.answered()) == (2, 1)
    assert failures(caplog) == [{"cause_word": cause, "helpers": 1}]


@pytest.mark.parametrize(
    ("played", "cause"),
    [
        pytest.param({"status_code": 404}, "no_identity_http_404", id="no such account"),
        pytest.param({"text": "<html>hello</html>"}, "no_identity_unreadable", id="a page"),
        pytest.param({"content": b"\xff\r\nX-Other: 1"}, "no_identity_unreadable", id="bytes that are no header"),
        pytest.param(httpx.ConnectError("no route"), "no_identity_ConnectError", id="not on Google Cloud"),
    ],
)
async def test_without_an_identity_nobody_is_asked_and_the_sweep_goes_on_alone(
    fanout: Callable[..., Fanout],
    httpx_mock: HTTPXMock,
    caplog: pytest.LogCaptureFixture,
    played: dict[str, Any] | Exception,
    cause: str,
) -> None:
    if isinstance(played, Exception):
        httpx_mock.add_exception(played)
    else:
        httpx_mock.add_response(**played)
    asking = fanout(2)
    asking.begin(due_before=DUE_BEFORE, within=seconds(200))
    assert (asking.asked, await asking.answered()) == (2, 0)
    assert failures(caplog) == [{"cause_word": cause, "helpers": 2}]
    assert len(httpx_mock.get_requests()) == 1


async def test_a_sweep_that_fails_stops_listening_to_its_helpers(httpx_mock: HTTPXMock) -> None:
    async def never(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")

    httpx_mock.add_callback(never, url="http://127.0.0.1:8080", is_optional=True)
    async with asyncio.timeout(30), Fanout(1, "http://127.0.0.1:8080") as asking:
        asking.begin(due_before=DUE_BEFORE, within=seconds(200))


def test_a_call_without_the_header_is_nobodys_helper() -> None:
    assert read_help({"content-type": "application/json"}) is None


@pytest.mark.parametrize(
    "told",
    [
        "",
        "1",
        "{}",
        '{"within_seconds": 0, "due_before": "2026-03-02T12:00:00Z"}',
        '{"within_seconds": NaN, "due_before": "2026-03-02T12:00:00Z"}',
        '{"within_seconds": 10, "due_before": "2026-03-02T12:00:00"}',
        '{"within_seconds": 10}',
        '{"within_seconds": 10, "due_before": "2026-03-02T12:00:00Z", "more": 1}',
    ],
)
def test_a_header_that_we_never_send_is_refused_with_its_name(told: str) -> None:
    with pytest.raises(EventRejected, match=HEADER) as refused:
        read_help({HEADER: told})
    assert refused.value.status == 400


# What a helper does


def helping(within: float = 60) -> Help:
    return Help(within_seconds=within, due_before=datetime.now(UTC))


async def test_a_helper_looks_at_nothing_that_the_asking_sweep_has_looked_at(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """Also with an interval of 0, which makes everything due that was not looked at since one's own start."""
    fleet(world, 6)
    begun = world.sql("select now() as now")[0]["now"]
    await sweep()
    report = await sweep(helping=Help(within_seconds=60, due_before=begun))
    assert report.checked == 0
    assert (await sweep()).checked == 6


async def test_a_helper_keeps_to_the_budget_that_it_was_told(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    world.behave(world.line(world.company()), faults={"status-instance": "hang"})
    report = await sweep(helping=helping(within=0.3), look_timeout=seconds(600))
    assert (report.checked, report.left) == (0, 1)
    assert report.took < seconds(GENEROUS_SECONDS)


async def test_a_helper_with_a_small_share_decides_like_any_sweep(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    """It asks the fleet: three dead lines of one that lives are restarted, of one that is away they are not."""
    company = world.company(users=1)
    rest = world.lines(company, 12)
    for line in rest:
        world.set(line, "last_health_check = now()")
    dead = world.lines(company, 3, session="disconnected")
    share = [line.external_id for line in dead]
    world.simulator.set_lines([line.external_id for line in rest], session="disconnected")
    world.simulator.set_lines(share, restart="accepted_no_effect")

    report = await sweep(helping=helping(), check_interval=timedelta(minutes=1))

    assert (report.checked, report.braked, report.outcomes["notified"]) == (3, True, 0)
    assert {world.status(line) for line in dead} == {"connected"}
    world.simulator.set_lines([line.external_id for line in rest], session="alive")
    world.simulator.set_lines(share, restart="works")
    again = await sweep(helping=helping())
    assert (again.braked, again.outcomes["recovered"] >= 2) == (False, True)  # the canary may have been one


async def test_a_helper_brakes_for_its_own_share_of_an_outage(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    fleet(world, 12)
    world.simulator.set_provider(everyone_disconnected=True)
    report = await sweep(helping=helping())
    assert report.braked
    assert report.outcomes == {"restarted": 1, "failed": 1, "held": 11}


async def test_a_helper_restarts_a_dead_line_of_a_share_that_is_large_enough(
    world: World, sweep: Callable[..., Awaitable[Report]]
) -> None:
    fleet(world, 10)
    dead = world.line(world.company(users=1), session="disconnected")
    report = await sweep(helping=helping())
    assert (report.outcomes["recovered"], report.left) == (1, 0)
    assert world.restarts(dead) == 1


def test_a_helper_leaves_the_housekeeping_to_the_sweep_that_asked(
    world: World, follow_up_check: FunctionServer
) -> None:
    world.sql("insert into public.health_check_runs (started_at) values (now() - interval '31 days')")
    old = "select 1 from public.health_check_runs where started_at < now() - interval '30 days'"
    headers = {HEADER: helping().model_dump_json()}
    assert http.post(follow_up_check.url, headers=headers).status_code == 200
    assert world.sql(old)
    world.sweep()
    assert not world.sql(old)


# All of it


class CountingFanout(Fanout):
    """Counts how often it was begun."""

    begun = 0

    def begin(self, **how: Any) -> None:
        self.begun += 1
        super().begin(**how)


@pytest.mark.parametrize(("lines", "begun"), [(3, 0), (4, 1), (9, 2)])
async def test_a_fleet_of_less_than_a_full_batch_asks_for_no_help(
    world: World, sweep: Callable[..., Awaitable[Report]], lines: int, begun: int
) -> None:
    fleet(world, lines)
    async with CountingFanout(0, None) as counting:
        report = await sweep(fanout=counting, batch_size=4)
    assert (report.checked, counting.begun) == (lines, begun)


@contextmanager
def round_robin(urls: list[str]) -> Iterator[str]:
    """An address whose every new connection goes to the next of ``urls``: what stands before a function's instances."""
    turns = itertools.count()
    loop = asyncio.new_event_loop()
    started: asyncio.Future[asyncio.Server] = loop.create_future()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            url = urls[next(turns) % len(urls)]
            there = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        except ConnectionError:
            writer.close()
            return
        await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer))

    async def main() -> None:
        started.set_result(await asyncio.start_server(serve, "127.0.0.1", 0))

    loop.run_until_complete(main())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{started.result().sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def test_four_processes_share_one_fleet_and_no_line_is_looked_at_twice(world: World) -> None:
    count = 1500  # three batches
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        urls: list[str] = []
        address = stack.enter_context(round_robin(urls))
        environment = check_environment(world.stack, world.simulator) | {
            # So few at once that on the busiest machine each look has its time: they wait before it begins.
            "LOOK_CONCURRENCY": "32",
            "LOOK_TIMEOUT_SECONDS": "30",
            "SWEEP_FANOUT": "3",
            "SWEEP_FANOUT_URL": address,
        }
        started = [pool.submit(FunctionServer, "follow_up_check", environment) for _ in range(4)]
        asking, *helpers = [stack.enter_context(each.result()) for each in started]
        urls += [helper.url for helper in helpers]
        for server in (asking, *helpers):  # warm, with an empty fleet
            assert http.post(server.url).json()["helpers_asked"] == 0
        fleet(world, count)
        world.sql("truncate public.health_check_runs")
        world.simulator.set_provider(latency_ms=100)

        answer = http.post(asking.url, timeout=120).json()

        finished = [len([f for f in each.facts() if f["message"] == "sweep.finished"]) for each in helpers]
        assert not [fact for fact in asking.facts() if fact["message"] == "fanout.failed"]
    assert (answer["helpers_asked"], answer["helpers_answered"], answer["left"]) == (3, 3, 0)
    assert finished == [2, 2, 2]  # one warm, one of help: helpers ask nobody
    runs = world.sql(
        "select checked, left_due from public.health_check_runs where finished_at is not null order by finished_at"
    )
    assert len(runs) == 4
    # On a slow machine a helper may come when all is done, or count a batch that another is just claiming. Whoever ends last
    # leaves nothing, and nobody does it all alone.
    assert runs[-1]["left_due"] == 0
    assert sum(run["checked"] > 0 for run in runs) >= 2
    assert sum(run["checked"] for run in runs) == count
    assert world.simulator.calls() == {"status-instance": count, "device": count}
    assert (
        world.sql("select count(*) as alive from public.instance_health where last_alive_at is not null")[0]["alive"]
        == count
    )


def test_a_sweep_whose_helpers_cannot_be_reached_does_the_work_alone(world: World) -> None:
    with round_robin(["http://127.0.0.1:9"]) as address:  # nobody listens there
        environment = check_environment(world.stack, world.simulator) | {
            "SWEEP_FANOUT": "2",
            "SWEEP_FANOUT_URL": address,
        }
        with FunctionServer("follow_up_check", environment) as server:
            fleet(world, 501)
            answer = http.post(server.url, timeout=120)
            refused = http.post(server.url, headers={HEADER: "me too"})
            failed = [fact for fact in server.facts() if fact["message"] == "fanout.failed"]
    assert answer.status_code == 200
    assert (answer.json()["checked"], answer.json()["left"]) == (501, 0)
    assert (answer.json()["helpers_asked"], answer.json()["helpers_answered"]) == (2, 0)
    assert [fact["severity"] for fact in failed] == ["WARNING"] * 2
    assert (refused.status_code, HEADER in refused.json()["error"]) == (400, True)
