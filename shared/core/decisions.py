"""What a look at a line means. Pure: no clock, no I/O, no logging.

The table is the design's (section 3.1): (row, observation, policy, now) -> decision. The brake sits on top of it, in
``core.brake``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.core.model import Census, Instance, Observation, Sighting, Status
from shared.core.policy import is_older_than

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Healthy:
    """Connected and alive: only the look is written."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Alive again: the line is connected, its outage closes, and those who had been told are told."""


@dataclass(frozen=True, slots=True)
class NoChange:
    """Nothing follows: only the look is written."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Dead, but the last restart is too recent: the line is degraded and the next sweep decides."""


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


Decision: TypeAlias = Healthy | Restore | NoChange | Skip | Restart | Disconnect


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and what it was made of: they travel together."""

    sighting: Sighting
    decision: Decision

    @property
    def needs_confirmation(self) -> bool:
        """Whether it would restart, mark or tell on a single negative look."""
        found = self.sighting.found
        return found is not None and found.is_conclusively_bad and would_act(self.decision)


def decide(instance: Instance, observation: Observation, *, policy: Policy, now: datetime) -> Decision:
    """Say what one look at an instance means, in a sweep without a brake.

    Args:
        instance: The row as claimed.
        observation: UNKNOWN means that we could not ask.
        policy: Limits and waits.
        now: The instant of the decision, on the database's clock, aware.

    Returns:
        Never ``Restart`` or ``then_restart`` within ``policy.restart_cooldown`` of ``instance.last_restart_at``.
    """
    match observation:
        case Observation.UNKNOWN | Observation.CLAIMED:
            # A claim keeps a healthy row healthy, and proves nothing else: no return, no recovery.
            return NoChange()
        case Observation.ALIVE:
            settled = instance.status is Status.CONNECTED and instance.outage is None
            return Healthy() if settled else Restore()
        case Observation.REFUSED:
            # A restart with the same token is useless.
            return NoChange() if instance.status is Status.DISCONNECTED else Disconnect(tell=True, then_restart=False)
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
    return Restart() if may_restart else NoChange()


def _may_restart_in_outage(instance: Instance, policy: Policy, now: datetime) -> bool:
    restarts = instance.outage.restarts if instance.outage else 0
    if restarts >= len(policy.outage_restart_waits):
        return False
    wait = max(policy.outage_restart_waits[restarts], policy.restart_cooldown)
    return is_older_than(instance.last_restart_at, wait, now=now)


def is_only_recorded(decision: Decision) -> bool:
    """Whether nothing but the look itself is written."""
    match decision:
        case Healthy() | NoChange():
            return True
        case Restore() | Skip() | Restart() | Disconnect():
            return False


def is_bad_news(decision: Decision) -> bool:
    """Whether the line is taken for dead, whatever follows from it."""
    match decision:
        case Skip() | Restart() | Disconnect():
            return True
        case Healthy() | Restore() | NoChange():
            return False


def would_act(decision: Decision) -> bool:
    """Whether a decision restarts, marks or tells at once."""
    match decision:
        case Restart() | Disconnect():
            return True
        case Healthy() | Restore() | NoChange() | Skip():
            return False


def believe_claim(observation: Observation, *, device_is_gone: bool) -> Observation:
    """Read a claim as life when the deep probe has answered for no line for long: then it is the probe that is gone."""
    return Observation.ALIVE if device_is_gone and observation is Observation.CLAIMED else observation


def conclude(
    instance: Instance, observation: Observation, census: Census, *, policy: Policy, now: datetime
) -> Observation:
    """Read the third UNKNOWN in a row as GHOST while most other lines answer.

    A line that sent an event within ten minutes is no ghost, here as anywhere.

    Args:
        instance: The row as claimed.
        observation: What the look found.
        census: Of the sweep so far, this look included.
        policy: Limits.
        now: The instant of the decision, aware.
    """
    if observation is not Observation.UNKNOWN or instance.unknown_looks + 1 < policy.unknown_limit:
        return observation
    if not is_older_than(instance.last_event_at, policy.fresh_event, now=now):
        return observation
    others = census.without_one_unknown()
    answered = others.looked - others.unknown
    if others.looked >= policy.unknown_min_others and answered >= policy.unknown_answering_share * others.looked:
        return Observation.GHOST
    return observation
