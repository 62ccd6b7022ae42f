"""What a look at a line means: the whole table, its edges, and what must hold for every line, look and time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
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
    can_brake,
    count,
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
    believe_claim,
    conclude,
    decide,
    is_bad_news,
    is_only_recorded,
    would_act,
)
from shared.core.model import Census, Instance, Observation, Outage, Sighting, Status
from shared.core.policy import Policy

NOW: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY: Final = Policy()
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)

DEAD: Final = (Observation.DISCONNECTED, Observation.GHOST, Observation.NOT_FOUND)
BAD: Final = (*DEAD, Observation.REFUSED)


def ago(age: timedelta | None) -> datetime | None:
    return None if age is None else NOW - age


def an_outage(restarts: int) -> Outage:
    return Outage(
        id=UUID(int=2), started_at=NOW - timedelta(hours=5), restarts=restarts, told_at=NOW, opened_by="sweep"
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
    unknown_looks=0,
    last_event_at=None,
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
    )
    degraded: tuple[timedelta | None, ...] = (NEVER, 10 * MINUTE - SECOND, 10 * MINUTE)
    attempts: tuple[int, ...] = (0, 2, 3, 4)
    outage_restarts: tuple[int | None, ...] = (None, 0, 1, 2, 3, 4, 5)
    first_look: tuple[bool, ...] = FIRST_LOOK + SEEN_BEFORE

    def cases(self) -> Iterator[tuple[Any, ...]]:
        return product(
            self.status,
            self.seen,
            self.restarted,
            self.degraded,
            self.attempts,
            self.outage_restarts,
            self.first_look,
        )


ALL: Final = Dimensions()


def at_least(minutes: int) -> tuple[timedelta | None, ...]:
    return tuple(age for age in ALL.restarted if age is NEVER or age >= minutes * MINUTE)


def under(minutes: int) -> tuple[timedelta | None, ...]:
    return tuple(age for age in ALL.restarted if age is not NEVER and age < minutes * MINUTE)


STEADY: Final = (0, 2)
FLAPPING: Final = (3, 4)
NO_OUTAGE: Final = (None,)
SOME_OUTAGE: Final = (0, 1, 2, 3, 4, 5)
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
    # Connected or degraded, and dead.
    row(
        "a dead line is restarted when its last restart is 30 minutes old, or never was",
        Restart(),
        status=CONNECTED + DEGRADED,
        seen=DEAD,
        restarted=at_least(30),
        attempts=STEADY,
    ),
    row(
        "a connected line that is dead within the cool-down degrades at once "
        "(regression: detection took 35 min because the cool-down was applied to the look)",
        Skip(),
        status=CONNECTED,
        seen=DEAD,
        restarted=under(30),
        attempts=STEADY,
    ),
    row(
        "a degraded line within the cool-down waits until it was degraded for 10 minutes",
        Skip(),
        status=DEGRADED,
        seen=DEAD,
        restarted=under(30),
        attempts=STEADY,
        degraded=SHORT,
    ),
    row(
        "a line degraded for 10 minutes is marked and told within the cool-down "
        "(regression: dead lines stayed green, restarted every 30 min, nobody told)",
        Disconnect(tell=True, then_restart=False),
        status=DEGRADED,
        seen=DEAD,
        restarted=under(30),
        attempts=STEADY,
        degraded=LONG,
    ),
    row(
        "a flapping line is marked and told before it is restarted",
        Disconnect(tell=True, then_restart=True),
        status=CONNECTED + DEGRADED,
        seen=DEAD,
        restarted=at_least(30),
        attempts=FLAPPING,
    ),
    row(
        "a flapping line within the cool-down is marked and told, and not restarted",
        Disconnect(tell=True, then_restart=False),
        status=CONNECTED + DEGRADED,
        seen=DEAD,
        restarted=under(30),
        attempts=FLAPPING,
    ),
    # Marked without an outage of ours: somebody else wrote the status.
    row(
        "a line that the platform's screen marked gets its bell and a restart "
        "(regression: nobody checked rows with raw statuses again)",
        Disconnect(tell=True, then_restart=True),
        status=MARKED,
        seen=DEAD,
        restarted=at_least(30),
        outage_restarts=NO_OUTAGE,
        first_look=SEEN_BEFORE,
    ),
    row(
        "a line that the platform's screen marked within the cool-down gets its bell only",
        Disconnect(tell=True, then_restart=False),
        status=MARKED,
        seen=DEAD,
        restarted=under(30),
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
    # Marked with an open outage: spaced restarts, no second bell.
    row(
        "the first restart of an outage comes at once when the cool-down has passed",
        Restart(),
        status=MARKED,
        seen=DEAD,
        restarted=at_least(30),
        outage_restarts=(0,),
    ),
    row(
        "the first restart of an outage waits for the cool-down",
        NoChange(),
        status=MARKED,
        seen=DEAD,
        restarted=under(30),
        outage_restarts=(0,),
    ),
    row(
        "the second restart of an outage comes after 30 minutes",
        Restart(),
        status=MARKED,
        seen=DEAD,
        restarted=at_least(30),
        outage_restarts=(1,),
    ),
    row(
        "the second restart of an outage waits 30 minutes, and no bell rings again "
        "(regression: the bell rang again and again)",
        NoChange(),
        status=MARKED,
        seen=DEAD,
        restarted=under(30),
        outage_restarts=(1,),
    ),
    row(
        "the third restart of an outage comes after 60 minutes",
        Restart(),
        status=MARKED,
        seen=DEAD,
        restarted=at_least(60),
        outage_restarts=(2,),
    ),
    row(
        "the third restart of an outage waits 60 minutes",
        NoChange(),
        status=MARKED,
        seen=DEAD,
        restarted=under(60),
        outage_restarts=(2,),
    ),
    row(
        "the fourth restart of an outage comes after 120 minutes",
        Restart(),
        status=MARKED,
        seen=DEAD,
        restarted=at_least(120),
        outage_restarts=(3,),
    ),
    row(
        "the fourth restart of an outage waits 120 minutes",
        NoChange(),
        status=MARKED,
        seen=DEAD,
        restarted=under(120),
        outage_restarts=(3,),
    ),
    row(
        "there is no fifth restart in an outage (regression: logged-out lines were restarted 48 times a day)",
        NoChange(),
        status=MARKED,
        seen=DEAD,
        outage_restarts=(4, 5),
    ),
]


def line_of(case: tuple[Any, ...]) -> tuple[Instance, Observation]:
    status, seen, restarted, degraded, attempts, restarts, first_look = case
    return a_line(
        raw_status=status,
        last_restart_at=ago(restarted),
        degraded_since=ago(degraded),
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
            {"raw_status": "degraded", "degraded_since": NOW, "last_restart_at": NOW},
            Disconnect(tell=True, then_restart=False),
            id="without a grace a degraded line is told at once",
        ),
        pytest.param(
            Policy(outage_restart_waits=()),
            {"raw_status": "disconnected", "outage": an_outage(0)},
            NoChange(),
            id="without waits a marked line is never restarted",
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


def test_a_line_that_stays_dead_is_restarted_four_times_in_two_days_and_told_once() -> None:
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
    assert restarts == [timedelta(0), 30 * MINUTE, 90 * MINUTE, 210 * MINUTE]
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
    unknown_looks=st.integers(0, 50),
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
        assert isinstance(decision, Healthy | Restore | NoChange | Skip | Restart | Disconnect | Held)


@at_any_speed
@given(lines, observations, policies)
@example(a_line(last_restart_at=NOW - 30 * MINUTE + timedelta(microseconds=1)), Observation.GHOST, POLICY)
@example(a_line(last_restart_at=NOW + MINUTE), Observation.GHOST, POLICY)
def test_nothing_is_restarted_within_the_cool_down(line: Instance, seen: Observation, policy: Policy) -> None:
    if line.last_restart_at is not None and NOW - line.last_restart_at < policy.restart_cooldown:
        assert not any(map(restarts, both(line, seen, policy)))


@at_any_speed
@given(lines, observations)
def test_no_outage_sees_a_fifth_restart_once_the_line_is_marked(line: Instance, seen: Observation) -> None:
    if line.status is Status.DISCONNECTED and line.outage and line.outage.restarts >= 4:
        assert not any(map(restarts, both(line, seen)))


@at_any_speed
@given(lines)
def test_unknown_never_marks_restarts_or_tells(line: Instance) -> None:
    for doubt in (Observation.UNKNOWN, Observation.CLAIMED):
        assert both(line, doubt) == [NoChange(), NoChange()]


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


def test_a_look_is_counted_once_and_by_what_its_row_said() -> None:
    assert count([a_sighting(a_line(raw_status="connected"), Observation.ALIVE)]) == Census(looked=1, connected=1)
    assert count([a_sighting(a_line(raw_status="connected"), Observation.GHOST)]) == Census(
        looked=1, connected=1, connected_not_alive=1
    )
    assert count([a_sighting(a_line(raw_status="connected"), Observation.UNKNOWN)]) == Census(
        looked=1, unknown=1, connected=1, connected_not_alive=1
    )
    assert count([a_sighting(a_line(raw_status="degraded"), Observation.GHOST)]) == Census(looked=1)
    assert count([a_sighting(a_line(raw_status="disconnected"), Observation.UNKNOWN)]) == Census(looked=1, unknown=1)


def census_of(*groups: tuple[int, Status, Observation]) -> Census:
    return sum(
        (
            count([a_sighting(a_line(raw_status=status.value), seen)])
            for lines, status, seen in groups
            for _ in range(lines)
        ),
        Census(),
    )


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
            id="degraded lines do not count as bad",
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
    assert sweep == Census(looked=10, unknown=5, connected=5, connected_not_alive=5)
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
            Held(Disconnect(tell=True, then_restart=True)),
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
            Disconnect(tell=True, then_restart=True),
            id="a line that the screen marked and that is bad for 30 minutes is told",
        ),
        pytest.param(
            LONG_BAD | {"raw_status": "disconnected", "last_health_check": None},
            Observation.GHOST,
            Disconnect(tell=False, then_restart=True),
            id="an adopted line opens its outage in silence under the brake too",
        ),
        pytest.param(LONG_BAD, Observation.UNKNOWN, NoChange(), id="bad for 30 minutes and now in doubt: nothing"),
    ],
)
def test_under_the_brake_good_news_counts_and_bad_news_waits(
    facts: dict[str, Any], seen: Observation, decision: Decision | Held
) -> None:
    assert decide_braked(a_line(**facts), seen, policy=POLICY, now=NOW) == decision


# The third UNKNOWN in a row.


def seen_from_an_unknown(*, others: int, answered: int) -> Census:
    """A sweep with one line in doubt, ours, and so many others."""
    return Census(looked=others + 1, unknown=others - answered + 1)


@pytest.mark.parametrize(
    ("unknown_before", "others", "answered", "concluded"),
    [
        pytest.param(2, 5, 5, Observation.GHOST, id="the third in a row counts while five others answer"),
        pytest.param(1, 5, 5, Observation.UNKNOWN, id="the second in a row is doubt"),
        pytest.param(0, 500, 500, Observation.UNKNOWN, id="the first is doubt"),
        pytest.param(9, 5, 5, Observation.GHOST, id="every later one counts too"),
        pytest.param(2, 4, 4, Observation.UNKNOWN, id="four others are too few"),
        pytest.param(2, 5, 4, Observation.GHOST, id="four of five others are 80 percent"),
        pytest.param(2, 5, 3, Observation.UNKNOWN, id="three of five others are not"),
        pytest.param(2, 6, 4, Observation.UNKNOWN, id="four of six others are not"),
        pytest.param(2, 10, 8, Observation.GHOST, id="eight of ten others are 80 percent"),
        pytest.param(2, 100, 79, Observation.UNKNOWN, id="79 of a hundred others are not"),
        pytest.param(2, 100, 80, Observation.GHOST, id="80 of a hundred others are"),
        pytest.param(2, 0, 0, Observation.UNKNOWN, id="a line alone tells nothing of itself"),
    ],
)
def test_the_third_unknown_in_a_row_counts_as_ghost_while_80_percent_of_five_others_answer(
    unknown_before: int, others: int, answered: int, concluded: Observation
) -> None:
    census = seen_from_an_unknown(others=others, answered=answered)
    line = a_line(unknown_looks=unknown_before)
    assert conclude(line, Observation.UNKNOWN, census, policy=POLICY, now=NOW) is concluded


@at_any_speed
@given(st.integers(1, 40_000))
def test_exactly_80_percent_is_enough_in_a_fleet_of_any_size(fifths: int) -> None:
    line = a_line(unknown_looks=2)
    enough = seen_from_an_unknown(others=5 * fifths, answered=4 * fifths)
    assert conclude(line, Observation.UNKNOWN, enough, policy=POLICY, now=NOW) is Observation.GHOST
    one_less = seen_from_an_unknown(others=5 * fifths, answered=4 * fifths - 1)
    assert conclude(line, Observation.UNKNOWN, one_less, policy=POLICY, now=NOW) is Observation.UNKNOWN


@pytest.mark.parametrize("seen", [each for each in Observation if each is not Observation.UNKNOWN])
def test_a_look_that_found_out_is_what_it_is(seen: Observation) -> None:
    census = Census(looked=100)
    assert conclude(a_line(unknown_looks=50), seen, census, policy=POLICY, now=NOW) is seen


@pytest.mark.parametrize(("age", "concluded"), [(9, Observation.UNKNOWN), (10, Observation.GHOST)], ids=str)
def test_a_line_that_sent_an_event_within_ten_minutes_is_not_called_a_ghost_by_the_third_unknown(
    age: int, concluded: Observation
) -> None:
    line = a_line(unknown_looks=2, last_event_at=NOW - timedelta(minutes=age))
    answering = Census(looked=11, unknown=1)
    assert conclude(line, Observation.UNKNOWN, answering, policy=POLICY, now=NOW) is concluded


@pytest.mark.parametrize(
    ("degraded_for", "looked_ago", "counts"),
    [
        pytest.param(1, 5, 1, id="degraded by an event since the last look"),
        pytest.param(5, 5, 0, id="degraded by the last sweep"),
        pytest.param(9, 5, 0, id="degraded before the last look"),
    ],
)
def test_a_line_that_an_event_has_just_degraded_still_counts_for_the_brake(
    degraded_for: int, looked_ago: int, counts: int
) -> None:
    line = a_line(
        raw_status="degraded",
        degraded_since=NOW - timedelta(minutes=degraded_for),
        last_health_check=NOW - timedelta(minutes=looked_ago),
    )
    assert count([a_sighting(line, Observation.GHOST)]).connected_not_alive == counts


def test_an_open_outage_of_which_nobody_heard_is_told_when_the_platform_writes_the_status() -> None:
    untold = Outage(id=UUID(int=3), started_at=NOW - timedelta(minutes=9), restarts=1, told_at=None, opened_by="sweep")
    line = a_line(raw_status="disconnected", outage=untold, last_restart_at=NOW - timedelta(minutes=5))
    assert decide(line, Observation.GHOST, policy=POLICY, now=NOW) == Disconnect(tell=True, then_restart=False)


def test_an_outage_that_an_adoption_opened_in_silence_stays_silent() -> None:
    silent = Outage(id=UUID(int=3), started_at=NOW, restarts=1, told_at=None, opened_by="adoption")
    line = a_line(raw_status="disconnected", outage=silent, last_restart_at=NOW - timedelta(minutes=5))
    assert decide(line, Observation.GHOST, policy=POLICY, now=NOW) == NoChange()


def test_the_brake_does_not_spend_the_silence_of_a_first_look() -> None:
    line = a_line(raw_status="disconnected", last_health_check=None, outage=None)
    silent = Disconnect(tell=False, then_restart=False)
    assert decide_braked(line, Observation.DISCONNECTED, policy=POLICY, now=NOW) == silent


def test_counts_of_two_batches_add_up_in_every_part() -> None:
    assert Census(1, 2, 3, 4) + Census(10, 20, 30, 40) == Census(11, 22, 33, 44)


@pytest.mark.parametrize(
    ("asked", "died", "bad", "brakes"),
    [
        pytest.param(5, 0, 9, False, id="nobody else has died: it is their phones"),
        pytest.param(5, 2, 9, False, id="less than half of the witnesses"),
        pytest.param(5, 3, 2, True, id="half of them, and five with those that are bad"),
        pytest.param(4, 2, 3, True, id="exactly half, exactly five"),
        pytest.param(4, 2, 2, False, id="four in all: below the brake's minimum"),
        pytest.param(1, 1, 4, True, id="one witness of one, and four that are bad"),
        pytest.param(0, 0, 9, False, id="no witness answered in time"),
    ],
)
def test_lines_that_died_since_a_moment_ago_witness_against_the_provider(
    asked: int, died: int, bad: int, brakes: bool
) -> None:
    witnesses = Census(looked=asked, connected=asked, connected_not_alive=died)
    assert witnesses_brake(witnesses, bad=bad, policy=POLICY) is brakes


@pytest.mark.parametrize(("connected", "can"), [(9, False), (10, True)])
def test_a_share_of_a_fleet_can_brake_if_half_of_it_would(connected: int, can: bool) -> None:
    assert can_brake(Census(looked=99, connected=connected), policy=POLICY) is can


def test_a_line_that_the_platform_wrote_disconnected_has_all_its_restarts_before_it() -> None:
    patient = replace(POLICY, outage_restart_waits=(timedelta(0), timedelta(hours=9)))
    line = a_line(raw_status="disconnected", outage=None, last_restart_at=NOW - 31 * MINUTE)
    assert decide(line, Observation.DISCONNECTED, policy=patient, now=NOW) == Disconnect(tell=True, then_restart=True)


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
    assert count([unseen, a_sighting(A_LINE, Observation.ALIVE)]) == Census(looked=1, connected=1)


@pytest.mark.parametrize("found", Observation)
def test_a_claim_is_believed_when_the_deep_probe_is_gone_for_all(found: Observation) -> None:
    believed = Observation.ALIVE if found is Observation.CLAIMED else found
    assert believe_claim(found, device_is_gone=True) is believed
    assert believe_claim(found, device_is_gone=False) is found
