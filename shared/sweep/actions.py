"""Carrying out what was decided about one line: its transition, its restart, and what is said about it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from shared import logs
from shared.core.decisions import Disconnect, Healthy, Hold, Restart, Restore, Skip
from shared.core.model import Observation, RestartOutcome, Seen, Status
from shared.providers.looks import look_after_restart, look_once, waits_after_restart
from shared.providers.wapi.answers import RestartAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from shared.core.decisions import Decision
    from shared.core.model import Limits, Policy
    from shared.core.notices import NoticeText
    from shared.database.clock import DatabaseClock
    from shared.database.results import Transition
    from shared.database.store import Store
    from shared.providers.looks import Pacer, Provider
    from shared.providers.wapi.answers import Look
    from shared.sweep.report import Report

_TRANSITIONS_AT_ONCE: Final = 16
_T = TypeVar("_T")


class Actions:
    """Acts on single lines of one sweep.

    Args:
        store: Where transitions become true.
        provider: Where restarts go.
        pacer: Knows when the provider wants to be left alone.
        policy: For the cool-down.
        limits: For time and concurrency.
        clock: The database's.
        deadline: The end of the budget, on the loop's clock.
        report: Counts what is done.
        is_held_back: Whether the brake, which may come on while restarts wait their turn, holds a line.
    """

    def __init__(
        self,
        store: Store,
        provider: Provider,
        *,
        pacer: Pacer,
        policy: Policy,
        limits: Limits,
        clock: DatabaseClock,
        deadline: float,
        report: Report,
        is_held_back: Callable[[Seen], bool],
    ) -> None:
        self._store = store
        self._provider = provider
        self._pacer = pacer
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._deadline = deadline
        self._report = report
        self._is_held_back = is_held_back
        self._transitions = asyncio.Semaphore(_TRANSITIONS_AT_ONCE)
        self._restarts = asyncio.Semaphore(limits.restart_concurrency)

    async def carry_out(self, judged: list[tuple[Seen, Decision]]) -> None:
        """Act on lines: what changes nothing in one call, each other line by itself, none stopping another."""
        await self._record([seen for seen, decision in judged if isinstance(decision, Healthy | Hold)])
        loud = [(seen, decision) for seen, decision in judged if not isinstance(decision, Healthy | Hold)]
        await self._settle(loud, self._act)

    async def hold(self, seen: list[Seen]) -> None:
        """Write what was seen of lines that the brake holds, and nothing else."""
        self._report.outcomes["held"] += len(seen)
        await self._record(seen)

    async def restart_canary(self, seen: Seen) -> bool:
        """Restart one line under the brake. Its recovery frees the others, its failure tells nobody."""
        logs.warning("canary.sent", instance=seen.instance.id)
        ended: list[RestartOutcome | None] = []

        async def send(canary: Seen, _: None) -> Seen | None:
            owed, outcome = await self._restart(canary, is_canary=True)
            ended.append(outcome)
            return owed

        await self._settle([(seen, None)], send)
        return ended == [RestartOutcome.RECOVERED]

    async def _settle(
        self, lines: list[tuple[Seen, _T]], act: Callable[[Seen, _T], Coroutine[None, None, Seen | None]]
    ) -> None:
        """Act on each line in its own guard; lines that are owed a restart go back as they came."""

        async def guarded(seen: Seen, argument: _T) -> Seen | None:
            try:
                return await act(seen, argument)
            except Exception as error:  # noqa: BLE001 - the guard around one line: no other line pays for it
                self.count_error("instance.failed", seen, error)
                return None

        owed = [each for each in await asyncio.gather(*(guarded(*line) for line in lines)) if each]
        await self.leave(owed)

    async def leave(self, seen: list[Seen]) -> None:
        """Give lines back as they came: the next sweep begins with them."""
        await self._record(seen, finished=False)

    def count_error(self, fact: str, seen: Seen, error: Exception) -> None:
        """Log what broke one line's sweep. Its lease runs out and the next sweep takes it."""
        self._report.outcomes["errors"] += 1
        logs.error(fact, cause=error, instance=seen.instance.id)

    async def _record(self, seen: list[Seen], *, finished: bool = True) -> None:
        if not seen:
            return
        recorded = await self._store.record_looks(seen, finished=finished)
        if recorded < len(seen):
            logs.info("looks.overtaken", count=len(seen) - recorded)

    async def _act(self, seen: Seen, decision: Decision) -> Seen | None:
        """Act on one line.

        Returns:
            The line if it is owed a restart that does not fit the budget.
        """
        match decision:
            case Restore():
                came_back = seen.instance.status is Status.DISCONNECTED
                transition = await self._move(seen, Status.CONNECTED)
                self._report.outcomes["restored"] += came_back and transition.applied
            case Skip():
                transition = await self._move(seen, Status.DEGRADED)
                self._report.outcomes["skipped"] += transition.applied
            case Disconnect(tell=tell, then_restart=then_restart):
                text = _text_for(seen) if tell else None
                transition = await self._move(seen, Status.DISCONNECTED, text=text, release=not then_restart)
                if then_restart and transition.applied:
                    owed, _ = await self._restart(seen.on_ground(status=Status.DISCONNECTED))
                    return owed
            case Restart():
                owed, _ = await self._restart(seen)
                return owed
            case Healthy() | Hold():
                await self._record([seen])
        return None

    async def _move(
        self,
        seen: Seen,
        to: Status | None,
        *,
        text: NoticeText | None = None,
        restart: RestartOutcome | None = None,
        release: bool = True,
    ) -> Transition:
        async with self._transitions:
            transition = await self._store.apply_verdict(
                seen, to=to, text=text, restart=restart, release=release, run=self._report.run_id
            )
        facts: dict[str, object] = {"instance": seen.instance.id, "observation": seen.concluded}
        if not transition.applied:
            logs.info("verdict.overtaken", **facts)
            return transition
        if to is not None:
            self._report.outcomes["disconnected"] += to is Status.DISCONNECTED
            logs.info(
                f"instance.{to}",
                status_before=seen.instance.raw_status,
                outage=transition.outage_id,
                told=transition.told,
                down_seconds=transition.down_seconds,
                **facts,
            )
        if transition.told is not None:
            self._report.outcomes["notified"] += transition.told
            warn_if_nobody_heard(transition.told, seen.instance.id)
        return transition

    async def _restart(self, seen: Seen, *, is_canary: bool = False) -> tuple[Seen | None, RestartOutcome | None]:
        """Restart a line and see what comes of it.

        Returns:
            The line if it is owed the restart, and how the restart ended if there was one.
        """
        async with self._restarts:
            if not await self._pacer.ready() or self._time_left() < self._limits.restart_verify:
                return seen, None
            if not is_canary and self._is_held_back(seen):
                await self.hold([seen])
                return None, None
            claim = await self._store.claim_restart(
                seen,
                cooldown=self._policy.restart_cooldown,
                lease=self._limits.restart_lease,
                run=self._report.run_id,
            )
            if not claim.claimed or claim.lease is None:
                logs.info("restart.overtaken", instance=seen.instance.id)
                await self._record([seen])
                return None, None
            self._report.outcomes["restarted"] += 1
            return None, await self._verify(seen.on_ground(lease=claim.lease), is_canary=is_canary)

    def _time_left(self) -> timedelta:
        return timedelta(seconds=self._deadline - asyncio.get_running_loop().time())

    async def _verify(self, seen: Seen, *, is_canary: bool) -> RestartOutcome:
        clock = asyncio.get_running_loop().time
        began = clock()
        answer = await self._provider.restart(seen.instance, within=self._limits.look_timeout)
        logs.info("restart.requested", instance=seen.instance.id, observation=seen.concluded, answer=answer)

        looked_at = self._clock.now()

        async def ask() -> Look:
            nonlocal looked_at
            looked_at = self._clock.now()
            return await look_once(
                self._provider,
                seen.instance,
                within=self._limits.look_timeout,
                policy=self._policy,
                now=self._clock.now,
            )

        # A request that hung has used up some of the time in which the line must come back.
        verify = max(self._limits.restart_verify - timedelta(seconds=clock() - began), timedelta(0))
        look = await look_after_restart(
            ask,
            waits_after_restart(verify, refused=answer is RestartAnswer.REFUSED),
            confirm_after=self._limits.ghost_confirm,
        )
        outcome = _outcome_of(look.observation)
        after = _seen_after(seen, look, looked_at)
        # A brake that came on meanwhile holds this line like the canary: nobody is marked or told.
        keeps_row = is_canary or seen.instance.status is Status.DISCONNECTED or self._is_held_back(after)
        to: Status | None
        text: NoticeText | None = None
        match outcome:
            case RestartOutcome.RECOVERED:
                to = Status.CONNECTED
            case RestartOutcome.FAILED:
                to = None if keeps_row else Status.DISCONNECTED
                text = _text_for(after) if to else None
            case RestartOutcome.UNVERIFIED:
                to = None if keeps_row else Status.DEGRADED
        await self._move(after, to, text=text, restart=outcome)
        self._report.outcomes[outcome] += 1
        log = logs.info if outcome is RestartOutcome.RECOVERED else logs.warning
        log(
            f"restart.{outcome}",
            instance=seen.instance.id,
            answer=answer,
            cause_word=look.cause,
            took_ms=round((clock() - began) * 1000),
        )
        return outcome


