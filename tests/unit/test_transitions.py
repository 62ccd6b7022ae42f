"""Looks that change no status are written, again after a moment when somebody held a line, and then no more."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.core.model import Observation
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
    context: Any = SimpleNamespace(store=store, report=SimpleNamespace(given_back=0))
    sightings: Any = [SimpleNamespace(found=Observation.ALIVE)] * 3

    asyncio.run(Transitions(context).record(sightings))

    assert store.calls == [(3, True, True), (3, True, False)][: len(written)]
    told = [record.__dict__["fields"]["count"] for record in caplog.records if record.message == "looks.overtaken"]
    assert told == [overtaken] * (overtaken > 0)
