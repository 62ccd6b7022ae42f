"""The numbers of the decisions, of a sweep's time and concurrency, and of the retention. Each is defined only here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


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
    """The numbers of the decisions, in Python and in SQL; the defaults are the design's.

    This is their one home: SQL functions get what they need of them as one argument, ``recovery_policy``, whose fields
    have these names.
    """

    restart_cooldown: timedelta = timedelta(minutes=30)
    """At most one restart of an external id in this time."""
    outage_restart_waits: tuple[timedelta, ...] = (
        timedelta(0),
        timedelta(minutes=30),
        timedelta(hours=1),
        timedelta(hours=2),
        timedelta(hours=24),
    )
    """Waits after the last restart before the 1st, 2nd, … of an open outage; the last one for ever."""
    scanning: timedelta = timedelta(minutes=10)
    """In an outage that an event or a screen opened, the first restart waits so long: somebody scans the QR code."""
    pairing: timedelta = timedelta(minutes=30)
    """A word of pairing in the row is believed for so long."""
    flapping_attempts: int = 3
    """A line restarted so often is told before it is restarted again."""
    attempts_reset: timedelta = timedelta(hours=24)
    """A line alive so long after its last restart begins to count anew."""
    degraded_grace: timedelta = timedelta(minutes=10)
    """A line that may not be restarted is told after this."""
    reopen_within: timedelta = timedelta(minutes=30)
    """A death so soon after a silent cure is the same outage."""

    silent_after: timedelta = timedelta(minutes=60)
    """A line about which nobody could find out anything for so long is told as unverified."""
    silent_together: timedelta = timedelta(minutes=15)
    """Lines that fell silent within this time of each other have one cause …"""
    silent_share: float = 0.02
    """… if they are more than one, and more than this share of the fleet."""
    blind_sweeps: int = 3
    """After so many sweeps in a row that found nothing out a human must look."""

    fresh_event: timedelta = timedelta(minutes=10)
    """A line that sent an event this lately is no ghost."""
    fresh_life: timedelta = timedelta(minutes=1)
    """A line that sent an event this lately is not disconnected."""

    device_gone_after: timedelta = timedelta(minutes=60)
    """When the deep probe has answered for no line for so long, claims are believed."""

    brake_min_lines: int = 5
    brake_share: float = 0.5
    brake_patience: timedelta = timedelta(minutes=30)
    """A line conclusively bad for so long leaves the brake."""
    degraded_is_up: timedelta = timedelta(minutes=30)
    """A line degraded for less than this counts as one that was up."""
    witnesses: int = 20
    """Lines of the fleet that are looked at before anybody is restarted, marked or told."""
    witnesses_serve: timedelta = timedelta(seconds=30)
    """How long what they say counts."""

    event_slack: timedelta = timedelta(seconds=5)
    """Moments of events are whole seconds of another clock."""
    event_ahead: timedelta = timedelta(minutes=5)
    """A moment further ahead of us is not believed: the time of arrival counts."""
    event_reach: timedelta = timedelta(hours=1)
    """A moment of longer ago opens no outage of longer ago."""
    stale_after: timedelta = timedelta(seconds=60)
    """A disconnection so much older than the last sign of life has no effect."""
    restart_quiet: timedelta = timedelta(seconds=60)
    """A disconnection so soon after a restart is the restart's own."""
    life_kept_each: timedelta = timedelta(seconds=60)
    """How often a busy line's sign of life is written."""
    notice_waits: tuple[timedelta, ...] = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=6))
    """Before a notice that the platform's table refused is tried again; the last one for ever."""
    counted_within: timedelta = timedelta(hours=24)
    """Falls of a line, and notices of it to one user, are counted over this time."""
    falls_told: int = 2
    """So many falls are each told; one more, and the line is unstable."""
    back_after: timedelta = timedelta(minutes=5)
    """A line that fell a second time is told to be back when it has held so long …"""
    stable_after: timedelta = timedelta(minutes=60)
    """… and an unstable one when it has held so long; until then its falls are silent …"""
    lasting_after: timedelta = timedelta(minutes=15)
    """… but for one that lasts so long."""
    notices_most: int = 7
    """Notices of a line to one user within ``counted_within``, the last of them for bad news only."""
    reminder_waits: tuple[timedelta, ...] = (timedelta(hours=24), timedelta(hours=72))
    reminder_each: timedelta = timedelta(days=7)
    """Users of a line that is still down are reminded so long after the first notice, then again and again."""
    joined_seen_each: timedelta = timedelta(hours=12)
    """How often a line of which they were reminded is looked at for users who joined since: they wait a day at most."""
    tell_again_after: timedelta = timedelta(minutes=1)
    """What cannot be told yet, because the line looks bad or somebody pairs it, is asked about again after this."""
    mass_within: timedelta = timedelta(minutes=2)
    mass_lines: int = 5
    mass_share: float = 0.01
    """Disconnections of so many other lines within ``mass_within``, and of this share of those that are up, are the
    provider's doing."""
    runs_together: timedelta = timedelta(minutes=1)
    """Runs that began so close to the last one are its helpers: together they have counted the fleet."""
    clock_late_within: timedelta = timedelta(hours=24)
    clock_late_lines: int = 5
    clock_late_slack: timedelta = timedelta(seconds=30)
    """Disconnections of so many lines within ``clock_late_within``, stale by the same amount, give or take the slack,
    show that the provider's clock is late."""

    registration_every: timedelta = timedelta(hours=6)
    """Where the provider posts a line's events is read so often …"""
    registration_share: float = 0.1
    registration_lines: int = 20
    """… of a share of the lines that a sweep has looked at, but of so many at least."""
    registration_sets: int = 20
    """Lines whose registration is set in one sweep, at most."""
    registration_waits: tuple[timedelta, ...] = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=6))
    """Before a registration that could not be read or set is tried again; the last one for ever."""
    registration_failing_after: timedelta = timedelta(days=1)
    """When for so long none could be set a human must look."""
    payment_every: timedelta = timedelta(hours=18)
    """Once a day: the next reading after this asks until when a line is paid for."""
    subscription_stages: tuple[int, ...] = (7, 3, 1, 0)
    """Days before the end of a subscription on which it is told; 0 is on lapse."""


