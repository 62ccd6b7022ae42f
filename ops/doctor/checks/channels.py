"""Findings about further channels: who was told by what and when, what waits or was given up, which is dead. Pure.

Of an address nothing but its last four characters gets past its row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.common.shown import counted, shown, shown_age
from ops.doctor.findings import Finding, Severity, Subject, unless_empty
from shared.core.alerts import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.doctor.facts import AlertRow, ChannelRow, ContactRow, DeliveryRow, Fleet

DEAD_AFTER: Final = timedelta(hours=1)
_DO_WAIT: Final = "nothing; a channel that fails for an hour is named here and in the log (channel.dead)"


@dataclass(frozen=True, slots=True)
class Channels:
    """Rows as they were read; deliveries of the last day, and whatever waits."""

    contacts: Sequence[ContactRow]
    deliveries: Sequence[DeliveryRow]
    channels: Sequence[ChannelRow]
    alerts: Sequence[AlertRow]


def check_channels(fleet: Fleet, told: Channels | None, *, now: datetime) -> list[Finding]:
    """What the outbox says, if it could be read."""
    if told is None:
        return []
    ends = {contact.id: contact.address for contact in told.contacts}
    lines = {line.id: line for line in fleet.lines}

    def subjects(state: str) -> list[Subject]:
        return [
            _subject(each, lines[each.instance_id].subject() if each.instance_id in lines else None, ends, now=now)
            for each in told.deliveries
            if each.state == state and (each.instance_id is None or each.instance_id in lines)
        ]

    return [
        *unless_empty(
            subjects("sent"),
            check="deliveries.sent",
            severity=Severity.NOTE,
            what="messages went to contacts in the last 24 h",
            do="nothing",
        ),
        *unless_empty(
            subjects("waiting"),
            check="deliveries.waiting",
            severity=Severity.NOTE,
            what="messages to contacts wait",
            do=_DO_WAIT,
        ),
        *unless_empty(
            subjects("given_up"),
            check="deliveries.given_up",
            severity=Severity.WARNING,
            what="messages to contacts could not be sent for 24 h and were given up",
            do='mend the channel or the address; `make doctor ARGS="--send-test CONTACT"` tries one',
        ),
        *_dead(told.channels, now=now),
        *unless_empty(
            [_alert(alert, now=now) for alert in told.alerts],
            check="alerts.open",
            severity=Severity.NOTE,
            what="the operator was told of causes that last",
            do="docs/operate.md says what each means",
        ),
    ]


def _dead(channels: Sequence[ChannelRow], *, now: datetime) -> list[Finding]:
    failing = [each for each in channels if each.failing_since and now - each.failing_since >= DEAD_AFTER]
    concerns = tuple(
        Subject(
            f"{each.channel.partition(':')[0]} …{each.channel[-4:]}" if ":" in each.channel else shown(each.channel),
            detail=f"for {shown_age(now - each.failing_since)}: {shown(each.cause or 'no answer')}",
        )
        for each in failing
        if each.failing_since
    )
    if not concerns:
        return []
    what = f"{counted(len(concerns), 'channel')} failed last, and no message has gone through since an hour"
    do = "its address, its password, its own status; for WhatsApp whether ALERT_INSTANCE_ID is connected since an hour"
    return [Finding("channel.dead", Severity.PROBLEM, what, do, concerns)]


def _subject(delivery: DeliveryRow, line: Subject | None, ends: Mapping[UUID, str], *, now: datetime) -> Subject:
    to = f"{delivery.channel} …{ends.get(delivery.contact_id, '?')}"
    if delivery.state == "sent" and delivery.sent_at is not None:
        when = f"{shown_age(now - delivery.sent_at)} ago"
        if delivery.channel == "whatsapp":
            when += ", on the phone" if delivery.acked_at else ", queued"
    elif delivery.due_at > now:
        when = f"due in {shown_age(delivery.due_at - now)}"
    else:
        when = f"due {shown_age(now - delivery.due_at)} ago"
    note = f" ({shown(delivery.note)})" if delivery.note else ""
    named = line or Subject(words_of(delivery.cause or "", {}, is_over=delivery.kind == "resolved")[0])
    return replace(named, detail=f"{shown(delivery.kind)} to {to}, {when}{note}")


def _alert(alert: AlertRow, *, now: datetime) -> Subject:
    title, text = words_of(alert.cause, alert.details, is_over=False)
    return Subject(shown(title), detail=f"{shown(text, longest=160)} (told {shown_age(now - alert.raised_at)} ago)")
