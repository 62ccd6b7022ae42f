"""The brake of one sweep: when it comes on, whom it holds, which canary may end it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from shared import logs
from shared.core.brake import (
    Held,
    brake_engages,
    count,
    count_one,
    leaves_brake,
    may_be_canary,
    witnesses_brake,
)
from shared.core.decisions import would_act
from shared.core.model import Census
from shared.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from uuid import UUID

    from shared.core.decisions import Decided
    from shared.core.model import Sighting
    from shared.sweep.context import SweepContext
    from shared.sweep.looking import Looking

_ASK_FOR_THE_CANARY_EACH: Final = 1.0  # seconds


class Brake:
    """Knows whether this sweep may restart, mark and tell.

    Args:
        context: Of the sweep.
        looking: Asks witnesses.
        tasks: The sweep's, which ends when all of them have.
    """

    def __init__(self, context: SweepContext, looking: Looking, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._tasks = tasks
        self._looking = looking
        self._policy = context.policy
        self._condemned: set[UUID] = set()
        self._witnesses_brake = False
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = float("-inf")
        self._canary: asyncio.Task[bool] | None = None
        self._lifted = False
        self._fresh = Census()  # without the lines that are owed restarts
        self.census = Census()

    def count(self, sightings: list[Sighting], now: datetime) -> Census:
        """Add a batch to the sweep's census.

        Returns:
            The batch's own, without lines that are owed restarts.
        """
        census = count(sightings, policy=self._policy, now=now)
        self.census += census
        self._context.report.looked_at_up += census.up
        fresh = count(sightings, policy=self._policy, now=now, with_owed=False)
        self._fresh += fresh
        return fresh

    async def comes_on(self, batch: Census, decided: list[Decided]) -> bool:
        """Whether the brake holds a batch back.

        Args:
            batch: Its census.
            decided: What would be done without the brake.
        """
        condemned = {line.sighting.instance.id for line in decided if would_act(line.decision)}
        self._condemned |= condemned
        if self._lifted:
            return False
        if not brake_engages(batch, policy=self._policy) and not await self._is_on(about_to_act=bool(condemned)):
            return False
        await self._enter()
        return True

    async def holds(self, sighting: Sighting) -> bool:
        """Whether the brake, asked now, holds a line that was decided on a while ago and has waited its turn."""
        if leaves_brake(sighting, policy=self._policy, now=self._context.clock.now()):
            return False
        if self._lifted or not await self._is_on(about_to_act=True):
            return False
        await self._enter()
        return True

    async def _is_on(self, *, about_to_act: bool) -> bool:
        if brake_engages(self._fresh, policy=self._policy) or self._witnesses_brake:
            return True
        if brake_engages(self.census, policy=self._policy) and await self._is_of_the_fleet(self.census.bad):
            return True
        return about_to_act and await self._witnesses_say_so()

    async def _is_of_the_fleet(self, bad: int) -> bool:
        """Whether so many bad lines are too large a share of the whole fleet; it is counted no further than needed."""
        enough = math.floor(bad / self._policy.brake_share) + 1
        return enough > await self._context.store.count_up(
            enough,
            degraded_since=self._context.clock.now() - self._policy.degraded_is_up,
            asleep=self._context.asleep,
        )

    # Witnesses

    async def _witnesses_say_so(self) -> bool:
        """Whether lines of the fleet, asked now, say that the provider is down. One asking serves all for a while.

        What they say once stands for the rest of the sweep.
        """
        clock = asyncio.get_running_loop().time
        if self._asking is None or clock() - self._asked_at >= self._policy.witnesses_serve.total_seconds():
            self._asked_at = clock()
            self._asking = asyncio.create_task(self._ask_witnesses())
        asking = self._asking
        try:
            return await asyncio.shield(asking) or self._witnesses_brake
        except StoreError:
            if self._asking is asking:
                self._asking = None  # nobody was asked: who comes next asks
            raise

    async def _ask_witnesses(self) -> bool:
        drawn = await self._context.store.draw_witnesses(
            self._policy.witnesses,
            degraded_since=self._context.clock.now() - self._policy.degraded_is_up,
            but_not=self._condemned,
            asleep=self._context.asleep,
        )
        found = await self._looking.ask_witnesses(drawn)
        census = sum((count_one(observation) for observation in found), Census())
        self._witnesses_brake |= witnesses_brake(census, bad=len(self._condemned), policy=self._policy)
        return self._witnesses_brake

    # The canary

    def pick_canary(self, held: list[tuple[Sighting, Held]], *, now: datetime) -> Sighting | None:
        """The longest bad of the held lines that may be restarted; None when one was sent, or none may be."""
        if self._canary is not None:
            return None
        candidates = [sighting for sighting, each in held if may_be_canary(each)]
        return min(candidates, key=lambda sighting: sighting.instance.bad_since or now, default=None)

    async def send_canary(self, sighting: Sighting, restart: Callable[[], Awaitable[bool]]) -> bool:
        """Send one canary, if no other sweep has one under way, and leave its end to every sweep.

        Args:
            sighting: Which line.
            restart: Restarts it; says whether it recovered.

        Returns:
            Whether it was sent; if not, the line is held like the others.
        """
        claim = await self._context.store.claim_canary(
            sighting.instance.id, began=self._context.began, lease=self._context.limits.restart_lease
        )
        if not claim.claimed:
            return False
        self._canary = self._tasks.create_task(self._end_canary(sighting, restart))
        return True

    async def _end_canary(self, sighting: Sighting, restart: Callable[[], Awaitable[bool]]) -> bool:
        recovered = await restart()
        try:
            await self._context.store.end_canary(sighting.instance.id, recovered=recovered)
        except StoreError as error:
            # Other sweeps wait for its lease and learn nothing; this one knows.
            logs.error("canary.not_recorded", cause=error, instance=sighting.instance.id)
        return recovered

    async def _other_canary(self) -> bool:
        """Wait for the canary of another sweep, if there is one: its recovery counts for all that began before it."""
        while True:
            claim = await self._context.store.claim_canary(
                None, began=self._context.began, lease=self._context.limits.restart_lease
            )
            if claim.recovered or not claim.under_way:
                return claim.recovered
            if self._context.time_left.total_seconds() <= _ASK_FOR_THE_CANARY_EACH:
                return False
            await asyncio.sleep(_ASK_FOR_THE_CANARY_EACH)

    async def lifts(self, held: int) -> bool:
        """Wait for the canary, ours or another's. Its recovery frees all that are held, its failure tells nobody."""
        if not held:
            return False
        recovered = await (asyncio.shield(self._canary) if self._canary is not None else self._other_canary())
        if not recovered:
            return False
        self._lifted = True
        logs.warning("brake.lifted", held=held)
        return True

    # Entering and leaving

    async def _enter(self) -> None:
        if self._context.report.braked:
            return
        self._context.report.braked = True
        if await self._context.store.enter_brake():
            logs.error(
                "brake.engaged",
                connected=self.census.up,
                not_alive=self.census.bad,
                unknown=self.census.unknown,
                run=self._context.report.run_id,
            )

    def left(self, since: datetime) -> None:
        """Say that this sweep was the first without a brake, after one that came on ``since`` then."""
        logs.error(
            "brake.released",
            since=since.isoformat(),
            seconds=round((self._context.clock.now() - since).total_seconds()),
            run=self._context.report.run_id,
        )
