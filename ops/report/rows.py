"""What the report reads of each table, as types. The fields are the columns that are asked for, and no others."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Final
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field

from ops.common.rows import LastFour, Row
from ops.common.rows import Line as AnyLine
from shared.core.model import AuditKind, Observation, OutageClosing, OutageOpener
from shared.core.mute import MuteClosing, MuteProof
from shared.core.notices import FallKind

KEPT: Final = timedelta(days=30)
"""How far back the report looks: runs are kept no longer."""


def _end_of(address: object) -> str:
    return str(address)[-4:]


class Line(AnyLine):
    """A WhatsApp line with its last signs of life. Of its number only the last four digits get past this class."""

    beside: ClassVar = {"instance_health": ("last_alive_at", "last_event_at", "last_restart_at")}

    phone_number: LastFour
    last_alive_at: AwareDatetime | None
    last_restart_at: AwareDatetime | None = None

    @property
    def proven_until(self) -> datetime | None:
        """The last sign of life that is stored."""
        return max((at for at in (self.last_alive_at, self.last_event_at) if at), default=None)


class Outage(Row):
    """From the first sign of death until life is proven; ``closed_at`` None = still."""

    table = "instance_outages"

    id: UUID
    instance_id: UUID
    company_id: UUID | None
    external_id: str | None
    unit: str | None
    started_at: AwareDatetime
    opened_at: AwareDatetime
    opened_by: OutageOpener
    reason: str
    restarts: int
    told_at: AwareDatetime | None
    told_as: FallKind | None = None
    closed_at: AwareDatetime | None
    closed_as: OutageClosing | None
    lived: timedelta = timedelta(0)

    def lasted(self, now: datetime) -> timedelta:
        """How long the line was down: without the time in which a cure that nobody was told of held."""
        return max((self.closed_at or now) - self.started_at - self.lived, timedelta(0))

    @property
    def is_adopted(self) -> bool:
        """The line was down when it was first looked at: nobody knows since when."""
        return self.opened_by is OutageOpener.ADOPTION

    @property
    def is_damped(self) -> bool:
        """Nobody was told, because the line is known to be unstable."""
        return self.told_as is FallKind.DAMPED

    @property
    def is_refusal(self) -> bool:
        """The token was refused: no restart helps."""
        return self.reason == Observation.REFUSED.lower()

    @property
    def is_unknown_there(self) -> bool:
        """The provider does not know the line: no restart helps."""
        return self.reason == Observation.NOT_FOUND.lower()


class LineEvent(Row):
    """A line of the audit; ``told`` is how many bells rang with it, ``later`` what of it had waited."""

    table = "instance_events"

    id: int
    at: AwareDatetime
    instance_id: UUID
    company_id: UUID | None
    external_id: str | None
    unit: str | None
    kind: AuditKind
    reason: str | None
    to_status: str | None
    outage_id: UUID | None
    told: int | None = Field(alias="details->told")
    later: str | None = Field(default=None, alias="details->later")
    dead_for_seconds: float | None = Field(default=None, alias="details->dead_for_seconds")


EVENT_KINDS: Final = (
    AuditKind.RESTART_REQUESTED,
    AuditKind.RESTART_RECOVERED,
    AuditKind.RESTART_FAILED,
    AuditKind.RESTART_UNVERIFIED,
    AuditKind.STATUS_CHANGED,
    AuditKind.USERS_TOLD,
    AuditKind.OUTAGE_CLOSED,
    AuditKind.OUTAGE_REOPENED,
)
"""Of the audit: restarts and how they ended, who was told, what proves that somebody looked again, cures that did not
hold."""


class Notice(Row):
    """A user who was told; the occasion names the outage."""

    table = "notices"

    id: int
    occasion: str
    user_id: UUID


class Delivery(Row):
    """A message about an outage to a contact, by a further channel."""

    table = "notice_deliveries"

    id: int
    outage_id: UUID
    contact_id: UUID
    channel: str
    state: str
    due_at: AwareDatetime
    sent_at: AwareDatetime | None
    acked_at: AwareDatetime | None


class Contact(Row):
    """Whom it went to: of the address nothing but its end gets past this class."""

    table = "alert_contacts"

    id: UUID
    address: Annotated[str, BeforeValidator(_end_of)]


class Mute(Row):
    """A suspicion that a line lives and its events do not reach us."""

    table = "instance_mutes"

    id: UUID
    instance_id: UUID
    company_id: UUID | None
    proof: MuteProof
    since: AwareDatetime
    suspected_at: AwareDatetime
    heard_at: AwareDatetime | None
    closed_at: AwareDatetime | None
    closed_as: MuteClosing | None

    @property
    def is_shown(self) -> bool:
        """Whether it was more than a silence: proven, or ended by its repair."""
        return self.proof is not MuteProof.HABIT or self.closed_as is MuteClosing.REGISTRATION_LOST

    @property
    def ended_at(self) -> datetime | None:
        """When the first event came; without one, when it was given up."""
        return self.heard_at or self.closed_at


class Run(Row):
    """A sweep; ``finished_at`` None = cut off, or still running."""

    table = "health_check_runs"

    id: UUID
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    checked: int
    observations: dict[str, int]
    outcomes: dict[str, int]
    braked: bool
    left_due: int
    took_ms: int | None

    @property
    def took(self) -> timedelta | None:
        """How long, when it finished."""
        return None if self.took_ms is None else timedelta(milliseconds=self.took_ms)
