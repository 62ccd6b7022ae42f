"""Limit how many events of one line are handled at once, so that a flood from one line delays only that line."""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakValueDictionary

EVENTS_AT_ONCE_PER_LINE: Final = 4
"""Of some 40 requests that an instance serves at once."""


class Turns:
    """A semaphore per name, made when it is first used and dropped when nobody has it any more."""

    def __init__(self, at_once: int = EVENTS_AT_ONCE_PER_LINE) -> None:
        self._at_once = at_once
        self._by_name: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Semaphore:
        """The turns of a name: ``async with`` waits for one and takes it."""
        semaphore = self._by_name.get(name)
        if semaphore is None:
            semaphore = self._by_name[name] = asyncio.Semaphore(self._at_once)
        return semaphore
