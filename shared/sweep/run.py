"""The sweep: look at every due line, decide, act. Gather -> decide -> apply, batch by batch.

The next batch is claimed when the last look of the one before has begun, so that slow lines hold nobody up. A batch is
decided on only when all its looks are in, because the brake must see it whole.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import logs
from shared.core.decisions import (
    Census,
    Disconnect,
    Healthy,
    Hold,
    Restart,
    Restore,
    brake_engages,
    can_brake,
    conclude,
    count,
    decide,
    decide_braked,
    leaves_brake,
    witnesses_brake,
)
from shared.core.model import Observation, Status
from shared.database.clock import DatabaseClock
from shared.errors import StoreError
from shared.providers.limiter import Limiter
from shared.sweep.actions import Actions
from shared.sweep.looking import Gathering
from shared.sweep.report import Report

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.decisions import Decision
    from shared.core.model import Instance, Limits, Policy, Seen
    from shared.database.results import Batch
    from shared.database.store import Store
    from shared.providers.looks import Provider
    from shared.relay import Relay
    from shared.sweep.fanout import Fanout, Help


async def run_sweep(
    store: Store,
    provider: Provider,
    *,
    policy: Policy,
    limits: Limits,
    relay: Relay | None = None,
    fanout: Fanout | None = None,
    helping: Help | None = None,
) -> Report:
    """Run one sweep, then forward the events that requests could not.

    Args:
        store: The database.
        provider: Whom to ask about lines.
        policy: Limits and waits of the decisions.
        limits: Time and concurrency.
        relay: The platform's own handler, if events go there as well.
        fanout: Asked for help when there is more than one batch to do.
        helping: Set when another sweep has asked this one; that one does the housekeeping.

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
    sweep = _Sweep(
        store,
        provider,
        policy=policy,
        limits=limits,
        clock=DatabaseClock.heard(begun.started_at),
        deadline=started + limits.budget.total_seconds(),
        report=report,
        is_helper=helping is not None,
    )
    await sweep.run(due_before, fanout)
    if relay is not None and helping is None:
        try:
            await relay.forward_backlog(store, deadline=started + limits.budget.total_seconds())
        except StoreError as error:  # the lines were swept; the events wait
            logs.error("relay.backlog_not_read", cause=error)
    report.took = timedelta(seconds=clock() - started)
    report.left = await store.finish_sweep(
        report.run_id,
        due_before=due_before,
        checked=report.checked,
        observations={str(each): n for each, n in report.observations.items()},
        outcomes=dict(report.outcomes),
        braked=report.braked,
        took=report.took,
    )
    if helping is None:
        try:
            await store.purge_history()
        except StoreError as error:  # the sweep is done and recorded; the next one purges
            logs.error("history.not_purged", cause=error)
    if fanout is not None:
        report.helpers_asked, report.helpers_answered = fanout.asked, await fanout.answered()
    logs.info("sweep.finished", **report.as_answer())
    return report


