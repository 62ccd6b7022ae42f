"""Years of made-up lines: when each is heard, quarter hour by quarter hour, with what makes silence natural.

Shops with opening hours, lunch and Sundays; busy and quiet hours that last (a rainy afternoon, a campaign), seasons, days on
which nobody writes, holidays that most keep, closed weeks, evenings that end early, lines that begin, that change their hours
or that nobody uses any more; at the busiest some traffic at night.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

ZONE = ZoneInfo("America/Sao_Paulo")
QUARTER = timedelta(minutes=15)
QUARTERS_A_DAY = 96
HOLIDAYS = {
    (1, 1), (2, 16), (2, 17), (4, 3), (4, 21), (5, 1), (6, 4), (9, 7), (10, 12), (11, 2), (11, 15), (11, 20), (12, 25),
}  # fmt: skip
SEASON = (0.6, 0.7, 1.0, 1.0, 1.1, 1.0, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4)


@dataclass(frozen=True, slots=True)
class Kind:
    """A trade: open hours by weekday from Monday, events that begin in a quarter while open and while closed."""

    hours: tuple[tuple[float, float] | None, ...]
    rate: float
    night: float
    lunch: float = 1.0


SHOP = Kind(((9, 19),) * 5 + ((9, 15), None), 2.2, 0.01, 0.5)
BUSY = Kind(((8, 22),) * 7, 6.0, 0.5, 0.8)
RESTAURANT = Kind((None, *((11, 23),) * 6), 1.6, 0.02)
PARTIES = Kind((None, *((10, 21),) * 6), 1.0, 0.01, 0.7)
OFFICE = Kind(((8, 18),) * 5 + (None, None), 0.5, 0.0, 0.3)
QUIET = Kind(((9, 18),) * 6 + (None,), 0.1, 0.002)
KINDS = (SHOP, SHOP, BUSY, RESTAURANT, PARTIES, PARTIES, OFFICE, QUIET)


def heard(kind: Kind, *, begins: datetime, days: int, chance: random.Random) -> Iterator[datetime]:
    """The last event of each quarter hour that has one, in order.

    Args:
        kind: Of the line.
        begins: A midnight in ``ZONE``.
        days: How many.
        chance: Where all of it comes from.
    """
    level = math.exp(chance.gauss(0, 0.4))
    first_day = chance.randrange(days // 2) if chance.random() < 0.1 else 0
    last_day = chance.randrange(days // 3, days) if chance.random() < 0.05 else days
    moved_from = chance.randrange(days) if chance.random() < 0.1 else days
    closed_weeks = {chance.randrange(days) for _ in range(2)} if chance.random() < 0.3 else set()
    keeps_holidays = chance.random() < 0.7
    mood = 0.0
    for day in range(days):
        date = begins + timedelta(days=day)
        season = SEASON[date.month - 1] * level * math.exp(chance.gauss(0, 0.3))
        hours = kind.hours[date.weekday()]
        closed = (
            any(0 <= day - week < 7 for week in closed_weeks)
            or (keeps_holidays and (date.month, date.day) in HOLIDAYS)
            or chance.random() < 0.005
        )
        shift = 2.0 if day >= moved_from else 0.0
        early = chance.uniform(1, 5) if chance.random() < 0.03 else 0.0
        for quarter in range(QUARTERS_A_DAY):
            mood = 0.9 * mood + chance.gauss(0, 0.22)
            hour = quarter / 4
            is_open = not closed and hours is not None and hours[0] + shift <= hour < hours[1] + shift - early
            rate = season * math.exp(mood) * (kind.rate if is_open else kind.night)
            if is_open and 12 <= hour < 14:
                rate *= kind.lunch
            if is_open and hours is not None and hour < hours[0] + shift + 1:
                rate *= 0.5  # a slow beginning
            if not first_day <= day < last_day:
                continue
            if chance.random() < -math.expm1(-rate):
                yield date + quarter * QUARTER + timedelta(seconds=chance.randrange(900))
