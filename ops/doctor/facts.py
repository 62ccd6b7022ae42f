"""What was gathered, typed at the border. Phones and message bodies are never asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, SecretStr

from ops.common.rows import LastFour, Line, Moment, Row
from ops.common.shown import shown, shown_external_id
from ops.doctor.findings import Subject
from shared.core.model import AuditKind, OutageOpener
from shared.core.mute import MuteClosing, MuteProof
from shared.core.notices import FallKind
from shared.core.registration import Registration
from shared.core.subscription import Payment, Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.core.look import Look
    from shared.core.registration import Unanswered


class LineRow(Line):
    """A line with its token, to ask the provider about it."""

    beside: ClassVar = {"instance_health": ("last_event_at", "last_restart_at", "odd_moments")}

    instance_token: SecretStr | None
    last_restart_at: AwareDatetime | None
    odd_moments: str | None = None

    @property
    def token(self) -> SecretStr | None:
        """The token, None if it is missing or empty."""
        text = self.instance_token.get_secret_value().strip() if self.instance_token else ""
        return SecretStr(text) if text else None

    @property
    def can_be_asked(self) -> bool:
        """Whether a sweep looks at it."""
        return self.is_ours and not self.is_paused and bool(self.external_id) and self.token is not None

    def subject(self, detail: str = "") -> Subject:
        """The line as a finding names it."""
        name = shown(self.unit) if self.unit and self.unit.strip() else "(no unit)"
        return Subject(name, shown_external_id(self.external_id), str(self.id), detail)


class MembershipRow(Row):
    """Who has users."""

    table = "user_companies"

    id: UUID
    company_id: UUID


class OutageRow(Row):
    """An open outage."""

    table = "instance_outages"

    id: UUID
    instance_id: UUID
    started_at: AwareDatetime
    told_at: AwareDatetime | None
    told_as: FallKind | None = None
    opened_by: OutageOpener
    restarts: int


class FallRow(Row):
    """A fall whose "voltou" waits until the line has held."""

    table = "instance_outages"

    id: UUID
    instance_id: UUID
    closed_at: AwareDatetime


class DueRow(Row):
    """A line of which something was to be told long ago."""

    table = "instance_health"
    key = "instance_id"

    instance_id: UUID
    tell_at: AwareDatetime


class MuteRow(Row):
    """A suspicion that a line lives and its events do not reach us."""

    table = "instance_mutes"

    id: UUID
    instance_id: UUID
    proof: MuteProof
    since: AwareDatetime
    suspected_at: AwareDatetime
    repairs: int
    told_at: AwareDatetime | None
    closed_at: AwareDatetime | None
    closed_as: MuteClosing | None


class RunRow(Row):
    """A sweep."""

    table = "health_check_runs"

    id: UUID
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    braked: bool
    left_due: int


class RegistrationRow(Row):
    """What a sweep has last recorded of a line's registration and subscription."""

    table = "instance_registrations"
    key = "instance_id"

    instance_id: UUID
    read_at: AwareDatetime | None
    found: str | None
    cause: str | None
    tries: int
    set_at: AwareDatetime | None
    failing_since: AwareDatetime | None
    payment: Payment | None
    payment_word: str | None
    ends_at: Moment

    @property
    def subscription(self) -> Subscription:
        """As it was told then."""
        return Subscription(self.payment, self.payment_word, self.ends_at, None)


class AuditRow(Row):
    """A line of the audit: a change of status, or a restart that was requested."""

    table = "instance_events"

    id: int
    at: AwareDatetime
    instance_id: UUID
    kind: AuditKind
    from_status: str | None
    to_status: str | None


class InboxRow(Row):
    """An event, without its body."""

    table = "wapi_webhook_events"

    id: int
    received_at: AwareDatetime
    external_id: str | None
    instance_id: UUID | None
    kind: str
    outcome: str | None
    processed_at: AwareDatetime | None
    relay: str | None


class PairRow(Row):
    """A conversation that could not become one with another of the same person."""

    table = "conversation_bookkeeping"
    key = "conversation_id"

    conversation_id: UUID
    instance_id: UUID
    same_person_as: UUID
    refusal: str


class ConversationRow(Row):
    """A conversation, without its name and its words."""

    table = "wapi_conversations"

    id: UUID
    contact_phone: LastFour


def _last_four_characters(address: object) -> str:
    return str(address)[-4:]


class ContactRow(Row):
    """Who is told by a further channel; of the address only its end."""

    table = "alert_contacts"

    id: UUID
    company_id: UUID | None
    channel: str
    address: Annotated[str, BeforeValidator(_last_four_characters)]


class DeliveryRow(Row):
    """A message to a contact."""

    table = "notice_deliveries"

    id: int
    contact_id: UUID
    instance_id: UUID | None
    kind: str
    cause: str | None
    channel: str
    state: str
    note: str | None
    created_at: AwareDatetime
    due_at: AwareDatetime
    sent_at: AwareDatetime | None
    acked_at: AwareDatetime | None


class ChannelRow(Row):
    """How a channel fares."""

    table = "alert_channels"
    key = "channel"

    channel: str
    failing_since: AwareDatetime | None
    cause: str | None


class AlertRow(Row):
    """What the operator was told."""

    table = "operator_alerts"

    id: int
    cause: str
    details: dict[str, Any]
    raised_at: AwareDatetime


class NoticeRow(Row):
    """A bell of our types that is about no outage of ours."""

    table = "notifications"

    id: UUID
    created_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class Asked:
    """What the provider said of a line.

    Attributes:
        look: ``status-instance``; None when nobody asked, because it answers nobody.
        registration: ``fetch-instance``, if it could be read.
        cause: Why it could not.
    """

    look: Look | None = None
    registration: Registration | None = None
    cause: str | None = None

    def registered(self, found: Registration | Unanswered) -> Asked:
        """The same, with the registration that was read, or why it could not be."""
        if isinstance(found, Registration):
            return Asked(self.look, found)
        return Asked(self.look, cause=found.cause)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The lines that are looked at now, and what was asked about them.

    Attributes:
        lines: Of our provider, as chosen by the operator, or all.
        asked: By our id; lines that cannot be asked are missing.
        others: The same of other providers: they are counted, and nothing else is said of them.
    """

    lines: tuple[LineRow, ...]
    asked: Mapping[UUID, Asked]
    others: tuple[LineRow, ...] = ()

    @property
    def active(self) -> list[LineRow]:
        """Those that are not paused."""
        return [line for line in self.lines if not line.is_paused]

    def registered(self, found: Mapping[UUID, Registration | Unanswered]) -> Fleet:
        """The same, with registrations that were read again."""
        again = {line: self.asked[line].registered(registration) for line, registration in found.items()}
        return Fleet(self.lines, {**self.asked, **again}, self.others)
