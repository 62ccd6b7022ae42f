"""The tables of mute lines: habits, silences, suspicions and what became of them; typed in and out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import AwareDatetime

from shared.core.model import Row
from shared.core.mute import Habit, MuteClosing, MuteProof, Sends, Suspicion
from shared.core.notices import TEXTS
from shared.core.policy import MutePolicy
from shared.database.composites import interval
from shared.database.results import Notified
from shared.database.rpc import read_answer, read_list

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.database.rpc import Rpc

MUTE_POLICY_FIELDS: Final = (
    "sends_after",
    "sends_within",
    "sends",
    "chats",
    "habit_after",
    "shortest",
    "memory",
    "told_after",
    "suspicions_within",
    "alive_within",
    "event_ahead",
)
"""Of the policy of mute lines, what SQL functions need: the fields of the type ``mute_policy``."""


def mute_policy_row(rule: MutePolicy, event_ahead: timedelta) -> dict[str, Any]:
    """The SQL type ``mute_policy``: its fields are the rule's of the same names, and one of the policy's."""
    numbers = {name: getattr(rule, name, event_ahead) for name in MUTE_POLICY_FIELDS}
    return {name: interval(value) if isinstance(value, timedelta) else value for name, value in numbers.items()}


class HabitRow(Row):
    """A habit; ``heard`` is hexadecimal, one byte for each hour of the week."""

    heard: str
    counted_from: AwareDatetime
    suspicions: int

    @property
    def habit(self) -> Habit:
        """As the rule reads it."""
        return Habit(bytes.fromhex(self.heard), self.counted_from, self.suspicions)


class SendsRow(Row):
    """Messages that nothing came back for, enough of them to prove something."""

    count: int
    chats: int
    first_at: AwareDatetime

    def sends(self, *, heard_since: bool) -> Sends:
        """As the rule reads it."""
        return Sends(self.count, self.chats, self.first_at, heard_since)


class SilentLine(Row):
    """A line that lives and is silent; ``was_suspected``: of this very silence. ``is_probed``: its sends were read.

    ``failing_since``: since when its registration is known to be wrong and could not be set.
    """

    instance_id: UUID
    last_event_at: AwareDatetime
    was_suspected: bool
    is_probed: bool
    habit: HabitRow | None
    sends: SendsRow | None
    failing_since: AwareDatetime | None


class OpenMute(Row):
    """An open suspicion; ``heard_at``: when the first event since it arrived; ``is_possible``: the line still lives.

    A repair is asked for at ``first_repaired_at`` and last at ``repaired_at``; ``set_at`` is when it was last done.
    """

    id: UUID
    instance_id: UUID
    proof: MuteProof
    since: AwareDatetime
    silent_since: AwareDatetime
    suspected_at: AwareDatetime
    improbable_at: list[AwareDatetime]
    repairs: int
    first_repaired_at: AwareDatetime | None
    repaired_at: AwareDatetime | None
    set_at: AwareDatetime | None
    told_at: AwareDatetime | None
    is_possible: bool
    heard_at: AwareDatetime | None
    habit: HabitRow | None
    sends: SendsRow | None

    @property
    def suspicion(self) -> Suspicion:
        """As the rule reads it."""
        return Suspicion(
            self.proof, self.since, self.suspected_at, self.repairs, self.repaired_at, tuple(self.improbable_at)
        )

    @property
    def repaired(self) -> list[datetime]:
        """When its registration was first asked to be set again, and last was; nothing if it never was."""
        if self.set_at is None:
            return []
        return [min(self.first_repaired_at or self.set_at, self.set_at), self.set_at]


class Canary(Row):
    """The line that was repaired first when many were silent, and how its suspicion ended."""

    at: AwareDatetime
    closed_as: MuteClosing | None


class OpenMutes(Row):
    """All of them, the oldest first; ``now`` is the database's clock."""

    now: AwareDatetime
    mutes: list[OpenMute]
    canary: Canary | None


class SilenceReview(Row):
    """A page of the fleet: ``heard`` lines with a habit are not silent; ``lines`` are to be judged.

    A large fleet's review begins behind any line (``began_after``) and goes once around. With the first page comes what
    is open (``opened``).
    """

    now: AwareDatetime
    began_after: UUID
    until: UUID | None
    is_last: bool
    heard: int
    lines: list[SilentLine]
    opened: OpenMutes | None


