"""Events that arrive together share a transaction, and none suffers for its neighbour."""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from shared.core.look import Look
from shared.core.model import Observation
from shared.database.batching import CALLS_AT_ONCE, CHARACTERS_A_CALL, EVENTS_A_CALL, Arrival, Batches
from shared.database.results import Intake
from shared.errors import StoreRefused, StoreUnavailable
from shared.providers.wapi.events import parse_event
from shared.webhook.intake import deliver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wire import OnTheWire
    from world import World


REQUEST: ContextVar[str] = ContextVar("request", default="no request")


class Calls:
    """Takes calls and holds them until it is told to answer."""

    def __init__(self) -> None:
        self.made: list[list[str]] = []
        self.heard_of: list[str] = []
        self.refused: set[str] = set()
        self.fails: Exception | None = None
        self.open = asyncio.Event()
        self.batches = Batches(self._receive)

    async def _receive(self, arrivals: Sequence[Arrival]) -> list[Intake]:
        names = [each.row["name"] for each in arrivals]
        self.made.append(names)
        self.heard_of.append(REQUEST.get())
        await self.open.wait()
        if self.fails:
            raise self.fails
        if self.refused.intersection(names):
            raise StoreRefused("receive_events", "23514")
        return [Intake(outcome=name, event_id=1) for name in names]

    def keep(self, name: str, line: str | None = None, size: int = 100) -> asyncio.Task[Intake]:
        arrival = Arrival(line or name, size, {"name": name})
        return asyncio.create_task(self.batches.keep(arrival), name=name)


@pytest.fixture
async def calls() -> Calls:
    return Calls()


async def turn() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def busy(calls: Calls) -> list[asyncio.Task[Intake]]:
    """All calls under way."""
    under_way = [calls.keep(f"early {n}") for n in range(CALLS_AT_ONCE)]
    await turn()
    return under_way


async def test_an_event_that_meets_nobody_goes_at_once_and_by_itself(calls: Calls) -> None:
    await busy(calls)
    assert calls.made == [[f"early {n}"] for n in range(CALLS_AT_ONCE)]


async def test_those_who_wait_go_together_longest_first_and_each_gets_its_own_answer(calls: Calls) -> None:
    early = await busy(calls)
    waiting = [calls.keep(f"event {n}") for n in range(EVENTS_A_CALL + 3)]
    await turn()
    assert len(calls.made) == CALLS_AT_ONCE
    calls.open.set()

    taken = await asyncio.gather(*early, *waiting)

    assert [each.outcome for each in taken] == [task.get_name() for task in (*early, *waiting)]
    assert calls.made[CALLS_AT_ONCE:] == [
        [f"event {n}" for n in range(EVENTS_A_CALL)],
        [f"event {n}" for n in range(EVENTS_A_CALL, EVENTS_A_CALL + 3)],
    ]


async def test_of_one_line_there_is_one_in_a_call_so_a_flood_waits_behind_itself(calls: Calls) -> None:
    early = await busy(calls)
    flood = [calls.keep(f"loud {n}", "loud") for n in range(40)]
    quiet = [calls.keep(f"quiet {n}") for n in range(5)]
    await turn()
    calls.open.set()
    await asyncio.gather(*early, *flood, *quiet)

    assert calls.made[CALLS_AT_ONCE] == ["loud 0", *(f"quiet {n}" for n in range(5))]
    assert [call for call in calls.made if call[0].startswith("loud")] == [
        calls.made[CALLS_AT_ONCE],
        *([f"loud {n}"] for n in range(1, 40)),
    ]


async def test_a_line_that_is_under_way_waits_and_leaves_the_other_calls_to_others(calls: Calls) -> None:
    loud = [calls.keep(f"loud {n}", "loud") for n in range(CALLS_AT_ONCE + 1)]
    await turn()
    quiet = [calls.keep(f"quiet {n}") for n in range(2)]
    await turn()
    assert calls.made == [["loud 0"], ["quiet 0"], ["quiet 1"]]
    calls.open.set()
    await asyncio.gather(*loud, *quiet)
    assert calls.made[3:] == [[f"loud {n}"] for n in range(1, CALLS_AT_ONCE + 1)]


async def test_a_call_belongs_to_no_single_request(calls: Calls) -> None:
    REQUEST.set("the first")
    await busy(calls)
    assert calls.heard_of == ["no request"] * CALLS_AT_ONCE


