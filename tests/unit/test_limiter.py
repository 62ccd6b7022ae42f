"""How many looks run at once: never too many, fewer when the provider says 429, none in a pause, nobody loses a place."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Self
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.look import Look
from shared.core.model import Observation
from shared.providers.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    Report = Callable[[Look], None]

ANSWERED = Look(Observation.ALIVE, "connected_phone")
THROTTLED = Look(Observation.UNKNOWN, "http_429", throttled=True, asked_to_wait=True)


def unhurried(ceiling: int) -> Limiter:
    """One whose pauses end at once."""
    return Limiter(ceiling, first_pause=timedelta(0))


def tell(limiter: Limiter, report: Report, *, throttled: bool, began_in: int | None = None) -> None:
    """What the client and the sweep tell of a look: a refusal when it comes, then how the look ended."""
    if throttled:
        limiter.refused(uuid4(), None, began_in=limiter.round if began_in is None else began_in)
    report(THROTTLED if throttled else ANSWERED)


class Place:
    """One place of a limiter, held by hand."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._slot: AbstractAsyncContextManager[Report] = limiter.slot()
        self._report: Report | None = None
        self._began_in = 0

    async def take(self) -> Self:
        self._report = await self._slot.__aenter__()
        self._began_in = self._limiter.round
        return self

    def say(self, *, throttled: bool) -> None:
        assert self._report is not None
        tell(self._limiter, self._report, throttled=throttled, began_in=self._began_in)

    def end(self, look: Look) -> None:
        assert self._report is not None
        self._report(look)

    async def leave(self, *, throttled: bool | None = None) -> None:
        if throttled is not None:
            self.say(throttled=throttled)
        await self._slot.__aexit__(None, None, None)


