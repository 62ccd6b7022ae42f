"""Looks that change no status are written, again after a moment when somebody held a line, and then no more."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.core.model import Observation
from shared.errors import StoreError, StoreRefused, StoreUnavailable
from shared.sweep.transitions import Transitions

if TYPE_CHECKING:
    from collections.abc import Sequence


class Answers:
    """A store that writes as many looks as it is told, call by call."""

    def __init__(self, written: Sequence[int]) -> None:
        self._written = iter(written)
        self.calls: list[tuple[int, bool, bool]] = []

    async def record_looks(self, sightings: list[Any], *, finished: bool = True, comes_again: bool = False) -> int:
        self.calls.append((len(sightings), finished, comes_again))
        return next(self._written)


@pytest.mark.parametrize(
    ("written", "overtaken"), [([3], 0), ([2, 1], 0), ([2, 0], 1), ([0, 0], 3)], ids=["all", "held", "lost", "none"]
)
def test_what_was_not_written_is_tried_once_more(
    written: list[int], overtaken: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = Answers(written)
    context: Any = SimpleNamespace(
        store=store, limits=SimpleNamespace(batch_size=500), report=SimpleNamespace(given_back=0, recorded=0)
    )
    sightings: Any = [SimpleNamespace(found=Observation.ALIVE)] * 3

    asyncio.run(Transitions(context).record(sightings))

    assert store.calls == [(3, True, True), (3, True, False)][: len(written)]
    told = [record.__dict__["fields"]["count"] for record in caplog.records if record.message == "looks.overtaken"]
    assert told == [overtaken] * (overtaken > 0)


class Refuses:
    """A store that refuses calls with certain lines, or with too many."""

    def __init__(self, bad: set[int], error: StoreError, *, most: int = 10_000) -> None:
        self._bad, self._error, self._most = bad, error, most
        self.sizes: list[int] = []

    async def record_looks(self, sightings: list[Any], *, finished: bool, comes_again: bool) -> int:
        assert finished
        assert comes_again
        self.sizes.append(len(sightings))
        if len(sightings) > self._most or self._bad & {each.instance.id for each in sightings}:
            raise self._error
        return len(sightings)


def record(store: Refuses, count: int) -> tuple[list[int], list[int], int]:
    """Record so many lines; answer the lines counted as errors, those given up by the batch, and how many were written."""
    errors: list[int] = []
    given_up: list[int] = []
    context: Any = SimpleNamespace(
        store=store,
        limits=SimpleNamespace(batch_size=500),
        report=SimpleNamespace(given_back=0, recorded=0),
        count_error=lambda _fact, line, _error: errors.append(line.id),
        give_up_recording=lambda count, _error: given_up.append(count),
    )
    lines: Any = [SimpleNamespace(found=Observation.ALIVE, instance=SimpleNamespace(id=n)) for n in range(count)]
    asyncio.run(Transitions(context).record(lines))
    return sorted(errors), given_up, context.report.recorded


RULE = StoreRefused("record_looks", "23514")
SLOW = StoreUnavailable("record_looks", "57014")


@pytest.mark.parametrize(
    "bad",
    [{0}, {499}, {7, 300}, set(range(100, 110)), set(range(0, 500, 4)), set(range(0, 500, 2))],
    ids=["first", "last", "two", "ten", "every fourth", "every second"],
)
def test_rows_that_are_refused_cost_no_other_row_its_look(bad: set[int]) -> None:
    store = Refuses(bad, RULE)
    assert record(store, 500) == (sorted(bad), [], 500 - len(bad))


def test_a_table_that_takes_no_row_is_not_asked_about_each() -> None:
    store = Refuses(set(range(500)), RULE)
    errors, given_up, written = record(store, 500)
    assert (len(errors), given_up, written) == (16, [484], 0)
    assert len(store.sizes) == 17


def test_a_single_line_that_is_refused_is_an_error_of_that_line() -> None:
    assert record(Refuses({0}, RULE), 1) == ([0], [], 0)


def test_what_takes_too_long_is_written_in_parts_that_are_in_time() -> None:
    store = Refuses(set(), SLOW, most=30)
    assert record(store, 500) == ([], [], 500)
    assert store.sizes[:3] == [500, 125, 31]
    assert max(store.sizes[3:]) == 8


def test_what_takes_too_long_in_the_smallest_part_is_a_database_that_is_away() -> None:
    with pytest.raises(StoreUnavailable):
        record(Refuses(set(), SLOW, most=5), 500)


def test_a_database_that_is_away_is_not_asked_in_parts() -> None:
    store = Refuses({3}, StoreUnavailable("record_looks", "ConnectError"))
    with pytest.raises(StoreUnavailable):
        record(store, 500)
    assert store.sizes == [500]
