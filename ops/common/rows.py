"""Rows as PostgREST answers them, typed at the border. The fields are the columns that are asked for, and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shared.core.model import Status
from shared.providers.wapi.names import is_served


class Row(BaseModel):
    """A row of ``table``, whose primary key is ``key``.

    ``beside`` names fields that come from a table which has one row for each of it, or none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=False)
    table: ClassVar[str]
    key: ClassVar[str] = "id"
    beside: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @classmethod
    def columns(cls) -> str:
        """PostgREST's ``select``: a token cannot come along by accident."""
        elsewhere = {name for names in cls.beside.values() for name in names}
        own = (
            name if field.alias is None else f"{name}:{field.alias}"
            for name, field in cls.model_fields.items()
            if name not in elsewhere
        )
        return ",".join([*own, *(f"...{table}({','.join(names)})" for table, names in cls.beside.items())])


class Company(Row):
    """A customer."""

    table = "companies"

    id: UUID
    name: str | None


def _trimmed(told: Any) -> Any:  # noqa: ANN401 - JSON
    return (told or "").strip(" ") if told is None or isinstance(told, str) else told


def _possible(told: Any) -> Any:  # noqa: ANN401 - JSON
    """A moment that Python's calendar lacks (``infinity``, before Christ, after 9999) as none at all."""
    if not isinstance(told, str):
        return told
    return None if _NO_DATE.fullmatch(told) else told


_NO_DATE: Final = re.compile(r"-?infinity|\d{5,}-.*|.* BC")
"""How PostgreSQL writes what Python cannot hold."""
Moment: TypeAlias = Annotated[AwareDatetime | None, BeforeValidator(_possible)]
"""A moment that somebody else may have written."""


def _last_four(phone: Any) -> str | None:  # noqa: ANN401 - JSON
    return re.sub(r"\D", "", str(phone), flags=re.ASCII)[-4:] or None if phone else None


LastFour: TypeAlias = Annotated[str | None, BeforeValidator(_last_four)]
"""Of a phone only its last four digits get past the row."""


class Line(Row):
    """A WhatsApp line, with the last event of it that ``instance_health`` knows.

    Attributes:
        external_id: The provider's id, trimmed as SQL trims it (blanks alone); empty if it is missing.
        provider: As the row says; see ``is_ours``.
    """

    table = "wapi_instances"
    beside = {"instance_health": ("last_event_at",)}

    id: UUID
    company_id: UUID | None
    external_id: Annotated[str, BeforeValidator(_trimmed)] = Field(alias="instance_id")
    unit: str | None
    status: str | None
    status_reason: str | None
    is_active: bool | None
    provider: str | None
    created_at: Moment
    last_health_check: Moment
    last_event_at: Moment

    @property
    def is_ours(self) -> bool:
        """Whether its provider is the one that we watch; all other rows are the platform's own affair."""
        return is_served(self.provider)

    @property
    def is_paused(self) -> bool:
        """Nobody looks at it. Null counts as active."""
        return self.is_active is False

    @property
    def standing(self) -> Status:
        """The status as the sweep reads it."""
        try:
            return Status(self.status or "")
        except ValueError:
            return Status.DISCONNECTED