class Crowd:
    """Asks for places and keeps who holds one, in the order in which they got it."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._tasks: dict[str, asyncio.Task[Place]] = {}
        self.entered: list[str] = []

    async def ask(self, *names: str) -> None:
        for name in names:
            self._tasks[name] = asyncio.create_task(self._enter(name))
        await settle()

    async def _enter(self, name: str) -> Place:
        place = await Place(self._limiter).take()
        self.entered.append(name)
        return place

    async def leave(self, *names: str, throttled: bool | None = None) -> None:
        for name in names:
            await self._tasks[name].result().leave(throttled=throttled)
        await settle()

    def report(self, name: str, *, throttled: bool) -> None:
        self._tasks[name].result().say(throttled=throttled)

    def give_up(self, name: str) -> None:
        self._tasks[name].cancel()

    def waits(self, name: str) -> bool:
        return not self._tasks[name].done()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_many_run_as_the_limit_and_no_more() -> None:
    limiter = unhurried(3)
    running = most = 0

    async def look() -> None:
        nonlocal running, most
        async with limiter.slot() as report:
            running += 1
            most = max(most, running)
            await settle()
            running -= 1
            report(ANSWERED)

    async with asyncio.timeout(5):
        await asyncio.gather(*(look() for _ in range(50)))
    assert most == 3


async def test_first_come_first_served() -> None:
    async with Crowd(unhurried(1)) as crowd:
        await crowd.ask("first", "second", "third")
        await crowd.leave("first")
        await crowd.ask("late")
        await crowd.leave("second")
        await crowd.leave("third")
        assert crowd.entered == ["first", "second", "third", "late"]


async def test_nobody_overtakes_those_who_wait() -> None:
    """A place that comes free belongs to the first in the queue, also when somebody asks at that very moment."""
    limiter = unhurried(1)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "waiter")
        leaving = asyncio.create_task(crowd.leave("holder"))
        asking = asyncio.create_task(crowd.ask("newcomer"))
        await asyncio.gather(leaving, asking)
        assert crowd.entered == ["holder", "waiter"]


async def test_nobody_overtakes_those_who_wait_when_the_limit_grows() -> None:
    limiter = unhurried(2)
    async with limiter.slot() as report:
        tell(limiter, report, throttled=True)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "waiter")
        crowd.report("holder", throttled=False)
        crowd.report("holder", throttled=False)
        assert limiter.limit == 2
        await crowd.ask("newcomer")
        await crowd.leave("holder")
        assert crowd.entered == ["holder", "waiter", "newcomer"]


async def test_a_429_halves_the_limit() -> None:
    limiter = unhurried(8)
    async with limiter.slot() as report:
        tell(limiter, report, throttled=True)
    assert limiter.limit == 4


async def test_a_burst_of_429s_halves_the_limit_once() -> None:
    """Requests that were on their way together bring one sign, not a hundred."""
    limiter = unhurried(8)
    places = [await Place(limiter).take() for _ in range(8)]
    for place in places:
        await place.leave(throttled=True)
    assert limiter.limit == 4


async def test_a_second_burst_halves_the_limit_again() -> None:
    limiter = unhurried(8)
    for expected in (4, 2, 1):
        places = [await Place(limiter).take() for _ in range(limiter.limit)]
        for place in places:
            await place.leave(throttled=True)
        assert limiter.limit == expected


async def test_the_limit_never_falls_below_one() -> None:
    limiter = unhurried(5)
    for _ in range(20):
        async with limiter.slot() as report:
            tell(limiter, report, throttled=True)
    assert limiter.limit == 1
    async with asyncio.timeout(1), limiter.slot():
        pass


async def test_after_a_429_fewer_start_until_enough_have_left() -> None:
    async with Crowd(unhurried(4)) as crowd:
        await crowd.ask("a", "b", "c", "d", "waiter")
        await crowd.leave("a", throttled=True)
        await crowd.leave("b")
        assert crowd.waits("waiter")  # two still run, and two may
        await crowd.leave("c")
        assert not crowd.waits("waiter")


async def test_answers_raise_the_limit_again_up_to_the_ceiling_and_no_further() -> None:
    limiter = unhurried(6)
    for _ in range(10):
        async with limiter.slot() as report:
            tell(limiter, report, throttled=True)
    limits = []
    for _ in range(300):
        async with limiter.slot() as report:
            report(ANSWERED)
        limits.append(limiter.limit)
    assert limits == sorted(limits)
    assert limits[-1] == 6


async def test_those_who_wait_get_the_places_that_growth_brings() -> None:
    limiter = unhurried(2)
    async with limiter.slot() as report:
        tell(limiter, report, throttled=True)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "first", "second")
        assert crowd.entered == ["holder"]
        crowd.report("holder", throttled=False)
        await crowd.leave("holder", throttled=False)
        assert crowd.entered == ["holder", "first", "second"]


async def test_a_waiter_that_gives_up_leaves_its_place_to_the_next() -> None:
    async with Crowd(unhurried(1)) as crowd:
        await crowd.ask("holder", "impatient", "patient")
        crowd.give_up("impatient")
        await settle()
        await crowd.leave("holder")
        assert crowd.entered == ["holder", "patient"]


async def test_a_waiter_that_is_cancelled_as_it_gets_its_place_gives_it_back() -> None:
    """The place is granted when the holder leaves; the waiter is cancelled before it could run."""
    limiter = unhurried(1)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "unlucky", "next")
        leaving = asyncio.create_task(crowd.leave("holder"))
        await asyncio.sleep(0)  # the holder has left; the unlucky one has its place and has not run
        crowd.give_up("unlucky")
        await leaving
        assert crowd.entered == ["holder", "next"]
        await crowd.leave("next")
    async with asyncio.timeout(1), limiter.slot():
        pass


async def test_a_place_comes_free_when_its_holder_fails() -> None:
    limiter = unhurried(1)
    with pytest.raises(RuntimeError):
        async with limiter.slot():
            raise RuntimeError
    async with asyncio.timeout(1), limiter.slot():
        pass


@settings(deadline=None, max_examples=60)
@given(
    ceiling=st.integers(1, 6),
    looks=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.none() | st.integers(0, 6)), max_size=25),
)
def test_whatever_happens_nobody_waits_for_ever_and_the_limit_holds(
    ceiling: int, looks: list[tuple[bool, int, int | None]]
) -> None:
    """Each look is throttled or not, takes some turns of the loop, and may be cancelled after some turns."""

    async def history() -> None:
        limiter = unhurried(ceiling)
        running = 0

        async def look(turns: int, *, throttled: bool) -> None:
            nonlocal running
            async with limiter.slot() as report:
                running += 1
                try:
                    assert running <= ceiling
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    tell(limiter, report, throttled=throttled)
                finally:
                    running -= 1

        async def cancel(task: asyncio.Task[None], after: int) -> None:
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()

        tasks = []
        for throttled, turns, cancelled_after in looks:
            task = asyncio.create_task(look(turns, throttled=throttled))
            tasks.append(task)
            if cancelled_after is not None:
                tasks.append(asyncio.create_task(cancel(task, cancelled_after)))
        async with asyncio.timeout(5):
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in ended)
        assert 1 <= limiter.limit <= ceiling
        async with asyncio.timeout(1):
            await asyncio.gather(*(look(0, throttled=False) for _ in range(ceiling)))

    asyncio.run(history())


# Pauses, with a clock that is brought and a sleep that moves it.

A_LINE, ANOTHER = UUID(int=1), UUID(int=2)


class Time:
    """A clock, and the sleeps that made it move."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def paced(time: Time, *, ceiling: int = 8, budget: float = 240, first_pause: float = 0.5) -> Limiter:
    return Limiter(
        ceiling,
        deadline=time.now + budget,
        first_pause=timedelta(seconds=first_pause),
        clock=lambda: time.now,
        sleep=time.sleep,
        spread=lambda: 1.0,
    )


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