class _Sweep:
    def __init__(
        self,
        store: Store,
        provider: Provider,
        *,
        policy: Policy,
        limits: Limits,
        clock: DatabaseClock,
        deadline: float,
        report: Report,
        is_helper: bool,
    ) -> None:
        self._store = store
        self._limiter = Limiter(limits.look_concurrency, deadline=deadline, first_pause=limits.first_pause)
        self._provider = provider.paced_by(self._limiter)
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._deadline = deadline
        self._report = report
        self._is_helper = is_helper
        self._actions = Actions(
            store,
            self._provider,
            pacer=self._limiter,
            policy=policy,
            limits=limits,
            clock=clock,
            deadline=deadline,
            report=report,
            is_held_back=self._is_held_back,
        )
        self._gathering = Gathering(
            self._provider,
            self._limiter,
            policy=policy,
            limits=limits,
            clock=clock,
            deadline=deadline,
            count_error=self._actions.count_error,
        )
        self._tasks = asyncio.TaskGroup()
        self._census = Census()
        self._canary: asyncio.Task[bool] | None = None
        self._brake_lifted = False
        self._outage_began = False
        self._failure: StoreError | None = None

    async def run(self, due_before: datetime, fanout: Fanout | None) -> None:
        """Claim and sweep batches until no line is due or the budget is over; ask for help after a full one."""
        clock = asyncio.get_running_loop().time
        batch: Batch | None = None
        async with self._tasks:
            while clock() < self._deadline and self._failure is None:
                try:
                    batch = await self._store.claim_instances(
                        due_before=due_before, lease=self._lease(), limit=self._limits.batch_size, after=batch
                    )
                except StoreError as error:
                    self._failure = error
                    break
                if fanout is not None and len(batch.instances) == self._limits.batch_size:
                    fanout.begin(due_before=due_before, within=timedelta(seconds=self._deadline - clock()))
                if batch.instances:
                    all_begun = asyncio.Event()
                    self._tasks.create_task(self._sweep_batch(batch.instances, all_begun))
                    await all_begun.wait()
                if len(batch.instances) < self._limits.batch_size:
                    break
        if (haste := self._limiter.summary()) is not None:
            logs.warning("provider.throttled", **haste)
        if self._failure is not None:
            raise self._failure

    def _lease(self) -> timedelta:
        """To the end of the budget and a little longer: a provider that wants us to wait must not cost us the lines."""
        left = timedelta(seconds=self._deadline - asyncio.get_running_loop().time())
        return max(self._limits.look_lease, left + self._limits.look_timeout + self._limits.restart_verify)

    # Gather

    async def _sweep_batch(self, instances: list[Instance], all_begun: asyncio.Event) -> None:
        seen = await self._gathering.look_at_all(instances, all_begun)
        census = sum((count(each.instance, each.observed) for each in seen if each.observed), Census())
        self._census += census
        self._report.observations.update(each.observed for each in seen if each.observed)
        now = self._clock.now()
        concluded = [
            replace(each, concluded=conclude(each.instance, each.concluded, self._census, policy=self._policy, now=now))
            for each in seen
        ]
        try:
            await self._decide(concluded, batch_brakes=brake_engages(census, policy=self._policy))
        except StoreError as error:
            # Restarts that are under way are seen to their end before the sweep gives up.
            self._failure = self._failure or error

    # Decide

    async def _decide(self, seen: list[Seen], *, batch_brakes: bool) -> None:
        if self._is_helper and not can_brake(self._census, policy=self._policy):
            # So small a share cannot tell dead phones from a dead provider: the asking sweep's next one looks at them.
            good: list[tuple[Seen, Decision]] = [
                (each, how) for each in seen if isinstance(how := self._judge(each), Healthy | Restore | Hold)
            ]
            await self._actions.carry_out(good)
            sound = {each.instance.id for each, _ in good}
            await self._actions.leave([each for each in seen if each.instance.id not in sound])
            return
        if self._brake_lifted or not (batch_brakes or self._sweep_brakes() or await self._died_meanwhile(seen)):
            await self._actions.carry_out([(each, self._judge(each)) for each in seen])
            return
        self._engage_brake()
        free = [(each, self._judge(each, braked=True)) for each in seen]
        held = [
            each for each, decision in free if isinstance(decision, Hold) and not isinstance(self._judge(each), Hold)
        ]
        held_ids = {each.instance.id for each in held}
        await self._actions.carry_out([(each, how) for each, how in free if each.instance.id not in held_ids])
        await self._wait_for_canary(held)

    def _judge(self, seen: Seen, *, braked: bool = False) -> Decision:
        if seen.observed is None:
            return Hold()
        judge = decide_braked if braked else decide
        return judge(seen.instance, seen.concluded, policy=self._policy, now=self._clock.now())

    def _sweep_brakes(self) -> bool:
        return self._outage_began or brake_engages(self._census, policy=self._policy)

    async def _died_meanwhile(self, seen: list[Seen]) -> bool:
        """Whether lines that were alive a moment ago have died since: an outage may begin among a batch's last looks.

        Asks a few of them again, and only when another line is about to be restarted or told.
        """
        bad = [each for each in seen if isinstance(self._judge(each), Restart | Disconnect)]
        well = [
            each for each in seen if each.observed is Observation.ALIVE and each.instance.status is Status.CONNECTED
        ]
        if not bad or len(bad) + len(well) < self._policy.brake_min_lines:
            return False
        witnesses = sorted(well, key=lambda each: each.looked_at)[: self._policy.brake_min_lines]
        again = await self._gathering.look_at_all([each.instance for each in witnesses], asyncio.Event())
        census = sum((count(each.instance, each.observed) for each in again if each.observed), Census())
        # Other batches ask meanwhile: what one of them has seen stands for the rest of the sweep.
        self._outage_began |= witnesses_brake(census, bad=len(bad), policy=self._policy)
        return self._outage_began

    def _is_held_back(self, seen: Seen) -> bool:
        """Whether a brake that came on since the decision holds this line."""
        if self._brake_lifted or not self._sweep_brakes():
            return False
        return not leaves_brake(seen.instance, seen.concluded, policy=self._policy, now=self._clock.now())

    def _engage_brake(self) -> None:
        if self._report.braked:
            return
        self._report.braked = True
        logs.error(
            "brake.engaged",
            connected=self._census.connected,
            not_alive=self._census.connected_not_alive,
            unknown=self._census.unknown,
        )

    async def _wait_for_canary(self, held: list[Seen]) -> None:
        """Send one canary a sweep; what it finds out holds for every batch."""
        if self._canary is None and (candidates := [each for each in held if self._may_restart(each)]):
            now = self._clock.now()
            longest = min(candidates, key=lambda each: each.instance.bad_since or now)
            held = [each for each in held if each is not longest]
            self._canary = self._tasks.create_task(self._send_canary(longest))
        if self._canary is not None and await asyncio.shield(self._canary):
            self._brake_lifted = True
            logs.warning("brake.lifted", held=len(held))
            await self._actions.carry_out([(each, self._judge(each)) for each in held])
        else:
            await self._actions.hold(held)

    async def _send_canary(self, seen: Seen) -> bool:
        try:
            return await self._actions.restart_canary(seen)
        except StoreError as error:
            self._failure = self._failure or error
            return False

    def _may_restart(self, seen: Seen) -> bool:
        match self._judge(seen):
            case Restart() | Disconnect(then_restart=True):
                return True
            case _:
                return False
