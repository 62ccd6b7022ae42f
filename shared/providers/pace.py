"""How much one host is asked at once, and until when it is left alone. Pure: instants and answers in, numbers out.

Additive increase, multiplicative decrease, as TCP does it. Two things more: it climbs back quickly to just below where
it was last too much, so that a blip costs a round and a real limit is met gently; and it also takes less when answers
slow down under us, as TCP Vegas does, unless taking less does not make them faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PAUSE_SECONDS: Final = 60.0
"""No header may stop a sweep for longer."""
FEW_PAUSE_SECONDS: Final = 2.0
"""Nor for longer than this while nearly all lines are answered: a line with a limit of its own waits by itself."""
SLOWER_BY: Final = 2.0
SLOWER_BY_SECONDS: Final = 0.5
"""Answers are slow when half of them take this much more, by both measures, than the fastest tenth of a round did."""
_ENOUGH: Final = 2
_HELPED: Final = 0.8
"""Two decreases must have brought the answers below this share of what they took before."""
_ROUND: Final = 16
_QUICK_STEP: Final = 0.5
_NEARLY: Final = 0.9
_WELL_OVER: Final = 1.1
_SLOW_STEP: Final = 0.25
_NEARLY_ALL: Final = 10


def no_spread() -> float:
    """Pauses exactly as long as computed."""
    return 1.0


@dataclass(slots=True)
class Pace:
    """The pace of one sweep at one host. Seconds are of any one clock.

    A *round* lasts from one decrease to the next: what was asked before a decrease is no reason for another one.

    Attributes:
        ceiling: The most at once, and where it starts.
        first_pause: After a refusal that does not say how long; doubled by each that follows without an answer.
        spread: A factor around 1 for such pauses, so that sweeps in parallel do not come back together.
        round: Count of decreases.
        paused_until: Nobody asks before this instant.
        lowest: The least that it came down to.
    """

    ceiling: int
    first_pause: float = 0.5
    spread: Callable[[], float] = no_spread
    round: int = 0
    paused_until: float = -math.inf
    lowest: int = 0
    _limit: float = 0
    _too_much: float = math.inf
    _answered: int = 0
    _lines_refused: int = 0
    _in_a_row: int = 0
    _took: list[float] = field(default_factory=list)
    _fastest: float = math.inf
    _slow_rounds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._limit = float(self.ceiling)
        self.lowest = self.ceiling

    @property
    def limit(self) -> int:
        """How many may run now; never less than one."""
        return max(1, int(self._limit))

    @property
    def refuses_few(self) -> bool:
        """Whether nearly all lines are answered: then a refusal is a matter between the host and one line."""
        return self._lines_refused * _NEARLY_ALL < self._answered

    def refused(self, *, now: float, began_in: int, wait: float | None, again: bool) -> None:
        """The host has asked to wait.

        Args:
            now: When.
            began_in: The round in which the request was sent.
            wait: For how many seconds, if it said so.
            again: The same line was refused before. As long as nearly all others are answered, that is a matter between
                the host and this line.
        """
        of_a_burst = began_in != self.round  # one burst of 429s is one sign, not a hundred
        self._lines_refused += not again
        if (again and self.refuses_few) or (of_a_burst and wait is None):
            return
        seconds = self.first_pause * 2.0 ** min(self._in_a_row, 10) * self.spread() if wait is None else wait
        longest = FEW_PAUSE_SECONDS if self.refuses_few else LONGEST_PAUSE_SECONDS
        self.paused_until = max(self.paused_until, now + min(seconds, longest))
        if not of_a_burst:
            self._in_a_row += 1
            self._lower(self._limit / 2)

    def answered(self, *, began_in: int, took: float | None) -> None:
        """A look has been answered.

        Args:
            began_in: The round in which it began.
            took: Seconds; None when they say nothing about the host (it waited for a pause, or was a shorter look).
        """
        self._answered += 1
        if began_in != self.round:
            return
        self._in_a_row = 0
        if not self._slow_rounds:
            self._raise()
        if took is not None:
            self._took.append(took)
            if len(self._took) >= max(_ROUND, self.limit):
                self._judge_latency()

    def _raise(self) -> None:
        if self._limit > self._too_much * _WELL_OVER:
            self._too_much = math.inf
        quick = self._limit + _QUICK_STEP <= self._too_much * _NEARLY
        step = _QUICK_STEP if quick else _SLOW_STEP / self._limit
        self._limit = min(float(self.ceiling), self._limit + step)

    def _judge_latency(self) -> None:
        took, self._took = sorted(self._took), []
        fastest, median = took[len(took) // 10], took[len(took) // 2]
        self._fastest = min(self._fastest, fastest)
        allowed = max(self._fastest * SLOWER_BY, self._fastest + SLOWER_BY_SECONDS)
        if median <= allowed:
            self._slow_rounds.clear()
            return
        self._slow_rounds.append(median)
        if len(self._slow_rounds) > _ENOUGH and median > self._slow_rounds[-1 - _ENOUGH] * _HELPED:
            self._fastest = fastest  # asking less did not help: it is not us, the host has become slower
            self._too_much = math.inf
            self._slow_rounds.clear()
            return
        self._lower(self._limit * max(0.5, allowed / median))

    def _lower(self, to: float) -> None:
        if self.round:  # the first time may be a blip: climb back all the way
            self._too_much = self._limit
        self._limit = max(1.0, to)
        self.lowest = min(self.lowest, self.limit)
        self.round += 1
        self._took.clear()
