"""What random histories have found, each as the smallest history that shows it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from history import History
from invariants import check_invariants
from wire import Interruption, OnTheWire, When

from shared.intake import take_event
from shared.model import Limits, Policy
from shared.settings import IntakeSettings
from shared.sweep import run_sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from world import World

LIMITS = Limits(
    check_interval=timedelta(0), ghost_confirm=timedelta(0), restart_verify=timedelta(seconds=0.05),
    look_timeout=timedelta(seconds=2),
)  # fmt: skip


@pytest.fixture
async def ours(world: World) -> AsyncIterator[OnTheWire]:
    made = OnTheWire(world)
    yield made
    await made.aclose()


async def sweep(ours: OnTheWire) -> None:
    await run_sweep(ours.store, ours.provider, policy=Policy(), limits=LIMITS)


async def test_the_audit_of_a_restart_that_life_overtook_claims_no_change(world: World, ours: OnTheWire) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="accepted_no_effect")
    history = History(world)
    settings = IntakeSettings(
        supabase_url=world.stack.supabase_url, supabase_service_role_key=world.stack.service_role_key
    )

    async def somebody_writes(_: httpx.Request) -> None:
        body = json.dumps(world.connection(line)).encode()
        await take_event(body, ours.store, lambda: ours.provider, settings=settings)

    ours.wire.interrupt(Interruption(somebody_writes, 0, "/restart", When.AFTER))
    await sweep(ours)

    assert world.status(line) == "connected"
    [row] = world.sql("select from_status, to_status from public.instance_events where kind = 'restart_failed'")
    assert row == {"from_status": "connected", "to_status": "connected"}
    check_invariants(world, history)
