"""Findings about what waits to be told. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.common.shown import shown_age
from ops.doctor.findings import Finding, Severity, unless_empty

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.doctor.facts import DueRow, FallRow, Fleet


def check_waiting(
    fleet: Fleet, falls: Sequence[FallRow], overdue: Sequence[DueRow], *, down: Container[UUID], now: datetime
) -> list[Finding]:
    """Whose "voltou" waits until the line has held, and what no sweep has told although it was due.

    Args:
        fleet: Whose lines.
        falls: Ended and not answered.
        overdue: Due for longer than a sweep takes.
        down: Lines with an open outage: they have their own finding.
        now: The instant of reading them.
    """
    active = {line.id: line for line in fleet.active}
    last = {fall.instance_id: fall for fall in sorted(falls, key=lambda fall: fall.closed_at)}
    return [
        *unless_empty(
            (
                active[fall.instance_id].subject(f"up again for {shown_age(now - fall.closed_at)}")
                for fall in last.values()
                if fall.instance_id in active and fall.instance_id not in down
            ),
            check="notice.waits",
            severity=Severity.NOTE,
            what="lines fell again and again and are up: their users hear so when they have held",
            do="nothing; when it happens often, the venue's phone or its network",
        ),
        *unless_empty(
            (
                active[due.instance_id].subject(f"for {shown_age(now - due.tell_at)}")
                for due in overdue
                if due.instance_id in active
            ),
            check="notice.overdue",
            severity=Severity.WARNING,
            what="something is to be told about lines, and no sweep has done it",
            do="look in the log for notice.not_told and notices.not_told, and for sweeps that are cut off",
        ),
    ]
