"""The looks of one sweep: each line once, as many at once as the provider takes, none beyond the budget."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shared.core.model import Observation, Sighting
from shared.providers.looks import agree, look_once
from shared.sweep.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.core.look import Look
    from shared.core.model import Instance, Witness
    from shared.sweep.context import SweepContext

_BUDGET_OVER: Final = "budget_over"


@dataclass(frozen=True, slots=True)
class _Answered:
    """What came of asking about a line: no look when there was no time, or our own haste kept it from answering."""

    look: Look | None
    cause: str
    looked_at: datetime


class Looking:
    """Looks at lines.

    Args:
        context: Of the sweep.
    """

    def __init__(self, context: SweepContext) -> None:
        self._context = context

    async def look_at_all(self, instances: list[Instance], all_begun: asyncio.Event) -> list[Sighting]:
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

    async def look_again(self, sightings: list[Sighting]) -> list[Sighting]:
        """Look a second time at lines that are to be restarted, marked or told. They hold no place while they wait.

        Args:
            sightings: With negative findings.

        Returns:
            In the same order: what both looks find together.
        """
        wait = self._context.limits.ghost_confirm
        if wait >= self._context.time_left:  # they are left to the next sweep
            return [replace(sighting, found=None, cause=_BUDGET_OVER) for sighting in sightings]
        await asyncio.sleep(wait.total_seconds())
        again = await self.look_at_all([sighting.instance for sighting in sightings], asyncio.Event())
        return [_together(first, second) for first, second in zip(sightings, again, strict=True)]

    async def ask_witnesses(self, witnesses: list[Witness]) -> list[Observation]:
        """Look at lines of the fleet that somebody else may hold; nothing is written about them.

        Returns:
            What was found; less than were asked when there was no time, or the provider wants to be left alone.
        """
        looks = await asyncio.gather(*(self._ask(witness, lambda: None) for witness in witnesses))
        return [answered.look.observation for answered in looks if answered.look is not None]

    async def _look_at(self, instance: Instance, one_begun: Callable[[], None]) -> Sighting:
        answered = await self._ask(instance, one_begun)
        if (look := answered.look) is None:
            return Sighting(instance, None, Observation.UNKNOWN, answered.cause, answered.looked_at)
        if look.drifted:
            self._context.report.outcomes[Outcome.DRIFTED] += 1
        return Sighting(instance, look.observation, look.observation, look.cause, answered.looked_at, look.phone)

    async def _ask(self, line: Instance | Witness, one_begun: Callable[[], None]) -> _Answered:
        limiter, limits, clock = self._context.limiter, self._context.limits, self._context.clock
        looked_at = clock.now()
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                one_begun()

        async def ask() -> Look:
            nonlocal looked_at
            while True:
                async with limiter.slot() as report:
                    begin()
                    looked_at = clock.now()
                    look = await look_once(
                        self._context.provider,
                        line,
                        within=limits.look_timeout,
                        policy=self._context.policy,
                        now=clock.now,
                    )
                    report(look)
                if not look.asked_to_wait or not await limiter.may_ask_again(line.id):
                    return look

        look: Look | None = None
        cause = _BUDGET_OVER
        try:
            with suppress(TimeoutError):  # the budget is over; the line is left to the next sweep
                async with asyncio.timeout_at(self._context.deadline):
                    look = await ask()
        except Exception as error:  # noqa: BLE001 - the guard around one line: no other line pays for it
            cause = "look_failed"
            self._context.count_error("look.failed", line, error)
        finally:
            begin()
        if (
            look is not None
            and look.throttled
            and look.observation is Observation.UNKNOWN
            and not limiter.refuses_only(line.id)
        ):
            # Our own haste says nothing about the line: it is left to the next sweep, not counted as UNKNOWN.
            cause, look = look.cause, None
        return _Answered(look, cause, looked_at)


def _together(first: Sighting, second: Sighting) -> Sighting:
    if first.found is None or second.found is None:
        return second
    found = agree(first.found, second.found)
    if found is second.found:
        return second
    return replace(second, found=found, concluded=found, cause=f"{first.cause}_then_{second.cause}")
