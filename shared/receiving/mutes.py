"""The search for lines that live and whose events do not reach us: found, repaired, told, closed.

One round of the housekeeping. What is open is closed where a line was heard, repaired again where that is due, and
told where a proof has stood for half an hour. Then the fleet is gone through: quarter hours are counted, silences
judged. A suspicion is written down before its repair is asked for, and a repair is asked for again rather than never:
to set a registration once more disturbs nobody.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from shared import logs
from shared.core.mute import (
    MuteClosing,
    MuteProof,
    is_mass,
    is_proven,
    judge_silence,
    next_look,
    next_probe,
    verdict,
)
from shared.core.notices import ZONE
from shared.database.mutes import Suspect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.core.policy import MutePolicy
    from shared.database.mutes import Canary, MuteStore, OpenMute, OpenMutes, SilenceReview, SilentLine

LINES_A_PAGE: Final = 10_000
"""In one transaction, which writes rows that nobody else does: a second where all of them were heard."""
_ZONE: Final = ZoneInfo(ZONE)
"""Of the venues, as in what they read."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A suspicion whose line is to be repaired now; ``took``: how long its silence took to become improbable."""

    mute: UUID
    proof: MuteProof
    took: timedelta


@dataclass(slots=True)
class _Round:
    """What one round has found so far.

    Attributes:
        due: What is to be repaired.
        suspects: How many lines are silent against their habit.
        heard: How many with a habit are not silent.
    """

    due: list[_Due] = field(default_factory=list)
    suspects: int = 0
    heard: int = 0


async def watch_mutes(store: MuteStore, *, rule: MutePolicy, deadline: float) -> None:
    """Go one round.

    Args:
        store: The tables.
        rule: The numbers.
        deadline: On the loop's clock: no page of the fleet begins after it. The next round begins elsewhere.
    """
    found = _Round()
    page = await store.review_silence(None, None, limit=LINES_A_PAGE, zone=_ZONE.key)
    if page.opened is not None:
        await _look_after(store, page.opened, found, rule=rule)
    await _go_through(store, page, found, rule=rule, deadline=deadline)
    await _repair(store, found, page.opened.canary if page.opened else None, rule=rule, now=page.now)


async def _look_after(store: MuteStore, opened: OpenMutes, found: _Round, *, rule: MutePolicy) -> None:
    """Close, prove, tell what is open, and see whose repair is due."""
    now = opened.now
    closed = await _close(store, opened, rule=rule)
    going_on = [mute for mute in opened.mutes if mute.id not in closed]
    proven = await _proven(store, {mute.id: mute for mute in going_on if mute.sends is not None}, rule=rule)
    if proven:
        await store.prove(proven)
    for mute in going_on:
        suspicion = mute.suspicion
        due_at = suspicion.repair_due_at(rule)
        found.suspects += suspicion.proof is MuteProof.HABIT
        if mute.id in proven:
            logs.warning("mute.proven", instance=mute.instance_id, mute=mute.id, since=proven[mute.id])
        elif suspicion.is_to_be_told(rule, now=now) and mute.told_at is None:
            await _tell(store, mute)
        if due_at is not None and due_at <= now:
            found.due.append(_Due(mute.id, suspicion.proof, _took(mute.improbable_at, mute.silent_since)))


async def _close(store: MuteStore, opened: OpenMutes, *, rule: MutePolicy) -> set[UUID]:
    """End what was heard of, what is down by now, and what nothing came of."""
    ends: dict[UUID, tuple[MuteClosing, datetime | None]] = {}
    for mute in opened.mutes:
        if mute.heard_at is None and mute.is_possible and not mute.suspicion.is_given_up(rule, now=opened.now):
            continue
        habit = mute.habit.habit if mute.habit else None
        ends[mute.id] = (verdict(mute.heard_at, mute.repaired, habit, rule=rule, zone=_ZONE), mute.heard_at)
    if ends:
        await store.close(ends)
    for mute in opened.mutes:
        if mute.id in ends:
            closing, heard_at = ends[mute.id]
            silent = (heard_at or opened.now) - mute.since
            logs.warning(
                "mute.ended", instance=mute.instance_id, mute=mute.id, closed_as=closing, proof=mute.proof,
                repairs=mute.repairs, silent_seconds=round(silent.total_seconds()),
            )  # fmt: skip
    return set(ends)


async def _proven(store: MuteStore, mutes: dict[UUID, OpenMute], *, rule: MutePolicy) -> dict[UUID, datetime]:
    """Of suspicions by habit those that unanswered sends prove now, and since when."""
    sends = {mute.id: mute.sends for mute in mutes.values() if mute.sends is not None}
    if not sends:
        return {}
    heard = await store.find_heard({mutes[each].instance_id: row.first_at for each, row in sends.items()})
    return {
        each: row.first_at
        for each, row in sends.items()
        if is_proven(row.sends(heard_since=mutes[each].instance_id in heard), rule)
    }