async def test_a_call_does_not_grow_beyond_its_size(calls: Calls) -> None:
    early = await busy(calls)
    waiting = [calls.keep(f"big {n}", size=CHARACTERS_A_CALL // 2) for n in range(3)]
    waiting.append(calls.keep("huge", size=4 * CHARACTERS_A_CALL))
    await turn()
    calls.open.set()
    await asyncio.gather(*early, *waiting)
    assert calls.made[CALLS_AT_ONCE:] == [["big 0", "big 1"], ["big 2"], ["huge"]]


async def test_what_is_refused_together_is_tried_one_by_one(calls: Calls) -> None:
    early = await busy(calls)
    waiting = [calls.keep(f"event {n}") for n in range(4)]
    calls.refused = {"event 2"}
    await turn()
    calls.open.set()

    taken = await asyncio.gather(*early, *waiting, return_exceptions=True)

    assert [type(each) for each in taken[CALLS_AT_ONCE:]] == [Intake, Intake, StoreRefused, Intake]
    assert calls.made[CALLS_AT_ONCE + 1 :] == [[f"event {n}"] for n in range(4)]


@pytest.mark.parametrize(
    "error", [StoreUnavailable("receive_events", "503"), StoreRefused("receive_events", "42883"), KeyError("a bug")]
)
async def test_an_error_reaches_everybody_who_waits(calls: Calls, error: Exception) -> None:
    early = await busy(calls)
    waiting = [calls.keep(f"event {n}") for n in range(4)]
    calls.fails = error
    await turn()
    calls.open.set()
    assert await asyncio.gather(*early, *waiting, return_exceptions=True) == [error] * (CALLS_AT_ONCE + 4)


async def test_who_has_given_up_is_not_sent_and_holds_nobody_up(calls: Calls) -> None:
    early = await busy(calls)
    gone, stays = calls.keep("gone"), calls.keep("stays")
    await turn()
    gone.cancel()
    early[0].cancel()  # its call goes on, its answer goes nowhere
    await turn()
    calls.open.set()

    taken = await asyncio.gather(*early, gone, stays, return_exceptions=True)

    assert isinstance(taken[0], asyncio.CancelledError)
    assert [each.outcome for each in taken[1:CALLS_AT_ONCE]] == [f"early {n}" for n in range(1, CALLS_AT_ONCE)]
    assert calls.made[CALLS_AT_ONCE:] == [["stays"]]


# On the real database


def start(ours: OnTheWire, events: Sequence[dict[str, Any]]) -> list[asyncio.Task[Intake]]:
    """Deliver events at once, as one process of the webhook does."""
    return [
        asyncio.create_task(
            deliver(
                parse_event(json.dumps(event).encode()),
                ours.store,
                lambda: ours.provider,
                settings=ours.intake_settings,
            )
        )
        for event in events
    ]


async def test_twelve_events_at_once_take_five_round_trips_and_all_have_their_effect(
    world: World, ours: OnTheWire
) -> None:
    company = world.company(users=1)
    lines = world.lines(company, 12)
    world.stack.postgrest_requests.reset()

    taken = await asyncio.gather(*start(ours, [world.message(line) for line in lines]))

    assert {each.outcome for each in taken} == {"stored"}
    assert [each.instance_id for each in taken] == [line.id for line in lines]
    assert world.stack.postgrest_requests.total == CALLS_AT_ONCE + 1
    [stored] = world.sql(
        "select count(*) as n, count(distinct c.instance_id) as lines from public.wapi_messages m"
        " join public.wapi_conversations c on c.id = m.conversation_id"
    )
    assert stored == {"n": 12, "lines": 12}


@pytest.mark.parametrize("come_first", [True, False])
async def test_a_line_that_somebody_holds_does_not_hold_up_its_neighbours(
    world: World, ours: OnTheWire, come_first: bool
) -> None:
    held, *lines = world.lines(world.company(users=1), 9)
    with psycopg.connect(world.stack.database_url) as somebody:
        somebody.execute("select from public.wapi_instances where id = %s for update", (held.id,))
        stuck = [world.connection(held, nr=number) for number in range(CALLS_AT_ONCE)]
        neighbours = [world.message(line) for line in lines]
        events = [*stuck, *neighbours] if come_first else [*neighbours, *stuck]
        taking = start(ours, events)
        waiting, going = (taking[:4], taking[4:]) if come_first else (taking[8:], taking[:8])

        # Stored in the first try: one that was cut after its commit would say already_stored or duplicate.
        assert [each.outcome for each in await asyncio.gather(*going)] == ["stored"] * len(lines)
        assert not any(each.done() for each in waiting)
        somebody.rollback()
        assert {each.outcome for each in await asyncio.gather(*waiting)} == {"alive"}


async def test_an_event_that_the_database_refuses_takes_no_neighbour_with_it(world: World, ours: OnTheWire) -> None:
    lines = world.lines(world.company(users=1), 8)
    refused = lines[-2]
    world.sql(
        f"alter table public.wapi_webhook_events add constraint theirs check (external_id <> '{refused.external_id}') not valid"
    )
    try:
        taken = await asyncio.gather(*start(ours, [world.message(line) for line in lines]), return_exceptions=True)
    finally:
        world.sql("alter table public.wapi_webhook_events drop constraint theirs")

    *_, error, _ = taken
    assert isinstance(error, StoreRefused)
    assert error.code == "23514"
    assert [each.outcome for each in taken if isinstance(each, Intake)] == ["stored"] * 7
    [stored] = world.sql("select count(*) as n, sum(unread_count) as unread from public.wapi_conversations")
    assert stored == {"n": 7, "unread": 7}


async def test_events_whose_looks_end_together_are_settled_together_each_by_its_own_kind(
    world: World, ours: OnTheWire
) -> None:
    up = world.lines(world.company(users=1), 5)
    down = world.lines(world.company(users=1), 5, status="disconnected")
    events = [world.disconnection(line) for line in up]
    events += [world.connection(line, connectedPhone=None) for line in down]
    kept = [await ours.store.receive_event(parse_event(json.dumps(event).encode())) for event in events]
    lines = [each.instance for each in kept]
    assert {each.outcome for each in kept} == {"look"}
    assert all(lines)
    world.stack.postgrest_requests.reset()

    settled = await asyncio.gather(
        *(
            ours.store.settle_event(
                each.event_id,
                Look(Observation.ALIVE, "device_phone"),
                external_id=line.external_id,
                looked_at=each.now,
                token_hash=line.token_hash,
            )
            for each, line in zip(kept, lines, strict=True)
            if line is not None and each.now is not None
        )
    )

    assert [each.outcome for each in settled] == ["denied"] * 5 + ["restored"] * 5
    assert [each.event_id for each in settled] == [each.event_id for each in kept]
    assert world.stack.postgrest_requests.by_path["rpc/settle_events"] == CALLS_AT_ONCE + 1
    assert {world.status(line) for line in up + down} == {"connected"}
