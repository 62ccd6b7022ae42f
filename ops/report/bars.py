"""A bar of hours as SVG paths: one a state, so that a line that was never down costs a few bytes. Pure.

An hour is one unit wide; its height says the state as well as its colour does, for who prints or does not see red.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from ops.report.timeline import Hour, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

HEIGHT: Final = 10
HEIGHTS: Final = {Hour.UP: 7, Hour.UNKNOWN: 2, Hour.PARTLY: HEIGHT, Hour.DOWN: HEIGHT}
"""In the order of painting: a short outage in a long bar lies on top."""
_HOURS_A_TICK: Final = {Window.DAY: 1, Window.WEEK: 24, Window.MONTH: 24}


def shapes(hours: Sequence[Hour], window: Window) -> list[tuple[str, str]]:
    """Class and path of each state that occurs in the last hours of a bar."""
    paths: dict[Hour, str] = {}
    at = 0
    for hour, group in groupby(hours[-window.value :]):
        length = len(list(group))
        paths[hour] = paths.get(hour, "") + _box(hour, at, length)
        at += length
    return [(hour.value, paths[hour]) for hour in HEIGHTS if hour in paths]


def _box(hour: Hour, at: int, length: int) -> str:
    return f"M{at} {HEIGHT - HEIGHTS[hour]}h{length}v{HEIGHTS[hour]}h-{length}z"


def one(hour: str) -> str:
    """A single hour, for the legend."""
    return _box(Hour(hour), 0, 1)


def ticks(window: Window) -> str:
    """What separates the hours of a day, or the days."""
    step = _HOURS_A_TICK[window]
    return "".join(f"M{at} 0v{HEIGHT}" for at in range(step, window.value, step))
