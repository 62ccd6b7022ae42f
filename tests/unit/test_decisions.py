"""What a look at a line means: the whole table, its edges, and what must hold for every line, look and time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.core.brake import (
    Held,
    brake_engages,
    count,
    count_one,
    hold_back,
    leaves_brake,
    may_be_canary,
    witnesses_brake,
)
from shared.core.decisions import (
    Decision,
    Disconnect,
    Healthy,
    NoChange,
    Restart,
    Restore,
    Skip,
    TellUnverified,
    believe_claim,
    decide,
    has_waited,
    is_bad_news,
    is_only_recorded,
    would_act,
)
from shared.core.model import (
    Census,
    Evidence,
    Instance,
    Observation,
    Outage,
    OutageOpener,
    Sighting,
    Source,
    Status,
)
from shared.core.policy import Policy

NOW: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY: Final = Policy()
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)

DEAD: Final = (Observation.DISCONNECTED, Observation.GHOST, Observation.NOT_FOUND)
BAD: Final = (*DEAD, Observation.REFUSED)


def ago(age: timedelta | None) -> datetime | None:
    return None if age is None else NOW - age


@cache
def an_outage(restarts: int) -> Outage:
    return Outage(
        id=UUID(int=2),
        started_at=NOW - timedelta(hours=5),
        opened_at=NOW - timedelta(hours=5),
        restarts=restarts,
        told_at=NOW,
        opened_by="sweep",
        company_id=UUID(int=3),
    )


A_LINE: Final = Instance(
    id=UUID(int=1),
    external_id="LITE-AB12CD-EF34GH",
    token=SecretStr("made-up-token"),
    token_hash="made-up-hash",
    raw_status="connected",
    unit="Moema",
    company_id=UUID(int=3),
    lease=NOW + 2 * MINUTE,
    last_health_check=NOW - 5 * MINUTE,
    auto_recovery_attempts=0,
    last_restart_at=None,
    degraded_since=None,
    bad_since=None,
    unknown_since=None,
    unknown_looks=0,
    unverified_since=None,
    pairing_since=None,
    was_ever_connected=True,
    last_event_at=None,
    phone_number="5511900000001",
    outage=None,
)


def a_line(**facts: Any) -> Instance:
    return A_LINE.model_copy(update=facts)


def a_sighting(line: Instance, found: Observation) -> Sighting:
    return Sighting(line, found, found, "told", NOW)


def decide_braked(line: Instance, found: Observation, *, policy: Policy, now: datetime) -> Decision | Held:
    """What becomes of the decision under the brake; it is made once, without it."""
    return hold_back(decide(line, found, policy=policy, now=now), a_sighting(line, found), policy=policy, now=now)


# The table. Every circumstance takes every value of interest; a row says which it is about, and holds for all others.

NEVER = None
CONNECTED: Final = ("connected",)
DEGRADED: Final = ("degraded",)
MARKED: Final = ("disconnected", "unauthorized", "instance_not_found", "Connected", "connected ", "", None)
"""Platforms write words of their own; what is not ours, or nothing at all, is read as disconnected."""

FIRST_LOOK: Final = (True,)
SEEN_BEFORE: Final = (False,)


@dataclass(frozen=True)
class Dimensions:
    """Every value of every circumstance that a decision may hang on, with both sides of each edge."""

    status: tuple[str | None, ...] = CONNECTED + DEGRADED + MARKED
    seen: tuple[Observation, ...] = tuple(Observation)
    restarted: tuple[timedelta | None, ...] = (
        NEVER,
        timedelta(0),
        30 * MINUTE - SECOND,
        30 * MINUTE,
        60 * MINUTE - SECOND,
        60 * MINUTE,
        120 * MINUTE - SECOND,
        120 * MINUTE,
        1440 * MINUTE - SECOND,
        1440 * MINUTE,
    )
    bad: tuple[timedelta | None, ...] = (NEVER, 10 * MINUTE - SECOND, 10 * MINUTE)
    attempts: tuple[int, ...] = (2, 3)
    outage_restarts: tuple[int | None, ...] = (None, 0, 1, 2, 3, 4, 9)
    first_look: tuple[bool, ...] = FIRST_LOOK + SEEN_BEFORE

    def cases(self) -> Iterator[tuple[Any, ...]]:
        return product(
            self.status,
            self.seen,
            self.restarted,
            self.bad,
            self.attempts,
            self.outage_restarts,
            self.first_look,
        )


ALL: Final = Dimensions()


def at_least(minutes: int) -> tuple[timedelta | None, ...]:
    return tuple(age for age in ALL.restarted if age is NEVER or age >= minutes * MINUTE)


def under(minutes: int) -> tuple[timedelta | None, ...]:
    return tuple(age for age in ALL.restarted if age is not NEVER and age < minutes * MINUTE)


STEADY: Final = (2,)
FLAPPING: Final = (3,)
NO_OUTAGE: Final = (None,)
SOME_OUTAGE: Final = (0, 1, 2, 3, 4, 9)
SHORT: Final = (NEVER, 10 * MINUTE - SECOND)
LONG: Final = (10 * MINUTE,)


@dataclass(frozen=True)
class Row:
    """A line of the table: whatever is not named makes no difference."""

    sentence: str
    decision: Decision
    named: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def cases(self) -> Iterator[tuple[Any, ...]]:
        return replace(ALL, **self.named).cases()


def row(sentence: str, decision: Decision, **named: tuple[Any, ...]) -> Row:
    return Row(sentence, decision, named)


TABLE: Final = [
    row(
        "a look that could not find out concludes nothing (regression: a gateway's 504 turned two companies red)",
        NoChange(),
        seen=(Observation.UNKNOWN, Observation.CLAIMED),
    ),
    row(
        "a connected line that is alive is healthy",
        Healthy(),
        status=CONNECTED,
        seen=(Observation.ALIVE,),
        outage_restarts=NO_OUTAGE,
    ),
    row(
        "a connected line that is alive closes an outage left open",
        Restore(),
        status=CONNECTED,
        seen=(Observation.ALIVE,),
        outage_restarts=SOME_OUTAGE,
    ),
    row("a degraded line that is alive is connected again", Restore(), status=DEGRADED, seen=(Observation.ALIVE,)),
    row(
        "a line marked disconnected that is alive is restored, whoever restarted it and whatever word marked it",
        Restore(),
        status=MARKED,
        seen=(Observation.ALIVE,),
    ),
    row(
        "a refused token is marked and told, and never restarted",
        Disconnect(tell=True, then_restart=False),
        status=CONNECTED + DEGRADED,
        seen=(Observation.REFUSED,),
    ),
    row("a refused token of a marked line is no news", NoChange(), status=MARKED, seen=(Observation.REFUSED,)),
    # Marked without an outage of ours: somebody else wrote the status.
    row(
        "a line that the platform's screen marked gets its bell, and no restart while somebody may be scanning the code "
        "(regression: nobody checked rows with raw statuses again)",
        Disconnect(tell=True, then_restart=False),
        status=MARKED,
        seen=DEAD,
        outage_restarts=NO_OUTAGE,
        first_look=SEEN_BEFORE,
    ),
    row(
        "an adopted line that was marked before we came is restarted in silence",
        Disconnect(tell=False, then_restart=True),
        status=MARKED,
        seen=DEAD,
        restarted=at_least(30),
        outage_restarts=NO_OUTAGE,
        first_look=FIRST_LOOK,
    ),
    row(
        "an adopted line within the cool-down opens its outage in silence and is not restarted",
        Disconnect(tell=False, then_restart=False),
        status=MARKED,
        seen=DEAD,
        restarted=under(30),
        outage_restarts=NO_OUTAGE,
        first_look=FIRST_LOOK,
    ),
]


def spaced(wait: int, when: str, outage_restarts: tuple[int | None, ...]) -> list[Row]:
    """The rows about a dead line whose next restart waits so many minutes, whatever word its row holds."""
    free: dict[str, tuple[Any, ...]] = {"restarted": at_least(wait), "outage_restarts": outage_restarts}
    waiting: dict[str, tuple[Any, ...]] = {"restarted": under(wait), "outage_restarts": outage_restarts}
    known: dict[str, tuple[Any, ...]] = {"outage_restarts": tuple(n for n in outage_restarts if n is not None)}
    return [
        row(
            f"{when}, a dead line is restarted when its last restart is {wait} minutes old, or never was",
            Restart(),
            status=CONNECTED + DEGRADED,
            seen=DEAD,
            attempts=STEADY,
            **free,
        ),
        row(
            f"{when}, a connected line that is dead degrades at once and waits {wait} minutes for its restart "
            "(regression: detection took 35 min because the cool-down was applied to the look)",
            Skip(),
            status=CONNECTED,
            seen=DEAD,
            attempts=STEADY,
            **waiting,
        ),
        row(
            f"{when}, a degraded line that waits for its restart is not told before it was bad for 10 minutes",
            Skip(),
            status=DEGRADED,
            seen=DEAD,
            attempts=STEADY,
            bad=SHORT,
            **waiting,
        ),
        row(
            f"{when}, a degraded line bad for 10 minutes is marked and told while its restart waits "
            "(regression: dead lines stayed green, restarted every 30 min, nobody told)",
            Disconnect(tell=True, then_restart=False),
            status=DEGRADED,
            seen=DEAD,
            attempts=STEADY,
            bad=LONG,
            **waiting,
        ),
        row(
            f"{when}, a flapping line is marked and told before it is restarted",
            Disconnect(tell=True, then_restart=True),
            status=CONNECTED + DEGRADED,
            seen=DEAD,
            attempts=FLAPPING,
            **free,
        ),
        row(
            f"{when}, a flapping line whose restart waits is marked and told",
            Disconnect(tell=True, then_restart=False),
            status=CONNECTED + DEGRADED,
            seen=DEAD,
            attempts=FLAPPING,
            **waiting,
        ),
        row(
            f"{when}, a marked line is restarted after {wait} minutes",
            Restart(),
            status=MARKED,
            seen=DEAD,
            **(free | known),
        ),
        row(
            f"{when}, a marked line waits {wait} minutes, and no bell rings again "
            "(regression: the bell rang again and again)",
            NoChange(),
            status=MARKED,
            seen=DEAD,
            **(waiting | known),
        ),
    ]


TABLE += spaced(30, "before the second restart of an outage", (None, 0, 1))
TABLE += spaced(60, "after two restarts in an outage", (2,))
TABLE += spaced(120, "after three restarts in an outage", (3,))
TABLE += spaced(
    1440, "after four restarts and more (regression: logged-out lines were restarted 48 times a day)", (4, 9)
)


def line_of(case: tuple[Any, ...]) -> tuple[Instance, Observation]:
    status, seen, restarted, bad, attempts, restarts, first_look = case
    return a_line(
        raw_status=status,
        last_restart_at=ago(restarted),
        bad_since=ago(bad),
        auto_recovery_attempts=attempts,
        outage=None if restarts is None else an_outage(restarts),
        last_health_check=None if first_look else NOW - 5 * MINUTE,
    ), seen


@pytest.mark.parametrize(("rule", "decision"), [pytest.param(each, each.decision, id=each.sentence) for each in TABLE])
def test_each_row_of_the_table_holds_whatever_else_is_true(rule: Row, decision: Decision) -> None:
    for case in rule.cases():
        instance, seen = line_of(case)
        assert decide(instance, seen, policy=POLICY, now=NOW) == decision, case


def test_the_rows_of_the_table_cover_every_case_once() -> None:
    """A case in no row is undecided, a case in two is a contradiction."""
    covered = Counter(case for each in TABLE for case in each.cases())
    assert set(covered.values()) == {1}
    assert covered.keys() == set(ALL.cases())


# What the table's numbers hang on.


@pytest.mark.parametrize(
    ("policy", "facts", "decision"),
    [
        pytest.param(
            Policy(restart_cooldown=45 * MINUTE),
            {"last_restart_at": ago(45 * MINUTE - SECOND)},
            Skip(),
            id="a longer cool-down holds a connected line back",
        ),
        pytest.param(
            Policy(restart_cooldown=45 * MINUTE),
            {"last_restart_at": ago(45 * MINUTE)},
            Restart(),
            id="a longer cool-down ends",
        ),
        pytest.param(
            Policy(restart_cooldown=45 * MINUTE),
            {"raw_status": "disconnected", "outage": an_outage(1), "last_restart_at": ago(30 * MINUTE)},
            NoChange(),
            id="a wait within an outage is never shorter than the cool-down",
        ),
        pytest.param(
            Policy(restart_cooldown=5 * MINUTE),
            {"raw_status": "disconnected", "outage": an_outage(2), "last_restart_at": ago(30 * MINUTE)},
            NoChange(),
            id="a short cool-down does not shorten the waits within an outage",
        ),
        pytest.param(
            Policy(degraded_grace=timedelta(0)),
            {"raw_status": "degraded", "bad_since": NOW, "last_restart_at": NOW},
            Disconnect(tell=True, then_restart=False),
            id="without a grace a degraded line is told at once",
        ),
        pytest.param(
            Policy(outage_restart_waits=(timedelta(hours=3),)),
            {"raw_status": "disconnected", "outage": an_outage(7), "last_restart_at": ago(180 * MINUTE)},
            Restart(),
            id="the last wait within an outage is for ever",
        ),
        pytest.param(
            Policy(flapping_attempts=1),
            {"auto_recovery_attempts": 1},
            Disconnect(tell=True, then_restart=True),
            id="flapping begins where the policy says",
        ),
    ],
)
def test_limits_and_waits_are_the_policys(policy: Policy, facts: dict[str, Any], decision: Decision) -> None:
    assert decide(a_line(**facts), Observation.DISCONNECTED, policy=policy, now=NOW) == decision


def test_a_line_that_stays_dead_is_restarted_five_times_in_two_days_and_told_once() -> None:
    """Regression: logged-out lines restarted 48 times a day, and the bell rang again and again."""
    line, began = a_line(), NOW
    restarts: list[timedelta] = []
    bells = 0
    for sweep in range(2 * 24 * 12):
        now = began + sweep * 5 * MINUTE
        match decide(line, Observation.GHOST, policy=POLICY, now=now):
            case Restart():
                restarts.append(now - began)
                bells += line.status is not Status.DISCONNECTED  # a failed recovery marks and tells
                line = line.model_copy(
                    update={
                        "raw_status": "disconnected",
                        "last_restart_at": now,
                        "outage": an_outage(len(restarts)),
                        "last_health_check": now,
                    }
                )
            case NoChange():
                line = line.model_copy(update={"last_health_check": now})
            case unexpected:
                pytest.fail(f"{unexpected} at {now - began}")
    assert restarts == [timedelta(0), 30 * MINUTE, 90 * MINUTE, 210 * MINUTE, 1650 * MINUTE]
    assert bells == 1


# What must hold for every line, every look, every time.

moments = st.none() | st.builds(
    lambda whole, seconds: NOW - whole - timedelta(seconds=seconds),
    st.sampled_from([timedelta(minutes=minutes) for minutes in (0, 2, 10, 30, 60, 120, 1440)]),
    st.sampled_from([-1, 0, 1]) | st.integers(-90_000, 90_000),
)
lines = st.builds(
    a_line,
    raw_status=st.sampled_from([*Dimensions.status, "DEGRADED"]) | st.text("conedgr \x00Cñ", max_size=12),
    last_health_check=moments,
    auto_recovery_attempts=st.integers(-1, 60),
    last_restart_at=moments,
    degraded_since=moments,
    bad_since=moments,
    unknown_since=moments,
    unknown_looks=st.integers(0, 50),
    unverified_since=moments,
    pairing_since=moments,
    was_ever_connected=st.booleans(),
    last_event_at=moments,
    outage=st.none() | st.builds(an_outage, st.integers(0, 60)),
)
observations = st.sampled_from(Observation)
at_any_speed = settings(deadline=None)  # a busy machine is no fault of the code
policies = st.just(POLICY) | st.builds(
    Policy,
    restart_cooldown=st.integers(0, 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    degraded_grace=st.integers(0, 86_400).map(lambda seconds: timedelta(seconds=seconds)),
)


def restarts(decision: Decision | Held) -> bool:
    return isinstance(decision, Restart) or (isinstance(decision, Disconnect) and decision.then_restart)


def tells(decision: Decision | Held) -> bool:
    return isinstance(decision, Disconnect) and decision.tell


def both(line: Instance, seen: Observation, policy: Policy = POLICY) -> list[Decision | Held]:
    """What is decided without the brake and with it. Either answers, whatever the line and the look."""
    return [
        decide(line, seen, policy=policy, now=NOW),
        decide_braked(line, seen, policy=policy, now=NOW),
    ]


@at_any_speed
@given(lines, observations, policies)
def test_every_line_every_look_and_every_time_has_a_decision(line: Instance, seen: Observation, policy: Policy) -> None:
    for decision in both(line, seen, policy):
        assert isinstance(decision, Healthy | Restore | NoChange | Skip | Restart | Disconnect | TellUnverified | Held)


@at_any_speed
@given(lines, observations, policies)
@example(a_line(last_restart_at=NOW - 30 * MINUTE + timedelta(microseconds=1)), Observation.GHOST, POLICY)
@example(a_line(last_restart_at=NOW + MINUTE), Observation.GHOST, POLICY)
def test_nothing_is_restarted_within_the_cool_down(line: Instance, seen: Observation, policy: Policy) -> None:
    if line.last_restart_at is not None and NOW - line.last_restart_at < policy.restart_cooldown:
        assert not any(map(restarts, both(line, seen, policy)))


@at_any_speed
@given(lines, observations)
def test_an_outage_of_four_restarts_sees_one_a_day_whatever_word_its_row_holds(
    line: Instance, seen: Observation
) -> None:
    """Regression: a screen that wrote `connected` over it began the restarts anew."""
    lately = line.last_restart_at is not None and NOW - line.last_restart_at < timedelta(hours=24)
    if line.outage and line.outage.restarts >= 4 and lately:
        assert not any(map(restarts, both(line, seen)))


@at_any_speed
@given(lines)
def test_doubt_never_marks_or_restarts_and_tells_only_after_an_hour(line: Instance) -> None:
    for doubt in (Observation.UNKNOWN, Observation.CLAIMED):
        free, braked = both(line, doubt)
        if line.unknown_since is None or NOW - line.unknown_since < timedelta(hours=1):
            assert free == NoChange()
        assert free in (NoChange(), TellUnverified())
        assert braked == (NoChange() if free == NoChange() else Held(TellUnverified()))


@at_any_speed
@given(lines)
def test_life_is_never_marked(line: Instance) -> None:
    for decision in both(line, Observation.ALIVE):
        assert isinstance(decision, Healthy | Restore)


@at_any_speed
@given(lines)
def test_a_refused_token_is_never_restarted(line: Instance) -> None:
    assert not any(map(restarts, both(line, Observation.REFUSED)))


@at_any_speed
@given(lines, observations)
def test_an_open_outage_of_a_marked_line_rings_no_second_bell(line: Instance, seen: Observation) -> None:
    """Regression: the bell rang again and again."""
    if line.status is Status.DISCONNECTED and line.outage:
        assert not any(map(tells, both(line, seen)))


@at_any_speed
@given(lines, observations)
def test_the_brake_holds_whatever_has_not_been_bad_for_30_minutes(line: Instance, seen: Observation) -> None:
    """Nobody is restarted, marked or told under the brake."""
    if line.bad_since is None or NOW - line.bad_since < 30 * MINUTE:
        decision = decide_braked(line, seen, policy=POLICY, now=NOW)
        silent = Disconnect(tell=False, then_restart=False)  # a first look at what was down before us
        assert isinstance(decision, Healthy | Restore | NoChange | Held) or decision == silent


@at_any_speed
@given(lines, observations)
def test_the_brake_never_adds_a_restart(line: Instance, seen: Observation) -> None:
    free, braked = both(line, seen)
    assert restarts(free) or not restarts(braked)


# Many at once.


def test_a_look_is_counted_once_and_only_of_a_line_that_was_up() -> None:
    assert census_of((1, Status.CONNECTED, Observation.ALIVE)) == Census(up=1)
    assert census_of((1, Status.CONNECTED, Observation.CLAIMED)) == Census(up=1)
    assert census_of((1, Status.CONNECTED, Observation.GHOST)) == Census(up=1, bad=1)
    assert census_of((1, Status.CONNECTED, Observation.UNKNOWN)) == Census(up=1, bad=1, unknown=1)
    assert census_of((1, Status.DEGRADED, Observation.GHOST)) == Census()
    assert census_of((1, Status.DISCONNECTED, Observation.UNKNOWN)) == Census()


def census_of(*groups: tuple[int, Status, Observation]) -> Census:
    sightings = [
        a_sighting(a_line(raw_status=status.value), seen) for lines, status, seen in groups for _ in range(lines)
    ]
    return count(sightings, policy=POLICY, now=NOW)


@pytest.mark.parametrize(
    ("groups", "engages"),
    [
        pytest.param([(5, Status.CONNECTED, Observation.GHOST)], True, id="five of five is the fewest that brake"),
        pytest.param([(4, Status.CONNECTED, Observation.GHOST)], False, id="four of four are four dead phones"),
        pytest.param(
            [(5, Status.CONNECTED, Observation.NOT_FOUND), (5, Status.CONNECTED, Observation.ALIVE)],
            True,
            id="exactly half brakes",
        ),
        pytest.param(
            [(5, Status.CONNECTED, Observation.NOT_FOUND), (6, Status.CONNECTED, Observation.ALIVE)],
            False,
            id="five of eleven is less than half",
        ),
        pytest.param(
            [(499, Status.CONNECTED, Observation.DISCONNECTED), (501, Status.CONNECTED, Observation.ALIVE)],
            False,
            id="499 of a thousand is less than half",
        ),
        pytest.param(
            [(500, Status.CONNECTED, Observation.DISCONNECTED), (500, Status.CONNECTED, Observation.ALIVE)],
            True,
            id="500 of a thousand brake",
        ),
        pytest.param(
            [(3, Status.CONNECTED, Observation.UNKNOWN), (2, Status.CONNECTED, Observation.REFUSED)],
            True,
            id="whatever is not alive counts, doubt and refusals too",
        ),
        pytest.param(
            [(4, Status.CONNECTED, Observation.GHOST), (500, Status.CONNECTED, Observation.CLAIMED)],
            False,
            id="a claim is neither good nor bad",
        ),
        pytest.param(
            [(50, Status.DISCONNECTED, Observation.DISCONNECTED), (4, Status.CONNECTED, Observation.GHOST)],
            False,
            id="lines that were marked already do not count as bad",
        ),
        pytest.param(
            [(50, Status.DEGRADED, Observation.GHOST), (4, Status.CONNECTED, Observation.GHOST)],
            False,
            id="lines degraded for long do not count as bad",
        ),
        pytest.param(
            [(50, Status.DISCONNECTED, Observation.ALIVE), (5, Status.CONNECTED, Observation.GHOST)],
            True,
            id="lines that were not connected do not dilute the share",
        ),
        pytest.param([], False, id="nobody looked at does not brake"),
    ],
)
def test_the_brake_engages_at_five_lines_and_half_of_those_connected(
    groups: list[tuple[int, Status, Observation]], *, engages: bool
) -> None:
    assert brake_engages(census_of(*groups), policy=POLICY) is engages


def test_five_minutes_after_launch_a_route_that_does_not_exist_marks_no_line() -> None:
    """Regression: a status route that answered 404 to all made every line disconnected."""
    lines = [a_line() for _ in range(6)]
    census = census_of((len(lines), Status.CONNECTED, Observation.NOT_FOUND))
    assert brake_engages(census, policy=POLICY)
    for line in lines:
        assert decide_braked(line, Observation.NOT_FOUND, policy=POLICY, now=NOW) == Held(Restart())


def test_a_census_adds_up_over_batches() -> None:
    """Five batches with one dead line each brake the sweep, though no batch does."""
    batch = census_of((1, Status.CONNECTED, Observation.GHOST), (1, Status.DISCONNECTED, Observation.UNKNOWN))
    sweep = sum([batch] * 5, Census())
    assert sweep == Census(up=5, bad=5)
    assert not brake_engages(batch, policy=POLICY)
    assert brake_engages(sweep, policy=POLICY)


@pytest.mark.parametrize("seen", BAD)
@pytest.mark.parametrize(
    ("bad_since", "leaves"),
    [
        pytest.param(None, False, id="a line never seen bad before stays"),
        pytest.param(NOW - 30 * MINUTE + SECOND, False, id="a line bad for less than 30 minutes stays"),
        pytest.param(NOW - 30 * MINUTE, True, id="a line bad for 30 minutes leaves"),
        pytest.param(NOW + MINUTE, False, id="a line bad since a moment to come stays"),
    ],
)
def test_a_line_leaves_the_brake_after_30_minutes_by_its_own_clock(
    seen: Observation, bad_since: datetime | None, *, leaves: bool
) -> None:
    assert leaves_brake(a_sighting(a_line(bad_since=bad_since), seen), policy=POLICY, now=NOW) is leaves


@pytest.mark.parametrize("seen", [Observation.ALIVE, Observation.CLAIMED, Observation.UNKNOWN])
def test_only_a_conclusive_look_leaves_the_brake(seen: Observation) -> None:
    assert not leaves_brake(a_sighting(a_line(bad_since=NOW - timedelta(days=1)), seen), policy=POLICY, now=NOW)


LONG_BAD: Final = {"bad_since": NOW - 30 * MINUTE}
MARKED_LINE: Final = {"raw_status": "disconnected", "outage": an_outage(1)}


@pytest.mark.parametrize(
    ("facts", "seen", "decision"),
    [
        pytest.param({}, Observation.ALIVE, Healthy(), id="a healthy line is recorded as such"),
        pytest.param(MARKED_LINE, Observation.ALIVE, Restore(), id="a line that came back is restored"),
        pytest.param({}, Observation.UNKNOWN, NoChange(), id="doubt stays doubt"),
        pytest.param(MARKED_LINE, Observation.CLAIMED, NoChange(), id="a claim brings nobody back"),
        pytest.param({}, Observation.GHOST, Held(Restart()), id="a restart waits"),
        pytest.param({"last_restart_at": NOW}, Observation.GHOST, Held(Skip()), id="a line is not even degraded"),
        pytest.param(
            {}, Observation.REFUSED, Held(Disconnect(tell=True, then_restart=False)), id="a refused token waits"
        ),
        pytest.param(MARKED_LINE, Observation.GHOST, Held(Restart()), id="a marked line's next restart waits"),
        pytest.param(
            {"raw_status": None},
            Observation.GHOST,
            Held(Disconnect(tell=True, then_restart=False)),
            id="a line that the screen marked waits",
        ),
        pytest.param(
            LONG_BAD,
            Observation.GHOST,
            Disconnect(tell=True, then_restart=True),
            id="bad for 30 minutes: marked and told at once, and the restart follows",
        ),
        pytest.param(
            LONG_BAD | {"last_restart_at": NOW - 30 * MINUTE + SECOND},
            Observation.GHOST,
            Disconnect(tell=True, then_restart=False),
            id="bad for 30 minutes within the cool-down: marked and told, not restarted",
        ),
        pytest.param(
            LONG_BAD | {"raw_status": "degraded", "degraded_since": NOW, "last_restart_at": NOW},
            Observation.DISCONNECTED,
            Disconnect(tell=True, then_restart=False),
            id="bad for 30 minutes and just degraded: marked and told",
        ),
        pytest.param(
            LONG_BAD | {"auto_recovery_attempts": 3},
            Observation.DISCONNECTED,
            Disconnect(tell=True, then_restart=True),
            id="bad for 30 minutes and flapping: marked, told, restarted",
        ),
        pytest.param(
            LONG_BAD,
            Observation.REFUSED,
            Disconnect(tell=True, then_restart=False),
            id="a token refused for 30 minutes: marked and told",
        ),
        pytest.param(
            LONG_BAD | MARKED_LINE | {"last_restart_at": NOW - 30 * MINUTE},
            Observation.GHOST,
            Restart(),
            id="a marked line that is bad for 30 minutes gets its due restart, no bell",
        ),
        pytest.param(
            LONG_BAD | MARKED_LINE | {"last_restart_at": NOW - 30 * MINUTE + SECOND},
            Observation.GHOST,
            NoChange(),
            id="a marked line that is bad for 30 minutes waits for its restart",
        ),
        pytest.param(
            LONG_BAD | {"raw_status": "disconnected"},
            Observation.GHOST,
            Disconnect(tell=True, then_restart=False),
            id="a line that the screen marked and that is bad for 30 minutes is told",
        ),
        pytest.param(
            LONG_BAD | {"raw_status": "disconnected", "last_health_check": None},
            Observation.GHOST,
            Disconnect(tell=False, then_restart=True),
            id="an adopted line opens its outage in silence under the brake too",
        ),
        pytest.param(LONG_BAD, Observation.UNKNOWN, NoChange(), id="bad for 30 minutes and now in doubt: nothing"),
        pytest.param(
            {"unknown_since": NOW - timedelta(hours=1)},
            Observation.UNKNOWN,
            Held(TellUnverified()),
            id="that nobody can find out is told when the brake is off",
        ),
    ],
)
def test_under_the_brake_good_news_counts_and_bad_news_waits(
    facts: dict[str, Any], seen: Observation, decision: Decision | Held
) -> None:
    assert decide_braked(a_line(**facts), seen, policy=POLICY, now=NOW) == decision


# A line that cannot be asked.


SILENT: Final = {"unknown_since": NOW - timedelta(hours=1)}


@pytest.mark.parametrize("doubt", [Observation.UNKNOWN, Observation.CLAIMED])
@pytest.mark.parametrize(
    ("facts", "tells_so"),
    [
        pytest.param({}, False, id="the first look in doubt"),
        pytest.param({"unknown_since": NOW - timedelta(hours=1) + SECOND}, False, id="for less than an hour"),
        pytest.param(SILENT, True, id="for an hour"),
        pytest.param(SILENT | {"raw_status": "degraded"}, True, id="a degraded line too"),
        pytest.param(SILENT | {"raw_status": "disconnected"}, False, id="a marked line is down already"),
        pytest.param(SILENT | {"raw_status": "qr"}, False, id="a line that is being paired"),
        pytest.param(SILENT | {"unverified_since": NOW - timedelta(hours=1)}, False, id="told already"),
        pytest.param(SILENT | {"outage": an_outage(1)}, False, id="told that it is down"),
        pytest.param(SILENT | {"last_event_at": NOW - timedelta(hours=1)}, False, id="it sent an event meanwhile"),
        pytest.param(SILENT | {"last_event_at": NOW - timedelta(hours=2)}, True, id="its last event was before"),
    ],
)
def test_a_line_about_which_nobody_finds_out_anything_is_told_after_an_hour_and_never_restarted(
    facts: dict[str, Any], doubt: Observation, *, tells_so: bool
) -> None:
    """Regression: 5 of 30 lines answer 500 for 45 min: 10 restarts, 5 bells."""
    decision = decide(a_line(**facts), doubt, policy=POLICY, now=NOW)
    assert decision == (TellUnverified() if tells_so else NoChange())


def test_a_line_whose_users_were_told_that_nobody_could_find_out_is_restored_by_its_next_life() -> None:
    """Also if a screen has written `connected` meanwhile."""
    line = a_line(unverified_since=NOW - timedelta(hours=2))
    assert decide(line, Observation.ALIVE, policy=POLICY, now=NOW) == Restore()


# Hands off.


@pytest.mark.parametrize("seen", Observation)
@pytest.mark.parametrize(
    ("facts", "is_left_alone"),
    [
        pytest.param({"raw_status": "qr", "pairing_since": NOW - 30 * MINUTE + SECOND}, True, id="somebody pairs it"),
        pytest.param({"raw_status": "qr", "pairing_since": NOW - 30 * MINUTE}, False, id="for too long"),
        pytest.param({"raw_status": "disconnected", "was_ever_connected": False}, True, id="it never was connected"),
        pytest.param(
            {"raw_status": "disconnected", "was_ever_connected": False, "outage": an_outage(1)},
            False,
            id="it was, or it would have no outage",
        ),
        pytest.param({"raw_status": "connected", "was_ever_connected": False}, False, id="somebody says it is"),
        pytest.param({"raw_status": "degraded", "was_ever_connected": False}, False, id="it was a moment ago"),
    ],
)
def test_a_line_that_is_being_paired_or_never_was_is_left_alone_but_for_good_news(
    facts: dict[str, Any], seen: Observation, *, is_left_alone: bool
) -> None:
    """Regression: a line was restarted under the hands of whoever scanned its code."""
    decision = decide(a_line(**facts), seen, policy=POLICY, now=NOW)
    if seen is Observation.ALIVE:
        assert isinstance(decision, Restore | Healthy)
    elif is_left_alone:
        assert decision == NoChange()
    elif seen in DEAD:
        assert decision != NoChange()


@pytest.mark.parametrize("word", ["connected", "degraded", "disconnected"])
@pytest.mark.parametrize(
    ("opener", "age", "restarts_now"),
    [
        ("webhook", 10 * MINUTE - SECOND, False),
        ("webhook", 10 * MINUTE, True),
        ("screen", 10 * MINUTE - SECOND, False),
        ("screen", 10 * MINUTE, True),
        ("sweep", timedelta(0), True),
        ("adoption", timedelta(0), True),
    ],
    ids=str,
)
def test_the_first_restart_waits_while_somebody_may_be_scanning(
    opener: str, age: timedelta, word: str, *, restarts_now: bool
) -> None:
    outage = an_outage(0).model_copy(update={"opened_by": opener, "opened_at": NOW - age})
    decision = decide(a_line(raw_status=word, outage=outage), Observation.DISCONNECTED, policy=POLICY, now=NOW)
    assert restarts(decision) is restarts_now


def test_an_outage_with_a_restart_in_it_no_longer_waits_for_whoever_scans() -> None:
    outage = an_outage(1).model_copy(update={"opened_by": "webhook", "opened_at": NOW - 9 * MINUTE})
    line = a_line(raw_status="disconnected", outage=outage, last_restart_at=NOW - 30 * MINUTE)
    assert decide(line, Observation.GHOST, policy=POLICY, now=NOW) == Restart()


def test_a_line_that_moved_while_it_was_down_is_told_to_its_new_company() -> None:
    outage = an_outage(1).model_copy(update={"company_id": UUID(int=99)})
    line = a_line(raw_status="disconnected", outage=outage, last_restart_at=NOW)
    assert decide(line, Observation.GHOST, policy=POLICY, now=NOW) == Disconnect(tell=True, then_restart=False)


@pytest.mark.parametrize(
    ("facts", "waited"),
    [
        ({"raw_status": "degraded", "bad_since": NOW - 10 * MINUTE}, True),
        ({"raw_status": "degraded", "bad_since": NOW - 10 * MINUTE + SECOND}, False),
        ({"raw_status": "degraded", "bad_since": None}, False),
        ({"raw_status": "connected", "bad_since": NOW - 10 * MINUTE}, False),
    ],
    ids=str,
)
def test_a_line_that_is_owed_a_restart_is_told_after_ten_minutes(facts: dict[str, Any], *, waited: bool) -> None:
    assert has_waited(a_line(**facts), policy=POLICY, now=NOW) is waited


@pytest.mark.parametrize(
    ("degraded_for", "counts"),
    [
        pytest.param(30 * MINUTE - SECOND, 1, id="degraded for less than 30 minutes, whoever did it"),
        pytest.param(30 * MINUTE, 0, id="degraded for long"),
        pytest.param(None, 0, id="nobody knows since when"),
    ],
)
def test_a_line_degraded_for_a_short_time_still_counts_for_the_brake(
    degraded_for: timedelta | None, counts: int
) -> None:
    line = a_line(raw_status="degraded", degraded_since=ago(degraded_for))
    assert count([a_sighting(line, Observation.GHOST)], policy=POLICY, now=NOW).bad == counts


@pytest.mark.parametrize(
    ("changes", "outage", "counts"),
    [
        pytest.param({}, {}, 0, id="it waits for its restart"),
        pytest.param({"last_health_check": NOW - MINUTE}, {}, 1, id="an earlier sweep was done with it"),
        pytest.param({"last_health_check": None}, {}, 1, id="nobody has looked at it yet"),
        pytest.param({"raw_status": "connected"}, {}, 1, id="a screen says connected"),
        pytest.param({"outage": None}, {}, 1, id="no outage is open: an event left it to the sweep"),
        pytest.param({}, {"opened_by": OutageOpener.WEBHOOK}, 1, id="an event opened it"),
        pytest.param({}, {"told_at": NOW - 2 * MINUTE}, 1, id="its people were told"),
    ],
)
def test_a_line_that_is_owed_its_restart_is_no_share_of_its_batch(
    changes: dict[str, Any], outage: dict[str, Any], counts: int
) -> None:
    opened = an_outage(1).model_copy(update={"told_at": None, "opened_by": OutageOpener.SWEEP} | outage)
    waits: dict[str, Any] = {
        "raw_status": "degraded", "degraded_since": NOW - 5 * MINUTE, "last_health_check": NOW - 10 * MINUTE, "outage": opened,
    }  # fmt: skip
    line = a_line(**(waits | changes))
    look = [a_sighting(line, Observation.GHOST)]
    assert count(look, policy=POLICY, now=NOW, with_owed=False).bad == counts
    assert count(look, policy=POLICY, now=NOW).bad == 1


def test_an_open_outage_of_which_nobody_heard_is_told_when_the_platform_writes_the_status() -> None:
    untold = an_outage(1).model_copy(update={"started_at": NOW - 9 * MINUTE, "told_at": None})
    line = a_line(raw_status="disconnected", outage=untold, last_restart_at=NOW - timedelta(minutes=5))
    assert decide(line, Observation.GHOST, policy=POLICY, now=NOW) == Disconnect(tell=True, then_restart=False)


def test_an_outage_that_an_adoption_opened_in_silence_stays_silent() -> None:
    silent = an_outage(1).model_copy(update={"started_at": NOW, "told_at": None, "opened_by": OutageOpener.ADOPTION})
    line = a_line(raw_status="disconnected", outage=silent, last_restart_at=NOW - timedelta(minutes=5))
    assert decide(line, Observation.GHOST, policy=POLICY, now=NOW) == NoChange()


def test_the_brake_does_not_spend_the_silence_of_a_first_look() -> None:
    line = a_line(raw_status="disconnected", last_health_check=None, outage=None)
    silent = Disconnect(tell=False, then_restart=False)
    assert decide_braked(line, Observation.DISCONNECTED, policy=POLICY, now=NOW) == silent


def test_counts_of_two_batches_add_up_in_every_part() -> None:
    assert Census(1, 2, 3) + Census(10, 20, 30) == Census(11, 22, 33)


@pytest.mark.parametrize(
    ("asked", "failing", "bad", "brakes"),
    [
        pytest.param(20, 0, 9, False, id="the fleet lives: it is their phones"),
        pytest.param(5, 2, 9, False, id="less than half of the witnesses"),
        pytest.param(5, 3, 2, True, id="half of them, and five with those that are bad"),
        pytest.param(4, 2, 3, True, id="exactly half, exactly five"),
        pytest.param(4, 2, 2, False, id="four in all: below the brake's minimum"),
        pytest.param(1, 1, 4, True, id="one witness of one, and four that are bad"),
        pytest.param(20, 20, 3, True, id="three leftovers of a fleet that is away"),
        pytest.param(0, 0, 5, True, id="no witness to be had, and five that are bad"),
        pytest.param(0, 0, 4, False, id="no witness to be had for four lines"),
    ],
)
def test_lines_of_the_fleet_witness_for_or_against_the_provider(
    asked: int, failing: int, bad: int, *, brakes: bool
) -> None:
    assert witnesses_brake(Census(up=asked, bad=failing), bad=bad, policy=POLICY) is brakes


@pytest.mark.parametrize("found", Observation)
def test_a_witness_speaks_for_the_provider_by_life_or_by_a_claim(found: Observation) -> None:
    assert count_one(found).bad == (found not in (Observation.ALIVE, Observation.CLAIMED))
    assert count_one(found).up == 1
    assert count_one(found).unknown == (found is Observation.UNKNOWN)


def test_a_line_that_the_platform_wrote_disconnected_has_all_its_restarts_before_it() -> None:
    patient = replace(POLICY, outage_restart_waits=(timedelta(0), timedelta(hours=9)))
    outage = an_outage(0).model_copy(update={"opened_by": "screen"})
    line = a_line(raw_status="disconnected", outage=outage, last_restart_at=NOW - 31 * MINUTE)
    assert decide(line, Observation.DISCONNECTED, policy=patient, now=NOW) == Restart()


# What carries decisions out asks of them.


@pytest.mark.parametrize(
    ("decision", "only_recorded", "bad_news", "acts", "canary"),
    [
        (Healthy(), True, False, False, False),
        (NoChange(), True, False, False, False),
        (Restore(), False, False, False, False),
        (Skip(), False, True, False, False),
        (Restart(), False, True, True, True),
        (Disconnect(tell=True, then_restart=False), False, True, True, False),
        (Disconnect(tell=True, then_restart=True), False, True, True, True),
        (Disconnect(tell=False, then_restart=True), False, True, True, True),
        (TellUnverified(), False, False, True, False),
    ],
    ids=str,
)
def test_what_a_decision_is(
    decision: Decision, *, only_recorded: bool, bad_news: bool, acts: bool, canary: bool
) -> None:
    assert is_only_recorded(decision) is only_recorded
    assert is_bad_news(decision) is bad_news
    assert would_act(decision) is acts
    assert may_be_canary(Held(decision)) is canary


def test_lines_without_a_finding_are_not_counted() -> None:
    unseen = Sighting(A_LINE, None, Observation.UNKNOWN, "budget_over", NOW)
    assert count([unseen, a_sighting(A_LINE, Observation.ALIVE)], policy=POLICY, now=NOW) == Census(up=1)


@pytest.mark.parametrize("found", Observation)
def test_a_claim_is_believed_when_the_deep_probe_is_gone_for_all(found: Observation) -> None:
    believed = Observation.ALIVE if found is Observation.CLAIMED else found
    assert believe_claim(found, device_is_gone=True) is believed
    assert believe_claim(found, device_is_gone=False) is found


# What travels with a sighting.


def test_a_sighting_is_the_reason_of_what_the_sweep_does_next() -> None:
    sighting = Sighting(A_LINE, Observation.CLAIMED, Observation.ALIVE, "connected_cannot_say", NOW)
    why = Evidence(Source.SWEEP, "alive", Observation.ALIVE, "connected_cannot_say", None, UUID(int=9))
    assert sighting.evidence(UUID(int=9)) == why


def test_what_the_sweep_itself_has_written_is_what_must_hold_next() -> None:
    sighting = a_sighting(a_line(), Observation.GHOST)
    later = NOW + 9 * MINUTE
    assert sighting.with_preconditions() == sighting
    assert sighting.with_preconditions(lease=later) == replace(sighting, instance=a_line(lease=later))
    degraded = sighting.with_preconditions(status=Status.DEGRADED)
    assert degraded == replace(sighting, instance=a_line(raw_status="degraded"))
