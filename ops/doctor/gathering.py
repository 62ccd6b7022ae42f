"""Everything that the project's own tables tell, read one after another; what fails is said and the rest goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from ops.common.rows import Company
from ops.common.shown import shown
from ops.doctor.checks.channels import Channels
from ops.doctor.checks.conversations import Pair
from ops.doctor.checks.events import Inbox
from ops.doctor.facts import (
    AlertRow,
    AuditRow,
    ChannelRow,
    ContactRow,
    ConversationRow,
    DeliveryRow,
    DueRow,
    FallRow,
    InboxRow,
    LineRow,
    MembershipRow,
    MuteRow,
    NoticeRow,
    OutageRow,
    PairRow,
    RegistrationRow,
    RunRow,
)
from ops.doctor.findings import Unchecked
from shared.core.event import CONNECTION_KINDS, EventOutcome
from shared.core.model import AuditKind
from shared.core.notices import NoticeType
from shared.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.common.rest import Rest

A_DAY: Final = timedelta(hours=24)
_MUTES_OF: Final = timedelta(days=30)
AUDIT_KINDS: Final = (AuditKind.STATUS_CHANGED, AuditKind.RESTART_REQUESTED)
_MOST_EVENTS: Final = 5000
_MOST_CONNECTION_EVENTS: Final = 50_000
_MOST_PAIRS: Final = 2000
_IN_ONE_ADDRESS: Final = 100
_UNFINISHED_AFTER: Final = timedelta(minutes=10)
_WAITING_AFTER: Final = timedelta(minutes=15)

_WAITING_FALLS: Final = (("told_at", "not.is.null"), ("answered_at", "is.null"), ("closed_at", "not.is.null"))

_Facts = TypeVar("_Facts")


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows as they were at ``read_at``, on Supabase's clock; None is what could not be read."""

    read_at: datetime
    lines: Sequence[LineRow]
    companies: Mapping[UUID, Company]
    with_users: frozenset[UUID] | None
    outages: Mapping[UUID, OutageRow] | None
    runs: Sequence[RunRow] | None
    audit: Sequence[AuditRow] | None
    connections: Sequence[InboxRow] | None
    notices: Sequence[NoticeRow] | None
    registrations: Mapping[UUID, RegistrationRow] | None
    mutes: Sequence[MuteRow] | None
    inbox: Inbox | None
    pairs: Sequence[Pair] | None = None
    channels: Channels | None = None
    falls: Sequence[FallRow] | None = None
    overdue: Sequence[DueRow] | None = None
    unchecked: tuple[Unchecked, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """The company of each line, as it is shown, by our id of the line."""
        none = "(no company)"
        named = {company.id: shown(company.name) if company.name else none for company in self.companies.values()}
        return {str(line.id): named.get(line.company_id, none) if line.company_id else none for line in self.lines}


@dataclass(slots=True)
class Gathering:
    """Reads on when a table cannot be read."""

    unchecked: list[Unchecked] = field(default_factory=list)

    async def attempt(self, what: str, reading: Awaitable[_Facts]) -> _Facts | None:
        """The facts, or None and a word about what could not be checked."""
        try:
            return await reading
        except StoreError as error:
            self.unchecked.append(Unchecked(what, f"could not be read: {error}", failed=True))
            return None


async def read_tables(rest: Rest) -> Tables:
    """Read what the checks need.

    Raises:
        StoreError: The lines themselves cannot be read.
    """
    gathering = Gathering()
    read_at = rest.now()
    day = f"gt.{(read_at - A_DAY).isoformat()}"
    lines = await rest.rows(LineRow)
    companies = await gathering.attempt("the companies' names", rest.rows(Company))
    members = await gathering.attempt("who has users", rest.rows(MembershipRow))
    outages = await gathering.attempt("open outages", rest.rows(OutageRow, ("closed_at", "is.null")))
    registrations = await gathering.attempt("registrations", rest.rows(RegistrationRow))
    audit = rest.rows(AuditRow, ("at", day), ("kind", _any_of(AUDIT_KINDS)), newest=True, most=_MOST_CONNECTION_EVENTS)
    connections = rest.rows(
        InboxRow, ("received_at", day), ("kind", _any_of(CONNECTION_KINDS)), newest=True, most=_MOST_CONNECTION_EVENTS
    )
    # Bells of ours name their outage.
    notices = rest.rows(
        NoticeRow,
        ("type", _any_of(NoticeType)),
        ("data->>outage_id", "is.null"),
        ("created_at", day),
        most=_MOST_EVENTS,
    )
    return Tables(
        read_at=read_at,
        lines=lines,
        companies={company.id: company for company in companies or ()},
        with_users=None if members is None else frozenset(member.company_id for member in members),
        outages=None if outages is None else {outage.instance_id: outage for outage in outages},
        runs=await gathering.attempt("sweeps", _runs(rest, day)),
        audit=await gathering.attempt("changes by others", audit),
        connections=await gathering.attempt("restarts by others", connections),
        mutes=await gathering.attempt("mute lines", _mutes(rest, read_at)),
        notices=await gathering.attempt("bells of others", notices),
        registrations=None if registrations is None else {each.instance_id: each for each in registrations},
        inbox=await gathering.attempt("events", _inbox(rest, read_at)),
        pairs=await gathering.attempt("conversations that stay two", _pairs(rest)),
        channels=await gathering.attempt("further channels", _channels(rest, day)),
        falls=await gathering.attempt("falls that wait", rest.rows(FallRow, *_WAITING_FALLS, most=_MOST_EVENTS)),
        overdue=await gathering.attempt(
            "what is to be told", rest.rows(DueRow, ("tell_at", f"lt.{(read_at - _WAITING_AFTER).isoformat()}"))
        ),
        unchecked=tuple(gathering.unchecked),
    )


async def _pairs(rest: Rest) -> list[Pair]:
    """What our bookkeeping remembers, where both are still there: a platform may have deleted or merged one itself."""
    remembered = await rest.rows(
        PairRow, ("refusal", "not.is.null"), ("same_person_as", "not.is.null"), most=_MOST_PAIRS
    )
    wanted = list(dict.fromkeys(each for row in remembered for each in (row.conversation_id, row.same_person_as)))
    there: dict[UUID, ConversationRow] = {}
    for start in range(0, len(wanted), _IN_ONE_ADDRESS):
        some = _any_of(str(each) for each in wanted[start : start + _IN_ONE_ADDRESS])
        there |= {row.id: row for row in await rest.rows(ConversationRow, ("id", some))}
    return [
        Pair(row.instance_id, there[row.conversation_id], there[row.same_person_as], row.refusal)
        for row in remembered
        if row.conversation_id in there and row.same_person_as in there
    ]


async def _channels(rest: Rest, day: str) -> Channels:
    lately = ("or", f"(state.eq.waiting,created_at.{day},sent_at.{day},give_up_at.{day})")
    return Channels(
        contacts=await rest.rows(ContactRow),
        deliveries=await rest.rows(DeliveryRow, lately, newest=True, most=_MOST_EVENTS),
        channels=await rest.rows(ChannelRow),
        alerts=await rest.rows(AlertRow, ("resolved_at", "is.null")),
    )


def _any_of(words: Iterable[str]) -> str:
    return f"in.({','.join(words)})"


async def _mutes(rest: Rest, now: datetime) -> list[MuteRow]:
    lately = f"(closed_at.is.null,closed_at.gt.{(now - _MUTES_OF).isoformat()})"
    return await rest.rows(MuteRow, ("or", lately), by="suspected_at", newest=True, most=_MOST_EVENTS)


async def _runs(rest: Rest, day: str) -> list[RunRow]:
    return await rest.rows(RunRow, ("started_at", day)) or await rest.latest(RunRow, by="started_at")


async def _inbox(rest: Rest, now: datetime) -> Inbox:
    # One walk through a day, and no more of a table that has no index for it.
    odd = await rest.rows(
        InboxRow,
        ("received_at", f"gt.{(now - A_DAY).isoformat()}"),
        ("or", f"(processed_at.is.null,outcome.eq.{EventOutcome.UNKNOWN_INSTANCE},relay.eq.refused)"),
        newest=True,
        most=_MOST_EVENTS,
    )
    waiting = await rest.rows(
        InboxRow,
        ("relay", "eq.pending"),
        ("received_at", f"lt.{(now - _WAITING_AFTER).isoformat()}"),
        most=_MOST_EVENTS,
    )
    return Inbox(
        failed=[event for event in odd if event.outcome == EventOutcome.FAILED],
        unfinished=[
            event
            for event in odd
            if event.processed_at is None
            and event.outcome in (None, EventOutcome.LOOK, EventOutcome.LOOK_AGAIN)
            and now - event.received_at > _UNFINISHED_AFTER
        ],
        unknown=[event for event in odd if event.outcome == EventOutcome.UNKNOWN_INSTANCE],
        waiting=waiting,
        refused=[event for event in odd if event.relay == "refused"],
        is_cut=len(odd) == _MOST_EVENTS,
        more_wait=len(waiting) == _MOST_EVENTS,
    )
