"""Findings about the rows of lines and what the provider says of their tokens. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.common.restarts import FREQUENT, next_restart_at
from ops.common.shown import cause_in_words, counted, shown, shown_age
from ops.doctor.findings import Finding, Severity, Subject, unless_empty
from shared.core.model import Observation, OutageOpener, Status
from shared.core.notices import FallKind
from shared.providers.wapi.names import has_form

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from uuid import UUID

    from ops.common.rows import Company
    from ops.doctor.facts import Fleet, LineRow, OutageRow

LOOKED_AT_WITHIN: Final = timedelta(minutes=30)
LONG_OUTAGE: Final = timedelta(hours=24)
DUPLICATE: Final = "duplicate_external_id"
STATUSES: Final = tuple(Status)


def check_rows(fleet: Fleet, *, now: datetime) -> list[Finding]:
    """What the rows themselves say: whom no sweep looks at, and who is paused."""
    active = fleet.active
    shared_ids = Counter(line.external_id.strip() for line in active)
    companies: dict[str, set[UUID | None]] = defaultdict(set)
    for line in fleet.lines:
        companies[line.external_id].add(line.company_id)
    findings = [
        *unless_empty(
            (line.subject(_lacks(line)) for line in active if not line.can_be_asked),
            check="line.cannot_be_asked",
            severity=Severity.PROBLEM,
            what="lines lack what a look needs, so nobody watches them",
            do="fill in instance_id (the provider's id) and instance_token, or pause the line: is_active = false",
        ),
        *unless_empty(
            (line.subject() for line in active if line.external_id and shared_ids[line.external_id.strip()] > 1),
            check="line.shared_external_id",
            severity=Severity.PROBLEM,
            what="active lines share one external id (or differ by a space only)",
            do="keep one of them active: is_active = false for the others",
        ),
        *unless_empty(
            (
                line.subject("paused" if line.is_paused else "active")
                for line in fleet.lines
                if line.external_id and len(companies[line.external_id]) > 1
            ),
            check="line.two_companies",
            severity=Severity.PROBLEM,
            what="rows of two companies hold one external id: its events go to the row whose own token last looked "
            "alive, and to none before one has",
            do="clear instance_id in the row whose line it is not",
        ),
        *unless_empty(
            (
                line.subject()
                for line in active
                if line.can_be_asked and line.last_health_check is None and _is_older(line, LOOKED_AT_WITHIN, now)
            ),
            check="line.never_looked_at",
            severity=Severity.WARNING,
            what="lines have never been looked at",
            do="follow_up_check does not reach them: see what is said of the sweeps, and its log",
        ),
        *unless_empty(
            (
                line.subject(f"last look {shown_age(now - line.last_health_check)} ago")
                for line in active
                if line.can_be_asked
                and line.last_health_check is not None
                and now - line.last_health_check > LOOKED_AT_WITHIN
            ),
            check="line.not_looked_at_lately",
            severity=Severity.WARNING,
            what=f"lines were last looked at more than {shown_age(LOOKED_AT_WITHIN)} ago",
            do="follow_up_check does not reach them: see what is said of the sweeps, and its log",
        ),
        *unless_empty(
            (line.subject() for line in active if line.external_id and not has_form(line.external_id)),
            check="line.odd_external_id",
            severity=Severity.NOTE,
            what="lines have an external id that does not look like one of W-API's",
            do="compare instance_id with W-API's panel; a row of another provider needs its name in provider",
        ),
        *unless_empty(
            (line.subject(line.odd_moments.replace(",", ", ")) for line in active if line.odd_moments),
            check="line.odd_moments",
            severity=Severity.WARNING,
            what="lines hold moments that cannot be (infinity, the future), which count as none",
            do="write null there, and mend what writes them: often a screen with a browser's clock",
        ),
        *unless_empty(
            (line.subject() for line in fleet.lines if line.is_paused and line.status_reason == DUPLICATE),
            check="line.paused_duplicate",
            severity=Severity.NOTE,
            what="lines are paused because another active row has their external id",
            do="delete the row that is not needed, or give it its own external id and set is_active = true",
        ),
        *unless_empty(
            (line.subject() for line in fleet.lines if line.is_paused and line.status_reason != DUPLICATE),
            check="line.paused",
            severity=Severity.NOTE,
            what="lines are paused: no looks, no restarts, no bells",
            do="nothing, if that is meant; else set is_active = true",
        ),
    ]
    findings += check_other_providers(fleet.others)
    words = Counter(line.status if line.status in STATUSES else "other" for line in active)
    told = ", ".join(f"{number} {word}" for word, number in sorted(words.items()))
    findings.append(Finding("line.statuses", Severity.OK, f"{counted(len(active), 'active line')}: {told or 'none'}"))
    return findings


def check_other_providers(others: Collection[LineRow]) -> list[Finding]:
    """How many lines are none of ours."""
    numbers = Counter(line.provider or "" for line in others)
    return unless_empty(
        (
            Subject(shown(provider) or "(no name)", detail=counted(number, "line"))
            for provider, number in numbers.most_common()
        ),
        check="line.other_provider",
        severity=Severity.NOTE,
        what="other providers have lines here, which are not watched and of which nothing else is said",
        do="nothing, if that is meant; else correct wapi_instances.provider",
    )


def check_outages(
    fleet: Fleet,
    outages: Mapping[UUID, OutageRow],
    *,
    now: datetime,
    with_users: Collection[UUID] | None = None,
    long: timedelta = LONG_OUTAGE,
) -> list[Finding]:
    """Who is down, and what is being done about it.

    Args:
        fleet: The lines.
        outages: The open ones, by line.
        now: The instant of reading them.
        with_users: The companies that have users; None = not known.
        long: From when on a person should care.
    """

    def subject(line: LineRow, outage: OutageRow) -> Subject:
        told = _told(outage, is_lonely=with_users is not None and line.company_id not in with_users)
        return line.subject(f"for {shown_age(now - outage.started_at)}; {told}; {_tries(line, outage, fleet, now)}")

    down = [(line, outages[line.id]) for line in fleet.active if line.id in outages]
    return [
        *unless_empty(
            (subject(line, outage) for line, outage in down if now - outage.started_at > long),
            check="outage.long",
            severity=Severity.WARNING,
            what=f"lines have been down for more than {shown_age(long)}",
            do="help the venue scan the QR code under Configurações, or pause a line that nobody needs",
        ),
        *unless_empty(
            (subject(line, outage) for line, outage in down if now - outage.started_at <= long),
            check="outage.open",
            severity=Severity.NOTE,
            what="lines are down",
            do="where the restarts are used up or nobody could be told, call the venue; the rest is under way",
        ),
    ]


def _told(outage: OutageRow, *, is_lonely: bool) -> str:
    if is_lonely:
        return "nobody to tell: its company has no users"
    match outage.told_as if outage.told_at else None:
        case FallKind.DAMPED:
            return "nobody disturbed: its users know that it is unstable, and are told if it lasts"
        case FallKind.UNSTABLE:
            return "users told that it is unstable"
        case _ if outage.told_at:
            return "users told"
    return "nobody told: it was down before" if outage.opened_by is OutageOpener.ADOPTION else "nobody told yet"


def _tries(line: LineRow, outage: OutageRow, fleet: Fleet, now: datetime) -> str:
    asked = fleet.asked.get(line.id)
    if (
        asked is not None
        and asked.look is not None
        and asked.look.observation in (Observation.REFUSED, Observation.NOT_FOUND)
    ):
        return "no restart helps: see its token and id"
    at = next_restart_at(outage.restarts, line.last_restart_at)
    when = "the next at the next sweep" if at is None or at <= now else f"the next in {shown_age(at - now)}"
    if outage.restarts >= FREQUENT:
        return f"{counted(outage.restarts, 'restart')} did not help, {when}: scan the QR code"
    return f"{counted(outage.restarts, 'restart') if outage.restarts else 'no restart'} so far, {when}"


def check_companies(fleet: Fleet, companies: Mapping[UUID, Company], with_users: Collection[UUID]) -> list[Finding]:
    """Who would not hear a bell."""
    silent: Counter[UUID] = Counter()
    for line in fleet.active:
        if line.company_id is not None and line.company_id not in with_users:
            silent[line.company_id] += 1
    return unless_empty(
        (
            Subject(
                shown(companies[company].name) if company in companies else "(unknown company)",
                id=str(company),
                detail=counted(number, "active line"),
            )
            for company, number in silent.items()
        ),
        check="company.without_users",
        severity=Severity.WARNING,
        what="companies have lines but no users: nobody is told when these lines die",
        do="add a user to the company (user_companies)",
    )


def check_tokens(fleet: Fleet) -> list[Finding]:
    """What ``status-instance`` says with each line's token."""
    seen = [
        (line, asked.look)
        for line in fleet.active
        if (asked := fleet.asked.get(line.id)) is not None and asked.look is not None
    ]

    def found(*observations: Observation) -> list[LineRow]:
        return [line for line, look in seen if look.observation in observations]

    down = [line for line in found(Observation.DISCONNECTED) if line.status == Status.CONNECTED]
    findings = [
        *unless_empty(
            (line.subject() for line in found(Observation.REFUSED)),
            check="token.refused",
            severity=Severity.PROBLEM,
            what="the provider refuses the token of lines",
            do="HTTP 401 or 403 to this very token: copy the one of W-API's panel into instance_token",
        ),
        *unless_empty(
            (line.subject() for line in found(Observation.NOT_FOUND)),
            check="token.not_found",
            severity=Severity.PROBLEM,
            what="the provider knows no line with this external id and token",
            do="compare instance_id and instance_token with W-API's panel; pause a line that was deleted there",
        ),
        *unless_empty(
            (line.subject(cause_in_words(look.cause)) for line, look in seen if look.drifted),
            check="provider.drifted",
            severity=Severity.PROBLEM,
            what="the provider has no such route (Cannot GET): its contract or WAPI_BASE_URL has changed",
            do="check WAPI_BASE_URL; if it is right, the provider has changed its API and no line is watched",
        ),
        *unless_empty(
            (
                line.subject(cause_in_words(look.cause))
                for line, look in seen
                if look.observation is Observation.UNKNOWN and not look.drifted
            ),
            check="token.unknown",
            severity=Severity.WARNING,
            what="lines could not be asked about; that says nothing about their tokens",
            do="run the doctor again; if it stays, see the cause: HTTP 400 is what a deleted line answers",
        ),
        *unless_empty(
            (line.subject() for line in down),
            check="line.says_connected",
            severity=Severity.NOTE,
            what="lines are down at the provider while their rows still say connected",
            do="nothing: the next sweep looks again, restarts them or tells their users",
        ),
    ]
    accepted = len(found(Observation.ALIVE, Observation.CLAIMED, Observation.DISCONNECTED))
    if accepted:
        findings.append(
            Finding("token.accepted", Severity.OK, f"{counted(accepted, 'token')} accepted by the provider")
        )
    return findings


def _lacks(line: LineRow) -> str:
    lacks = [
        name for name, there in (("external id", line.external_id), ("token", line.token is not None)) if not there
    ]
    return f"no {' and no '.join(lacks)}"


def _is_older(line: LineRow, age: timedelta, now: datetime) -> bool:
    return line.created_at is None or now - line.created_at > age
