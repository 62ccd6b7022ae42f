"""Looking at a line: when one look is enough, when a second must agree, and when to look after a restart."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.core.look import Look, RestartAnswer
from shared.core.model import Observation, SuspectLine
from shared.core.policy import Policy
from shared.providers.looks import (
    agree,
    ask_once,
    doubt_death_of_the_lively,
    look_after_restart,
    look_once,
    waits_after_restart,
)
from shared.providers.port import Line

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
GRAVE = (Observation.GHOST, Observation.NOT_FOUND, Observation.REFUSED)
PLAIN = (Observation.ALIVE, Observation.DISCONNECTED, Observation.UNKNOWN)


def a_look(observation: Observation, cause: str = "") -> Look:
    return Look(observation, cause or f"saw_{observation.lower()}")


def seconds(*values: float) -> list[timedelta]:
    return [timedelta(seconds=value) for value in values]


class Watch:
    """A scripted provider and a clock that only sleeping moves."""

    def __init__(self, *script: Observation | Look) -> None:
        self._script = [each if isinstance(each, Look) else a_look(each) for each in script]
        self.now = 0.0
        self.asked_at: list[float] = []

    async def ask(self) -> Look:
        self.asked_at.append(round(self.now, 6))
        return self._script[len(self.asked_at) - 1]

    async def sleep(self, duration: float) -> None:
        self.now += duration

    def clock(self) -> float:
        return self.now


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._jumped = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def _jump(self, duration: float) -> None:
        self._jumped += duration

    def time(self) -> float:
        return self._jumped


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._jump(timeout or 0)
        return super().select(0)


# Two looks.

DEAD = (Observation.DISCONNECTED, Observation.GHOST, Observation.NOT_FOUND)
NO_NEGATIVE = (Observation.ALIVE, Observation.CLAIMED, Observation.UNKNOWN)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        *(
            pytest.param(first, second, second, id=f"{first} and then {second}: the second's word stands")
            for first in DEAD
            for second in DEAD
        ),
        *(
            pytest.param(first, second, second, id=f"{first} and then {second} is no negative")
            for first in Observation
            for second in NO_NEGATIVE
        ),
        *(
            pytest.param(first, second, Observation.UNKNOWN, id=f"{first} and then {second} is doubt")
            for first in NO_NEGATIVE
            for second in (*DEAD, Observation.REFUSED)
        ),
        pytest.param(Observation.REFUSED, Observation.REFUSED, Observation.REFUSED, id="refused twice is refused"),
        *(
            pytest.param(
                *pair, Observation.UNKNOWN, id=f"{pair[0]} and then {pair[1]}: a token is refused twice or not"
            )
            for dead in DEAD
            for pair in ((dead, Observation.REFUSED), (Observation.REFUSED, dead))
        ),
    ],
)
def test_a_negative_counts_only_when_two_looks_are_negative(
    first: Observation, second: Observation, together: Observation
) -> None:
    assert agree(first, second) is together


# A ghost that just spoke.


def a_line(last_event_at: datetime | None) -> SuspectLine:
    return SuspectLine(
        id=UUID(int=1), external_id="LITE-AB12CD-EF34GH", token=SecretStr("made-up"), last_event_at=last_event_at
    )


@pytest.mark.parametrize(
    ("last_event_at", "seen"),
    [
        pytest.param(None, Observation.GHOST, id="a line that never sent an event is a ghost"),
        pytest.param(NOW - timedelta(minutes=10), Observation.GHOST, id="ten minutes of silence make a ghost"),
        pytest.param(
            NOW - timedelta(minutes=10) + timedelta(microseconds=1), Observation.UNKNOWN, id="less than ten do not"
        ),
        pytest.param(NOW, Observation.UNKNOWN, id="a line that sends this instant is no ghost"),
        pytest.param(
            NOW + timedelta(seconds=3), Observation.UNKNOWN, id="an event that came while we looked counts as well"
        ),
    ],
)
def test_a_ghost_that_sent_an_event_within_ten_minutes_is_doubted(
    last_event_at: datetime | None, seen: Observation
) -> None:
    look = doubt_death_of_the_lively(a_look(Observation.GHOST), a_line(last_event_at), policy=Policy(), now=NOW)
    assert look.observation is seen


def test_a_doubted_ghost_says_why() -> None:
    look = doubt_death_of_the_lively(
        a_look(Observation.GHOST, "connected_no_phone"), a_line(NOW), policy=Policy(), now=NOW
    )
    assert look.cause == "connected_no_phone_but_fresh_event"


@pytest.mark.parametrize(
    ("age", "seen"),
    [(timedelta(seconds=59), Observation.UNKNOWN), (timedelta(minutes=1), Observation.DISCONNECTED)],
    ids=str,
)
def test_a_disconnected_line_that_sent_an_event_within_the_minute_is_doubted(age: timedelta, seen: Observation) -> None:
    look = doubt_death_of_the_lively(a_look(Observation.DISCONNECTED), a_line(NOW - age), policy=Policy(), now=NOW)
    assert look.observation is seen


DOUBTED = (Observation.GHOST, Observation.DISCONNECTED)


@pytest.mark.parametrize("observation", [each for each in Observation if each not in DOUBTED])
def test_a_fresh_event_changes_no_other_verdict(observation: Observation) -> None:
    look = a_look(observation)
    assert doubt_death_of_the_lively(look, a_line(NOW), policy=Policy(), now=NOW) is look


# After a restart.


def falls_at(waits: list[timedelta]) -> list[float]:
    return [sum(waits[: n + 1], timedelta()).total_seconds() for n in range(len(waits))]


@pytest.mark.parametrize(
    ("verify", "refused", "looks_at"),
    [
        pytest.param(30, False, [2, 5, 8, 11, 14, 17, 20, 23, 26, 29], id="every three seconds within thirty"),
        pytest.param(5, False, [2, 5], id="the last may fall on the limit"),
        pytest.param(4.999, False, [2], id="none falls beyond the limit"),
        pytest.param(8.25, False, [2, 5, 8], id="a limit may hold a fraction"),
        pytest.param(2, False, [2], id="two seconds are one look"),
        pytest.param(0.5, False, [0.5], id="a limit under two seconds is one look at its end"),
        pytest.param(0, False, [0], id="without time there is still one look"),
        pytest.param(30, True, [2], id="one look after a refusal"),
        pytest.param(0.5, True, [0.5], id="one look after a refusal, within the limit"),
    ],
)
def test_looks_after_a_restart_fall_at_two_seconds_and_every_three(
    verify: float, *, refused: bool, looks_at: list[float]
) -> None:
    assert falls_at(waits_after_restart(timedelta(seconds=verify), refused=refused)) == looks_at


@settings(deadline=None)
@given(verify=st.timedeltas(timedelta(0), timedelta(hours=1)), refused=st.booleans())
def test_some_look_follows_every_restart_and_none_falls_beyond_the_limit(verify: timedelta, *, refused: bool) -> None:
    looks_at = falls_at(waits_after_restart(verify, refused=refused))
    assert looks_at
    assert looks_at[-1] <= verify.total_seconds()
    if not refused and verify >= timedelta(seconds=2):
        assert looks_at[-1] + 3 > verify.total_seconds()


async def test_looks_are_taken_when_the_waits_say() -> None:
    watch = Watch(*[Observation.DISCONNECTED] * 3)
    look = await look_after_restart(
        watch.ask, seconds(2, 3, 3), confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert watch.asked_at == [2, 5, 8]
    assert look == a_look(Observation.DISCONNECTED)


@pytest.mark.parametrize(
    ("script", "asked_at"),
    [
        pytest.param([Observation.ALIVE], [2], id="at the first look"),
        pytest.param([Observation.DISCONNECTED, Observation.ALIVE], [2, 5], id="after a no"),
        pytest.param(
            [Observation.UNKNOWN, Observation.GHOST, Observation.ALIVE], [2, 5, 8], id="after a grave verdict"
        ),
        pytest.param(
            [Observation.GHOST, Observation.UNKNOWN, Observation.REFUSED, Observation.ALIVE],
            [2, 5, 8, 13],
            id="at the look that was to confirm the worst",
        ),
    ],
)
async def test_life_ends_the_looks_at_once(script: list[Observation], asked_at: list[float]) -> None:
    watch = Watch(*script, *[Observation.DISCONNECTED] * 3)
    look = await look_after_restart(
        watch.ask, seconds(2, 3, 3), confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert look == a_look(Observation.ALIVE)
    assert watch.asked_at == asked_at


HALF_ALIVE = Look(Observation.ALIVE, "connected_cannot_say", throttled=True, asked_to_wait=True)


@pytest.mark.parametrize(
    ("script", "end", "asked_at"),
    [
        pytest.param([HALF_ALIVE] + [a_look(Observation.GHOST)] * 3, Observation.GHOST, [2, 5, 8, 10], id="a ghost"),
        pytest.param([HALF_ALIVE, a_look(Observation.ALIVE)], Observation.ALIVE, [2, 5], id="alive indeed"),
        pytest.param([HALF_ALIVE] * 3, Observation.ALIVE, [2, 5, 8], id="a device that never answers"),
    ],
)
async def test_a_status_whose_device_asked_to_wait_does_not_end_the_looks(
    script: list[Look], end: Observation, asked_at: list[float]
) -> None:
    watch = Watch(*script)
    look = await look_after_restart(
        watch.ask, seconds(2, 3, 3), confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert watch.asked_at == asked_at
    assert look.observation is end


@pytest.mark.parametrize(
    ("script", "verdict", "asked_at"),
    [
        pytest.param(
            [Observation.DISCONNECTED, Observation.UNKNOWN],
            Observation.UNKNOWN,
            [2, 5],
            id="doubt at the end is doubt, whatever came before",
        ),
        pytest.param(
            [Observation.UNKNOWN, Observation.DISCONNECTED],
            Observation.DISCONNECTED,
            [2, 5],
            id="a plain no at the end needs no second look",
        ),
        pytest.param(
            [Observation.DISCONNECTED, Observation.GHOST, Observation.GHOST],
            Observation.GHOST,
            [2, 5, 10],
            id="a grave verdict at the end counts when it is confirmed",
        ),
        pytest.param(
            [Observation.NOT_FOUND, Observation.REFUSED, Observation.REFUSED],
            Observation.REFUSED,
            [2, 5, 10],
            id="another grave verdict confirms nothing",
        ),
        pytest.param(
            [Observation.DISCONNECTED, Observation.GHOST, Observation.UNKNOWN],
            Observation.UNKNOWN,
            [2, 5, 10],
            id="a grave verdict that doubt follows is doubt",
        ),
        pytest.param(
            [Observation.DISCONNECTED, Observation.NOT_FOUND, Observation.REFUSED],
            Observation.UNKNOWN,
            [2, 5, 10],
            id="two grave verdicts that disagree are doubt",
        ),
        pytest.param(
            [Observation.DISCONNECTED, Observation.NOT_FOUND, Observation.DISCONNECTED],
            Observation.DISCONNECTED,
            [2, 5, 10],
            id="a plain no instead of the confirmation counts",
        ),
    ],
)
async def test_a_grave_verdict_at_the_end_is_confirmed_first(
    script: list[Observation], verdict: Observation, asked_at: list[float]
) -> None:
    watch = Watch(*script)
    look = await look_after_restart(
        watch.ask, seconds(2, 3), confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert look.observation is verdict
    assert watch.asked_at == asked_at


@pytest.mark.parametrize("grave", GRAVE)
async def test_the_one_look_after_a_refusal_condemns_nobody_alone(grave: Observation) -> None:
    watch = Watch(grave, Observation.UNKNOWN)
    waits = waits_after_restart(timedelta(seconds=30), refused=True)
    look = await look_after_restart(
        watch.ask, waits, confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert look.observation is Observation.UNKNOWN
    assert watch.asked_at == [2, 7]


@pytest.mark.parametrize("grave", GRAVE)
async def test_after_a_restart_too_a_grave_verdict_is_confirmed_the_whole_wait_later(grave: Observation) -> None:
    """It counts only when a second look, the wait for a confirmation later, agrees; three seconds later is too soon."""
    watch = Watch(Observation.DISCONNECTED, *[grave] * 8)
    look = await look_after_restart(
        watch.ask, seconds(2, 3, 3), confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert look.observation is grave
    first_grave, last = watch.asked_at[1], watch.asked_at[-1]
    assert last - first_grave >= 5


def run_in_jumping_time(main: Callable[[], Awaitable[float]]) -> float:
    async def running() -> float:
        return await main()

    with asyncio.Runner(loop_factory=Jumping) as runner:
        return runner.run(running())


@pytest.mark.parametrize("look_takes", [1, 10])
def test_a_slow_provider_does_not_stretch_the_looks_beyond_their_limit(look_takes: float) -> None:
    """A line has so many seconds to come back; looks that take their time use them up."""
    verify = timedelta(seconds=30)
    asked_at: list[float] = []

    async def ask() -> Look:
        asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(look_takes)
        return a_look(Observation.DISCONNECTED)

    async def after_a_restart() -> float:
        await look_after_restart(ask, waits_after_restart(verify, refused=False), confirm_after=timedelta(seconds=5))
        return asked_at[-1]

    assert run_in_jumping_time(after_a_restart) <= verify.total_seconds()


async def test_a_restart_request_that_used_all_the_time_up_still_gets_one_look() -> None:
    asked = 0

    async def ask() -> Look:
        nonlocal asked
        asked += 1
        return a_look(Observation.DISCONNECTED)

    waits = waits_after_restart(timedelta(0), refused=False)
    look = await look_after_restart(ask, waits, confirm_after=timedelta(0))
    assert (asked, look.observation) == (1, Observation.DISCONNECTED)


async def test_without_a_wait_nothing_is_looked_at() -> None:
    watch = Watch()
    assert (await look_after_restart(watch.ask, [], confirm_after=timedelta(0), sleep=watch.sleep, clock=watch.clock)) == Look(Observation.UNKNOWN, "not_looked")  # fmt: skip


@pytest.mark.parametrize(
    ("look_takes", "asked_at"),
    [
        pytest.param(2.5, [2, 5, 8, 11], id="less than a wait: the rest of it is waited"),
        pytest.param(3, [2, 5, 8, 11], id="a whole wait: the next is due"),
        pytest.param(4, [2, 8], id="more than one: that one falls away, the next does not"),
    ],
)
async def test_looks_that_take_their_time_use_the_waits_up(look_takes: float, asked_at: list[float]) -> None:
    watch = Watch(*[Observation.DISCONNECTED] * 4)

    async def ask() -> Look:
        look = await watch.ask()
        watch.now += look_takes
        return look

    await look_after_restart(ask, seconds(2, 3, 3, 3), confirm_after=timedelta(0), sleep=watch.sleep, clock=watch.clock)
    assert watch.asked_at == asked_at


async def test_a_grave_verdict_that_has_held_for_the_whole_wait_needs_no_other() -> None:
    watch = Watch(*[Observation.GHOST] * 2)
    await look_after_restart(
        watch.ask, seconds(2, 3), confirm_after=timedelta(seconds=3), sleep=watch.sleep, clock=watch.clock
    )
    assert watch.asked_at == [2, 5]


async def test_two_verdicts_that_disagree_are_named_both() -> None:
    watch = Watch(Observation.NOT_FOUND, Observation.REFUSED)
    look = await look_after_restart(
        watch.ask, seconds(2), confirm_after=timedelta(seconds=5), sleep=watch.sleep, clock=watch.clock
    )
    assert look == Look(Observation.UNKNOWN, "saw_not_found_then_saw_refused")


# One look.


class Provider:
    """Says the same to everybody, and keeps what it was asked."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self.asked: list[tuple[Line, timedelta]] = []

    async def look(self, line: Line, *, within: timedelta) -> Look:
        self.asked.append((line, within))
        return self._look

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:
        raise NotImplementedError


@pytest.mark.parametrize(("heard", "found"), [(1, Observation.UNKNOWN), (10, Observation.GHOST)])
async def test_a_death_is_doubted_by_the_clock_at_the_looks_end(heard: int, found: Observation) -> None:
    provider, line = Provider(a_look(Observation.GHOST)), a_line(NOW - timedelta(minutes=heard))
    look = await look_once(provider, line, within=timedelta(seconds=7), policy=Policy(), now=lambda: NOW)
    assert look.observation is found
    assert provider.asked == [(line, timedelta(seconds=7))]


async def test_a_changed_contract_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    line, drifted = a_line(None), Look(Observation.UNKNOWN, "cannot_get", drifted=True)
    for look in (a_look(Observation.UNKNOWN), drifted):
        assert await ask_once(Provider(look), line, within=timedelta(seconds=7)) is look
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "contract.drifted")
    assert record.fields == {"cause_word": "cannot_get", "instance": line.id}
