"""The words of the project as types: instance, observation, status, outage, policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, SecretStr


class Observation(StrEnum):
    """What one look at a line found."""

    ALIVE = "ALIVE"
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
    FAILED = "failed"
    UNVERIFIED = "unverified"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outage(_Row):
    """The open outage of a line."""

    id: UUID
    started_at: AwareDatetime
    restarts: int
    told_at: AwareDatetime | None
    opened_by: str

    @property
    def is_untold(self) -> bool:
        """Nobody was told, and not because it is older than our being here."""
        return self.told_at is None and self.opened_by != "adoption"


class Instance(_Row):
    """A leased row of ``wapi_instances``, as ``claim_instances`` hands it out.

    ``id`` is our uuid, ``external_id`` the provider's; ``lease`` proves that this sweep holds the line;
    ``raw_status`` is the column as it stands (platforms write words of their own).
    """

    id: UUID
    external_id: str
    token: SecretStr
    raw_status: str | None
    unit: str | None
    company_id: UUID | None
    lease: AwareDatetime
    last_health_check: AwareDatetime | None
    auto_recovery_attempts: int
    last_restart_at: AwareDatetime | None
    degraded_since: AwareDatetime | None
    bad_since: AwareDatetime | None
    unknown_looks: int
    last_event_at: AwareDatetime | None
    outage: Outage | None

    @property
    def was_connected(self) -> bool:
        """Connected when the last look ended: an event may have degraded it since."""
        if self.status is not Status.DEGRADED:
            return self.status is Status.CONNECTED
        if self.degraded_since is None or self.last_health_check is None:
            return False
        return self.degraded_since > self.last_health_check

    @property
    def status(self) -> Status:
        """The status as it is read."""
        try:
            return Status(self.raw_status or "")
        except ValueError:
            return Status.DISCONNECTED


class SuspectLine(_Row):
    """What a disconnection event must know of its line to look at it."""

    id: UUID
    external_id: str
    token: SecretStr | None
    last_event_at: AwareDatetime | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A claimed line and what this sweep found.

    Attributes:
        instance: As claimed; its status and lease are the ground that a transition stands on.
        observed: What the look found; None when the budget ended, or our code failed, before it did.
        concluded: What is made of it: a third UNKNOWN in a row may count as GHOST.
        looked_at: When the look began, on the database's clock.
    """

    instance: Instance
    observed: Observation | None
    concluded: Observation
    looked_at: datetime

    @property
    def unknown_looks(self) -> int:
        """The new count of UNKNOWN in a row."""
        return self.instance.unknown_looks + 1 if self.observed is Observation.UNKNOWN else 0

    def on_ground(self, *, lease: datetime | None = None, status: Status | None = None) -> Seen:
        """The same, standing on what this sweep itself has just written."""
        ground: dict[str, object] = {}
        if lease is not None:
            ground["lease"] = lease
        if status is not None:
            ground["raw_status"] = status.value
        return replace(self, instance=self.instance.model_copy(update=ground))


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much at once, in a sweep.

    Attributes:
        check_interval: A line looked at less than this before the sweep's start is not due.
        budget: Nothing new begins after this.
        look_timeout: For one look.
        ghost_confirm: Wait before the second look at a line that would be condemned.
        restart_verify: How long a restarted line has to come back.
        look_concurrency: Looks at once, at most.
        restart_concurrency: Restarts at once, at most.
        batch_size: Lines a claim; below the 1,000 rows that PostgREST answers at most.
        first_pause: After a 429 that does not say how long; doubled while nothing else comes.
    """

    check_interval: timedelta = timedelta(seconds=150)
    budget: timedelta = timedelta(seconds=240)
    look_timeout: timedelta = timedelta(seconds=10)
    ghost_confirm: timedelta = timedelta(seconds=5)
    restart_verify: timedelta = timedelta(seconds=30)
    look_concurrency: int = 128
    restart_concurrency: int = 8
    batch_size: int = 500
    first_pause: timedelta = timedelta(seconds=0.5)

    @property
    def look_lease(self) -> timedelta:
        """Long enough for a batch's looks, short enough that the next sweep takes over from a killed one."""
        waves = -(-self.batch_size // self.look_concurrency)
        return self.look_timeout * (2 + min(waves, 4)) + self.ghost_confirm + timedelta(seconds=30)

    @property
    def restart_lease(self) -> timedelta:
        """Long enough for a restart, its looks and its record."""
        return self.restart_verify + self.look_timeout * 3 + self.ghost_confirm + timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and waits of the decisions; the defaults are the design's."""

    restart_cooldown: timedelta = timedelta(minutes=30)
    degraded_grace: timedelta = timedelta(minutes=10)
    outage_restart_waits: tuple[timedelta, ...] = (
        timedelta(0),
        timedelta(minutes=30),
        timedelta(hours=1),
        timedelta(hours=2),
    )
    """Waits after the last restart before the 1st, 2nd, … of a line that is marked disconnected; no more than these."""
    flapping_attempts: int = 3
    unknown_limit: int = 3
    unknown_min_others: int = 5
    unknown_answering_share: float = 0.8
    brake_min_lines: int = 5
    brake_share: float = 0.5
    brake_patience: timedelta = timedelta(minutes=30)
    fresh_event: timedelta = timedelta(minutes=10)
    """A line that sent an event this lately is no ghost."""


def is_older_than(moment: datetime | None, age: timedelta, *, now: datetime) -> bool:
    """Whether something happened at least ``age`` ago, or never."""
    return moment is None or now - moment >= age