def warn_if_nobody_heard(told: int | None, instance: object) -> None:
    """Say so when a bell rang for nobody: a company without users."""
    if told == 0:
        logs.warning("notice.without_recipients", instance=instance)


def _outcome_of(observation: Observation) -> RestartOutcome:
    match observation:
        case Observation.ALIVE:
            return RestartOutcome.RECOVERED
        case Observation.UNKNOWN:
            return RestartOutcome.UNVERIFIED
        case Observation.DISCONNECTED | Observation.GHOST | Observation.NOT_FOUND | Observation.REFUSED:
            return RestartOutcome.FAILED


def _seen_after(seen: Seen, look: Look, looked_at: datetime) -> Seen:
    """What is known after a restart. A sweep that ends UNKNOWN counts as one, whatever it began with.

    Not so one that ends on our own haste.
    """
    observation = look.observation
    if observation is not Observation.UNKNOWN:
        return replace(seen, observed=observation, concluded=observation, looked_at=looked_at)
    if look.throttled:
        return replace(seen, observed=None, concluded=observation, looked_at=looked_at)
    before = seen.instance.unknown_looks if seen.observed is Observation.UNKNOWN else 0
    instance = seen.instance.model_copy(update={"unknown_looks": before})
    return Seen(instance, observation, observation, looked_at)


def _text_for(seen: Seen) -> NoticeText:
    return "token_refused" if seen.concluded is Observation.REFUSED else "disconnected"
