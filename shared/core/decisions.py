"""What a look at a line means. Pure: no clock, no I/O, no logging.

The table is the design's: (row, observation, policy, now) -> decision; the brake sits on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from shared.core.model import Instance, Observation, Policy, Status, is_older_than

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Healthy:
    """Connected and alive: nothing but the look is written."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Alive again: connected, the outage closes, who had been told is told."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is concluded or due: nothing but the look is written."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Dead, but restarted too lately: degraded, and the next sweep decides."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Dead, and a restart is allowed."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Mark the line disconnected.

    Attributes:
        tell: Ring the bells (not on the very first look at a line).
        then_restart: A restart is allowed and follows at once.
    """

    tell: bool
    then_restart: bool


Decision: TypeAlias = Healthy | Restore | Hold | Skip | Restart | Disconnect


def decide(instance: Instance, seen: Observation, *, policy: Policy, now: datetime) -> Decision:
    """Say what one look at an instance means, in a sweep without a brake.

    Args:
        instance: The row as claimed.
        seen: What the look found; UNKNOWN means that we could not ask.
        policy: Limits and waits.
        now: The instant of the decision, on the database's clock, aware.

    Returns:
        Never ``Restart`` or ``then_restart`` within ``policy.restart_cooldown`` of ``instance.last_restart_at``.
    """
    match seen:
        case Observation.UNKNOWN:
            return Hold()
        case Observation.ALIVE:
            settled = instance.status is Status.CONNECTED and instance.outage is None
            return Healthy() if settled else Restore()
        case Observation.REFUSED:
            # A restart with the same token is useless.
            return Hold() if instance.status is Status.DISCONNECTED else Disconnect(tell=True, then_restart=False)
        case Observation.DISCONNECTED | Observation.GHOST | Observation.NOT_FOUND:
            if instance.status is Status.DISCONNECTED:
                return _decide_known_outage(instance, policy, now)
            return _decide_death(instance, policy, now)


def _decide_death(instance: Instance, policy: Policy, now: datetime) -> Decision:
    may_restart = is_older_than(instance.last_restart_at, policy.restart_cooldown, now=now)
    if instance.auto_recovery_attempts >= policy.flapping_attempts:
        return Disconnect(tell=True, then_restart=may_restart)
    if may_restart:
        return Restart()
    waited = instance.degraded_since is not None and now - instance.degraded_since >= policy.degraded_grace
    if instance.status is Status.DEGRADED and waited:
        return Disconnect(tell=True, then_restart=False)
    return Skip()


def _decide_known_outage(instance: Instance, policy: Policy, now: datetime) -> Decision:
    may_restart = _may_restart_in_outage(instance, policy, now)
    if instance.outage is None:
        # The platform's screen wrote the status: nobody was told. On the very first look that is history, not news.
        return Disconnect(tell=instance.last_health_check is not None, then_restart=may_restart)
    if instance.outage.is_untold:
        # It opened in silence (degraded, a canary, a crash) and then the screen wrote the status.
        return Disconnect(tell=True, then_restart=may_restart)
    return Restart() if may_restart else Hold()


def _may_restart_in_outage(instance: Instance, policy: Policy, now: datetime) -> bool:
    restarts = instance.outage.restarts if instance.outage else 0
    if restarts >= len(policy.outage_restart_waits):
        return False
    wait = max(policy.outage_restart_waits[restarts], policy.restart_cooldown)
    return is_older_than(instance.last_restart_at, wait, now=now)


@dataclass(frozen=True, slots=True)
class Census:
    """How many lines were looked at, and what of them.

    Attributes:
        looked: Lines with a finished look.
        unknown: Of them, UNKNOWN.
        connected: Of them, lines whose row said connected.
        connected_not_alive: Of those, not ALIVE.
    """

    looked: int = 0
    unknown: int = 0
    connected: int = 0
    connected_not_alive: int = 0

    def __add__(self, other: Census) -> Census:
        return Census(
            self.looked + other.looked,
            self.unknown + other.unknown,
            self.connected + other.connected,
            self.connected_not_alive + other.connected_not_alive,
        )

    def without_one_unknown(self) -> Census:
        """The others, seen from a line that is itself UNKNOWN."""
        return replace(self, looked=self.looked - 1, unknown=self.unknown - 1)


def count(instance: Instance, seen: Observation) -> Census:
    """The census of one look."""
    connected = instance.was_connected
    return Census(
        looked=1,
        unknown=int(seen is Observation.UNKNOWN),
        connected=int(connected),
        connected_not_alive=int(connected and seen is not Observation.ALIVE),
    )


def brake_engages(census: Census, *, policy: Policy) -> bool:
    """Whether so many lines look dead at once that it is the provider or us, not the phones."""
    bad = census.connected_not_alive
    return bad >= policy.brake_min_lines and bad >= policy.brake_share * census.connected


def witnesses_brake(witnesses: Census, *, bad: int, policy: Policy) -> bool:
    """Whether lines that were alive a moment ago, asked again, show that the others' death is no matter of phones.

    Args:
        witnesses: What they say now.
        bad: Lines that are about to be restarted or told.
        policy: Limits.
    """
    died = witnesses.connected_not_alive
    return died > 0 and died >= policy.brake_share * witnesses.connected and died + bad >= policy.brake_min_lines


def can_brake(census: Census, *, policy: Policy) -> bool:
    """Whether the brake would engage if half of these lines were dead: a smaller share proves nothing."""
    return census.connected * policy.brake_share >= policy.brake_min_lines


def decide_braked(instance: Instance, seen: Observation, *, policy: Policy, now: datetime) -> Decision:
    """Say what a look means while the brake is on: good news counts, bad news waits until it is 30 minutes old.

    Returns:
        ``Hold`` for everything the brake holds back.
    """
    decision = decide(instance, seen, policy=policy, now=now)
    if isinstance(decision, Healthy | Restore | Hold):
        return decision
    if not leaves_brake(instance, seen, policy=policy, now=now):
        # The very first look at a line that was down before us tells nobody, and there is no second first look.
        silent = isinstance(decision, Disconnect) and not decision.tell
        return Disconnect(tell=False, then_restart=False) if silent else Hold()
    if instance.status is not Status.DISCONNECTED and isinstance(decision, Restart | Skip):
        return Disconnect(tell=True, then_restart=isinstance(decision, Restart))
    return decision


def leaves_brake(instance: Instance, seen: Observation, *, policy: Policy, now: datetime) -> bool:
    """Whether a line has been conclusively bad, by its own clock, for longer than the brake may hold it."""
    return (
        seen.is_conclusively_bad
        and instance.bad_since is not None
        and now - instance.bad_since >= policy.brake_patience
    )


def conclude(instance: Instance, seen: Observation, census: Census, *, policy: Policy, now: datetime) -> Observation:
    """Read the third UNKNOWN in a row as GHOST while most other lines answer.

    A line that sent an event within ten minutes is no ghost, here as anywhere.

    Args:
        instance: The row as claimed.
        seen: What the look found.
        census: Of the sweep so far, this look included.
        policy: Limits.
        now: The instant of the decision, aware.
    """
    if seen is not Observation.UNKNOWN or instance.unknown_looks + 1 < policy.unknown_limit:
        return seen
    if not is_older_than(instance.last_event_at, policy.fresh_event, now=now):
        return seen
    others = census.without_one_unknown()
    answered = others.looked - others.unknown
    if others.looked >= policy.unknown_min_others and answered >= policy.unknown_answering_share * others.looked:
        return Observation.GHOST
    return seen
