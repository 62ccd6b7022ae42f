"""Signs of a second checker: two of them would restart every line twice. Pure, and worded as what it is: evidence."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ops.common.shown import counted, shown
from ops.doctor.checks.lines import STATUSES
from ops.doctor.findings import Finding, Severity, Subject, unless_empty
from shared.core.event import EventKind
from shared.core.model import AuditKind, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.doctor.facts import AuditRow, Fleet, InboxRow, NoticeRow

_A_RESTART: Final = timedelta(seconds=90)
"""A disconnection and a connection so close together are what a restart looks like."""
_NEAR_OURS: Final = timedelta(minutes=2)
_SETTLED: Final = timedelta(minutes=1)
_OFTEN: Final = 3

_TURN_IT_OFF = "if it is the platform's own health check, turn it off: two checkers restart twice"


@dataclass(frozen=True, slots=True)
class CronJob:
    """A job of pg_cron that mentions the lines or their provider; its command may hold keys and stays where it is."""

    name: str
    schedule: str
    mentions: tuple[str, ...]


def check_cron_jobs(jobs: Iterable[CronJob]) -> list[Finding]:
    """Active jobs in the database that look like a health check."""
    return unless_empty(
        (Subject(shown(job.name), detail=f"{shown(job.schedule)}, mentions {', '.join(job.mentions)}") for job in jobs),
        check="rival.cron_job",
        severity=Severity.WARNING,
        what="cron jobs in the database look like a second checker of lines",
        do=f"{_TURN_IT_OFF} (select cron.unschedule('<job>'))",
    )


def check_statuses(fleet: Fleet, audit: Sequence[AuditRow], *, read_at: datetime) -> list[Finding]:
    """Who else writes ``status``.

    Args:
        fleet: Its rows were read before the audit.
        audit: Of the last 24 hours.
        read_at: When the rows were read.
    """
    raw = [line for line in fleet.active if line.status not in STATUSES]
    changes: dict[UUID, list[AuditRow]] = defaultdict(list)
    for event in sorted(audit, key=lambda event: event.id):
        if event.kind is AuditKind.STATUS_CHANGED:
            changes[event.instance_id].append(event)
    writes = {line.id: _foreign_writes(changes[line.id], line.status, read_at) for line in fleet.active}
    written = [(line, words) for line in fleet.active if (words := writes[line.id]) and line not in raw]
    marked = sum(word != Status.CONNECTED for words in writes.values() for word in words)
    findings = unless_empty(
        (line.subject(f"status {shown(line.status, longest=30)}") for line in raw),
        check="rival.status_words",
        severity=Severity.WARNING,
        what="lines have a status that this project never writes: it looks like another health check writes it",
        do=f"{_TURN_IT_OFF}. Until then these lines are read as disconnected",
    )
    often = marked >= _OFTEN
    findings += unless_empty(
        (line.subject(f"to {', '.join(shown(word, longest=20) for word in words)}") for line, words in written),
        check="rival.status_writes",
        severity=Severity.WARNING if often else Severity.NOTE,
        what="the status of lines was changed by somebody else in the last 24 h"
        + (": it looks like a second checker" if often else " (the platform's own screen does so, too)"),
        do=_TURN_IT_OFF,
    )
    return findings


def check_restarts(fleet: Fleet, inbox: Sequence[InboxRow], audit: Sequence[AuditRow]) -> list[Finding]:
    """Restarts that were not ours: a line goes and is back at once, again and again, with no restart of ours near.

    Args:
        fleet: The lines.
        inbox: Disconnections and connections of the last 24 hours.
        audit: Of the same time.
    """
    ours: dict[UUID, list[datetime]] = defaultdict(list)
    for event in audit:
        if event.kind is AuditKind.RESTART_REQUESTED:
            ours[event.instance_id].append(event.at)
    times = _blinks(inbox, ours)
    return unless_empty(
        (line.subject(counted(times[line.id], "time")) for line in fleet.active if times.get(line.id, 0) >= _OFTEN),
        check="rival.restarts",
        severity=Severity.WARNING,
        what="lines disconnected and came back at once, again and again, without a restart of ours:"
        " it looks like something else restarts them (or like a phone with a bad connection)",
        do=_TURN_IT_OFF,
    )


def check_bells(notices: Sequence[NoticeRow]) -> list[Finding]:
    """Bells about lost connections that are about no outage of ours."""
    if not notices:
        return []
    what = (
        f"{counted(len(notices), 'notice')} about lost connections of the last 24 h did not come from here:"
        " it looks like something else watches the lines and rings the same bell"
    )
    return [Finding("rival.bells", Severity.WARNING, what, _TURN_IT_OFF)]


def _blinks(inbox: Iterable[InboxRow], ours: Mapping[UUID, Sequence[datetime]]) -> Mapping[UUID, int]:
    events: dict[UUID, list[InboxRow]] = defaultdict(list)
    for event in sorted(inbox, key=lambda event: (event.received_at, event.id)):
        if event.instance_id is not None:
            events[event.instance_id].append(event)
    return {
        instance: sum(
            gone.kind == EventKind.DISCONNECTION
            and back.kind == EventKind.CONNECTION
            and back.received_at - gone.received_at <= _A_RESTART
            and not any(abs(gone.received_at - restart) <= _NEAR_OURS for restart in ours.get(instance, ()))
            for gone, back in pairwise(its)
        )
        for instance, its in events.items()
    }


def _foreign_writes(changes: Sequence[AuditRow], status: str | None, read_at: datetime) -> list[str]:
    """What others wrote between two changes of ours, and after the last."""
    words = [str(later.from_status) for change, later in pairwise(changes) if later.from_status != change.to_status]
    if changes and changes[-1].at < read_at - _SETTLED and changes[-1].to_status != status:
        words.append(str(status))
    return words
