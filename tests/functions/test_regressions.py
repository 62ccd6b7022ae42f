"""What random histories have found, each as the smallest history that shows it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from history import History
from invariants import check_invariants
from wire import Interruption, OnTheWire, When

from shared.core.look import Look, RestartAnswer
from shared.core.model import Observation
from shared.core.policy import Limits, Policy
from shared.providers.wapi.events import parse_event
from shared.sweep.run import run_sweep
from shared.webhook.intake import take_event

if TYPE_CHECKING:
    import httpx
    from world import Line, World

    from shared.providers.port import Line as Asked

LIMITS = Limits(
    check_interval=timedelta(0), ghost_confirm=timedelta(0), restart_verify=timedelta(seconds=0.05),
    look_timeout=timedelta(seconds=2),
)  # fmt: skip


async def sweep(ours: OnTheWire) -> None:
    await run_sweep(ours.store, ours.provider, policy=Policy(), limits=LIMITS)


async def test_the_audit_of_a_restart_that_life_overtook_claims_no_change(world: World, ours: OnTheWire) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="accepted_no_effect")
    history = History(world)

    async def somebody_writes(_: httpx.Request) -> None:
        body = json.dumps(world.connection(line)).encode()
        await take_event(parse_event(body), ours.store, lambda: ours.provider, settings=ours.intake_settings)

    ours.wire.interrupt(Interruption(somebody_writes, 0, "/restart", When.AFTER))
    await sweep(ours)

    assert world.status(line) == "connected"
    [row] = world.sql("select from_status, to_status from public.instance_events where kind = 'restart_failed'")
    assert row == {"from_status": "connected", "to_status": "connected"}
    check_invariants(world, history)


class AnswersOnceMore:
    """A provider at which two lines are dead; all others live, but for the first time that they are asked again.

    Args:
        dead: The two.
    """

    def __init__(self, dead: list[Line]) -> None:
        self._dead = {line.external_id for line in dead}
        self._asked: Counter[str] = Counter()
        self.restarted: list[str] = []

    def paced_by(self, _: object) -> AnswersOnceMore:
        return self

    async def look(self, line: Asked, *, within: timedelta) -> Look:  # noqa: ARG002 - the protocol's
        self._asked[line.external_id] += 1
        if line.external_id in self._dead or self._asked[line.external_id] == 2:
            return Look(Observation.DISCONNECTED, "the outage")
        return Look(Observation.ALIVE, "well")

    async def restart(self, line: Asked, *, within: timedelta) -> RestartAnswer:  # noqa: ARG002 - see above
        self.restarted.append(line.external_id)
        return RestartAnswer.ACCEPTED


async def test_an_outage_that_one_batch_has_seen_is_not_forgotten_for_what_another_was_answered(
    world: World, ours: OnTheWire
) -> None:
    lines = world.lines(world.company(users=1), 12)
    for number, line in enumerate(lines):
        world.set(line, "last_health_check = now() - %s * interval '1 minute'", 60 - number)
    provider = AnswersOnceMore([lines[0], lines[6]])
    policy = Policy(witnesses_serve=timedelta(0))  # they are asked again for whatever would act

    report = await run_sweep(ours.store, provider, policy=policy, limits=replace(LIMITS, batch_size=6))

    assert len(provider.restarted) == 1  # the canary
    assert report.braked
    assert world.bells() == []
