"""What the SQL functions answer, typed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field, ValidationError

from shared import logs
from shared.core.event import EventOutcome, Noise
from shared.core.model import Instance, Row, SuspectLine


class SweepBegun(Row):
    """A run row was written; both instants are on the database's clock.

    ``device_silent_since``: since when lines claim to be connected and the deep probe answers for none; ``asleep``:
    companies that are not active, whose lines are left alone.
    """

    run_id: UUID
    started_at: AwareDatetime
    device_silent_since: AwareDatetime | None
    asleep: list[UUID]


class Batch(Row):
    """Lines leased to this sweep; ``after_*`` say where the next batch begins. ``now`` is the database's clock.

    ``unreadable`` of them hold something that we cannot read: they are named in the log, and cost the others nothing.
    """

    now: AwareDatetime
    instances: list[Instance]
    unreadable: int = 0
    after_check: str | None
    after_id: UUID | None


def read_instance(row: Any) -> Instance | None:  # noqa: ANN401 - JSON
    """One line of a batch; None, and a word in the log that names the fields, when it cannot be read."""
    try:
        instance = Instance.model_validate(row)
    except ValidationError as error:
        fields = sorted({str(wrong["loc"][0]) for wrong in error.errors() if wrong["loc"]})
        logs.error("instance.unreadable", instance=row.get("id") if isinstance(row, dict) else None, fields=fields)
        return None
    logs.name_line(instance.id, unit=instance.unit, external_id=instance.external_id)
    if odd := row.get("newly_odd"):
        logs.warning("instance.odd_moments", instance=instance.id, fields=str(odd).split(","))
    return instance


class SweepEnd(Row):
    """``left``: due lines that nobody has looked at or holds; ``brake_released``: since when the brake was on.

    ``blind_sweeps``: how many in a row have found nothing out, with this one; ``unwatched``: lines that cannot be asked
    about, of which some are so since a short time.
    """

    left: int
    brake_released: AwareDatetime | None
    blind_before: int
    blind_sweeps: int
    unwatched: int
    newly_unwatched: list[UUID]


class CanaryClaim(Row):
    """``claimed``: ours to send; ``under_way``: another's is out; ``recovered``: one did since this sweep began."""

    claimed: bool
    under_way: bool
    recovered: bool


class Purged(Row):
    """One step of the purge: rows by kind; ``bodies_until`` is where the next step begins."""

    rows: dict[str, int]
    bodies_until: AwareDatetime | None


class LateClock(Row):
    """By how much disconnections of many lines are stale."""

    late_seconds: float


class RestartClaim(Row):
    """Whether this sweep may send one restart; the lease is renewed with it."""

    claimed: bool
    lease: AwareDatetime | None = None


class Notified(Row):
    """Who was told: ``told`` users, None when no notice was due; ``refused`` ones by the platform's table.

    ``refusal_begins``: nothing was refused with this ``sqlstate`` before. ``held_back``: users who have heard too much
    of the line today; ``damped``: nobody is told, because the line is known to be unstable.
    """

    told: int | None = None
    refused: int = 0
    held_back: int = 0
    damped: bool = False
    sqlstate: str | None = None
    refusal_begins: bool = False


class Unverified(Notified):
    """A line whose users were to be told that nobody can find out."""

    instance_id: UUID


class Silence(Row):
    """Who was told; lines that fell silent with many others are not among them (``newly_together`` of them now)."""

    told: list[Unverified]
    newly_together: int


class ToldLater(Notified):
    """A line of which something was told that had waited; ``failed``: the SQLSTATE with which that failed."""

    instance_id: UUID
    failed: str | None = None


class Told(Row):
    """Of the lines that were due to be ``seen``, those of which somebody was told."""

    seen: int
    lines: list[ToldLater]


class Retried(Row):
    """Notices that were refused and tried again; ``refused_left`` wait for their next try."""

    tried: int
    told: int
    refused_left: int


class Transition(Notified):
    """What became of a verdict."""

    applied: bool
    outage_id: UUID | None = None
    down_seconds: float | None = None


class RelayEvent(Row):
    """An event to forward, as it came."""

    id: int
    body: str
    attempts: int = 0


class RelayTurn(Row):
    """The right to forward a line's events now, and its oldest waiting ones."""

    external_id: str
    token: UUID
    events: list[RelayEvent]


class Intake(Notified):
    """What became of an event: ``instance`` and ``now`` come with ``look``, ``code`` (a SQLSTATE) with ``failed``.

    A word that only a newer database knows is read as it is: the event is kept all the same.
    """

    outcome: Annotated[EventOutcome | Noise | str, Field(union_mode="left_to_right")]
    code: str | None = None
    event_id: int
    instance_id: UUID | None = None
    unit: str | None = None
    life: EventOutcome | None = None
    instance: SuspectLine | None = None
    now: AwareDatetime | None = None
    down_seconds: float | None = None
    relay: RelayTurn | None = None
