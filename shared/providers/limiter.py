"""Adaptive concurrency: how many looks run at once in one sweep, and when the provider is not asked at all.

One sweep asks one host, so one limiter stands for that host. Each sweep begins afresh.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.core.model import Observation
from shared.providers.pace import LONGEST_PAUSE_SECONDS, Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from shared.core.look import Look

_MOST_REPEATS: Final = 6
_LONGEST_WAIT_SECONDS: Final = 60.0
"""For all repeats of one look together: a line that is always refused does not keep a sweep from ending."""


@dataclass(slots=True)
class _Refused:
    times: int = 0
    until: float = 0
    waited: float = 0


class Limiter:
    """An adaptive semaphore, first come, first served, that also knows when the host wants to be left alone.

    Args:
        ceiling: The most looks at once, and where it starts.
        deadline: The end of the budget, on ``clock``; nobody waits beyond it.
        first_pause: See ``Pace``.
        clock: Seconds; the loop's own if none is given.
        sleep: Seconds.
        spread: See ``Pace``.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        deadline: float = math.inf,
        first_pause: timedelta = timedelta(seconds=0.5),
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        spread: Callable[[], float] = lambda: random.uniform(0.75, 1.25),  # noqa: S311 - spreads, keeps no secret
    ) -> None:
        self._pace = Pace(ceiling, first_pause.total_seconds(), spread)
        self._first_pause = first_pause.total_seconds()
        self._deadline = deadline
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lines: dict[UUID, _Refused] = {}

    @property
    def limit(self) -> int:
        """How many may run now; never less than one."""
        return self._pace.limit

    @property
    def round(self) -> int:
        """What ``refused`` wants to know of the moment in which a request was sent."""
        return self._pace.round

    def summary(self) -> dict[str, int] | None:
        """What a sweep says of its haste; None when there was none."""
        if not self._pace.round:
            return None
        refused = sum(line.times for line in self._lines.values())
        return {"refused": refused, "lines_refused": len(self._lines), "lowest_limit": self._pace.lowest}

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Callable[[Look], None]]:
        """Wait for a place and for the end of a pause, and hold the place.

        Yields:
            What to tell the look that came of it.
        """
        await self._acquire()
        try:
            await self.ready()
            began_in, began = self.round, self._clock()
            yield lambda look: self._report(look, began_in=began_in, began=began)
        finally:
            self._running -= 1
            self._wake()

    async def ready(self) -> bool:
        """Wait while the host wants to be left alone.

        Returns:
            False, at once, when that lasts longer than the budget.
        """
        while (wait := self._pace.paused_until - self._clock()) > 0:
            if self._pace.paused_until >= self._deadline:
                return False
            await self._sleep(wait)
        return True

    def refused(self, line: UUID, wait: timedelta | None, *, began_in: int) -> None:
        """The host has asked to wait.

        Args:
            line: About which line it was asked.
            wait: For how long, if it said so.
            began_in: ``round`` when the request was sent.
        """
        seconds = wait.total_seconds() if wait else None
        refused = self._lines.setdefault(line, _Refused())
        self._pace.refused(now=self._clock(), began_in=began_in, wait=seconds, again=refused.times > 0)
        own = max(seconds or 0, self._first_pause * 2.0 ** min(refused.times, 10))
        refused.times += 1
        refused.until = self._clock() + min(own, LONGEST_PAUSE_SECONDS)

    async def may_ask_again(self, line: UUID) -> bool:
        """Wait until a line that was refused can be asked about again.

        Returns:
            False, at once, when that is not worth it in this sweep.
        """
        refused = self._lines.get(line)
        if refused is None or max(refused.until, self._pace.paused_until) >= self._deadline:
            return False
        wait = max(refused.until - self._clock(), 0.0)
        if refused.times > _MOST_REPEATS or refused.waited + wait > _LONGEST_WAIT_SECONDS:
            return False
        refused.waited += wait
        await self._sleep(wait)
        return True

    def refuses_only(self, line: UUID) -> bool:
        """Whether a line was refused as often as anybody asks, while nearly all others are answered."""
        refused = self._lines.get(line)
        return refused is not None and refused.times > _MOST_REPEATS and self._pace.refuses_few

    def _report(self, look: Look, *, began_in: int, began: float) -> None:
        if look.asked_to_wait or look.observation is Observation.UNKNOWN:
            return
        # Only looks of one kind can be compared, and only those that did not wait for a pause.
        whole = look.observation is Observation.ALIVE and self._pace.paused_until < began
        self._pace.answered(began_in=began_in, took=self._clock() - began if whole else None)

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
