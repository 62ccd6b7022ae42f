"""Findings about what sweeps have recorded of registrations: whether they watch them, and mend them. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.common.shown import cause_in_words, counted, shown_age
from ops.doctor.findings import Finding, Severity, unless_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.doctor.facts import LineRow, RegistrationRow, RunRow

WATCHED_WITHIN: Final = timedelta(hours=24)
_SET_LATELY: Final = timedelta(days=7)


def check_registrations(
    lines: Sequence[LineRow],
    recorded: Mapping[UUID, RegistrationRow] | None,
    runs: Sequence[RunRow] | None,
    *,
    now: datetime,
) -> list[Finding]:
    """What the housekeeping of sweeps has recorded.

    Args:
        lines: Those that are looked at.
        recorded: By our id of the line; of all lines, also those that were not chosen. None could not be read.
        runs: The last sweeps; where there is none that is said already.
        now: The instant of reading them.
    """
    if recorded is None:
        return []
    rows = [(line, recorded[line.id]) for line in lines if line.can_be_asked and line.id in recorded]
    read = [row for _, row in rows if _is_lately(row.read_at, now)]
    findings = []
    sweeps = any(_is_lately(run.finished_at, now) for run in runs or ())
    if lines and sweeps and not any(_is_lately(row.read_at, now) for row in recorded.values()):
        what = "no sweep has read where the events of lines go within a day: a registration that is lost stays lost"
        do = "deploy follow_up_check with WEBHOOK_URL (and WAPI_WEBHOOK_SECRETS): WEBHOOK_URL=… make deploy"
        findings.append(Finding("registration.unwatched", Severity.WARNING, what, do))
    findings += unless_empty(
        (
            line.subject(f"for {shown_age(now - row.failing_since)}: {cause_in_words(row.cause or 'unknown')}")
            for line, row in rows
            if row.failing_since is not None
        ),
        check="registration.failing",
        severity=Severity.PROBLEM,
        what="sweeps cannot set the registration of lines: their events may not come to us",
        do="run the doctor with --fix-webhooks; if that does not help either, look into W-API's panel",
    )
    findings += unless_empty(
        (
            line.subject(f"{counted(row.tries, 'try')}: {cause_in_words(row.cause or 'unknown')}")
            for line, row in rows
            if row.tries and row.failing_since is None
        ),
        check="registration.unread",
        severity=Severity.NOTE,
        what="sweeps could not read the registration of lines lately; they try again",
        do="",
    )
    if read:
        mended = sum(row.set_at is not None and now - row.set_at <= _SET_LATELY for _, row in rows)
        what = f"sweeps watch the registration of {counted(len(read), 'line')}"
        if mended:
            what += f", and set that of {mended} again in the last {_SET_LATELY.days} days"
        findings.append(Finding("registration.watched", Severity.OK, what))
    return findings


def _is_lately(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and now - moment <= WATCHED_WITHIN
