"""What a look at a line means. Pure: no clock, no I/O, no logging.

The table is the design's (section 3.1): (row, observation, policy, now) -> decision. The brake sits on top of it, in
``core.brake``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.core.model import Instance, Observation, OutageOpener, Sighting, Status
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


@dataclass(frozen=True, slots=True)
class TellUnverified:
    """Nobody could find out anything for an hour: tell its users so. It proves no death and opens no outage."""


Decision: TypeAlias = Healthy | Restore | NoChange | Skip | Restart | Disconnect | TellUnverified


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
        Never ``Restart`` or ``then_restart`` within ``policy.restart_cooldown`` of ``instance.last_restart_at``;
        nothing but good news of a line that is to be left alone.
    """
    match observation:
        case Observation.UNKNOWN | Observation.CLAIMED:
            # A claim keeps a healthy row healthy, and proves nothing else: no return, no recovery.
            return _decide_silence(instance, policy, now)
        case Observation.ALIVE:
            is_settled = (
                instance.status is Status.CONNECTED and instance.outage is None and instance.unverified_since is None
            )
            return Healthy() if is_settled else Restore()
        case Observation.REFUSED:
            # A restart with the same token is useless.
            is_known = instance.status is Status.DISCONNECTED
            return NoChange() if is_known else Disconnect(tell=True, then_restart=False)
        case Observation.DISCONNECTED | Observation.GHOST | Observation.NOT_FOUND:
            if _is_left_alone(instance, policy, now):
                return NoChange()
            if instance.status is Status.DISCONNECTED:
                return _decide_known_outage(instance, policy, now)
            return _decide_death(instance, policy, now)


def _is_left_alone(instance: Instance, policy: Policy, now: datetime) -> bool:
    """Whether somebody is pairing the phone, or nobody ever has: no restart, no mark, no bell."""
    if instance.status is not Status.DISCONNECTED:
        return False
    is_pairing = instance.pairing_since is not None and now - instance.pairing_since < policy.pairing
    # Whoever has an outage was up before it, whatever else is known.
    return is_pairing or (not instance.was_ever_connected and instance.outage is None)


def _decide_silence(instance: Instance, policy: Policy, now: datetime) -> Decision:
    if instance.status is Status.DISCONNECTED or instance.unverified_since is not None:
        return NoChange()
    since = instance.unknown_since
    if since is None or now - since < policy.silent_after:
        return NoChange()
    has_spoken = instance.last_event_at is not None and instance.last_event_at >= since
    was_told = instance.outage is not None and instance.outage.told_at is not None
    return NoChange() if has_spoken or was_told else TellUnverified()


def _decide_death(instance: Instance, policy: Policy, now: datetime) -> Decision:
    may_restart = _may_restart(instance, policy, now)
    if instance.auto_recovery_attempts >= policy.flapping_attempts:
        return Disconnect(tell=True, then_restart=may_restart)
    if may_restart:
        return Restart()
    return Disconnect(tell=True, then_restart=False) if has_waited(instance, policy=policy, now=now) else Skip()


def has_waited(instance: Instance, *, policy: Policy, now: datetime) -> bool:
    """Whether a line that is owed a restart has been bad for so long that its users are told without one."""
    bad_since = instance.bad_since
    return instance.status is Status.DEGRADED and bad_since is not None and now - bad_since >= policy.degraded_grace


def _decide_known_outage(instance: Instance, policy: Policy, now: datetime) -> Decision:
    outage = instance.outage
    if outage is None:
        # The platform's screen wrote the status: nobody was told, and somebody may be scanning the code. On the very
        # first look that is history, not news.
        is_news = instance.last_health_check is not None
        return Disconnect(tell=is_news, then_restart=not is_news and _may_restart(instance, policy, now))
    may_restart = _may_restart(instance, policy, now)
    if outage.is_untold or (outage.told_at is not None and outage.company_id != instance.company_id):
        # It opened in silence (degraded, a canary, a crash) and then the screen wrote the status; or the line has moved
        # to a company that has not heard of it.
        return Disconnect(tell=True, then_restart=may_restart)
    return Restart() if may_restart else NoChange()


_OPENED_BY_PEOPLE = (OutageOpener.WEBHOOK, OutageOpener.SCREEN)


def _may_restart(instance: Instance, policy: Policy, now: datetime) -> bool:
    """Whether the last restart is long enough ago; in an outage by its own spacing, whatever word the row holds."""
    wait, outage = policy.restart_cooldown, instance.outage
    if outage is not None:
        if outage.restarts == 0 and outage.opened_by in _OPENED_BY_PEOPLE and now - outage.opened_at < policy.scanning:
            return False
        waits = policy.outage_restart_waits
        wait = max(wait, waits[min(outage.restarts, len(waits) - 1)])
    return is_older_than(instance.last_restart_at, wait, now=now)


def is_only_recorded(decision: Decision) -> bool:
    """Whether nothing but the look itself is written."""
    match decision:
        case Healthy() | NoChange():
            return True
        case Restore() | Skip() | Restart() | Disconnect() | TellUnverified():
            return False


def is_bad_news(decision: Decision) -> bool:
    """Whether the line is taken for dead, whatever follows from it."""
    match decision:
        case Skip() | Restart() | Disconnect():
            return True
        case Healthy() | Restore() | NoChange() | TellUnverified():
            return False


def would_act(decision: Decision) -> bool:
    """Whether a decision restarts, marks or tells at once."""
    match decision:
        case Restart() | Disconnect() | TellUnverified():
            return True
        case Healthy() | Restore() | NoChange() | Skip():
            return False


def believe_claim(observation: Observation, *, device_is_gone: bool) -> Observation:
    """Read a claim as life when the deep probe has answered for no line for long: then it is the probe that is gone."""
    return Observation.ALIVE if device_is_gone and observation is Observation.CLAIMED else observation
