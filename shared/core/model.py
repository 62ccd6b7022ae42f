"""The words of the project as types: instance, observation, status, outage, sighting, evidence, policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:
    from datetime import datetime


class Observation(StrEnum):
    """What one look at a line found."""

    ALIVE = "ALIVE"
    """Proven."""
    CLAIMED = "CLAIMED"
    """Says connected, and nothing proves it."""
    DISCONNECTED = "DISCONNECTED"
    GHOST = "GHOST"
    """Says connected, is not."""
    NOT_FOUND = "NOT_FOUND"
    REFUSED = "REFUSED"
    """The provider refuses the instance's token."""
    UNKNOWN = "UNKNOWN"
    """We could not find out."""

    @property
    def is_dead(self) -> bool:
        """A conclusive death that a restart may cure."""
        return self in (Observation.DISCONNECTED, Observation.GHOST, Observation.NOT_FOUND)

    @property
    def says_connected(self) -> bool:
        """Proven or only claimed."""
        return self in (Observation.ALIVE, Observation.CLAIMED)

    @property
    def is_conclusively_bad(self) -> bool:
        """Dead, or refused: anything that is neither life nor doubt."""
        return self.is_dead or self is Observation.REFUSED


class Status(StrEnum):
    """What the row says, as it is read: any other value in the column counts as disconnected."""

    CONNECTED = "connected"
    DEGRADED = "degraded"
    DISCONNECTED = "disconnected"


class RestartOutcome(StrEnum):
    """How a restart ended."""

    RECOVERED = "recovered"
    """A look after it said ALIVE."""
    FAILED = "failed"
    """Conclusively dead at the end."""
    UNVERIFIED = "unverified"
    """Nobody could say: the next sweep decides."""


class Source(StrEnum):
    """Which use case acts."""

    SWEEP = "sweep"
    WEBHOOK = "webhook"


class OutageOpener(StrEnum):
    """What opened an outage: the column ``opened_by``."""

    SWEEP = "sweep"
    WEBHOOK = "webhook"
    SCREEN = "screen"
    """The platform's screen wrote the status, and a look agrees."""
    ADOPTION = "adoption"
    """The very first look at a line that was down already: nobody is told."""


class OutageClosing(StrEnum):
    """What closed an outage: the column ``closed_as``."""

    RECOVERED = "recovered"
    """A restart cured it."""
    ALIVE = "alive"
    """A look proved life."""
    EVENT = "event"
    """A sign of life came in."""
    PAUSED = "paused"
    DELETED = "deleted"


class AuditKind(StrEnum):
    """What an audit row tells: the column ``instance_events.kind``."""

    OUTAGE_OPENED = "outage_opened"
    OUTAGE_REOPENED = "outage_reopened"
    OUTAGE_CLOSED = "outage_closed"
    """While the status stayed connected."""
    STATUS_CHANGED = "status_changed"
    USERS_TOLD = "users_told"
    """While the status stayed as it was."""
    RESTART_REQUESTED = "restart_requested"
    RESTART_RECOVERED = "restart_recovered"
    RESTART_FAILED = "restart_failed"
    RESTART_UNVERIFIED = "restart_unverified"
    DISCONNECTION_DENIED = "disconnection_denied"
    DISCONNECTION_IGNORED = "disconnection_ignored"
    PHONE_CHANGED = "phone_changed"


