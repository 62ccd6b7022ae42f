"""Findings about where the provider posts a line's events, and whether the line is paid for. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlsplit

from ops.common.shown import counted, shown, shown_host
from ops.doctor.findings import Finding, Severity, Subject, unless_empty
from shared.providers.wapi.webhooks import Kind
from shared.web import knows_secret

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import SecretStr

    from ops.doctor.facts import Fleet, LineRow
    from shared.providers.wapi.webhooks import Registration

EXPIRES_SOON: Final = timedelta(days=7)

# The provider's words are unconfirmed: these are the ones that people use for it.
_PAID = re.compile(r"active|paid|ok|trial|approved|current|ativ[oa]|pag[oa]|em dia", re.IGNORECASE)
_LAPSED = re.compile(
    r"unpaid|overdue|past.?due|expired|cancel|suspend|inactive|blocked|refused|failed|vencid|inativ|atrasad|bloquead",
    re.IGNORECASE,
)
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """Where webhooks must point to.

    Attributes:
        url: Of wapi_webhook, without a query.
        secrets: The function's; the first is the one to set, the others are on their way out.
    """

    url: str
    secrets: tuple[SecretStr, ...] = field(repr=False)

    @property
    def url_to_set(self) -> str:
        """With the key: for the provider and nobody else."""
        return f"{self.url}/?key={quote(self.secrets[0].get_secret_value(), safe='')}"


class Verdict(StrEnum):
    """Where one webhook points to."""

    GOOD = "good"
    MISSING = "missing"
    ELSEWHERE = "elsewhere"
    WRONG_KEY = "wrong_key"
    OLD_KEY = "old_key"
    UNTOLD = "untold"


def judge(url: str | None, target: Target) -> Verdict:
    """Say where a URL points to.

    Args:
        url: As the provider tells it; None when it does not.
        target: Secrets are compared in time that tells nothing about them.
    """
    if url is None:
        return Verdict.UNTOLD
    if not url.strip():
        return Verdict.MISSING
    try:
        given = urlsplit(url.strip())
        same = _place(url.strip()) == _place(target.url)
    except ValueError:
        return Verdict.ELSEWHERE
    if not same:
        return Verdict.ELSEWHERE
    # Of several keys the function reads the last.
    key = dict(parse_qsl(given.query, keep_blank_values=True)).get("key")
    if knows_secret(key, target.secrets[:1]):
        return Verdict.GOOD
    return Verdict.OLD_KEY if knows_secret(key, target.secrets[1:]) else Verdict.WRONG_KEY


def wrong_kinds(registration: Registration, target: Target) -> dict[Kind, Verdict]:
    """The webhooks of a line that have to be set; what the answer does not tell is not known to be wrong."""
    verdicts = {kind: judge(registration.urls.get(kind), target) for kind in Kind}
    return {
        kind: verdict
        for kind, verdict in verdicts.items()
        if verdict in (Verdict.WRONG_KEY, Verdict.OLD_KEY)
        or (verdict in (Verdict.MISSING, Verdict.ELSEWHERE) and kind.is_needed)
    }


_FINDINGS: Final = {
    Verdict.MISSING: (Severity.PROBLEM, "lines have webhooks that are not set: their events are lost"),
    Verdict.ELSEWHERE: (Severity.PROBLEM, "lines have webhooks that point elsewhere"),
    Verdict.WRONG_KEY: (
        Severity.PROBLEM,
        "lines have webhooks at our function with a key that it does not know: their events are refused and lost",
    ),
    Verdict.OLD_KEY: (
        Severity.WARNING,
        "lines have webhooks with an old key: dropping that key would lose their events",
    ),
}
_DO: Final = "run the doctor with --fix-webhooks (with --dry-run it only says what it would set)"
_DO_ELSEWHERE: Final = (
    f"if that is not meant, {_DO}. A Cloud Run service has two addresses: WEBHOOK_URL must be the one that is used here"
)


def check_webhooks(fleet: Fleet, target: Target) -> list[Finding]:
    """What the provider's registrations say of all kinds of webhooks."""
    concerns: dict[Verdict, list[Subject]] = defaultdict(list)
    good = 0
    for line, registration in _registered(fleet):
        wrong = wrong_kinds(registration, target)
        good += not wrong
        for verdict in _FINDINGS:
            if kinds := [kind for kind, found in wrong.items() if found is verdict]:
                concerns[verdict].append(line.subject(_detail(verdict, kinds, registration)))
        if untold := [kind for kind in Kind if kind.is_needed and kind not in registration.urls]:
            concerns[Verdict.UNTOLD].append(line.subject(", ".join(untold)))
    findings = [
        Finding(
            f"webhook.{verdict}",
            severity,
            what,
            _DO_ELSEWHERE if verdict is Verdict.ELSEWHERE else _DO,
            tuple(concerns[verdict]),
        )
        for verdict, (severity, what) in _FINDINGS.items()
        if concerns[verdict]
    ]
    findings += unless_empty(
        concerns[Verdict.UNTOLD],
        check="webhook.untold",
        severity=Severity.NOTE,
        what="the provider does not tell where some webhooks of lines point to",
        do="look into W-API's panel",
    )
    findings += unless_empty(
        (
            line.subject(asked.cause)
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


def check_subscriptions(fleet: Fleet, *, now: datetime) -> list[Finding]:
    """What the provider says of payment; its words are unconfirmed, so what was seen is said."""
    lapsed, soon, odd = [], [], []
    for line, registration in _registered(fleet):
        status, ends = registration.payment_status, registration.expires_at
        if status and _LAPSED.search(status):
            lapsed.append(line.subject(f"paymentStatus {shown(status, longest=30)}"))
        elif ends is not None and ends <= now:
            lapsed.append(line.subject(f"expired on {ends:%Y-%m-%d}"))
        elif ends is not None and ends <= now + EXPIRES_SOON:
            soon.append(line.subject(f"expires on {ends:%Y-%m-%d}"))
        elif status and not _PAID.fullmatch(status):
            odd.append(line.subject(f"paymentStatus {shown(status, longest=30)}"))
        elif registration.expires and ends is None:
            odd.append(line.subject(f"expires {shown(registration.expires, longest=30)}"))
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


def _detail(verdict: Verdict, kinds: list[Kind], registration: Registration) -> str:
    told = ", ".join(kinds)
    if verdict is not Verdict.ELSEWHERE:
        return told
    hosts = sorted({shown_host(registration.urls[kind]) for kind in kinds})
    return f"{told} → {', '.join(hosts)}"


def _place(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme), parts.path.rstrip("/")