_DESIGN = Policy()


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The numbers of the outbox; SQL gets them as one argument, ``delivery_policy``, whose fields have these names."""

    ack_within: timedelta = timedelta(minutes=5)
    """A contact that was not surely reached by then lets the next position be due."""
    together: timedelta = timedelta(minutes=2)
    """What is due so close to each other is one message."""
    line_proven: timedelta = timedelta(minutes=60)
    """A line that is back for less sends nobody else's alerts."""
    keep_trying: timedelta = timedelta(hours=24)
    waits: tuple[timedelta, ...] = tuple(timedelta(minutes=n) for n in (5, 10, 20, 40, 80, 160, 240))
    """Before a delivery that failed is tried again; the last one for ever."""
    dead_after: timedelta = timedelta(hours=1)
    """A channel that fails for so long is told to the operator."""
    settled_after: timedelta = timedelta(minutes=15)
    """That an alert is over is told when it has been so for so long: what comes and goes is one alert."""
    counted_within: timedelta = _DESIGN.counted_within
    notices_most: int = _DESIGN.notices_most
    """A contact hears no oftener of a line than a user does."""
    silent_after: timedelta = _DESIGN.silent_after
    down_after: timedelta = timedelta(minutes=60)
    """A line that is down for so long is told to the operator, too."""
    device_gone_after: timedelta = _DESIGN.device_gone_after
    blind_sweeps: int = _DESIGN.blind_sweeps


@dataclass(frozen=True, slots=True)
class MutePolicy:
    """The numbers of ``core.mute``: when a line that lives is taken for mute, and what is done about it."""

    sends: int = 3
    chats: int = 2
    """So many messages to so many chats prove it if nothing comes back …"""
    sends_after: timedelta = timedelta(minutes=20)
    sends_within: timedelta = timedelta(minutes=80)
    """… and they are older than the first of these, and not older than the second."""

    habit_after: timedelta = timedelta(days=14)
    """From the third week on a habit says something."""
    habit_share: float = 0.1
    """An hour in which fewer of the quarters were heard is one without a habit."""
    improbable: float = 1e-4
    shortest: timedelta = timedelta(minutes=15)
    """No silence under this is improbable."""
    memory: timedelta = timedelta(weeks=16)
    """Counts as old as this are halved."""
    life_kept_each: timedelta = timedelta(seconds=60)
    """As ``Policy`` has it: the minute after the last event that is stored was heard as well."""
    reach: timedelta = timedelta(days=14)
    """A silence that is not improbable by then is not looked at by the habit for ``look_again``."""
    look_again: timedelta = timedelta(hours=24)
    suspicions_within: timedelta = timedelta(weeks=13)
    stricter_each: float = 1
    """Each suspicion by habit of so lately makes the bar stricter by its own exponent: 1 in 10,000, in 100,000,000 …"""

    probe_soonest: timedelta = timedelta(minutes=15)
    probe_latest: timedelta = timedelta(hours=1)
    """Between two readings of a silent line's sends."""
    alive_within: timedelta = timedelta(minutes=20)
    """Only a line that a look has found alive so lately is mute: any other has trouble of another kind."""

    repair_waits: tuple[timedelta, ...] = (
        timedelta(0),
        timedelta(minutes=15),
        timedelta(hours=1),
        timedelta(hours=6),
    )
    """Before the 1st, 2nd, … repair of one silence, after the last one."""
    habit_repairs: int = 1
    """So many of one silence without a proof."""
    repair_again: timedelta = timedelta(hours=24)
    """After these, while there is proof; without, the suspicion is given up then."""
    shows_within: timedelta = timedelta(minutes=5)
    """An event so soon after a repair is the repair's doing."""
    told_after: timedelta = timedelta(minutes=30)
    mass_lines: int = 5
    mass_share: float = 0.5
    """So many lines, and this share of those that could be heard now, have one cause: one canary, then the rest."""
    canary_serves: timedelta = timedelta(minutes=30)
    """What it shows holds for so long; when it has shown nothing, another one is repaired after that."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept. Outages and notices stay for ever."""

    bodies: timedelta = timedelta(hours=48)
    """Of events that are done; others keep theirs as long as the event."""
    inbox: timedelta = timedelta(days=14)
    audit: timedelta = timedelta(days=90)
    runs: timedelta = timedelta(days=30)


def is_older_than(moment: datetime | None, age: timedelta, *, now: datetime) -> bool:
    """Whether something happened at least ``age`` ago, or never."""
    return moment is None or now - moment >= age
