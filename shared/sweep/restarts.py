"""A restart: claimed in the database before it is sent, sent once, judged by looks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from shared import logs
from shared.core.decisions import has_waited
from shared.core.look import RestartAnswer
from shared.core.model import Observation, RestartOutcome, Sighting, Status
from shared.providers.looks import look_after_restart, look_once, waits_after_restart
from shared.sweep.fairness import FairPlaces
from shared.sweep.report import Outcome
from shared.sweep.transitions import text_for

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.look import Look
    from shared.core.notices import NoticeText
    from shared.sweep.brake import Brake
    from shared.sweep.context import SweepContext
    from shared.sweep.transitions import Transitions


class NotRestarted(Enum):
    """Why no restart was sent."""

    OWED = auto()
    """It does not fit the budget: the line is to be left, and comes first next time."""
    TOLD = auto()
    """The same, and its status says now that it is down."""
    HELD = auto()
    """The brake came on while it waited its turn."""
    OVERTAKEN = auto()
    """Somebody was faster, or a precondition holds no longer."""


class Restarts:
    """Restarts lines, a few at once, those of each company in turn.

    Args:
        context: Of the sweep.
        transitions: Where it writes.
        brake: May come on while restarts wait their turn or are under way.
    """

    def __init__(self, context: SweepContext, transitions: Transitions, brake: Brake) -> None:
        self._context = context
        self._transitions = transitions
        self._brake = brake
        self._places = FairPlaces(context.limits.restart_concurrency)

    async def restart(self, sighting: Sighting, *, is_canary: bool = False) -> RestartOutcome | NotRestarted:
        """Restart a line and see what comes of it."""
        limits, report = self._context.limits, self._context.report
        async with self._places.of(sighting.instance.company_id):
            if not await self._context.limiter.ready() or self._context.time_left < limits.restart_verify:
                return NotRestarted.OWED
            if not is_canary and await self._brake.holds(sighting):
                await self._transitions.hold([sighting])
                return NotRestarted.HELD
            claim = await self._context.store.claim_restart(
                sighting, lease=limits.restart_lease, why=sighting.evidence(report.run_id)
            )
            if not claim.claimed or claim.lease is None:
                logs.info("restart.overtaken", instance=sighting.instance.id)
                await self._transitions.record([sighting])
                return NotRestarted.OVERTAKEN
            report.outcomes[Outcome.RESTARTED] += 1
            return await self._send(sighting.with_preconditions(lease=claim.lease), is_canary=is_canary)

    async def owe(self, sighting: Sighting) -> NotRestarted:
        """Let a line that is owed a restart wait no longer for its status, and its users for the bell.

        Returns:
            OWED when there is nothing to write: the line is to be left.
        """
        instance = sighting.instance
        if instance.status is Status.DISCONNECTED or await self._brake.holds(sighting):
            return NotRestarted.OWED
        to, text = Status.DEGRADED, None
        if has_waited(instance, policy=self._context.policy, now=self._context.clock.now()):
            to, text = Status.DISCONNECTED, text_for(sighting)
        elif instance.status is Status.DEGRADED:
            return NotRestarted.OWED
        await self._transitions.move(sighting, to, text=text, finished=False)
        return NotRestarted.TOLD

    async def _send(self, sighting: Sighting, *, is_canary: bool) -> RestartOutcome:
        clock = asyncio.get_running_loop().time
        began = clock()
        answer = await self._context.provider.restart(sighting.instance, within=self._context.limits.look_timeout)
        logs.info(
            "restart.requested",
            instance=sighting.instance.id,
            observation=sighting.concluded,
            cause_word=sighting.cause,
            answer=answer,
            run=self._context.report.run_id,
        )
        # A request that hung has used up some of the time in which the line must come back.
        verify = max(self._context.limits.restart_verify - timedelta(seconds=clock() - began), timedelta(0))
        look, looked_at = await self._look_after(sighting, answer, verify)
        outcome = _outcome_of(look.observation)
        after = _sighting_after(sighting, look, looked_at)
        # A brake that came on meanwhile holds this line like the canary: nobody is marked or told.
        keeps_row = is_canary or sighting.instance.status is Status.DISCONNECTED or await self._brake.holds(after)
        to: Status | None
        text: NoticeText | None = None
        match outcome:
            case RestartOutcome.RECOVERED:
                to = Status.CONNECTED
            case RestartOutcome.FAILED:
                to = None if keeps_row else Status.DISCONNECTED
                text = text_for(after) if to else None
            case RestartOutcome.UNVERIFIED:
                to = None if keeps_row else Status.DEGRADED
        await self._transitions.move(after, to, text=text, restart=outcome)
        self._context.report.outcomes[Outcome(outcome)] += 1
        log = logs.info if outcome is RestartOutcome.RECOVERED else logs.warning
        log(
            f"restart.{outcome}",
            instance=sighting.instance.id,
            answer=answer,
            observation=look.observation,
            cause_word=look.cause,
            took_ms=round((clock() - began) * 1000),
            run=self._context.report.run_id,
        )
        return outcome

    async def _look_after(self, sighting: Sighting, answer: RestartAnswer, verify: timedelta) -> tuple[Look, datetime]:
        """The last look after a restart, and when it began."""
        now, limits = self._context.clock.now, self._context.limits
        looked_at = now()

        async def ask() -> Look:
            nonlocal looked_at
            looked_at = now()
            return await look_once(
                self._context.provider,
                sighting.instance,
                within=limits.look_timeout,
                policy=self._context.policy,
                now=now,
            )

        look = await look_after_restart(
            ask,
            waits_after_restart(verify, refused=answer is RestartAnswer.REFUSED),
            confirm_after=limits.ghost_confirm,
        )
        return look, looked_at


def _outcome_of(observation: Observation) -> RestartOutcome:
    match observation:
        case Observation.ALIVE:
            return RestartOutcome.RECOVERED
        case Observation.UNKNOWN | Observation.CLAIMED:
            return RestartOutcome.UNVERIFIED
        case Observation.DISCONNECTED | Observation.GHOST | Observation.NOT_FOUND | Observation.REFUSED:
            return RestartOutcome.FAILED


def _sighting_after(before: Sighting, look: Look, looked_at: datetime) -> Sighting:
    """What is known after a restart. A sweep that ends UNKNOWN counts as one, whatever it began with.

    Not so one that ends on our own haste.
    """
    observation = look.observation
    after = replace(before, found=observation, concluded=observation, cause=look.cause, looked_at=looked_at)
    if observation is not Observation.UNKNOWN:
        return after
    if look.throttled:
        return replace(after, found=None)
    unknown_looks = before.instance.unknown_looks if before.found is Observation.UNKNOWN else 0
    return replace(after, instance=before.instance.model_copy(update={"unknown_looks": unknown_looks}))
