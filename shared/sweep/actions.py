"""Carrying out what was decided, each line in a guard of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared import logs
from shared.core.decisions import (
    Disconnect,
    Healthy,
    NoChange,
    Restart,
    Restore,
    Skip,
    TellUnverified,
    is_only_recorded,
)
from shared.core.model import RestartOutcome, Status
from shared.sweep.report import Outcome
from shared.sweep.restarts import NotRestarted
from shared.sweep.transitions import text_for

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shared.core.decisions import Decided
    from shared.core.model import Sighting
    from shared.sweep.context import SweepContext
    from shared.sweep.restarts import Restarts
    from shared.sweep.transitions import Transitions


class Actions:
    """Acts on the lines of one sweep.

    Args:
        context: Of the sweep.
        transitions: Where lines are moved.
        restarts: Where they are restarted.
    """

    def __init__(self, context: SweepContext, transitions: Transitions, restarts: Restarts) -> None:
        self._context = context
        self._transitions = transitions
        self._restarts = restarts

    async def carry_out(self, decided: list[Decided]) -> None:
        """Act on lines: those that are only recorded in one call, every other one by itself and in its own guard."""
        await self._transitions.record([line.sighting for line in decided if is_only_recorded(line.decision)])
        silent = [line.sighting for line in decided if line.decision == TellUnverified()]
        await self._transitions.tell_unverified(silent)
        loud = [line for line in decided if not is_only_recorded(line.decision) and line.decision != TellUnverified()]
        ends = await asyncio.gather(*(self._guarded(line.sighting, self._act(line)) for line in loud))
        owed = [line.sighting for line, end in zip(loud, ends, strict=True) if end is NotRestarted.OWED]
        await self._transitions.leave(owed)

    async def restart_canary(self, sighting: Sighting) -> bool:
        """Restart one line under the brake.

        Returns:
            Whether it recovered.
        """
        logs.warning("canary.sent", instance=sighting.instance.id)
        end = await self._guarded(sighting, self._restarts.restart(sighting, is_canary=True))
        if end is NotRestarted.OWED:
            await self._transitions.leave([sighting])
        return end is RestartOutcome.RECOVERED

    async def _guarded(
        self, sighting: Sighting, acting: Awaitable[RestartOutcome | NotRestarted | None]
    ) -> RestartOutcome | NotRestarted | None:
        try:
            return await acting
        except Exception as error:  # noqa: BLE001 - the guard around one line: no other line pays for it
            self._context.count_error("instance.failed", sighting.instance, error)
            return None

    async def _act(self, line: Decided) -> RestartOutcome | NotRestarted | None:
        """Act on one line.

        Returns:
            What became of its restart, None if none was due.
        """
        sighting, outcomes = line.sighting, self._context.report.outcomes
        match line.decision:
            case Restore():
                came_back = sighting.instance.status is Status.DISCONNECTED
                transition = await self._transitions.move(sighting, Status.CONNECTED)
                outcomes[Outcome.RESTORED] += came_back and transition.applied
            case Skip():
                transition = await self._transitions.move(sighting, Status.DEGRADED)
                outcomes[Outcome.SKIPPED] += transition.applied
            case Disconnect(tell=tell, then_restart=then_restart):
                text = text_for(sighting) if tell else None
                transition = await self._transitions.move(
                    sighting, Status.DISCONNECTED, text=text, release=not then_restart
                )
                if then_restart and transition.applied:
                    return await self._restarts.restart(sighting.with_preconditions(status=Status.DISCONNECTED))
            case Restart():
                end = await self._restarts.restart(sighting)
                return await self._restarts.owe(sighting) if end is NotRestarted.OWED else end
            case TellUnverified():
                await self._transitions.tell_unverified([sighting])
            case Healthy() | NoChange():
                await self._transitions.record([sighting])
        return None
