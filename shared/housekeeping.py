"""Chores that follow each sweep: notices refused or waiting, channels, mute lines, registrations, the relay, the purge.

A chore that fails stops no other. Done by the asking sweep's function alone, after its last batch is decided or its
budget is over.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared import logs
from shared.core.policy import MutePolicy, Retention

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from uuid import UUID

    from shared.database.results import Purged
    from shared.database.store import Store
    from shared.deliveries import Deliveries
    from shared.receiving.registrations import Registrations
    from shared.relay import Relay

_DELIVERIES: Final = timedelta(seconds=30)
_REGISTRATIONS: Final = timedelta(seconds=40)
_RELAY: Final = timedelta(seconds=20)
_MUTES: Final = timedelta(seconds=10)
_PURGE_ENDS: Final = timedelta(seconds=480)
"""After the sweep's start."""
_PURGE_AT_LEAST: Final = timedelta(seconds=20)
_NOTICES_A_SWEEP: Final = 500
_TELLING: Final = timedelta(seconds=20)
_LINES_A_STEP: Final = 50
"""Of which is told what waited, in one transaction: their events wait for it."""
_ROWS_A_STEP: Final = 5_000
"""Of each kind, in one transaction: some tens of milliseconds."""


async def keep_house(
    store: Store,
    relay: Relay | None,
    *,
    sweep_began: float,
    run: UUID,
    deliveries: Deliveries | None = None,
    registrations: Registrations | None = None,
    retention: Retention | None = None,
) -> None:
    """Do every chore that is due, each within its own time.

    Args:
        store: The database.
        relay: The platform's own handler, if events go there as well.
        sweep_began: On the loop's clock.
        run: The sweep's row.
        deliveries: Sends what waits for contacts.
        registrations: What the provider keeps of lines, if it can be asked.
        retention: How long what is kept is kept; the design's if none is given.
    """
    clock = asyncio.get_running_loop().time
    await _guarded("notices.not_retried", _retry_notices(store))
    await _guarded("notices.not_told", _tell_what_is_due(store))
    if deliveries is not None:  # after what is told, so that nobody waits for the next sweep
        until = clock() + _DELIVERIES.total_seconds()
        await _guarded("deliveries.not_sent", deliveries.deliver(store.outbox, deadline=until))
    await _guarded("provider.clock_not_read", _tell_late_clock(store))
    await _guarded("mutes.not_watched", _watch_mutes(store, deadline=clock() + _MUTES.total_seconds()))
    if registrations is not None:
        await _guarded(
            "registrations.not_kept",
            registrations.keep(store, run=run, deadline=clock() + _REGISTRATIONS.total_seconds()),
        )
    if relay is not None:
        await _guarded(
            "relay.backlog_not_read", relay.forward_backlog(store, deadline=clock() + _RELAY.total_seconds())
        )
    purge_ends = max(sweep_began + _PURGE_ENDS.total_seconds(), clock() + _PURGE_AT_LEAST.total_seconds())
    await _guarded("history.not_purged", _purge(store, retention or Retention(), deadline=purge_ends))


async def _guarded(fact_if_not: str, chore: Awaitable[object]) -> None:
    try:
        await chore
    except Exception as error:  # noqa: BLE001 - the guard around one chore: what is not done now is due next time
        logs.error(fact_if_not, cause=error)


async def _retry_notices(store: Store) -> None:
    retried = await store.retry_notices(limit=_NOTICES_A_SWEEP)
    if retried.told and not retried.refused_left:
        logs.info("notices.accepted", told=retried.told)


async def _watch_mutes(store: Store, *, deadline: float) -> None:
    from shared.receiving.mutes import watch_mutes  # noqa: PLC0415 - a sweep begins without its rules

    await watch_mutes(store.mutes, rule=MutePolicy(), deadline=deadline)


async def _tell_what_is_due(store: Store) -> None:
    """Tell what waited, in small steps until nothing is due or time is up."""
    clock = asyncio.get_running_loop().time
    ends = clock() + _TELLING.total_seconds()
    lines = users = 0
    while clock() < ends:
        told = await store.tell_what_is_due(limit=_LINES_A_STEP)
        for line in told.lines:
            if line.failed:
                logs.error("notice.not_told", instance=line.instance_id, sqlstate=line.failed)
        lines += sum(bool(line.told) for line in told.lines)
        users += sum(line.told or 0 for line in told.lines)
        if told.seen < _LINES_A_STEP:
            break
    if users:
        logs.info("notices.told", lines=lines, users=users)


async def _tell_late_clock(store: Store) -> None:
    late_by = await store.find_late_clock()
    if late_by is not None:
        logs.warning("provider.clock_late", seconds=round(late_by.total_seconds()))


async def _purge(store: Store, retention: Retention, *, deadline: float) -> None:
    """Delete what is past its time in small steps, until nothing is left, somebody else is at it, or time is up."""
    clock = asyncio.get_running_loop().time
    total = 0
    step: Purged | None = None
    while clock() < deadline:
        step = await store.purge_history(retention, limit=_ROWS_A_STEP, after=step)
        if step is None:
            break
        total += sum(step.rows.values())
        if max(step.rows.values()) < _ROWS_A_STEP:
            break
    if total:
        logs.info("history.purged", rows=total)
