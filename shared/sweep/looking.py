"""The looks of one sweep: each line once, as many at once as the provider takes, none beyond the budget."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.core.model import Observation, Seen
from shared.providers.looks import look_once, look_twice

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.core.model import Instance, Limits, Policy
    from shared.database.clock import DatabaseClock
    from shared.providers.limiter import Limiter
    from shared.providers.looks import Provider
    from shared.providers.wapi.answers import Look


class Gathering:
    """Looks at lines.

    Args:
        provider: Paced by ``limiter``.
        limiter: Gives the places.
        policy: How fresh an event must be to contradict a ghost.
        limits: For the time of a look.
        clock: The database's.
        deadline: The end of the budget, on the loop's clock.
        count_error: Told what broke one line's look.
    """

    def __init__(
        self,
        provider: Provider,
        limiter: Limiter,
        *,
        policy: Policy,
        limits: Limits,
        clock: DatabaseClock,
        deadline: float,
        count_error: Callable[[str, Seen, Exception], None],
    ) -> None:
        self._provider = provider
        self._limiter = limiter
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._deadline = deadline
        self._count_error = count_error

    async def look_at_all(self, instances: list[Instance], all_begun: asyncio.Event) -> list[Seen]:
        """Look at a batch.

        Args:
            instances: Claimed.
            all_begun: Set when the last look has begun, so that the next batch can be claimed.
        """
        not_begun = len(instances)

        def one_begun() -> None:
            nonlocal not_begun
            not_begun -= 1
            if not not_begun:
                all_begun.set()

        return await asyncio.gather(*(self._look_at(instance, one_begun) for instance in instances))

    async def _look_at(self, instance: Instance, one_begun: Callable[[], None]) -> Seen:
        looked_at = self._clock.now()
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                one_begun()

        async def ask() -> Look:
            nonlocal looked_at
            while True:
                async with self._limiter.slot() as report:
                    begin()
                    looked_at = self._clock.now()
                    look = await look_once(
                        self._provider,
                        instance,
                        within=self._limits.look_timeout,
                        policy=self._policy,
                        now=self._clock.now,
                    )
                    report(look)
                if not look.asked_to_wait or not await self._limiter.may_ask_again(instance.id):
                    return look

        look: Look | None = None
        try:
            with suppress(TimeoutError):  # the budget is over; the line is left to the next sweep
                async with asyncio.timeout_at(self._deadline):
                    look = await look_twice(ask, confirm_after=self._limits.ghost_confirm)
        except Exception as error:  # noqa: BLE001 - the guard around one line: no other line pays for it
            unseen = Seen(instance, None, Observation.UNKNOWN, looked_at)
            self._count_error("look.failed", unseen, error)
        finally:
            begin()
        if look is None or (look.throttled and look.observation is Observation.UNKNOWN):
            # Our own haste says nothing about the line: it is left to the next sweep, not counted as UNKNOWN.
            return Seen(instance, None, Observation.UNKNOWN, looked_at)
        return Seen(instance, look.observation, look.observation, looked_at)
