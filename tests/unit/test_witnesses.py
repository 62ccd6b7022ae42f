"""When a sweep asks lines of the fleet before it acts, and when it need not."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from shared.core.decisions import NoChange, Restart
from shared.core.model import Census, Observation
from shared.core.policy import Policy
from shared.errors import StoreUnavailable
from shared.sweep.brake import Brake


class Fleet:
    """A database that draws witnesses, after so many failures, and a provider of which they all say one thing."""

    def __init__(self, says: Observation, failures: int = 0) -> None:
        self._says = says
        self._failures = failures
        self.drawn = 0

    async def draw_witnesses(self, *_: object, **__: object) -> list[Any]:
        self.drawn += 1
        if self.drawn <= self._failures:
            raise StoreUnavailable("draw_witnesses", "ConnectError")
        return [object()]

    async def ask_witnesses(self, drawn: list[Any]) -> list[Observation]:
        return [self._says] * len(drawn)

    async def enter_brake(self) -> bool:
        return False


def brake(fleet: Fleet) -> Brake:
    context: Any = SimpleNamespace(
        policy=Policy(),
        store=fleet,
        clock=SimpleNamespace(now=lambda: datetime(2026, 11, 28, tzinfo=UTC)),
        asleep=(),
        report=SimpleNamespace(braked=False, run_id="a run"),
    )
    unused: Any = None
    looking: Any = fleet
    return Brake(context, looking, unused)


def batch(decision: Restart | NoChange) -> list[Any]:
    return [SimpleNamespace(sighting=SimpleNamespace(instance=SimpleNamespace(id=uuid4())), decision=decision)]


async def test_a_batch_that_does_nothing_to_anybody_asks_no_witnesses() -> None:
    fleet = Fleet(Observation.ALIVE)
    asking = brake(fleet)

    assert not await asking.comes_on(Census(up=1, bad=1), batch(Restart()))
    assert fleet.drawn == 1
    asking._asked_at = float("-inf")  # half a minute later
    assert not await asking.comes_on(Census(up=1), batch(NoChange()))
    assert fleet.drawn == 1
    assert not await asking.comes_on(Census(up=1, bad=1), batch(Restart()))
    assert fleet.drawn == 2


async def test_a_failed_draw_of_witnesses_is_not_what_the_next_batch_hears() -> None:
    fleet = Fleet(Observation.ALIVE, failures=1)
    asking = brake(fleet)

    with pytest.raises(StoreUnavailable):
        await asking.comes_on(Census(up=1, bad=1), batch(Restart()))

    assert not await asking.comes_on(Census(up=1, bad=1), batch(Restart()))
    assert fleet.drawn == 2
