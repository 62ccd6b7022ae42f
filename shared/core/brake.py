"""The brake: many lines look dead at once, so it is the provider or us, not the phones. Pure.

At least five lines, and at least half of those that were up, are neither alive nor claimed to be. What a sweep has
seen may be a handful of leftovers, or a helper's share: so before anybody is restarted, marked or told, some lines of
the whole fleet are asked as well, the witnesses. While the brake is on, good news counts and bad news waits until it is
half an hour old by the line's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.core.decisions import Disconnect, Healthy, NoChange, Restart, Restore, Skip, TellUnverified
from shared.core.model import Census, Observation, OutageOpener, Status

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.decisions import Decision
    from shared.core.model import Instance, Sighting
    from shared.core.policy import Policy


def was_up(instance: Instance, *, policy: Policy, now: datetime) -> bool:
    """Whether a line was connected, or degraded for a short time, whoever degraded it."""
    if instance.status is not Status.DEGRADED:
        return instance.status is Status.CONNECTED
    return instance.degraded_since is not None and now - instance.degraded_since < policy.degraded_is_up


def count(sightings: list[Sighting], *, policy: Policy, now: datetime, with_owed: bool = True) -> Census:
    """The census of finished looks; see ``is_owed``."""
    return sum(
        (
            count_one(each.found)
            for each in sightings
            if each.found
            and was_up(each.instance, policy=policy, now=now)
            and (with_owed or not is_owed(each.instance))
        ),
        Census(),
    )


def is_owed(instance: Instance) -> bool:
    """Whether an earlier sweep found the line dead while others lived, and had no room for its restart.

    Such lines come first, all of them in one batch. That is the order of our queue, and no share of anything: with them
    the brake comes on only if what is bad in the sweep is that much of the whole fleet. Witnesses are asked before
    anything is done to them, as about any line.
    """
    outage, degraded_since, last_look = instance.outage, instance.degraded_since, instance.last_health_check
    return (
        instance.status is Status.DEGRADED
        and outage is not None
        and outage.opened_by is OutageOpener.SWEEP
        and outage.told_at is None
        and degraded_since is not None
        and last_look is not None
        and last_look < degraded_since
    )


def count_one(observation: Observation) -> Census:
    """The census of one line that was up."""
    return Census(up=1, bad=int(not observation.says_connected), unknown=int(observation is Observation.UNKNOWN))


def brake_engages(census: Census, *, policy: Policy) -> bool:
    """Whether so many lines look dead at once that it is the provider or us, not the phones."""
    return census.bad >= policy.brake_min_lines and census.bad >= policy.brake_share * census.up


def witnesses_brake(witnesses: Census, *, bad: int, policy: Policy) -> bool:
    """Whether lines of the fleet, asked now, say that it is the provider.

    Without a witness many bad lines are too many.

    Args:
        witnesses: What they say now.
        bad: Lines that are about to be restarted, marked or told.
        policy: Limits.
    """
    if not witnesses.up:
        return bad >= policy.brake_min_lines
    return witnesses.bad >= policy.brake_share * witnesses.up and bad + witnesses.bad >= policy.brake_min_lines


@dataclass(frozen=True, slots=True)
class Held:
    """What the brake holds back; it is carried out if the canary recovers.

    Attributes:
        decision: What would be done.
    """

    decision: Decision


Braked: TypeAlias = "Decision | Held"


def hold_back(decision: Decision, sighting: Sighting, *, policy: Policy, now: datetime) -> Braked:
    """Say what remains of a decision while the brake is on.

    Args:
        decision: As it was made without the brake, at this same ``now``.
        sighting: What it was made of.
        policy: How long bad news waits.
        now: The instant of the decision.
    """
    match decision:
        case Healthy() | Restore() | NoChange():
            return decision
        case Disconnect(tell=False) if not leaves_brake(sighting, policy=policy, now=now):
            # The very first look at a line that was down before us tells nobody, and there is no second first look.
            return Disconnect(tell=False, then_restart=False)
        case TellUnverified():
            return Held(decision)
        case Restart() | Skip() | Disconnect() if not leaves_brake(sighting, policy=policy, now=now):
            return Held(decision)
        case Restart() if sighting.instance.status is not Status.DISCONNECTED:
            return Disconnect(tell=True, then_restart=True)
        case Skip() if sighting.instance.status is not Status.DISCONNECTED:
            return Disconnect(tell=True, then_restart=False)
        case Restart() | Skip() | Disconnect():
            return decision


def leaves_brake(sighting: Sighting, *, policy: Policy, now: datetime) -> bool:
    """Whether a line has been conclusively bad, by its own clock, for longer than the brake may hold it."""
    bad_since = sighting.instance.bad_since
    return sighting.concluded.is_conclusively_bad and bad_since is not None and now - bad_since >= policy.brake_patience


def may_be_canary(held: Held) -> bool:
    """Whether what is held back includes a restart."""
    match held.decision:
        case Restart() | Disconnect(then_restart=True):
            return True
        case Disconnect() | Healthy() | Restore() | NoChange() | Skip() | TellUnverified():
            return False
