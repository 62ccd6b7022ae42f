"""Stretches of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From ``start`` to ``end``, both aware; empty when the end is not after the start."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """Never negative."""
        return max(self.end - self.start, timedelta(0))

    def within(self, window: Span) -> Span:
        """The part that lies in a window."""
        return Span(max(self.start, window.start), min(self.end, window.end))


def union(spans: Iterable[Span], window: Span) -> tuple[Span, ...]:
    """What any of them covers of a window, in order and apart from each other."""
    merged: list[Span] = []
    for span in sorted(each.within(window) for each in spans):
        if span.end <= span.start:
            continue
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


def minus(spans: Iterable[Span], taken: tuple[Span, ...]) -> tuple[Span, ...]:
    """What is left of spans without those that are taken; both in order and apart."""
    left: list[Span] = []
    first = 0
    for span in spans:
        while first < len(taken) and taken[first].end <= span.start:
            first += 1
        start = span.start
        for cut in taken[first:]:
            if cut.start >= span.end:
                break
            if cut.start > start:
                left.append(Span(start, cut.start))
            start = max(start, cut.end)
        if start < span.end:
            left.append(Span(start, span.end))
    return tuple(left)


def total(spans: Iterable[Span]) -> timedelta:
    """How long they are together."""
    return sum((span.length for span in spans), timedelta(0))
