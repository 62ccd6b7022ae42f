"""What the sweep's function does after the sweep: each chore in its own time, one that fails stops no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from shared.core.policy import Retention
from shared.errors import StoreUnavailable
from shared.housekeeping import keep_house

if TYPE_CHECKING:
    import pytest
    from world import World

    from shared.database.store import Store
    from shared.relay import Relay


class House:
    """A store and a relay that tell what was asked of them."""

    def __init__(self, *steps: dict[str, int] | Exception | None) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []
        self.deadlines: list[float] = []

    async def purge_history(self, retention: Retention, *, limit: int) -> dict[str, int] | None:
        assert (retention, limit) == (Retention(), 5_000)
        self.asked.append("purge")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def forward_backlog(self, store: Any, *, deadline: float) -> int:  # noqa: ARG002 - the relay's
        self.asked.append("relay")
        self.deadlines.append(deadline)
        raise StoreUnavailable("list_relay_backlog", "503")


async def keep(house: House, *, relay: House | None = None, began_ago: float = 0) -> None:
    store: Store = house  # type: ignore[assignment]
    handler: Relay | None = relay  # type: ignore[assignment]
    await keep_house(store, handler, sweep_began=asyncio.get_running_loop().time() - began_ago)


async def test_a_chore_that_fails_is_logged_and_the_next_one_is_done(caplog: pytest.LogCaptureFixture) -> None:
    house = House({"bodies": 0})
    with caplog.at_level("INFO", logger="line_recovery"):
        await keep(house, relay=house)
    assert house.asked == ["relay", "purge"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "relay.backlog_not_read"
    ]


async def test_the_relay_has_twenty_seconds(caplog: pytest.LogCaptureFixture) -> None:
    house = House({"bodies": 0})
    with caplog.at_level("CRITICAL", logger="line_recovery"):
        before = asyncio.get_running_loop().time()
        await keep(house, relay=house)
        after = asyncio.get_running_loop().time()
    assert before + 20 <= house.deadlines[0] <= after + 20


async def test_the_purge_goes_on_until_a_step_finds_less_than_it_may_take() -> None:
    house = House({"bodies": 5_000, "runs": 0}, {"bodies": 10, "runs": 5_000}, {"bodies": 0, "runs": 4_999})
    await keep(house)
    assert house.steps == []


async def test_the_purge_ends_when_somebody_else_is_at_it() -> None:
    house = House(None, {"bodies": 5_000})
    await keep(house)
    assert len(house.steps) == 1


async def test_a_purge_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    house = House(StoreUnavailable("purge_history", "503"))
    with caplog.at_level("ERROR", logger="line_recovery"):
        await keep(house)
    assert [record.getMessage() for record in caplog.records] == ["history.not_purged"]


def test_a_backlog_larger_than_a_step_is_gone_after_one_sweep_and_only_one_purge_works_at_a_time(world: World) -> None:
    world.sql(
        "insert into public.wapi_webhook_events (event_key, kind, body, received_at, processed_at)"
        " select 'old ' || n, 'other', '{}', now() - interval '15 days', now() from generate_series(1, 11000) n"
    )
    with world.database.transaction():
        world.sql("select pg_advisory_xact_lock(hashtextextended('purge_history', 0))")
        world.sweep()
        assert world.sql("select count(*) as n from public.wapi_webhook_events") == [{"n": 11000}]
    world.sweep()
    assert world.sql("select count(*) as n from public.wapi_webhook_events") == [{"n": 0}]