async def _tell(store: MuteStore, mute: OpenMute) -> None:
    told = await store.tell(mute.id)
    if told.begins or told.told:
        logs.error(
            "line.mute", instance=mute.instance_id, mute=mute.id, proof=mute.proof, since=mute.since, told=told.told
        )
    if told.refusal_begins:
        logs.error("notice.refused", instance=mute.instance_id, sqlstate=told.sqlstate, refused=told.refused)


async def _go_through(
    store: MuteStore, page: SilenceReview, found: _Round, *, rule: MutePolicy, deadline: float
) -> None:
    """Page by page around the fleet: judge who is silent, have the next lines counted."""
    clock = asyncio.get_running_loop().time
    began_after, until = page.began_after, None
    while True:
        found.heard += page.heard
        await _judge(store, page, found, rule=rule)
        if page.is_last and (until is not None or not began_after.int):
            return
        if clock() >= deadline:
            logs.warning("mutes.cut_off", lines_a_page=LINES_A_PAGE)
            return
        after = page.until
        if page.is_last:
            after, until = UUID(int=0), began_after
        page = await store.review_silence(after, until, limit=LINES_A_PAGE, zone=_ZONE.key)


async def _judge(store: MuteStore, page: SilenceReview, found: _Round, *, rule: MutePolicy) -> None:
    """Judge the silent lines of a page, write suspicions down, and when to look at the others again."""
    probed = {line.instance_id: line.sends.first_at for line in page.lines if line.sends is not None}
    heard = await store.find_heard(probed) if probed else set()
    looks: dict[UUID, tuple[datetime | None, datetime | None]] = {}
    suspects: list[Suspect] = []
    for line in page.lines:
        suspect, look_at = _suspect(line, heard, rule=rule, now=page.now)
        if suspect is not None:
            suspects.append(suspect)
        probe_at = next_probe(line.last_event_at, rule=rule, now=page.now) if line.is_probed else None
        looks[line.instance_id] = (look_at, probe_at)
    if looks:
        await store.note_silences(looks)
    by_line = {each.instance_id: each for each in suspects}
    for mute in await store.open(suspects) if suspects else ():
        suspect = by_line[mute.instance_id]
        logs.warning("mute.suspected", instance=mute.instance_id, mute=mute.id, proof=mute.proof, since=suspect.since)
        found.suspects += mute.proof is MuteProof.HABIT
        found.due.append(_Due(mute.id, mute.proof, _took(suspect.improbable_at, suspect.last_event_at)))


def _took(improbable_at: Sequence[datetime], silent_since: datetime) -> timedelta:
    return improbable_at[0] - silent_since if improbable_at else timedelta(0)


def _suspect(
    line: SilentLine, heard: set[UUID], *, rule: MutePolicy, now: datetime
) -> tuple[Suspect | None, datetime | None]:
    """What one silence is: a suspicion, or when to look again."""
    sends = line.sends.sends(heard_since=line.instance_id in heard) if line.sends else None
    if sends is not None and is_proven(sends, rule):
        return Suspect(
            instance_id=line.instance_id, proof=MuteProof.SENDS, last_event_at=line.last_event_at, since=sends.first_at,
            improbable_at=[],
        ), None  # fmt: skip
    if line.failing_since is not None:
        return Suspect(
            instance_id=line.instance_id, proof=MuteProof.REGISTRATION, last_event_at=line.last_event_at,
            since=line.failing_since, improbable_at=[],
        ), None  # fmt: skip
    if line.was_suspected:  # of this very silence, and nothing came of it: only a proof is news
        return None, now + rule.look_again
    silence = judge_silence(
        line.habit.habit if line.habit else None, line.last_event_at, rule=rule, zone=_ZONE, now=now
    )
    if not silence.is_improbable:
        return None, next_look(silence, rule=rule, now=now)
    return Suspect(
        instance_id=line.instance_id, proof=MuteProof.HABIT, last_event_at=line.last_event_at, since=line.last_event_at,
        improbable_at=list(silence.improbable_at),
    ), None  # fmt: skip


async def _repair(store: MuteStore, found: _Round, canary: Canary | None, *, rule: MutePolicy, now: datetime) -> None:
    """Set registrations again: of proven lines, and of the others unless they are so many that it is one cause."""
    mutes = [due.mute for due in found.due if due.proof is not MuteProof.HABIT]
    by_habit = sorted((due for due in found.due if due.proof is MuteProof.HABIT), key=lambda due: due.took)
    lately = canary if canary is not None and now - canary.at < rule.canary_serves else None
    if not is_mass(found.suspects, found.heard, rule) or (
        lately is not None and lately.closed_as is MuteClosing.REGISTRATION_LOST
    ):
        mutes += [due.mute for due in by_habit]
    elif lately is None and by_habit:
        # The busiest of them: it shows the soonest whether that helps.
        logs.error("lines.mute_together", lines=found.suspects, heard=found.heard)
        await store.repair([by_habit[0].mute], is_canary=True)
    if mutes:
        await store.repair(mutes)
        logs.info("mutes.repaired", lines=len(mutes))
