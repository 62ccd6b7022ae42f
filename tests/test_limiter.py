"""How many looks run at once: never too many, fewer when the provider says 429, and nobody loses a place."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.limiter import Limiter

Report = Callable[[bool], None]


class Place:
    """One place of a limiter, held by hand."""

    def __init__(self, slot: AbstractAsyncContextManager[Report]) -> None:
        self._slot = slot
        self._report: Report | None = None

    async def take(self) -> Self:
        self._report = await self._slot.__aenter__()
        return self

    def say(self, *, throttled: bool) -> None:
        assert self._report is not None
        self._report(throttled)

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
        place = await Place(self._limiter.slot()).take()
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
    limiter = Limiter(3)
    running = most = 0

    async def look() -> None:
        nonlocal running, most
        async with limiter.slot() as report:
            running += 1
            most = max(most, running)
            await settle()
            running -= 1
            report(False)

    async with asyncio.timeout(5):
        await asyncio.gather(*(look() for _ in range(50)))
    assert most == 3


async def test_first_come_first_served() -> None:
    async with Crowd(Limiter(1)) as crowd:
        await crowd.ask("first", "second", "third")
        await crowd.leave("first")
        await crowd.ask("late")
        await crowd.leave("second")
        await crowd.leave("third")
        assert crowd.entered == ["first", "second", "third", "late"]


async def test_nobody_overtakes_those_who_wait() -> None:
    """A place that comes free belongs to the first in the queue, also when somebody asks at that very moment."""
    limiter = Limiter(1)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "waiter")
        leaving = asyncio.create_task(crowd.leave("holder"))
        asking = asyncio.create_task(crowd.ask("newcomer"))
        await asyncio.gather(leaving, asking)
        assert crowd.entered == ["holder", "waiter"]


async def test_nobody_overtakes_those_who_wait_when_the_limit_grows() -> None:
    limiter = Limiter(2)
    async with limiter.slot() as report:
        report(True)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "waiter")
        crowd.report("holder", throttled=False)
        assert limiter.limit == 2
        await crowd.ask("newcomer")
        await crowd.leave("holder")
        assert crowd.entered == ["holder", "waiter", "newcomer"]


async def test_a_429_halves_the_limit() -> None:
    limiter = Limiter(8)
    async with limiter.slot() as report:
        report(True)
    assert limiter.limit == 4


async def test_a_burst_of_429s_halves_the_limit_once() -> None:
    """Requests that were on their way together bring one sign, not a hundred."""
    limiter = Limiter(8)
    places = [await Place(limiter.slot()).take() for _ in range(8)]
    for place in places:
        await place.leave(throttled=True)
    assert limiter.limit == 4


async def test_a_second_burst_halves_the_limit_again() -> None:
    limiter = Limiter(8)
    for expected in (4, 2, 1):
        places = [await Place(limiter.slot()).take() for _ in range(limiter.limit)]
        for place in places:
            await place.leave(throttled=True)
        assert limiter.limit == expected


async def test_the_limit_never_falls_below_one() -> None:
    limiter = Limiter(5)
    for _ in range(20):
        async with limiter.slot() as report:
            report(True)
    assert limiter.limit == 1
    async with asyncio.timeout(1), limiter.slot():
        pass


async def test_after_a_429_fewer_start_until_enough_have_left() -> None:
    async with Crowd(Limiter(4)) as crowd:
        await crowd.ask("a", "b", "c", "d", "waiter")
        await crowd.leave("a", throttled=True)
        await crowd.leave("b")
        assert crowd.waits("waiter")  # two still run, and two may
        await crowd.leave("c")
        assert not crowd.waits("waiter")


async def test_answers_raise_the_limit_again_up_to_the_ceiling_and_no_further() -> None:
    limiter = Limiter(6)
    for _ in range(10):
        async with limiter.slot() as report:
            report(True)
    limits = []
    for _ in range(60):
        async with limiter.slot() as report:
            report(False)
        limits.append(limiter.limit)
    assert limits == sorted(limits)
    assert set(limits) == {2, 3, 4, 5, 6}
    assert limits[-1] == 6


async def test_the_limit_grows_by_less_than_one_an_answer() -> None:
    """Additive increase: about one more a round of answers, so that it does not run into the next 429."""
    limiter = Limiter(100)
    async with limiter.slot() as report:
        report(True)
    for _ in range(10):
        async with limiter.slot() as report:
            report(False)
    assert limiter.limit == 50


async def test_those_who_wait_get_the_places_that_growth_brings() -> None:
    limiter = Limiter(2)
    async with limiter.slot() as report:
        report(True)
    async with Crowd(limiter) as crowd:
        await crowd.ask("holder", "first", "second")
        assert crowd.entered == ["holder"]
        await crowd.leave("holder", throttled=False)
        assert crowd.entered == ["holder", "first", "second"]


async def test_a_waiter_that_gives_up_leaves_its_place_to_the_next() -> None:
    async with Crowd(Limiter(1)) as crowd:
        await crowd.ask("holder", "impatient", "patient")
        crowd.give_up("impatient")
        await settle()
        await crowd.leave("holder")
        assert crowd.entered == ["holder", "patient"]


async def test_a_waiter_that_is_cancelled_as_it_gets_its_place_gives_it_back() -> None:
    """The place is granted when the holder leaves; the waiter is cancelled before it could run."""
    limiter = Limiter(1)
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
    limiter = Limiter(1)
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
        limiter = Limiter(ceiling)
        running = 0

        async def look(turns: int, *, throttled: bool) -> None:
            nonlocal running
            async with limiter.slot() as report:
                running += 1
                try:
                    assert running <= ceiling
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    report(throttled)
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
