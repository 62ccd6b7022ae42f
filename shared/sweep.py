"""The sweep: look at every due line, decide, act. Gather -> decide -> apply, batch by batch.

The next batch is claimed when the last look of the one before has begun, so that slow lines hold nobody up. A batch is
decided on only when all its looks are in, because the brake must see it whole.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import logs
from shared.actions import Actions
from shared.clock import DatabaseClock
from shared.decisions import (
    Census,
    Disconnect,
    Hold,
    Restart,
    brake_engages,
    conclude,
    count,
    decide,
    decide_braked,
    leaves_brake,
)
from shared.errors import StoreError
from shared.limiter import Limiter
from shared.looks import look_once, look_twice
from shared.model import Observation, Seen
from shared.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.decisions import Decision
    from shared.looks import Provider
    from shared.model import Instance, Limits, Policy
    from shared.relay import Relay
    from shared.rows import Batch
    from shared.store import Store
    from shared.wapi.answers import Look


async def run_sweep(
    store: Store, provider: Provider, *, policy: Policy, limits: Limits, relay: Relay | None = None
) -> Report:
    """Run one sweep, then forward the events that requests could not.

    Raises:
        StoreUnavailable: When the database cannot be reached; what was claimed comes free by itself.
        StoreRefused: When the database refuses a whole batch.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    begun = await store.begin_sweep()
    due_before = begun.started_at - limits.check_interval
    report = Report(begun.run_id)
    sweep = _Sweep(
        store,
        provider,
        policy=policy,
        limits=limits,
        clock=DatabaseClock.heard(begun.started_at),
        deadline=started + limits.budget.total_seconds(),
        report=report,
    )
    await sweep.run(due_before)
    if relay is not None:
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
    try:
        await store.purge_history()
    except StoreError as error:  # the sweep is done and recorded; the next one purges
        logs.error("history.not_purged", cause=error)
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
    ) -> None:
        self._store = store
        self._provider = provider
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._deadline = deadline
        self._report = report
        self._limiter = Limiter(limits.look_concurrency)
        self._actions = Actions(
            store,
            provider,
            policy=policy,
            limits=limits,
            clock=clock,
            deadline=deadline,
            report=report,
            is_held_back=self._is_held_back,
        )
        self._tasks = asyncio.TaskGroup()
        self._census = Census()
        self._canary: asyncio.Task[bool] | None = None
        self._brake_lifted = False
        self._failure: StoreError | None = None

    async def run(self, due_before: datetime) -> None:
        """Claim and sweep batches until no line is due or the budget is over."""
        clock = asyncio.get_running_loop().time
        batch: Batch | None = None
        async with self._tasks:
            while clock() < self._deadline and self._failure is None:
                try:
                    batch = await self._store.claim_instances(
                        due_before=due_before, lease=self._limits.look_lease, limit=self._limits.batch_size, after=batch
                    )
                except StoreError as error:
                    self._failure = error
                    break
                if batch.instances:
                    all_begun = asyncio.Event()
                    self._tasks.create_task(self._sweep_batch(batch.instances, all_begun))
                    await all_begun.wait()
                if len(batch.instances) < self._limits.batch_size:
                    break
        if self._failure is not None:
            raise self._failure

    # Gather

    async def _sweep_batch(self, instances: list[Instance], all_begun: asyncio.Event) -> None:
        seen = await self._look_at_all(instances, all_begun)
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

    async def _look_at_all(self, instances: list[Instance], all_begun: asyncio.Event) -> list[Seen]:
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
                report(look.throttled)
            return look

        look: Look | None = None
        try:
            with suppress(TimeoutError):  # the budget is over; the line is left to the next sweep
                async with asyncio.timeout_at(self._deadline):
                    look = await look_twice(ask, confirm_after=self._limits.ghost_confirm)
        except Exception as error:  # noqa: BLE001 - the guard around one line: no other line pays for it
            unseen = Seen(instance, None, Observation.UNKNOWN, looked_at)
            self._actions.count_error("look.failed", unseen, error)
        finally:
            begin()
        if look is None:
            return Seen(instance, None, Observation.UNKNOWN, looked_at)
        return Seen(instance, look.observation, look.observation, looked_at)

    # Decide

    async def _decide(self, seen: list[Seen], *, batch_brakes: bool) -> None:
        if self._brake_lifted or not (batch_brakes or self._sweep_brakes()):
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
        return brake_engages(self._census, policy=self._policy)

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
