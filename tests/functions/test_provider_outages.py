"""The provider as a whole: away, slow, lying, for all or for some, from one line to five hundred.

From five lines on nobody hears a false alarm; whatever happens no line is restarted twice in half an hour, nor more
lines at once than allowed; and who is really down hears of it. ``HARD=1`` plays every fault with every number of lines.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from wire import Interruption, OnTheWire, When
from world import Line

from shared.core.policy import Limits, Policy
from shared.sweep.run import run_sweep

if TYPE_CHECKING:
    from uuid import UUID

    import httpx
    from world import World

    from shared.sweep.report import Report

HARD = os.environ.get("HARD") == "1"
MINUTE = timedelta(minutes=1)
COOLDOWN = timedelta(minutes=30)
A_MOMENT = timedelta(minutes=1)  # what the sweeps themselves take
LIMITS = Limits(
    check_interval=timedelta(0),
    ghost_confirm=timedelta(0),
    restart_verify=timedelta(seconds=0.05),
    look_timeout=timedelta(seconds=5),
    first_pause=timedelta(seconds=0.01),
)
IMPATIENT = replace(LIMITS, look_timeout=timedelta(seconds=0.2), budget=timedelta(seconds=20))
DOWN, BACK = "instance_disconnected", "instance_reconnected"


class Story:
    """A fleet at a provider, swept every five minutes, on a clock of its own."""

    def __init__(self, world: World, ours: OnTheWire) -> None:
        self.world = world
        self.ours = ours
        self.now = timedelta(0)
        self.restarts: dict[str, list[timedelta]] = defaultdict(list)
        self._seen = 0

    def lines(self, count: int, *, company: UUID | None = None, session: str = "alive") -> list[Line]:
        """That many connected lines, all at once."""
        company = company or self.world.company(users=1)
        made = [
            Line(uuid4(), f"LITE-{session[:4]}-{uuid4().hex[:12]}", f"token-of-{n}", "5511900000001")
            for n in range(count)
        ]
        self.world.sql(
            "insert into public.wapi_instances (id, user_id, company_id, unit, instance_id, instance_token, status, last_health_check)"
            " select id, gen_random_uuid(), %s, external_id, external_id, token, 'connected', now() - interval '5 minutes'"
            " from unnest(%s::uuid[], %s::text[], %s::text[]) as l(id, external_id, token)",
            company, [line.id for line in made], [line.external_id for line in made], [line.token for line in made],
        )  # fmt: skip
        self.world.simulator.add_lines(
            [{"external_id": line.external_id, "token": line.token, "session": session} for line in made]
        )
        return made

    def behave(self, lines: list[Line], **behaviour: object) -> None:
        self.world.simulator.set_lines([line.external_id for line in lines], **behaviour)

    def provider(self, **behaviour: object) -> None:
        self.world.simulator.set_provider(**behaviour)

    async def sweep(self, limits: Limits = LIMITS) -> Report:
        """One sweep; the promises about restarts hold after each."""
        await asyncio.sleep(0.01)  # the loop stood still while the test spoke: let it see which connections were closed
        report = await run_sweep(self.ours.store, self.ours.provider, policy=Policy(), limits=limits)
        asked = self.world.simulator.restarts()
        for call in asked["restarts"][self._seen :]:
            self.restarts[call["external_id"]].append(self.now)
        self._seen = len(asked["restarts"])
        assert asked["max_in_flight"] <= limits.restart_concurrency
        for times in self.restarts.values():
            assert all(later - earlier >= COOLDOWN for earlier, later in pairwise(times)), times
        return report

    async def sweeps(self, count: int, limits: Limits = LIMITS) -> None:
        """So many sweeps, five minutes apart, and five minutes after the last."""
        for _ in range(count):
            await self.sweep(limits)
            self.pass_time(5 * MINUTE)

    def pass_time(self, interval: timedelta) -> None:
        self.world.pass_time(interval)
        self.now += interval

    def bells(self, kind: str = DOWN) -> int:
        return self.world.sql("select count(*) as n from public.notifications where type = %s", kind)[0]["n"]

    def told(self) -> set[UUID]:
        rows = self.world.sql("select instance_id from public.instance_outages where told_at is not null")
        return {row["instance_id"] for row in rows}

    def statuses(self) -> dict[str, int]:
        rows = self.world.sql("select status, count(*) as n from public.wapi_instances group by 1")
        return {row["status"]: row["n"] for row in rows}


@pytest.fixture
async def story(world: World, ours: OnTheWire) -> Story:
    return Story(world, ours)


SAYS_NOTHING: dict[str, dict[str, Any]] = {
    "it is away": {"down": "reset"},
    "it never answers": {"down": "hang"},
    "it is slow": {"latency_ms": 400},
    "503 to all": {"down": "503"},
    "404 to all": {"down": "404_html_cannot_get"},
    "another 404 page to all": {"down": "404_html_other"},
    "429 to all": {"down": "429"},
    "a firewall's 401 page to all": {"down": "401_html"},
    "half an answer to all": {"down": "truncated_json"},
    "another field's name": {"down": "field_renamed"},
}
COUNTS = (1, 2, 4, 5, 6, 500)
MANY = 500 if HARD else 30
# For CI's time: each fault once, each number of lines at least once.
IN_CI = dict(zip(SAYS_NOTHING, (1, 2, 4, 5, 500, 6, 5, 6, 4, 2), strict=True))


@pytest.mark.parametrize(
    ("fault", "count"),
    [(fault, count) for fault in SAYS_NOTHING for count in COUNTS if HARD or IN_CI[fault] == count],
)
async def test_a_provider_that_says_nothing_usable_is_believed_nothing_for_as_long_as_it_lasts(
    story: Story, fault: str, count: int
) -> None:
    lines = story.lines(count)
    story.provider(**SAYS_NOTHING[fault])

    # Who is told to come back later does so to the end of its time.
    limits = replace(IMPATIENT, budget=timedelta(seconds=0.5)) if fault == "429 to all" else IMPATIENT
    await story.sweeps(9 if HARD else 2 if count == max(COUNTS) else 4, limits)

    # "404, another page" may be the provider's own "not found": twice is a verdict below five lines, as with one dead line.
    believed = fault == "another 404 page to all"
    if not believed or count >= 5:
        assert (story.bells(), story.statuses(), dict(story.restarts)) == (0, {"connected": count}, {}) or believed
    story.provider(down=None, latency_ms=0)
    await story.sweep(replace(LIMITS, look_concurrency=32))
    if not believed:
        assert story.bells() == 0
    assert story.statuses() == {"connected": count}
    assert len(lines) == count


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_below_five_lines_a_provider_that_calls_all_disconnected_is_believed_once_and_taken_back(
    story: Story, count: int
) -> None:
    story.lines(count)
    story.provider(everyone_disconnected=True)

    await story.sweep()
    assert (story.bells(), story.statuses()) == (count, {"disconnected": count})
    assert sum(map(len, story.restarts.values())) == count
    story.pass_time(5 * MINUTE)
    await story.sweeps(5)
    assert (story.bells(), sum(map(len, story.restarts.values()))) == (count, count)

    story.provider(everyone_disconnected=False)
    await story.sweep()
    assert (story.bells(), story.bells(BACK), story.statuses()) == (count, count, {"connected": count})


@pytest.mark.parametrize("count", [5, 6, MANY])
async def test_from_five_lines_on_a_provider_that_calls_all_disconnected_for_25_minutes_rings_no_bell(
    story: Story, count: int
) -> None:
    story.lines(count)
    story.provider(everyone_disconnected=True)

    await story.sweeps(6 if HARD or count < 10 else 3)
    assert (story.bells(), story.statuses()) == (0, {"connected": count})
    assert sum(map(len, story.restarts.values())) <= 6  # the canaries

    story.provider(everyone_disconnected=False)
    await story.sweep()
    assert (story.bells(), story.bells(BACK), story.statuses()) == (0, 0, {"connected": count})
    assert story.world.sql("select count(*) as n from public.instance_outages where closed_at is null") == [{"n": 0}]


@pytest.mark.parametrize("count", [5, 6, MANY])
async def test_a_real_mass_outage_is_told_after_at_most_35_minutes_once_and_without_a_storm(
    story: Story, count: int
) -> None:
    lines = story.lines(count, session="disconnected")
    story.behave(lines, restart="accepted_no_effect")

    for _ in range(6):
        assert (await story.sweep()).braked
        story.pass_time(5 * MINUTE)
        assert story.bells() == 0
    await story.sweep()
    assert (story.bells(), story.statuses()) == (count, {"disconnected": count})
    assert story.now + A_MOMENT <= 35 * MINUTE
    story.pass_time(5 * MINUTE)

    story.behave(lines, session="alive")
    await story.sweep()
    assert (story.bells(), story.bells(BACK), story.statuses()) == (count, count, {"connected": count})


async def test_every_line_of_a_growing_outage_is_told_by_its_own_clock(story: Story) -> None:
    company = story.world.company(users=1)
    groups = [story.lines(count, company=company) for count in (10, 5, 5)]
    died: dict[UUID, timedelta] = {}
    told: dict[UUID, timedelta] = {}

    for number in range(14):
        if number in (0, 2, 4):
            story.behave(groups[number // 2], session="disconnected", restart="refused")
            died |= dict.fromkeys((line.id for line in groups[number // 2]), story.now)
        await story.sweep()
        told |= {line: story.now for line in story.told() if line not in told}
        story.pass_time(5 * MINUTE)

    assert {told[line] - since for line, since in died.items()} == {30 * MINUTE}
    assert story.bells() == 20


@pytest.mark.parametrize(("dead", "alive"), [(3, 3), (4, 4), (5, 6), (MANY // 2 - 1, MANY // 2 + 1)])
async def test_less_than_five_lines_or_less_than_half_are_believed_with_one_restart_each(
    story: Story, dead: int, alive: int
) -> None:
    company = story.world.company(users=1)
    lines = story.lines(dead, company=company, session="disconnected")
    story.lines(alive, company=company)
    story.behave(lines, restart="accepted_no_effect")

    report = await story.sweep()

    assert (report.braked, story.bells()) == (False, dead)
    assert story.told() == {line.id for line in lines}
    assert {len(times) for times in story.restarts.values()} == {1}
    assert len(story.restarts) == dead


@pytest.mark.parametrize(("dead", "alive"), [(5, 5), (6, 6), (MANY // 2, MANY // 2)])
async def test_exactly_half_is_held_and_the_others_stay_what_they_are(story: Story, dead: int, alive: int) -> None:
    company = story.world.company(users=1)
    lines = story.lines(dead, company=company, session="disconnected")
    story.lines(alive, company=company)
    story.behave(lines, restart="accepted_no_effect")

    report = await story.sweep()

    assert (report.braked, story.bells(), story.statuses()) == (True, 0, {"connected": dead + alive})
    assert sum(map(len, story.restarts.values())) == 1


async def test_when_one_company_is_cut_off_only_its_own_people_hear_of_it(story: Story) -> None:
    cut, others = story.world.company("Cortada", users=2), story.world.company("Outra", users=2)
    lines = story.lines(7, company=cut, session="disconnected")
    story.lines(33, company=others)
    story.behave(lines, restart="accepted_no_effect")

    await story.sweeps(7)

    heard = story.world.sql("select company_id, type, count(*) as n from public.notifications group by 1, 2")
    assert heard == [{"company_id": cut, "type": DOWN, "n": 14}]
    assert {len(times) for times in story.restarts.values()} == {2}  # at once, and half an hour later


async def test_one_company_about_which_the_provider_is_silent_is_neither_restarted_nor_told(story: Story) -> None:
    """Six of forty say nothing while all others answer: one cause, and no proof of a death."""
    cut, others = story.world.company("Cortada", users=2), story.world.company("Outra", users=2)
    lines = story.lines(6, company=cut)
    story.lines(34, company=others)
    story.behave(lines, faults={"status-instance": "504_html"})

    await story.sweeps(15)
    assert (dict(story.restarts), story.bells(), story.statuses()) == ({}, 0, {"connected": 40})

    story.behave(lines, faults={})
    await story.sweep()
    assert story.world.sql("select * from public.notifications") == []


@pytest.mark.parametrize(
    ("batch", "at", "fault"),
    [
        *(
            (batch, at, {"everyone_disconnected": True})
            # Seen among the last looks, by fewer than half of the lines or than five: the brake must ask again.
            for batch, at in ((20, 0), (20, 7), (20, 10), (20, 14), (20, 18), (10, 3), (10, 10))
        ),
        *((batch, at, {"down": "500"}) for batch, at in ((20, 7), (20, 18), (10, 7), (10, 10))),
    ],
)
async def test_an_outage_that_begins_in_the_middle_of_a_sweep_rings_no_bell(
    story: Story, batch: int, at: int, fault: dict[str, object]
) -> None:
    story.lines(20)
    begun: list[httpx.Request] = []

    async def begins(request: httpx.Request) -> None:
        begun.append(request)
        await asyncio.to_thread(story.provider, **fault)

    story.ours.wire.interrupt(Interruption(begins, at, "status-instance", When.BEFORE))
    limits = replace(LIMITS, batch_size=batch, look_concurrency=1)
    await story.sweep(limits)
    assert len(begun) == 1
    story.ours.wire.interrupt(None)
    story.pass_time(5 * MINUTE)
    await story.sweeps(2, limits)
    assert (story.bells(), story.statuses()) == (0, {"connected": 20})

    story.provider(everyone_disconnected=False, down=None)
    await story.sweep()
    assert (story.bells(), story.statuses()) == (0, {"connected": 20})


@pytest.mark.parametrize("count", [6, MANY])
async def test_after_an_outage_that_needs_restarts_the_canary_frees_all_in_one_sweep(story: Story, count: int) -> None:
    lines = story.lines(count, session="disconnected")
    story.behave(lines, restart="accepted_no_effect")
    await story.sweeps(2)
    assert sum(map(len, story.restarts.values())) == 2

    story.behave(lines, restart="works")
    report = await story.sweep()

    assert report.braked
    assert len(story.restarts) == count  # each once: the two earlier canaries wait for their half hour
    assert story.statuses() == {"connected": count - 2, "degraded": 2}
    assert story.bells() == 0
    for minutes in (5, 10, 20):
        story.pass_time(minutes * MINUTE)
        await story.sweep()
    assert story.statuses() == {"connected": count}
    assert story.bells() == story.bells(BACK) <= 2
