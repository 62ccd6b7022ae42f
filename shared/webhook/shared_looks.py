"""Share looks among the events of one line, so that a flood of disconnections asks the provider once at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.core.model import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime
    from uuid import UUID

    from shared.core.look import Look
    from shared.core.model import SuspectLine

SERVES_SECONDS: Final = 10
"""How long what a look has found is good for another event."""

_Key = tuple["UUID", str, str | None]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found.

    Attributes:
        look: The finding.
        at: When it began, on the database's clock.
    """

    look: Look
    at: datetime


@dataclass(slots=True)
class _Shared:
    """A look under way or over."""

    began: float
    task: asyncio.Task[Looked]
    ended: float | None = None


class SharedLooks:
    """At most one look at a line at a time, shared by all events that it can tell something about.

    Args:
        clock: In seconds; the loop's own if none is given.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._last: dict[_Key, _Shared] = {}

    async def of(self, line: SuspectLine, *, arrived: float, look: Callable[[], Coroutine[Any, Any, Looked]]) -> Looked:
        """What a look at a line finds that is good for an event of it.

        A look that began after the event had arrived is good. So is one that was under way then, unless it says ALIVE:
        it may not have seen what the event tells.

        Args:
            line: With the token as it was when the event came.
            arrived: When that was, on the same clock.
            look: Looks; never raises. Another event's may be used instead.
        """
        key = (line.id, line.external_id, line.token_hash)
        while True:
            last = self._last.get(key)
            if last is None or not self._is_fresh(last):
                last = self._begin(key, look)
            # Whoever gives up waiting takes the look away from nobody else.
            looked = await asyncio.shield(last.task)
            was_under_way = last.ended is None or last.ended >= arrived
            if last.began >= arrived or (was_under_way and looked.look.observation is not Observation.ALIVE):
                return looked
            if self._last.get(key) is last:
                self._begin(key, look)

    def _is_fresh(self, shared: _Shared) -> bool:
        return shared.ended is None or self._clock() - shared.began < SERVES_SECONDS

    def _begin(self, key: _Key, look: Callable[[], Coroutine[Any, Any, Looked]]) -> _Shared:
        self._last = {each: last for each, last in self._last.items() if self._is_fresh(last)}
        begun = _Shared(self._clock(), asyncio.create_task(look()))
        self._last[key] = begun

        def end(_: object) -> None:
            begun.ended = self._clock()

        begun.task.add_done_callback(end)
        return begun
