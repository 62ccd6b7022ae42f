"""Looking at a line: one question, a second one when the first would condemn it, and the looks after a restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import logs
from shared.core.look import unknown
from shared.core.model import Observation
from shared.core.policy import is_older_than

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from shared.core.look import Look
    from shared.core.policy import Policy
    from shared.providers.port import Line, Provider

FIRST_LOOK_AFTER_RESTART = timedelta(seconds=2)
NEXT_LOOKS_AFTER_RESTART = timedelta(seconds=3)

_NEEDS_A_SECOND_LOOK = (Observation.GHOST, Observation.NOT_FOUND, Observation.REFUSED)


def doubt_death_of_the_lively(look: Look, line: Line, *, policy: Policy, now: datetime) -> Look:
    """Call a dead line that just sent an event UNKNOWN: a ghost within ten minutes, a disconnected one within one."""
    doubted_for = {Observation.GHOST: policy.fresh_event, Observation.DISCONNECTED: policy.fresh_life}
    age = doubted_for.get(look.observation)
    if age is not None and not is_older_than(line.last_event_at, age, now=now):
        return replace(look, observation=Observation.UNKNOWN, cause=f"{look.cause}_but_fresh_event")
    return look


async def look_once(
    provider: Provider, line: Line, *, within: timedelta, policy: Policy, now: Callable[[], datetime]
) -> Look:
    """Look at a line, and doubt a death that an event contradicts.

    Args:
        provider: Whom to ask.
        line: About which line.
        within: For the whole look.
        policy: How fresh an event must be.
        now: The database's clock, read when the look has ended.
    """
    look = await ask_once(provider, line, within=within)
    return doubt_death_of_the_lively(look, line, policy=policy, now=now())


async def ask_once(provider: Provider, line: Line, *, within: timedelta) -> Look:
    """Ask about a line, and say so when the provider's contract has changed.

    Where a disconnection came in, this is all: it is newer than any event that could contradict the answer.
    """
    look = await provider.look(line, within=within)
    if look.drifted:
        logs.error("contract.drifted", cause_word=look.cause, instance=line.id)
    return look


def agree(first: Observation, second: Observation) -> Observation:
    """What two looks at a line find together: a negative counts only when the second is negative too.

    Two different kinds of death agree that the line is dead, and the second's word stands. A refused token is no death:
    it must be refused twice.
    """
    if not second.is_conclusively_bad:
        return second
    if first is second or (first.is_dead and second.is_dead):
        return second
    return Observation.UNKNOWN


def waits_after_restart(verify: timedelta, *, refused: bool) -> list[timedelta]:
    """Say when to look after a restart: 2 s, then every 3 s, within ``verify``; once after a refusal.

    Returns:
        Waits from the restart's answer on, each from the last look; never empty.
    """
    first = min(FIRST_LOOK_AFTER_RESTART, verify)
    if refused:
        return [first]
    more = max(0, (verify - first) // NEXT_LOOKS_AFTER_RESTART)
    return [first] + [NEXT_LOOKS_AFTER_RESTART] * more


async def look_after_restart(
    ask: Callable[[], Awaitable[Look]],
    waits: list[timedelta],
    *,
    confirm_after: timedelta,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] | None = None,
) -> Look:
    """Look until the line is alive or the waits are used up.

    A look that takes its time uses the waits up: those that have passed meanwhile fall away.

    Args:
        ask: One look.
        waits: From ``waits_after_restart``.
        confirm_after: How long a grave verdict must have held to count.
        sleep: Seconds.
        clock: In seconds; the loop's own if none is given.

    Returns:
        The last look; a grave verdict that had not held for ``confirm_after`` was confirmed first, and a status that
        says connected while the device asked to wait was asked again while there was time.
    """
    now = clock or asyncio.get_running_loop().time
    last = unknown("not_looked")
    due = asked_at = said_first_at = now()
    for place, wait in enumerate(waits):
        due += wait.total_seconds()
        if place and now() > due:
            continue
        await sleep(max(0.0, due - now()))
        asked_at = now()
        before, last = last, await ask()
        if last.observation is Observation.ALIVE and not last.asked_to_wait:
            return last
        if last.observation is not before.observation:
            said_first_at = asked_at
    held = asked_at - said_first_at
    if last.observation in _NEEDS_A_SECOND_LOOK and held < confirm_after.total_seconds():
        await sleep(confirm_after.total_seconds() - held)
        again = await ask()
        together = agree(last.observation, again.observation)
        last = again if together is again.observation else unknown(f"{last.cause}_then_{again.cause}")
    return last
