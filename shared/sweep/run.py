"""The sweep: look at every due line, decide, act. Gather -> decide -> apply, batch by batch.

The next batch is claimed when the last look of the one before has begun, so that slow lines hold nobody up. A batch is
decided on only when all its looks are in, because the brake must see it whole; each line is decided on once, and what
was decided travels with what was seen.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import logs
from shared.core.brake import Held, hold_back
from shared.core.decisions import Decided, NoChange, Restart, TellUnverified, believe_claim, decide, is_bad_news
from shared.database.clock import DatabaseClock
from shared.errors import StoreError
from shared.providers.limiter import Limiter
from shared.sweep.actions import Actions
from shared.sweep.brake import Brake
from shared.sweep.context import SweepContext
from shared.sweep.looking import Looking
from shared.sweep.report import Outcome, Report
from shared.sweep.restarts import Restarts
from shared.sweep.transitions import Transitions

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.model import Census, Instance, Sighting
    from shared.core.policy import Limits, Policy
    from shared.database.results import Batch, SweepEnd
    from shared.database.store import Store
    from shared.providers.port import Provider
    from shared.sweep.fanout import Fanout, Help


async def run_sweep(
    store: Store,
    provider: Provider,
    *,
    policy: Policy,
    limits: Limits,
    fanout: Fanout | None = None,
    helping: Help | None = None,
) -> Report:
    """Run one sweep.

    Args:
        store: The database.
        provider: Whom to ask about lines.
        policy: The numbers of the decisions.
        limits: Time and concurrency.
        fanout: Asked for help when there is more than one batch to do.
        helping: Set when another sweep has asked this one.

    Raises:
        StoreUnavailable: When the database cannot be reached; what was claimed comes free by itself.
        StoreRefused: When the database refuses a whole batch.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    begun = await store.begin_sweep()
    due_before = begun.started_at - limits.check_interval
    if helping:
        due_before = min(due_before, helping.due_before)
        limits = replace(limits, budget=min(limits.budget, timedelta(seconds=helping.within_seconds)))
    report = Report(begun.run_id)
    deadline = started + limits.budget.total_seconds()
    limiter = Limiter(limits.look_concurrency, deadline=deadline, first_pause=limits.first_pause)
    context = SweepContext(
        store=store,
        provider=provider.paced_by(limiter),
        limiter=limiter,
        policy=policy,
        limits=limits,
        clock=DatabaseClock.heard(begun.started_at),
        began=begun.started_at,
        deadline=deadline,
        report=report,
        asleep=begun.asleep,
        device_is_gone=begun.device_silent_since is not None
        and begun.started_at - begun.device_silent_since >= policy.device_gone_after,
    )
    if context.device_is_gone:
        logs.error("contract.drifted", cause_word="device_answers_for_no_line", run=report.run_id)
    sweep = _Sweep(context)
    await sweep.run(due_before, fanout)
    if fanout is not None:
        # Before the count of what is left: what a helper is at is not.
        report.helpers_asked, report.helpers_answered = fanout.asked, await fanout.answered()
    report.took = timedelta(seconds=clock() - started)
    end = await store.finish_sweep(
        report.run_id,
        due_before=due_before,
        checked=report.checked,
        observations=report.observations,
        outcomes={str(outcome): n for outcome, n in report.outcomes.items()},
        braked=report.braked,
        looked_at_up=report.looked_at_up,
        given_back=report.given_back,
        device_answered=report.device_answered,
        is_helper=helping is not None,
        took=report.took,
        after=sweep.last_batch,
        asleep=begun.asleep,
    )
    report.left, report.unwatched = end.left, end.unwatched
    _say_what_ended(end, sweep.brake, policy)
    logs.info("sweep.finished", **report.as_answer())
    return report


def _say_what_ended(end: SweepEnd, brake: Brake, policy: Policy) -> None:
    """Say what began or ended with this sweep for all of them."""
    if end.brake_released is not None:
        brake.left(end.brake_released)
    if end.blind_sweeps == policy.blind_sweeps and end.blind_before < end.blind_sweeps:
        logs.error("sweep.blind", sweeps=end.blind_sweeps)
    if not end.blind_sweeps and end.blind_before >= policy.blind_sweeps:
        logs.warning("sweep.sees_again", sweeps=end.blind_before)
    if end.newly_unwatched:
        logs.warning("lines.unwatched", count=end.unwatched, instances=end.newly_unwatched)


