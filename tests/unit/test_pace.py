"""The pace at one host, in a world of numbers: no clock runs, no task waits."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.pace import FEW_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Pace

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = 0.2


def always(_now: float) -> bool:
    return False


@dataclass
class Play:
    """A sweep's looks at a host, played event by event.

    Attributes:
        looks: How many.
        ceiling: At most at once.
        at_once: More than these are refused.
        a_second: The host answers no more than these; the others wait their turn there.
        refuses: Whether it refuses at an instant.
        wait: What it says when it refuses.
        jitter: Added to each answer, at most.
        forever: Looks that are always refused.
    """

    looks: int
    ceiling: int = 128
    at_once: float = math.inf
    a_second: float = math.inf
    base: Callable[[float], float] = lambda _now: BASE
    refuses: Callable[[float], bool] = always
    wait: float | None = None
    jitter: float = 0.02
    forever: frozenset[int] = frozenset()
    refused: int = 0
    ended_at: float = 0
    answered: int = 0
    most_after: list[tuple[float, int]] = field(default_factory=list)

    def run(self) -> Pace:
        chance = random.Random(1)
        pace = Pace(self.ceiling)
        waiting = deque(range(self.looks))
        tries = [0] * self.looks
        running: list[tuple[float, int, int, float, bool]] = []
        again: list[tuple[float, int]] = []
        now = free_at = 0.0
        while waiting or running or again:
            while again and again[0][0] <= now:
                waiting.append(heapq.heappop(again)[1])
            while waiting and len(running) < pace.limit and now >= pace.paused_until:
                look = waiting.popleft()
                no = len(running) >= self.at_once or self.refuses(now) or look in self.forever
                free_at = max(free_at, now) + (0 if no else 1 / self.a_second)
                answered_at = now + 0.01 if no else free_at + self.base(now) + chance.random() * self.jitter
                heapq.heappush(running, (answered_at, look, pace.round, now, no))
            next_at = [running[0][0]] if running else []
            next_at += [again[0][0]] if again else []
            next_at += [pace.paused_until] if waiting and pace.paused_until > now else []
            now = min(next_at)
            if running and running[0][0] <= now:
                _, look, began_in, began, no = heapq.heappop(running)
                if no:
                    self.refused += 1
                    tries[look] += 1
                    pace.refused(now=now, began_in=began_in, wait=self.wait, again=tries[look] > 1)
                    if look not in self.forever or tries[look] < 6:
                        heapq.heappush(again, (now + 0.5 * 2 ** tries[look], look))
                else:
                    self.answered += 1
                    took = now - began if pace.paused_until < began else None
                    pace.answered(began_in=began_in, took=took)
                self.most_after.append((now, pace.limit))
        self.ended_at = now
        return pace

    def limit_at(self, instant: float) -> int:
        return [limit for at, limit in self.most_after if at <= instant][-1]


@pytest.mark.parametrize("ceiling", [128, 256])
@pytest.mark.parametrize(
    ("jitter", "base"),
    [
        pytest.param(0.02, lambda _now: BASE, id="as it should be"),
        pytest.param(0.35, lambda _now: BASE, id="a noisy machine of our own"),
        pytest.param(0.02, lambda now: 3 if int(now * 1e6) % 10 == 0 else BASE, id="one answer in ten is slow"),
    ],
)
def test_a_healthy_host_is_asked_as_much_as_allowed_from_the_first_to_the_last_look(
    ceiling: int, jitter: float, base: Callable[[float], float]
) -> None:
    play = Play(looks=2000, ceiling=ceiling, jitter=jitter, base=base)
    pace = play.run()
    assert (pace.round, pace.lowest, pace.limit) == (0, ceiling, ceiling)


def test_a_blip_costs_one_halving_and_the_limit_is_back_at_the_top_a_round_later() -> None:
    play = Play(looks=4000, refuses=lambda now: 2 < now < 2.3)
    pace = play.run()
    assert (pace.round, pace.lowest, play.answered) == (1, 64, 4000)
    assert play.limit_at(3.5) == 128


def test_a_second_blip_is_climbed_out_of_to_just_below_where_it_was_too_much() -> None:
    play = Play(looks=4000, refuses=lambda now: 1 < now < 1.3 or 3 < now < 3.3)
    pace = play.run()
    assert pace.round == 2
    assert play.limit_at(4.5) >= 0.85 * 128


@pytest.mark.parametrize("at_once", [8, 20, 60])
def test_a_host_that_takes_less_is_found_out_and_not_run_into_again_and_again(at_once: int) -> None:
    play = Play(looks=1000, at_once=at_once)
    pace = play.run()
    assert play.answered == 1000
    assert play.refused < 350
    assert at_once / 2 - 1 <= pace.lowest <= at_once
    assert pace.limit <= at_once + 1


def test_a_host_that_queues_is_asked_less_until_its_answers_are_quick_or_it_does_not_help() -> None:
    play = Play(looks=1000, a_second=20)
    pace = play.run()
    assert pace.limit < 40  # 128 would wait 6 s each
    assert play.ended_at < 1000 / 20 * 1.05  # and the host is never idle


def test_a_host_that_has_become_slow_by_itself_is_asked_as_much_as_before() -> None:
    play = Play(looks=4000, base=lambda now: BASE if now < 1 else 1.5)
    pace = play.run()
    assert pace.round == 2
    assert pace.limit == 128


@pytest.mark.parametrize("wait", [None, 30.0])
@pytest.mark.parametrize("forever", [1, 20])
def test_lines_that_are_refused_for_ever_slow_the_others_down_once(forever: int, wait: float | None) -> None:
    play = Play(looks=1000, forever=frozenset(range(forever)), wait=wait)
    pace = play.run()
    assert play.answered == 1000 - forever
    assert (pace.round, pace.lowest, pace.limit) == (1, 64, 128)


def test_without_a_word_about_it_pauses_double_until_something_is_answered() -> None:
    pace = Pace(8, first_pause=1)
    pauses = []
    for now in range(0, 500, 100):
        pace.refused(now=now, began_in=pace.round, wait=None, again=False)
        pauses.append(pace.paused_until - now)
    assert pauses == [1, 2, 4, 8, 16]
    pace.answered(began_in=pace.round, took=None)
    pace.refused(now=500, began_in=pace.round, wait=None, again=False)
    assert pace.paused_until == 501


def test_pauses_are_spread_so_that_sweeps_do_not_come_back_together() -> None:
    pace = Pace(8, first_pause=1, spread=lambda: 1.2)
    pace.refused(now=10, began_in=0, wait=None, again=False)
    assert pace.paused_until == pytest.approx(11.2)


def test_a_few_lines_with_a_limit_of_their_own_do_not_stop_the_fleet() -> None:
    pace = Pace(8)
    for _ in range(100):
        pace.answered(began_in=pace.round, took=None)
    for number in range(10):
        pace.refused(now=10 + number, began_in=pace.round, wait=86_400, again=False)
        assert (pace.paused_until - (10 + number) <= FEW_PAUSE_SECONDS) is (number < 9)
    assert pace.paused_until == 19 + LONGEST_PAUSE_SECONDS  # a tenth of all: it is the host


def test_a_retry_after_is_kept_to_the_second_and_the_longest_of_a_burst_counts() -> None:
    pace = Pace(8, spread=lambda: 0.75)
    pace.refused(now=10, began_in=0, wait=3, again=False)
    pace.refused(now=10.1, began_in=0, wait=7, again=False)
    pace.refused(now=10.2, began_in=0, wait=1, again=False)
    assert pace.paused_until == pytest.approx(17.1)
    assert (pace.round, pace.limit) == (1, 4)


def test_no_header_stops_a_sweep_for_longer_than_a_minute() -> None:
    pace = Pace(8)
    pace.refused(now=10, began_in=0, wait=3600, again=False)
    assert pace.paused_until == 10 + LONGEST_PAUSE_SECONDS
    for _ in range(50):
        pace.refused(now=10, began_in=pace.round, wait=None, again=False)
    assert pace.paused_until == 10 + LONGEST_PAUSE_SECONDS


def test_a_burst_of_refusals_halves_the_limit_once() -> None:
    pace = Pace(8)
    for _ in range(8):
        pace.refused(now=1, began_in=0, wait=None, again=False)
    assert (pace.round, pace.limit) == (1, 4)


def test_what_began_before_a_decrease_raises_nothing() -> None:
    pace = Pace(8)
    pace.refused(now=1, began_in=0, wait=None, again=False)
    for _ in range(7):
        pace.answered(began_in=0, took=0.1)
    assert pace.limit == 4


def test_the_limit_never_falls_below_one() -> None:
    pace = Pace(5)
    for now in range(20):
        pace.refused(now=now, began_in=pace.round, wait=None, again=False)
    assert pace.limit == pace.lowest == 1


def hear(pace: Pace, *rounds: float | list[float]) -> None:
    """As many answers as it judges at once, for each figure; or just these."""
    for took in rounds:
        for each in took if isinstance(took, list) else [took] * max(16, pace.limit):
            pace.answered(began_in=pace.round, took=each)


@pytest.mark.parametrize(
    ("fastest", "then", "slow"),
    [
        pytest.param(0.25, 0.75, False, id="half a second more is not slow yet"),
        pytest.param(0.25, 0.76, True, id="more than that is"),
        pytest.param(1.0, 2.0, False, id="twice as long is not slow yet"),
        pytest.param(1.0, 2.01, True, id="longer than that is"),
    ],
)
def test_answers_are_slow_by_both_measures(fastest: float, then: float, slow: bool) -> None:
    pace = Pace(16)
    hear(pace, fastest, then)
    assert pace.round == slow


def test_slow_answers_are_judged_as_soon_as_there_are_enough() -> None:
    pace = Pace(20)
    hear(pace, 0.1, [9.0] * 19)
    assert pace.round == 0
    hear(pace, [9.0])
    assert pace.round == 1


def test_the_fastest_tenth_does_not_count_by_its_luckiest() -> None:
    pace = Pace(20)
    hear(pace, [0.01, 0.01, *[0.4] * 18], 0.8)
    assert pace.round == 0


@pytest.mark.parametrize(
    ("third", "rounds"),
    [
        pytest.param(7.9, 3, id="it helped, so ask less"),
        pytest.param(8.0, 3, id="it helped just enough"),
        pytest.param(8.1, 2, id="it did not help, so it is not us"),
    ],
)
def test_two_decreases_must_have_brought_a_fifth(third: float, rounds: int) -> None:
    pace = Pace(64)
    hear(pace, 0.1, 10.0, 9.0, third)
    assert pace.round == rounds


@pytest.mark.parametrize(("answered", "rounds"), [(10, 2), (11, 1)])
def test_a_line_that_is_refused_again_is_its_own_matter_when_ten_times_as_many_were_answered(
    answered: int, rounds: int
) -> None:
    pace = Pace(8)
    hear(pace, [0.1] * answered)
    pace.refused(now=1, began_in=0, wait=None, again=False)
    pace.refused(now=2, began_in=1, wait=None, again=True)
    assert pace.round == rounds


def test_short_first_pauses_double_ten_times_at_most() -> None:
    pace = Pace(1, first_pause=0.01)
    for now in range(0, 1300, 100):
        pace.refused(now=now, began_in=pace.round, wait=None, again=False)
    assert pace.paused_until - 1200 == pytest.approx(10.24)


def test_it_climbs_quickly_to_below_where_it_was_too_much_slowly_past_it_and_then_quickly_again() -> None:
    pace = Pace(100)
    for began_in in (0, 1):
        pace.refused(now=1, began_in=began_in, wait=None, again=False)
    assert pace.limit == 25
    for _ in range(40):
        pace.answered(began_in=2, took=None)
    assert pace.limit == 45  # nine tenths of 50
    answers = 0
    while pace.limit < 55:
        pace.answered(began_in=2, took=None)
        answers += 1
    assert answers > 1500
    for _ in range(40):
        pace.answered(began_in=2, took=None)
    assert pace.limit >= 70


@settings(deadline=None, max_examples=100)
@given(
    ceiling=st.integers(1, 20),
    facts=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.none() | st.floats(0.001, 1e6)), max_size=200
    ),
)
def test_whatever_is_heard_the_limit_stays_between_one_and_the_ceiling_and_no_pause_exceeds_a_minute(
    ceiling: int, facts: list[tuple[bool, bool, bool, float | None]]
) -> None:
    pace = Pace(ceiling)
    for now, (refused, flag, stale, seconds) in enumerate(facts):
        began_in = max(0, pace.round - stale)
        if refused:
            pace.refused(now=now, began_in=began_in, wait=seconds, again=flag)
        else:
            pace.answered(began_in=began_in, took=seconds)
        assert 1 <= pace.lowest <= pace.limit <= ceiling
        assert pace.paused_until <= now + LONGEST_PAUSE_SECONDS
