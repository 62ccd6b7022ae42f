"""What was gathered, typed at the border. Phones and message bodies are never asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, SecretStr

from ops.common.shown import shown, shown_external_id
from ops.doctor.findings import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.core.look import Look
    from shared.providers.wapi.webhooks import Registration


class Row(BaseModel):
    """A row as PostgREST answers it."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LineRow(Row):
    """A row of ``wapi_instances``; ``instance_id`` is the provider's id."""

    id: UUID
    company_id: UUID | None
    unit: str | None
    instance_id: str | None
    instance_token: SecretStr | None
    status: str | None
    status_reason: str | None
    is_active: bool | None
    last_health_check: AwareDatetime | None
    last_event_at: AwareDatetime | None
    created_at: AwareDatetime | None

    @property
    def is_paused(self) -> bool:
        """Null counts as active."""
        return self.is_active is False

    @property
    def external_id(self) -> str:
        """The provider's id, empty if it is missing."""
        return self.instance_id or ""

    @property
    def token(self) -> SecretStr | None:
        """The token, None if it is missing or empty."""
        text = self.instance_token.get_secret_value().strip() if self.instance_token else ""
        return SecretStr(text) if text else None

    @property
    def can_be_asked(self) -> bool:
        """Whether a sweep looks at it."""
        return not self.is_paused and bool(self.external_id) and self.token is not None

    def subject(self, detail: str = "") -> Subject:
        """The line as a finding names it."""
        name = shown(self.unit) if self.unit and self.unit.strip() else "(no unit)"
        return Subject(name, shown_external_id(self.instance_id), str(self.id), detail)


class CompanyRow(Row):
    """A row of ``companies``."""

    id: UUID
    name: str | None


class MembershipRow(Row):
    """A row of ``user_companies``."""

    id: UUID
    company_id: UUID


class OutageRow(Row):
    """An open row of ``instance_outages``."""

    id: UUID
    instance_id: UUID
    started_at: AwareDatetime
    told_at: AwareDatetime | None
    opened_by: str


class RunRow(Row):
    """A row of ``health_check_runs``."""

    id: UUID
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    braked: bool
    left_due: int


class AuditRow(Row):
    """A row of ``instance_events``: a change of status, or a restart that was requested."""

    id: int
    at: AwareDatetime
    instance_id: UUID
    kind: str
    from_status: str | None
    to_status: str | None


class InboxRow(Row):
    """A row of ``wapi_webhook_events``, without its body."""

    id: int
    received_at: AwareDatetime
    external_id: str | None
    instance_id: UUID | None
    kind: str
    outcome: str | None
    processed_at: AwareDatetime | None
    relay: str | None


class NoticeRow(Row):
    """A row of ``notifications`` of our types that is about no outage of ours."""

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


@dataclass(frozen=True, slots=True)
class Fleet:
    """The lines that are looked at now, and what was asked about them.

    Attributes:
        lines: As chosen by the operator, or all.
        asked: By our id; lines that cannot be asked are missing.
    """

    lines: tuple[LineRow, ...]
    asked: Mapping[UUID, Asked]

    @property
    def active(self) -> list[LineRow]:
        """Those that are not paused."""
        return [line for line in self.lines if not line.is_paused]

    def registered(self, found: Mapping[UUID, Registration | str]) -> Fleet:
        """The same, with registrations that were read again: each, or why it could not be read."""
        asked = dict(self.asked)
        for line, registration in found.items():
            look = asked[line].look
            asked[line] = (
                Asked(look, cause=registration) if isinstance(registration, str) else Asked(look, registration)
            )
        return Fleet(self.lines, asked)
