"""How many looks run at once: fewer when the provider says 429, more again when it answers."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Limiter:
    """An adaptive semaphore, first come, first served: additive increase, multiplicative decrease.

    Args:
        ceiling: The most at once, and where it starts.
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = float(ceiling)
        self._running = 0
        self._decreases = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many may run now; never less than one."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Callable[[bool], None]]:
        """Wait for a place and hold it.

        Yields:
            What to call with "the provider said 429": True asks less of it, False a little more.
        """
        await self._acquire()
        began_at = self._decreases
        try:
            yield lambda throttled: self._report(throttled=throttled, began_at=began_at)
        finally:
            self._running -= 1
            self._wake()

    async def _acquire(self) -> None:
        if self._running < self.limit and not self._waiting:
            self._running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place was already ours
                self._running -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._running < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)

    def _report(self, *, throttled: bool, began_at: int) -> None:
        if not throttled:
            self._limit = min(float(self._ceiling), self._limit + 1 / self._limit)
        elif began_at == self._decreases:  # one burst of 429s is one sign, not a hundred
            self._decreases += 1
            self._limit = max(1.0, self._limit / 2)
