"""The brake of one sweep: when it comes on, whom it holds, which canary may end it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared import logs
from shared.core.brake import (
    Held,
    brake_engages,
    can_brake,
    count,
    leaves_brake,
    may_be_canary,
    witnesses_brake,
)
from shared.core.decisions import would_act
from shared.core.model import Census, Observation, Status

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.decisions import Decided
    from shared.core.model import Sighting
    from shared.sweep.context import SweepContext
    from shared.sweep.looking import Looking


class Brake:
    """Knows whether this sweep may restart, mark and tell.

    Args:
        context: Of the sweep.
        looking: Asks witnesses.
    """

    def __init__(self, context: SweepContext, looking: Looking) -> None:
        self._context = context
        self._looking = looking
        self._policy = context.policy
        self._outage_began = False
        self._canary: asyncio.Task[bool] | None = None
        self._lifted = False
        self.census = Census()

    def count(self, sightings: list[Sighting]) -> Census:
        """Add a batch to the sweep's census.

        Returns:
            The batch's own.
        """
        census = count(sightings)
        self.census += census
        self._context.report.looked_at_up += census.connected
        return census

    @property
    def can_tell(self) -> bool:
        """Whether this sweep has seen enough lines to tell dead phones from a dead provider."""
        return can_brake(self.census, policy=self._policy)

    async def comes_on(self, batch: Census, decided: list[Decided]) -> bool:
        """Whether the brake holds a batch back.

        Args:
            batch: Its census.
            decided: What would be done without the brake.
        """
        if self._lifted:
            return False
        if not (brake_engages(batch, policy=self._policy) or self._sweep_brakes or await self._died_meanwhile(decided)):
            return False
        await self._enter()
        return True

    def holds(self, sighting: Sighting) -> bool:
        """Whether a brake that came on since the decision holds a line: its restart has waited its turn."""
        if self._lifted or not self._sweep_brakes:
            return False
        return not leaves_brake(sighting, policy=self._policy, now=self._context.clock.now())

    @property
    def _sweep_brakes(self) -> bool:
        return self._outage_began or brake_engages(self.census, policy=self._policy)

    # Witnesses

    async def _died_meanwhile(self, decided: list[Decided]) -> bool:
        """Whether lines that were alive a moment ago have died since: an outage may begin among a batch's last looks.

        Asks a few of them again, and only when another line is about to be restarted or told.
        """
        bad = sum(would_act(line.decision) for line in decided)
        well = [
            line.sighting
            for line in decided
            if line.sighting.found is Observation.ALIVE and line.sighting.instance.status is Status.CONNECTED
        ]
        if not bad or bad + len(well) < self._policy.brake_min_lines:
            return False
        witnesses = sorted(well, key=lambda sighting: sighting.looked_at)[: self._policy.brake_min_lines]
        again = await self._looking.look_at_all([witness.instance for witness in witnesses], asyncio.Event())
        # Other batches ask meanwhile: what one of them has seen stands for the rest of the sweep.
        self._outage_began |= witnesses_brake(count(again), bad=bad, policy=self._policy)
        return self._outage_began

    # The canary

    def pick_canary(self, held: list[tuple[Sighting, Held]], *, now: datetime) -> Sighting | None:
        """The longest bad of the held lines that may be restarted; None when one was sent, or none may be."""
        if self._canary is not None:
            return None
        candidates = [sighting for sighting, each in held if may_be_canary(each)]
        return min(candidates, key=lambda sighting: sighting.instance.bad_since or now, default=None)

    def send_canary(self, restart: asyncio.Task[bool]) -> None:
        """Take the canary's restart, one for all batches of the sweep."""
        self._canary = restart

    async def lifts(self, held: int) -> bool:
        """Wait for the canary. Its recovery frees every line that is held, its failure tells nobody."""
        if self._canary is None or not await asyncio.shield(self._canary):
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
                connected=self.census.connected,
                not_alive=self.census.connected_not_alive,
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
