"""What the sweep's function does after the sweep: each chore in its own time, one that fails stops no other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.core.policy import Retention
from shared.database.mutes import OpenMutes, SilenceReview
from shared.database.results import Purged, Retried, Told, ToldLater
from shared.errors import StoreUnavailable
from shared.housekeeping import keep_house
from shared.receiving.mutes import LINES_A_PAGE

if TYPE_CHECKING:
    import pytest
    from world import World

    from shared.database.store import Store
    from shared.receiving.registrations import Registrations
    from shared.relay import Relay


RUN = uuid4()


class House:
    """A store, registrations and a relay that tell what was asked of them."""

    def __init__(self, *steps: dict[str, int] | Exception | None) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []
        self.deadlines: list[float] = []
        self.after: list[Purged | None] = []
        self.notices: Retried | None = Retried(tried=0, told=0, refused_left=0)
        self.late_by: timedelta | None = None
        self.due: list[list[dict[str, Any]]] = []
        self.mutes = self

    async def review_silence(self, after: UUID | None, until: UUID | None, *, limit: int, zone: str) -> SilenceReview:
        assert (after, until, limit, zone) == (None, None, LINES_A_PAGE, "America/Sao_Paulo")
        self.asked.append("mutes")
        if self.notices is None:
            raise StoreUnavailable("review_silence", "503")
        now = datetime.now(UTC)
        return SilenceReview(
            now=now, began_after=UUID(int=0), until=None, is_last=True, heard=0, lines=[],
            opened=OpenMutes(now=now, mutes=[], canary=None),
        )  # fmt: skip

    async def purge_history(self, retention: Retention, *, limit: int, after: Purged | None) -> Purged | None:
        assert (retention, limit) == (Retention(), 5_000)
        self.asked.append("purge")
        self.after.append(after)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return None if step is None else Purged(rows=step, bodies_until=None)

    async def retry_notices(self, *, limit: int) -> Retried:
        assert limit == 500
        self.asked.append("notices")
        if self.notices is None:
            raise StoreUnavailable("retry_notices", "503")
        return self.notices

    async def tell_what_is_due(self, *, limit: int) -> Told:
        self.asked.append("telling")
        if self.notices is None:
            raise StoreUnavailable("tell_what_is_due", "503")
        if not self.due:
            return Told(seen=0, lines=[])
        return Told(seen=limit, lines=[ToldLater(instance_id=uuid4(), **each) for each in self.due.pop(0)])

    async def find_late_clock(self) -> timedelta | None:
        self.asked.append("clock")
        if self.notices is None:
            raise StoreUnavailable("find_late_clock", "503")
        return self.late_by

    async def keep(self, store: Any, *, run: UUID, deadline: float) -> None:
        assert (store, run) == (self, RUN)
        self.asked.append("registrations")
        self.deadlines.append(deadline)
        if self.notices is None:
            raise StoreUnavailable("claim_registrations", "503")

    async def forward_backlog(self, store: Any, *, deadline: float) -> int:  # noqa: ARG002 - the relay's
        self.asked.append("relay")
        self.deadlines.append(deadline)
        raise StoreUnavailable("list_relay_backlog", "503")


async def keep(house: House, *, relay: House | None = None, began_ago: float = 0) -> None:
    store: Store = house  # type: ignore[assignment]
    handler: Relay | None = relay  # type: ignore[assignment]
    registrations: Registrations = house  # type: ignore[assignment]
    began = asyncio.get_running_loop().time() - began_ago
    await keep_house(store, handler, sweep_began=began, run=RUN, registrations=registrations)


async def test_a_chore_that_fails_is_logged_and_the_next_one_is_done(caplog: pytest.LogCaptureFixture) -> None:
    house = House({"bodies": 0})
    house.notices = None
    with caplog.at_level("INFO", logger="line_recovery"):
        await keep(house, relay=house)
    assert house.asked == ["notices", "telling", "clock", "mutes", "registrations", "relay", "purge"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "notices.not_retried",
        "notices.not_told",
        "provider.clock_not_read",
        "mutes.not_watched",
        "registrations.not_kept",
        "relay.backlog_not_read",
    ]


async def test_what_waits_is_told_in_steps_until_one_sees_less_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    house = House({"bodies": 0})
    house.due = [[{"told": 2}, {"told": 0, "refused": 1}], [{"told": 3}, {"failed": "22023"}]]
    with caplog.at_level("INFO", logger="line_recovery"):
        await keep(house)
    assert house.asked.count("telling") == 3
    assert [record.getMessage() for record in caplog.records] == ["notice.not_told", "notices.told"]
    assert vars(caplog.records[-1])["fields"] == {"lines": 2, "users": 5}


async def test_a_late_clock_of_the_provider_is_told_once_a_sweep(caplog: pytest.LogCaptureFixture) -> None:
    house = House({"bodies": 0}, {"bodies": 0})
    with caplog.at_level("WARNING", logger="line_recovery"):
        await keep(house)
        house.late_by = timedelta(seconds=1200.4)
        await keep(house)
    assert [record.getMessage() for record in caplog.records] == ["provider.clock_late"]


async def test_registrations_have_forty_seconds_and_the_relay_twenty_after_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House({"bodies": 0})
    with caplog.at_level("CRITICAL", logger="line_recovery"):
        before = asyncio.get_running_loop().time()
        await keep(house, relay=house)
        after = asyncio.get_running_loop().time()
    assert before + 40 <= house.deadlines[0] <= after + 40
    assert before + 20 <= house.deadlines[1] <= after + 20


async def test_the_purge_goes_on_until_a_step_finds_less_than_it_may_take() -> None:
    house = House({"bodies": 5_000, "runs": 0}, {"bodies": 10, "runs": 5_000}, {"bodies": 0, "runs": 4_999})
    await keep(house)
    assert house.steps == []
    assert [after and after.rows["bodies"] for after in house.after] == [None, 5_000, 10]


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


def test_bodies_that_wait_for_their_relay_stop_no_purge(world: World) -> None:
    """Regression: a relay that is away for days leaves its bodies in front of all others."""
    world.sql(
        "insert into public.wapi_webhook_events (event_key, kind, body, received_at, processed_at, relay)"
        " select 'old ' || n, 'other', '{}', now() - interval '5 days' + n * interval '1 second', now(),"
        "  case when n <= 12000 then 'pending' end from generate_series(1, 23000) n"
    )
    world.sweep()
    assert world.sql("select count(*) as n from public.wapi_webhook_events where body is not null") == [{"n": 12000}]


def test_turns_that_nobody_has_taken_for_long_go_with_the_inbox(world: World) -> None:
    world.sql(
        "insert into public.relay_turns (external_id, token, until, taken_at) values"
        " ('idle', null, null, now() - interval '15 days'), ('held', gen_random_uuid(), now(), now() - interval '15 days'),"
        " ('lately', null, null, now() - interval '13 days')"
    )
    world.sweep()
    assert [row["external_id"] for row in world.sql("select external_id from public.relay_turns order by 1")] == [
        "held", "lately",
    ]  # fmt: skip