class Row(BaseModel):
    """What the database answers, typed. A migration comes before the code that reads what it adds.

    A validator is built when it is first needed: a function that starts needs few of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Outage(Row):
    """The open outage of a line."""

    id: UUID
    started_at: AwareDatetime
    opened_at: AwareDatetime
    restarts: int
    told_at: AwareDatetime | None
    opened_by: OutageOpener
    company_id: UUID | None

    @property
    def is_untold(self) -> bool:
        """Nobody was told, although it did not begin before the adoption."""
        return self.told_at is None and self.opened_by is not OutageOpener.ADOPTION


class Instance(Row):
    """A leased row of ``wapi_instances`` with our bookkeeping of it, as ``claim_instances`` hands it out.

    ``id`` is our uuid, ``external_id`` the provider's, trimmed; ``lease`` proves that this sweep holds the line;
    ``token_hash`` is of the token as it was then; ``raw_status`` is the column as it stands (platforms write words of
    their own); ``pairing_since`` is when a word of pairing was first seen there; ``unverified_since`` is since when its
    users have been told that nobody can find out.
    """

    id: UUID
    external_id: str
    token: SecretStr
    token_hash: str
    raw_status: str | None
    unit: str | None
    company_id: UUID | None
    lease: AwareDatetime
    last_health_check: AwareDatetime | None
    auto_recovery_attempts: int
    last_restart_at: AwareDatetime | None
    degraded_since: AwareDatetime | None
    bad_since: AwareDatetime | None
    unknown_since: AwareDatetime | None
    unknown_looks: int
    unverified_since: AwareDatetime | None
    pairing_since: AwareDatetime | None
    was_ever_connected: bool
    last_event_at: AwareDatetime | None
    phone_number: str | None
    outage: Outage | None

    @property
    def status(self) -> Status:
        """The status as it is read."""
        try:
            return Status(self.raw_status or "")
        except ValueError:
            return Status.DISCONNECTED


class SuspectLine(Row):
    """What a connection event must know of its line to look at it; ``token_hash`` is of the token as it was then."""

    id: UUID
    external_id: str
    token: SecretStr | None
    token_hash: str | None = None
    last_event_at: AwareDatetime | None


Witness: TypeAlias = SuspectLine
"""A line of the fleet that is up, drawn at random: nobody's to write, only to look at."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why something is marked, restarted or told: it stands in the log and in the audit.

    Attributes:
        source: Who acts.
        reason: The observation or event, in lower case.
        observation: What the look found, None without one.
        cause: Why the look says so, in one constant word.
        event_id: Of the inbox, None without an event.
        run: The sweep, None outside of one.
    """

    source: Source
    reason: str
    observation: Observation | None = None
    cause: str | None = None
    event_id: int | None = None
    run: UUID | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A claimed line and what this sweep found, with the preconditions of what is decided on it.

    Attributes:
        instance: As claimed; status, lease, external id and token must still be these when a transition is applied.
        found: What the look found; None when the budget ended, or our code failed, before it did.
        concluded: What is made of it: a claim may count as life when no deep probe answers any more.
        cause: Why the look says so, in one constant word.
        looked_at: When the look began, on the database's clock.
        phone: The number that the look has shown, None if it showed none.
    """

    instance: Instance
    found: Observation | None
    concluded: Observation
    cause: str
    looked_at: datetime
    phone: str | None = None

    @property
    def unknown_looks(self) -> int:
        """The new count of UNKNOWN in a row."""
        return self.instance.unknown_looks + 1 if self.found is Observation.UNKNOWN else 0

    @property
    def new_phone(self) -> str | None:
        """The number that the look has shown, if it is not the row's."""
        known = "".join(filter(str.isdigit, self.instance.phone_number or ""))
        return None if self.phone == known else self.phone

    def evidence(self, run: UUID) -> Evidence:
        """The same as the reason of what this sweep does next."""
        return Evidence(Source.SWEEP, self.concluded.lower(), self.concluded, self.cause, run=run)

    def with_preconditions(self, *, lease: datetime | None = None, status: Status | None = None) -> Sighting:
        """The same, with what this sweep itself has just written as preconditions."""
        written: dict[str, object] = {}
        if lease is not None:
            written["lease"] = lease
        if status is not None:
            written["raw_status"] = status.value
        return replace(self, instance=self.instance.model_copy(update=written))


@dataclass(frozen=True, slots=True)
class Census:
    """Of the lines that were looked at, those that were up, and how they are.

    Attributes:
        up: Lines that were connected, or degraded for a short time.
        bad: Of them, neither ALIVE nor CLAIMED.
        unknown: Of them, UNKNOWN.
    """

    up: int = 0
    bad: int = 0
    unknown: int = 0

    def __add__(self, other: Census) -> Census:
        return Census(self.up + other.up, self.bad + other.bad, self.unknown + other.unknown)