class OpenedMute(Row):
    """A new suspicion."""

    id: UUID
    instance_id: UUID
    proof: MuteProof


class MuteTold(Notified):
    """Who was told that a line is mute; ``told`` None: it is no news. ``begins``: the operator hears of it now."""

    begins: bool = False


class Suspect(Row):
    """A line that is to be suspected of being mute."""

    instance_id: UUID
    proof: MuteProof
    last_event_at: AwareDatetime
    since: AwareDatetime
    improbable_at: list[AwareDatetime]


class MuteStore:
    """What the search for mute lines asks of the database; part of ``Store``.

    Args:
        rpc: The store's own.
        policy: The SQL type ``recovery_policy``.
        event_ahead: A moment further ahead of us is not believed.
    """

    def __init__(self, rpc: Rpc, policy: dict[str, Any], *, event_ahead: timedelta) -> None:
        self._rpc = rpc
        self._policy = policy
        rule = MutePolicy()
        self._rule = mute_policy_row(rule, event_ahead)
        self._pause = interval(rule.shows_within)

    async def review_silence(self, after: UUID | None, until: UUID | None, *, limit: int, zone: str) -> SilenceReview:
        """Count the quarter hours of a page of lines, and get those whose silence is to be judged.

        Args:
            after: Where the last page ended; None begins.
            until: No further than this line; None goes on to the last one.
            limit: Lines a page, and open suspicions with the first one.
            zone: Whose wall clock names the hours.
        """
        arguments = {
            "p_after": str(after) if after else None,
            "p_to": str(until) if until else None,
            "p_limit": limit,
            "p_open": limit,
            "p_zone": zone,
            "p_policy": self._rule,
        }
        return await self._rpc.ask(SilenceReview, "review_silence", arguments)

    async def find_heard(self, since: dict[UUID, datetime]) -> set[UUID]:
        """Of these lines, those from which an event of any kind arrived since then."""
        arguments = {"p_instances": [str(each) for each in since], "p_since": [at.isoformat() for at in since.values()]}
        return {UUID(each) for each in read_list("find_heard", await self._rpc.call("find_heard", arguments))}

    async def note_silences(self, looks: dict[UUID, tuple[datetime | None, datetime | None]]) -> None:
        """Keep when the silence of these lines, and their sends, are looked at again; None leaves what is kept."""
        arguments = {
            "p_instances": [str(each) for each in looks],
            "p_look_at": [look.isoformat() if look else None for look, _ in looks.values()],
            "p_probe_at": [probe.isoformat() if probe else None for _, probe in looks.values()],
        }
        await self._rpc.call("note_silences", arguments)

    async def open(self, suspects: Sequence[Suspect]) -> list[OpenedMute]:
        """Write suspicions down, one per line, unless an event has come meanwhile."""
        arguments = {"p_suspects": [each.model_dump(mode="json") for each in suspects], "p_policy": self._rule}
        opened = read_list("open_mutes", await self._rpc.call("open_mutes", arguments))
        return [read_answer(OpenedMute, "open_mutes", each) for each in opened]

    async def prove(self, since: dict[UUID, datetime]) -> None:
        """Note that unanswered sends prove these suspicions, and since when."""
        arguments = {"p_ids": [str(each) for each in since], "p_since": [at.isoformat() for at in since.values()]}
        await self._rpc.call("prove_mutes", arguments)

    async def repair(self, mutes: Sequence[UUID], *, is_canary: bool = False) -> None:
        """Have the registration of these lines set again by this sweep's housekeeping, and note it."""
        arguments = {
            "p_ids": [str(each) for each in mutes],
            "p_is_canary": is_canary,
            "p_pause": self._pause,
        }
        await self._rpc.call("repair_mutes", arguments)

    async def close(self, ends: dict[UUID, tuple[MuteClosing, datetime | None]]) -> None:
        """End suspicions with what the first event, if one came, has shown."""
        arguments = {
            "p_ids": [str(each) for each in ends],
            "p_as": [closing for closing, _ in ends.values()],
            "p_heard_at": [at.isoformat() if at else None for _, at in ends.values()],
        }
        await self._rpc.call("close_mutes", arguments)

    async def tell(self, mute: UUID) -> MuteTold:
        """Tell the line's users once that messages do not reach the platform."""
        arguments = {"p_id": str(mute), "p_texts": TEXTS, "p_policy": self._policy}
        return await self._rpc.ask(MuteTold, "tell_mute", arguments)
