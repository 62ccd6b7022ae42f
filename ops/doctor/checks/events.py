"""Findings about the inbox: events that came to nothing. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.common.shown import counted, shown_external_id
from ops.doctor.findings import Finding, Severity, Subject, unless_empty

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.doctor.facts import InboxRow


@dataclass(frozen=True, slots=True)
class Inbox:
    """Events that need a look, all but the waiting ones of the last 24 hours.

    Attributes:
        failed: Kept, but the platform's tables refuse their message.
        unfinished: Taken more than ten minutes ago and never settled.
        unknown: For lines that ``wapi_instances`` does not have.
        waiting: To be forwarded for more than fifteen minutes.
        refused: By the platform's own handler, set aside.
        is_cut: There are more than were read.
        more_wait: The same of ``waiting``.
    """

    failed: Sequence[InboxRow] = ()
    unfinished: Sequence[InboxRow] = ()
    unknown: Sequence[InboxRow] = ()
    waiting: Sequence[InboxRow] = ()
    refused: Sequence[InboxRow] = ()
    is_cut: bool = False
    more_wait: bool = False


def check_inbox(inbox: Inbox) -> list[Finding]:
    """What became of nothing, by line."""
    findings = [
        *unless_empty(
            _by_line(inbox.failed, at_least=inbox.is_cut),
            check="event.failed",
            severity=Severity.WARNING,
            what="events of the last 24 h are kept, but the platform's own tables refuse their messages",
            do="look for event.not_applied in wapi_webhook's log: its code names the rule that has to be mended;"
            " then `python -m ops.replay --failed` brings them in",
        ),
        *unless_empty(
            _by_line(inbox.unfinished, at_least=inbox.is_cut),
            check="event.unfinished",
            severity=Severity.WARNING,
            what="events of the last 24 h were taken and never settled (the function was cut off in between)",
            do="nothing for the line: sweeps see it. If it goes on, see wapi_webhook's log for time-outs",
        ),
        *unless_empty(
            _by_line(inbox.unknown, at_least=inbox.is_cut),
            check="event.unknown_instance",
            severity=Severity.WARNING,
            what="events came in the last 24 h for lines that are not in wapi_instances (or are there twice, paused)",
            do="add the line, or take its webhooks away in W-API's panel",
        ),
        *unless_empty(
            _by_line(inbox.waiting, at_least=inbox.more_wait),
            check="relay.waiting",
            severity=Severity.WARNING,
            what="events have waited for more than 15 min to be forwarded to the platform's handler",
            do="see relay.failed in the log; each sweep tries again, if follow-up-check has EVENT_RELAY_URL as well",
        ),
        *unless_empty(
            _by_line(inbox.refused, at_least=inbox.is_cut),
            check="relay.refused",
            severity=Severity.WARNING,
            what="the platform's handler refused events again and again in the last 24 h; they were set aside",
            do="look at them in wapi_webhook_events; relay = 'pending' sends one once more",
        ),
    ]
    return findings or [Finding("event.all_settled", Severity.OK, "no event waits, failed or belongs to nobody")]


def _by_line(events: Iterable[InboxRow], *, at_least: bool) -> list[Subject]:
    events = list(events)
    numbers = Counter(event.external_id for event in events)
    ids = {event.external_id: event.instance_id for event in events}
    more = "at least " if at_least else ""
    return [
        Subject(
            shown_external_id(external_id),
            id=str(ids[external_id]) if ids[external_id] else None,
            detail=f"{more}{counted(number, 'event')}",
        )
        for external_id, number in numbers.most_common()
    ]
