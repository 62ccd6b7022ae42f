"""Limit how many events of one line are handled at once, so that a flood from one line delays only that line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVENTS_AT_ONCE_PER_LINE: Final = 4
"""Of some 40 requests that an instance serves at once."""


class Turns:
    """A semaphore per name, made when it is first used and dropped when it is free."""

    def __init__(self, at_once: int = EVENTS_AT_ONCE_PER_LINE) -> None:
        self._at_once = at_once
        self._by_name: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn of a name and take it."""
        semaphore = self._by_name.get(name)
        if semaphore is None:
            semaphore = self._by_name[name] = asyncio.Semaphore(self._at_once)
        async with semaphore:
            yield
