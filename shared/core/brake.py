"""The brake: many lines look dead at once, so it is the provider or us, not the phones. Pure.

The design's section 3.1: at least five lines, and at least half of those that were connected, are not alive. While the
brake is on, good news counts and bad news waits until it is half an hour old by the line's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.core.decisions import Disconnect, Healthy, NoChange, Restart, Restore, Skip
from shared.core.model import Census, Observation, Status

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.decisions import Decision
    from shared.core.model import Instance, Sighting
    from shared.core.policy import Policy


def count(sightings: list[Sighting]) -> Census:
    """The census of finished looks."""
    return sum((_count_one(each.instance, each.found) for each in sightings if each.found), Census())


def _count_one(instance: Instance, observation: Observation) -> Census:
    connected = instance.was_connected
    return Census(
        looked=1,
        unknown=int(observation is Observation.UNKNOWN),
        connected=int(connected),
        connected_not_alive=int(connected and not observation.says_connected),
    )


def brake_engages(census: Census, *, policy: Policy) -> bool:
    """Whether so many lines look dead at once that it is the provider or us, not the phones."""
    bad = census.connected_not_alive
    return bad >= policy.brake_min_lines and bad >= policy.brake_share * census.connected


def witnesses_brake(witnesses: Census, *, bad: int, policy: Policy) -> bool:
    """Whether lines that were alive a moment ago are dead now, too: then the provider is down, not the phones.

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
        case Disconnect() | Healthy() | Restore() | NoChange() | Skip():
            return False
