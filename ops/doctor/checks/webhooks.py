"""Findings about where the provider posts a line's events, and whether the line is paid for. Pure."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.common.shown import cause_in_words, counted, shown, shown_host
from ops.doctor.findings import Finding, Severity, Subject, unless_empty
from shared.core.registration import WebhookKind, WebhookState, wrong_kinds
from shared.core.subscription import Payment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from ops.doctor.facts import Fleet, LineRow, RegistrationRow
    from shared.core.registration import Registration, Target

EXPIRES_SOON: Final = timedelta(days=7)

_FINDINGS: Final = {
    WebhookState.MISSING: (Severity.PROBLEM, "lines have webhooks that are not set: their events are lost"),
    WebhookState.ELSEWHERE: (Severity.PROBLEM, "lines have webhooks that point to another place of our host"),
    WebhookState.FOREIGN: (
        Severity.PROBLEM,
        "lines have webhooks that point to another host",
    ),
    WebhookState.WRONG_KEY: (
        Severity.PROBLEM,
        "lines have webhooks at our function with a key that it does not know: their events are refused and lost",
    ),
    WebhookState.OLD_KEY: (
        Severity.WARNING,
        "lines have webhooks with an old key: dropping that key would lose their events",
    ),
    WebhookState.PLAIN_KEY: (
        Severity.WARNING,
        "lines still have webhooks with the plain secret: whoever reads one of these addresses speaks for every line",
    ),
}
_DO: Final = "run the doctor with --fix-webhooks (with --dry-run it only says what it would set)"
_DO_FOREIGN: Final = (
    f"if that is not meant, {_DO}. A Cloud Run service has two addresses: WEBHOOK_URL must be the one that is used here"
)


def check_webhooks(fleet: Fleet, target: Target) -> list[Finding]:
    """What the provider's registrations say of all kinds of webhooks."""
    concerns: dict[WebhookState, list[Subject]] = defaultdict(list)
    good = 0
    for line, registration in _registered(fleet):
        wrong = wrong_kinds(registration, target, line.external_id)
        good += not wrong
        for state in _FINDINGS:
            if kinds := [kind for kind, found in wrong.items() if found is state]:
                concerns[state].append(line.subject(_detail(state, kinds, registration)))
        if untold := [kind for kind in WebhookKind if kind.is_needed and kind not in registration.urls]:
            concerns[WebhookState.UNTOLD].append(line.subject(", ".join(untold)))
    findings = [
        Finding(
            f"webhook.{state}",
            severity,
            what,
            _DO_FOREIGN if state is WebhookState.FOREIGN else _DO,
            tuple(concerns[state]),
        )
        for state, (severity, what) in _FINDINGS.items()
        if concerns[state]
    ]
    findings += unless_empty(
        concerns[WebhookState.UNTOLD],
        check="webhook.untold",
        severity=Severity.NOTE,
        what="the provider does not tell where some webhooks of lines point to",
        do="look into W-API's panel",
    )
    findings += unless_empty(
        (
            line.subject(cause_in_words(asked.cause))
            for line in fleet.active
            if (asked := fleet.asked.get(line.id)) is not None and asked.cause is not None
        ),
        check="webhook.unread",
        severity=Severity.WARNING,
        what="the registration of lines could not be read at the provider: nobody knows where their events go",
        do="run the doctor again; if it stays, look into W-API's panel",
    )
    if good:
        findings.append(Finding("webhook.good", Severity.OK, f"the webhooks of {counted(good, 'line')} point here"))
    return findings


def check_subscriptions(fleet: Fleet, recorded: Mapping[UUID, RegistrationRow], *, now: datetime) -> list[Finding]:
    """What the provider says of payment; its words are unconfirmed, so what was seen is said.

    Args:
        fleet: With what was told now.
        recorded: What a sweep was told within a day, which asks more calls than the doctor does.
        now: The instant of reading them.
    """
    lapsed, soon, odd = [], [], []
    for line, registration in _registered(fleet):
        told = registration.subscription
        if not told.is_clear and line.id in recorded and recorded[line.id].subscription.is_clear:
            told = recorded[line.id].subscription
        status, ends = told.word, told.ends_at
        if told.payment is Payment.LAPSED:
            lapsed.append(line.subject(f"paymentStatus {shown(status, longest=30)}"))
        elif ends is not None and ends <= now:
            lapsed.append(line.subject(f"expired on {ends:%Y-%m-%d}"))
        elif ends is not None and ends <= now + EXPIRES_SOON:
            soon.append(line.subject(f"expires on {ends:%Y-%m-%d}"))
        elif told.payment is Payment.UNCLEAR:
            odd.append(line.subject(f"paymentStatus {shown(status, longest=30)}"))
        elif told.ends and ends is None:
            odd.append(line.subject(f"expires {shown(told.ends, longest=30)}"))
    do = "see W-API's panel and pay: when a subscription ends, sends fail with 403 while the line looks healthy"
    return [
        *unless_empty(
            lapsed,
            check="subscription.lapsed",
            severity=Severity.PROBLEM,
            what="the subscription of lines looks lapsed",
            do=do,
        ),
        *unless_empty(
            soon,
            check="subscription.ends_soon",
            severity=Severity.WARNING,
            what=f"the subscription of lines ends within {EXPIRES_SOON.days} days",
            do=do,
        ),
        *unless_empty(
            odd,
            check="subscription.unclear",
            severity=Severity.NOTE,
            what="the provider says something about the subscription of lines that the doctor cannot read",
            do="compare with W-API's panel",
        ),
    ]


def _registered(fleet: Fleet) -> list[tuple[LineRow, Registration]]:
    return [
        (line, asked.registration)
        for line in fleet.active
        if (asked := fleet.asked.get(line.id)) is not None and asked.registration is not None
    ]


def _detail(state: WebhookState, kinds: list[WebhookKind], registration: Registration) -> str:
    told = ", ".join(kinds)
    if state not in (WebhookState.ELSEWHERE, WebhookState.FOREIGN):
        return told
    hosts = sorted({shown_host(registration.urls[kind]) for kind in kinds})
    return f"{told} → {', '.join(hosts)}"
