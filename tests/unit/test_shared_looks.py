"""Events of one line share looks: which, and which not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from pydantic import SecretStr

from shared.core.look import Look
from shared.core.model import Observation, SuspectLine
from shared.webhook.shared_looks import SERVES_SECONDS, Looked, SharedLooks

if TYPE_CHECKING:
    from collections.abc import Coroutine

ALIVE, DEAD, BLIND = Observation.ALIVE, Observation.DISCONNECTED, Observation.UNKNOWN
AT = datetime(2026, 11, 28, tzinfo=UTC)
LINE = SuspectLine(id=UUID(int=1), external_id="LITE-1", token=SecretStr("t"), token_hash="h", last_event_at=None)


class Desk:
    """Events that ask for looks, looks that end when the test says so, and the clock of both."""

    def __init__(self) -> None:
        self.now = 100.0
        self.began: list[asyncio.Future[Observation]] = []
        self._looks = SharedLooks(clock=lambda: self.now)

    def event(self, line: SuspectLine = LINE, *, came: float | None = None) -> asyncio.Task[Looked]:
        arrived = self.now if came is None else came
        return asyncio.create_task(self._looks.of(line, arrived=arrived, look=self._look))

    def _look(self) -> Coroutine[None, None, Looked]:
        said: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
        self.began.append(said)

        async def looked() -> Looked:
            return Looked(Look(await said, "told"), AT)

        return looked()

    async def says(self, number: int, found: Observation) -> None:
        self.began[number].set_result(found)
        await settled()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("said", Observation)
async def test_events_that_came_before_a_look_began_share_it(desk: Desk, said: Observation) -> None:
    events = [desk.event() for _ in range(20)]
    await settled()
    await desk.says(0, said)

    assert {(await event).look.observation for event in events} == {said}
    assert (await desk.event(came=100)).look.observation is said
    assert len(desk.began) == 1


@pytest.mark.parametrize("said", [DEAD, BLIND])
async def test_an_event_that_came_during_a_look_shares_it_if_that_does_not_say_alive(
    desk: Desk, said: Observation
) -> None:
    first = desk.event()
    await settled()
    desk.now = 101
    later = [desk.event() for _ in range(3)]
    await settled()
    desk.now = 102
    await desk.says(0, said)

    assert {(await event).look.observation for event in (first, *later)} == {said}
    assert len(desk.began) == 1


async def test_an_alive_serves_no_event_that_came_after_it_had_begun(desk: Desk) -> None:
    first = desk.event()
    await settled()
    desk.now = 101
    later = [desk.event() for _ in range(3)]
    await settled()
    assert len(desk.began) == 1, "one look at a time"
    desk.now = 102
    await desk.says(0, ALIVE)
    assert len(desk.began) == 2
    await desk.says(1, DEAD)

    assert (await first).look.observation is ALIVE
    assert {(await event).look.observation for event in later} == {DEAD}


@pytest.mark.parametrize("said", [ALIVE, DEAD])
async def test_an_event_that_comes_after_a_look_has_ended_is_looked_into_anew(desk: Desk, said: Observation) -> None:
    first = desk.event()
    await settled()
    desk.now = 101
    await desk.says(0, said)
    await first

    desk.now = 102
    second = desk.event()
    await settled()
    await desk.says(1, BLIND)
    assert (await second).look.observation is BLIND


@pytest.mark.parametrize(("passed", "looks"), [(SERVES_SECONDS - 0.1, 1), (SERVES_SECONDS, 2)])
async def test_what_a_look_has_found_is_good_for_ten_seconds(desk: Desk, passed: float, looks: int) -> None:
    first = desk.event()
    await settled()
    await desk.says(0, ALIVE)
    await first

    desk.now += passed
    waited = desk.event(came=100)
    await settled()
    assert len(desk.began) == looks
    for look in desk.began[1:]:
        look.set_result(ALIVE)
    await waited


async def test_who_gives_up_waiting_takes_the_look_away_from_nobody(desk: Desk) -> None:
    impatient, patient = desk.event(), desk.event()
    await settled()
    impatient.cancel()
    await desk.says(0, DEAD)

    assert (await patient).look.observation is DEAD
    assert impatient.cancelled()


async def test_lines_and_tokens_share_no_look(desk: Desk) -> None:
    lines = [LINE, LINE.model_copy(update={"id": UUID(int=2)}), LINE.model_copy(update={"token_hash": "another"})]
    events = [desk.event(line) for line in lines]
    await settled()
    for number, said in enumerate((DEAD, ALIVE, BLIND)):
        await desk.says(number, said)

    assert [(await event).look.observation for event in events] == [DEAD, ALIVE, BLIND]
