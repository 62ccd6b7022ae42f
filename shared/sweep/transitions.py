"""What a sweep writes about lines: looks that change nothing, and the transitions of single lines."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from shared import logs
from shared.core.model import Observation, Status
from shared.errors import StoreError, StoreRefused
from shared.sweep.report import Outcome

if TYPE_CHECKING:
    from uuid import UUID

    from shared.core.model import RestartOutcome, Sighting
    from shared.core.notices import NoticeText
    from shared.database.results import Transition, Unverified
    from shared.sweep.context import SweepContext

_AT_ONCE: Final = 16
_HELD_FOR_A_MOMENT: Final = 0.25  # seconds
_SAMPLE: Final = 16
"""Of the rows of a call that is refused: if none of them can be written alone, it is no row's fault."""
_TOO_SLOW: Final = "57014"
"""A statement that took longer than it may: a trigger of the platform's on each of many rows."""
_FEWEST: Final = 8


class Transitions:
    """Writes, logs and counts.

    Args:
        context: Of the sweep.
    """

    def __init__(self, context: SweepContext) -> None:
        self._context = context
        self._store = context.store
        self._report = context.report
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._in_time = context.limits.batch_size  # so many looks the database writes in time

    async def record(self, sightings: list[Sighting]) -> None:
        """Write looks that change no status, in one call."""
        await self._record(sightings, finished=True)

    async def hold(self, sightings: list[Sighting]) -> None:
        """Write what was seen of lines that the brake holds, and nothing else."""
        self._report.outcomes[Outcome.HELD] += len(sightings)
        await self.record(sightings)

    async def leave(self, sightings: list[Sighting]) -> None:
        """Give lines back as they came: the next sweep begins with them."""
        await self._record(sightings, finished=False)

    async def _record(self, sightings: list[Sighting], *, finished: bool) -> None:
        if not sightings:
            return
        self._report.given_back += sum(not finished or sighting.found is None for sighting in sightings)
        recorded, refused = await self._write(sightings, finished=finished, comes_again=True)
        left = [each for each in sightings if each.instance.id not in refused] if refused else sightings
        if recorded < len(left):
            # An event or another sweep's telling may have held a line for a moment. What is written has no lease any
            # more: again it does nothing.
            await asyncio.sleep(_HELD_FOR_A_MOMENT)
            recorded += (await self._write(left, finished=finished, comes_again=False))[0]
        if recorded < len(left):
            logs.info("looks.overtaken", count=len(left) - recorded)

    async def _write(self, sightings: list[Sighting], *, finished: bool, comes_again: bool) -> tuple[int, set[UUID]]:
        """Write looks in one call; where the platform's table refuses a row, the others in as few as that takes.

        Returns:
            How many were written, and the lines that were refused; they are counted as errors.
        """
        recorded = 0
        refused: set[UUID] = set()
        parts = deque([sightings])
        is_sampled = False
        while parts:
            part = parts.popleft()
            if len(part) > self._in_time:
                parts += _parts_of(part, self._in_time)
                continue
            try:
                written = await self._store.record_looks(part, finished=finished, comes_again=comes_again)
                self._report.recorded += written
                recorded += written
            except StoreError as error:
                if error.code == _TOO_SLOW and len(part) > _FEWEST:
                    self._in_time = max(_FEWEST, len(part) // 4)
                    parts.append(part)
                elif not isinstance(error, StoreRefused):
                    raise
                elif len(part) == 1:
                    self._context.count_error("instance.failed", part[0].instance, error)
                    refused.add(part[0].instance.id)
                elif not is_sampled and len(part) > _SAMPLE:
                    is_sampled = True
                    chosen = random.sample(part, _SAMPLE)
                    written, bad = await self._write_each(chosen, finished=finished, comes_again=comes_again)
                    recorded += written
                    refused |= bad
                    tried = {each.instance.id for each in chosen}
                    rest = [each for each in part if each.instance.id not in tried]
                    if written:
                        parts.append(rest)
                    else:  # what is to be done about other lines is done all the same
                        self._context.give_up_recording(len(rest), error)
                        refused |= {each.instance.id for each in rest}
                else:
                    parts += _parts_of(part, (len(part) + 1) // 2)
        return recorded, refused

    async def _write_each(
        self, sightings: list[Sighting], *, finished: bool, comes_again: bool
    ) -> tuple[int, set[UUID]]:
        """Write looks one by one; as ``_write`` for lists of one."""
        recorded = 0
        refused: set[UUID] = set()
        for sighting in sightings:
            written, bad = await self._write([sighting], finished=finished, comes_again=comes_again)
            recorded += written
            refused |= bad
        return recorded, refused

    async def move(
        self,
        sighting: Sighting,
        to: Status | None,
        *,
        text: NoticeText | None = None,
        restart: RestartOutcome | None = None,
        release: bool = True,
        finished: bool = True,
    ) -> Transition:
        """Move one line, if the preconditions still hold.

        Args:
            sighting: What is known of it, and the preconditions.
            to: The new status; None leaves the row.
            text: What its users are told, if nobody was told of this outage yet.
            restart: How the restart ended, if there was one.
            release: The sweep is done with the line.
            finished: False keeps its last look: it is owed a restart, and the next sweep begins with it.
        """
        self._report.given_back += not finished
        why = sighting.evidence(self._report.run_id)
        async with self._places:
            transition = await self._store.apply_verdict(
                sighting, to=to, text=text, restart=restart, release=release, finished=finished, why=why
            )
        facts: dict[str, object] = {
            "instance": sighting.instance.id,
            "observation": sighting.concluded,
            "cause_word": sighting.cause,
            "run": self._report.run_id,
        }
        if not transition.applied:
            logs.info("verdict.overtaken", **facts)
            return transition
        is_news = to is Status.CONNECTED or sighting.instance.raw_status != to or bool(transition.told)
        if to is not None and is_news:
            self._report.outcomes[Outcome.DISCONNECTED] += to is Status.DISCONNECTED
            logs.info(
                f"instance.{to}",
                status_before=sighting.instance.raw_status,
                outage=transition.outage_id,
                told=transition.told,
                down_seconds=transition.down_seconds,
                **facts,
            )
        if transition.told is not None:
            self._report.outcomes[Outcome.NOTIFIED] += transition.told
            if transition.told == 0 and is_news:
                logs.warning("notice.without_recipients", instance=sighting.instance.id)
        return transition

    async def tell_unverified(self, sightings: list[Sighting]) -> None:
        """Tell the users of lines that have been silent for long; those that fell silent together are one cause.

        Of those the operator hears, once, and no venue.
        """
        if not sightings:
            return
        told, newly_together = await self._tell(sightings)
        for line in told:
            self._report.outcomes[Outcome.NOTIFIED] += line.told or 0
            logs.warning("instance.unverified", instance=line.instance_id, told=line.told, run=self._report.run_id)
        settled = {line.instance_id for line in told}
        await self.record([sighting for sighting in sightings if sighting.instance.id not in settled])
        if newly_together:
            logs.error("lines.silent_together", count=newly_together, run=self._report.run_id)

    async def _tell(self, sightings: list[Sighting]) -> tuple[list[Unverified], int]:
        """Tell of all in one call; where the platform's table refuses a row, of each by itself.

        Returns:
            The lines that were told of, and how many fell silent with others lately.
        """
        try:
            silence = await self._store.tell_unverified(sightings, run=self._report.run_id)
        except StoreRefused as error:
            if len(sightings) == 1:
                self._context.count_error("instance.failed", sightings[0].instance, error)
                return [], 0
            each = [await self._tell([sighting]) for sighting in sightings]
            return [line for told, _ in each for line in told], sum(newly for _, newly in each)
        return silence.told, silence.newly_together


def _parts_of(sightings: list[Sighting], size: int) -> list[list[Sighting]]:
    return [sightings[start : start + size] for start in range(0, len(sightings), size)]


def text_for(sighting: Sighting) -> NoticeText:
    """What the users of a line that is marked disconnected are told."""
    match sighting.concluded:
        case Observation.REFUSED:
            return "token_refused"
        case Observation.NOT_FOUND:
            return "not_found"
        case _:
            return "disconnected"