async def test_nobody_begins_before_a_retry_after_has_passed() -> None:
    time = Time()
    limiter = paced(time)
    limiter.refused(A_LINE, seconds(7), began_in=0)
    async with limiter.slot():
        assert time.now == 1007
    assert await limiter.ready()
    assert time.slept == [7]


async def test_a_pause_that_grows_while_one_waits_is_waited_for() -> None:
    class Interrupted(Time):
        async def sleep(self, seconds_: float) -> None:
            await super().sleep(seconds_)
            if len(self.slept) == 1:
                limiter.refused(ANOTHER, seconds(5), began_in=0)

    time = Interrupted()
    limiter = paced(time)
    limiter.refused(A_LINE, seconds(2), began_in=0)
    assert await limiter.ready()
    assert time.now == 1007


async def test_a_pause_longer_than_the_budget_is_not_waited_for() -> None:
    time = Time()
    limiter = paced(time, budget=20)
    limiter.refused(A_LINE, seconds(30), began_in=0)
    assert not await limiter.ready()
    assert not await limiter.may_ask_again(A_LINE)
    async with limiter.slot():
        pass
    assert time.slept == []


async def test_a_refused_line_is_asked_again_after_its_own_growing_wait() -> None:
    time = Time()
    limiter = paced(time, first_pause=0.25)
    for _ in range(6):
        limiter.refused(A_LINE, None, began_in=limiter.round)
        assert await limiter.may_ask_again(A_LINE)
    assert time.slept == [0.25, 0.5, 1, 2, 4, 8]
    limiter.refused(A_LINE, None, began_in=limiter.round)
    assert not await limiter.may_ask_again(A_LINE)


async def test_a_line_that_is_always_told_to_come_back_in_a_minute_is_asked_twice_a_sweep() -> None:
    time = Time()
    limiter = paced(time)
    limiter.refused(A_LINE, seconds(60), began_in=0)
    assert await limiter.may_ask_again(A_LINE)
    limiter.refused(A_LINE, seconds(60), began_in=limiter.round)
    assert not await limiter.may_ask_again(A_LINE)
    assert time.now == 1060


async def test_a_line_that_nobody_refused_is_not_asked_again() -> None:
    assert not await paced(Time()).may_ask_again(A_LINE)


async def test_one_line_that_is_always_refused_pauses_the_others_once() -> None:
    time = Time()
    limiter = paced(time)
    for _ in range(5):
        limiter.refused(A_LINE, seconds(10), began_in=limiter.round)
        for _ in range(20):
            async with limiter.slot() as report:
                report(ANSWERED)
    assert time.slept == [10]
    assert limiter.limit == 8


async def test_looks_that_found_nothing_out_raise_no_limit() -> None:
    limiter = unhurried(8)
    limiter.refused(A_LINE, None, began_in=0)
    for _ in range(20):
        async with limiter.slot() as report:
            report(Look(Observation.UNKNOWN, "timeout"))
    assert limiter.limit == 4


async def look_taking(limiter: Limiter, time: Time, took: float, found: Observation = Observation.ALIVE) -> None:
    """As many looks as may run at once, begun and answered together."""
    places = [await Place(limiter).take() for _ in range(limiter.limit)]
    time.now += took
    for place in places:
        place.end(Look(found, "connected_phone"))
        await place.leave()


async def test_answers_that_slow_down_lower_the_limit_and_quick_ones_raise_it_again() -> None:
    time = Time()
    limiter = paced(time, ceiling=32)
    await look_taking(limiter, time, 0.2)
    await look_taking(limiter, time, 0.6)
    assert limiter.limit == 32  # three times as slow, but only by 0.4 s: that may be us
    await look_taking(limiter, time, 2)
    assert limiter.limit == 16
    for _ in range(4):
        await look_taking(limiter, time, 0.2)
    assert limiter.limit == 32
    assert time.slept == []


async def test_only_whole_looks_are_compared() -> None:
    """A line that is not connected takes one call, one that is takes two."""
    time = Time()
    limiter = paced(time, ceiling=32)
    await look_taking(limiter, time, 0.01, Observation.DISCONNECTED)
    for _ in range(3):
        await look_taking(limiter, time, 0.9)
    assert limiter.limit == 32


async def test_a_sweep_says_how_hasty_it_was_and_nothing_if_it_was_not() -> None:
    limiter = unhurried(8)
    async with limiter.slot() as report:
        report(ANSWERED)
    assert limiter.summary() is None
    for line in (A_LINE, A_LINE, ANOTHER):
        limiter.refused(line, None, began_in=limiter.round)
    assert limiter.summary() == {"refused": 3, "lines_refused": 2, "lowest_limit": 1}
