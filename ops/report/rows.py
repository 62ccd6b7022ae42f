"""What the report reads of each table, as types. The fields are the columns that are asked for, and no others."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shared.core.model import Status

KEPT: Final = timedelta(days=30)
"""How far back the report looks: runs are kept no longer."""


class Row(BaseModel):
    """A row of ``table``."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    table: ClassVar[str]

    @classmethod
    def columns(cls) -> str:
        """PostgREST's ``select``: a token cannot come along by accident."""
        return ",".join(
            name if field.alias is None else f"{name}:{field.alias}" for name, field in cls.model_fields.items()
        )


def _last_four(phone: Any) -> str | None:  # noqa: ANN401 - JSON
    return re.sub(r"\D", "", str(phone), flags=re.ASCII)[-4:] or None if phone else None


class Company(Row):
    """A customer."""

    table = "companies"

    id: UUID
    name: str | None


class Line(Row):
    """A WhatsApp line. Of its number only the last four digits get past this class."""

    table = "wapi_instances"

    id: UUID
    company_id: UUID | None
    external_id: str | None = Field(alias="instance_id")
    unit: str | None
    status: str | None
    status_reason: str | None
    phone_number: Annotated[str | None, BeforeValidator(_last_four)]
    is_active: bool | None
    created_at: AwareDatetime | None
    last_health_check: AwareDatetime | None
    last_alive_at: AwareDatetime | None
    last_event_at: AwareDatetime | None

    @property
    def is_paused(self) -> bool:
        """Nobody looks at it."""
        return self.is_active is False

    @property
    def standing(self) -> Status:
        """The status as the sweep reads it."""
        try:
            return Status(self.status or "")
        except ValueError:
            return Status.DISCONNECTED

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
    opened_by: str
    reason: str
    restarts: int
    told_at: AwareDatetime | None
    closed_at: AwareDatetime | None
    closed_as: str | None

    @property
    def is_adopted(self) -> bool:
        """The line was down when it was first looked at: nobody knows since when."""
        return self.opened_by == "adoption"


class LineEvent(Row):
    """A line of the audit; ``told`` is how many bells rang with it."""

    table = "instance_events"

    id: int
    at: AwareDatetime
    instance_id: UUID
    company_id: UUID | None
    external_id: str | None
    unit: str | None
    kind: str
    reason: str | None
    to_status: str | None
    outage_id: UUID | None
    told: int | None = Field(alias="details->told")


RESTART_REQUESTED: Final = "restart_requested"
EVENT_KINDS: Final = (
    RESTART_REQUESTED,
    "restart_recovered",
    "restart_failed",
    "restart_unverified",
    "status_changed",
    "users_told",
    "outage_closed",
)
"""Of the audit: restarts and how they ended, who was told, and what proves that somebody looked again."""


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