class _Sweep:
    def __init__(self, context: SweepContext) -> None:
        self._context = context
        self._looking = Looking(context)
        self._tasks = asyncio.TaskGroup()
        self.brake = Brake(context, self._looking, self._tasks)
        self._transitions = Transitions(context)
        self._actions = Actions(context, self._transitions, Restarts(context, self._transitions, self.brake))
        self.last_batch: Batch | None = None

    async def run(self, due_before: datetime, fanout: Fanout | None) -> None:
        """Claim and sweep batches until no line is due or the budget is over; ask for help after a full one."""
        size = self._context.limits.batch_size
        async with self._tasks:
            while self._context.time_left > timedelta(0) and not self._context.failures:
                try:
                    batch = await self._context.store.claim_instances(
                        due_before=due_before,
                        lease=self._lease(),
                        limit=size,
                        after=self.last_batch,
                        asleep=self._context.asleep,
                    )
                except StoreError as error:
                    self._context.failures.append(error)
                    break
                if batch.after_id is not None:
                    self.last_batch = batch
                if batch.unreadable:
                    self._context.report.outcomes[Outcome.ERRORS] += batch.unreadable
                claimed = len(batch.instances) + batch.unreadable
                if fanout is not None and claimed == size:
                    fanout.begin(due_before=due_before, within=self._context.time_left)
                if batch.instances:
                    all_begun = asyncio.Event()
                    self._tasks.create_task(self._sweep_batch(batch.instances, all_begun))
                    await all_begun.wait()
                if claimed < size:
                    break
        if (haste := self._context.limiter.summary()) is not None:
            logs.warning("provider.throttled", **haste)
        self._context.raise_failure()

    def _lease(self) -> timedelta:
        """Until a little after the end of the budget, because a provider may ask us to wait."""
        limits = self._context.limits
        return max(limits.look_lease, self._context.time_left + limits.look_timeout + limits.restart_verify)

    async def _sweep_batch(self, instances: list[Instance], all_begun: asyncio.Event) -> None:
        # Gather
        sightings = await self._looking.look_at_all(instances, all_begun)
        self._context.report.observations.update(each.found for each in sightings if each.found)
        # Decide
        now = self._context.clock.now()
        census = self.brake.count(sightings, now)
        decided = [self._decide(sighting, now) for sighting in sightings]
        # Apply
        try:
            await self._apply(decided, census, now)
        except StoreError as error:
            # Restarts that are under way are seen to their end before the sweep gives up.
            self._context.failures.append(error)

    def _decide(self, sighting: Sighting, now: datetime) -> Decided:
        if sighting.found is None:
            return Decided(sighting, NoChange())
        policy, instance = self._context.policy, sighting.instance
        concluded = believe_claim(sighting.found, device_is_gone=self._context.device_is_gone)
        decision = decide(instance, concluded, policy=policy, now=now)
        if decision == TellUnverified() and not self._context.report.others_answer(concluded):
            decision = NoChange()
        return Decided(replace(sighting, concluded=concluded), decision)

    async def _confirm(self, decided: list[Decided]) -> list[Decided]:
        """Look again at lines that a first negative look would have restarted, marked or told; decide on both looks."""
        again = await self._looking.look_again([line.sighting for line in decided])
        for before, after in zip(decided, again, strict=True):
            self._context.report.correct(before.sighting.found, after.found)
        now = self._context.clock.now()
        return [self._decide(sighting, now) for sighting in again]

    async def _carry_out(self, decided: list[Decided]) -> None:
        """Act on lines, but on those that one look condemns only if a second look does, too."""
        await self._actions.carry_out([line for line in decided if not line.needs_confirmation])
        if doubtful := [line for line in decided if line.needs_confirmation]:
            await self._actions.carry_out(await self._confirm(doubtful))

    async def _apply(self, decided: list[Decided], census: Census, now: datetime) -> None:
        if await self.brake.comes_on(census, decided):
            await self._apply_braked(decided, now)
        else:
            await self._carry_out(decided)

    async def _apply_braked(self, decided: list[Decided], now: datetime) -> None:
        """Carry out what the brake lets pass; the rest waits for the canary, and is held unless that recovers."""
        free, held = self._hold_back(decided, now)
        await self._actions.carry_out([line for line in free if not line.needs_confirmation])
        if leaving := [line for line in free if line.needs_confirmation]:
            confirmed, held_after_all = self._hold_back(await self._confirm(leaving), self._context.clock.now())
            await self._actions.carry_out(confirmed)
            held += held_after_all
        canary = self.brake.pick_canary(held, now=now)
        if canary is not None and await self.brake.send_canary(canary, lambda: self._send_canary(canary)):
            held = [(sighting, kept) for sighting, kept in held if sighting is not canary]
        if await self.brake.lifts(len(held)):
            await self._carry_out([Decided(sighting, kept.decision) for sighting, kept in held])
        else:
            await self._transitions.hold([sighting for sighting, _ in held])

    def _hold_back(self, decided: list[Decided], now: datetime) -> tuple[list[Decided], list[tuple[Sighting, Held]]]:
        """What the brake lets pass, and what it holds."""
        free: list[Decided] = []
        held: list[tuple[Sighting, Held]] = []
        for line in decided:
            match hold_back(line.decision, line.sighting, policy=self._context.policy, now=now):
                case Held() as kept:
                    held.append((line.sighting, kept))
                case decision:
                    free.append(Decided(line.sighting, decision))
        return free, held

    async def _send_canary(self, sighting: Sighting) -> bool:
        try:
            [line] = await self._confirm([Decided(sighting, Restart())])
            if not is_bad_news(line.decision):
                await self._actions.carry_out([line])  # it lives, or nobody can say: no canary, and no proof
                return False
            return await self._actions.restart_canary(line.sighting)
        except StoreError as error:
            self._context.failures.append(error)
            return False
