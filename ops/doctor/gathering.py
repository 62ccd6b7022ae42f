"""Everything that the project's own tables tell, read one after another; what fails is said and the rest goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from ops.doctor.checks.events import Inbox
from ops.doctor.facts import (
    AuditRow,
    CompanyRow,
    InboxRow,
    LineRow,
    MembershipRow,
    NoticeRow,
    OutageRow,
    RunRow,
)
from ops.doctor.findings import Unchecked
from shared.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from ops.common.rest import Rest

A_DAY: Final = timedelta(hours=24)
_MOST_EVENTS: Final = 5000
_MOST_CONNECTION_EVENTS: Final = 50_000
_UNFINISHED_AFTER: Final = timedelta(minutes=10)
_WAITING_AFTER: Final = timedelta(minutes=15)

_Facts = TypeVar("_Facts")


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows as they were at ``read_at``, on Supabase's clock; None is what could not be read."""

    read_at: datetime
    lines: Sequence[LineRow]
    companies: Mapping[UUID, CompanyRow]
    with_users: frozenset[UUID] | None
    outages: Mapping[UUID, OutageRow] | None
    runs: Sequence[RunRow] | None
    audit: Sequence[AuditRow] | None
    connections: Sequence[InboxRow] | None
    notices: Sequence[NoticeRow] | None
    inbox: Inbox | None
    unchecked: tuple[Unchecked, ...] = ()


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
    lines = await rest.rows(LineRow, "wapi_instances")
    companies = await gathering.attempt("the companies' names", rest.rows(CompanyRow, "companies"))
    members = await gathering.attempt("who has users", rest.rows(MembershipRow, "user_companies"))
    outages = await gathering.attempt("open outages", rest.rows(OutageRow, "instance_outages", closed_at="is.null"))
    return Tables(
        read_at=read_at,
        lines=lines,
        companies={company.id: company for company in companies or ()},
        with_users=None if members is None else frozenset(member.company_id for member in members),
        outages=None if outages is None else {outage.instance_id: outage for outage in outages},
        runs=await gathering.attempt("sweeps", _runs(rest, day)),
        audit=await gathering.attempt(
            "changes by others",
            rest.rows(
                AuditRow, "instance_events", newest=True, most=_MOST_CONNECTION_EVENTS, at=day,
                kind="in.(status_changed,restart_requested)",
            ),
        ),
        connections=await gathering.attempt(
            "restarts by others",
            rest.rows(
                InboxRow, "wapi_webhook_events", newest=True, most=_MOST_CONNECTION_EVENTS, received_at=day,
                kind="in.(disconnection,connection)",
            ),
        ),
        notices=await gathering.attempt(
            "bells of others",
            rest.rows(
                NoticeRow, "notifications", most=_MOST_EVENTS, type="eq.instance_disconnected", outage_id="is.null",
                created_at=day,
            ),
        ),
        inbox=await gathering.attempt("events", _inbox(rest, read_at)),
        unchecked=tuple(gathering.unchecked),
    )  # fmt: skip


async def _runs(rest: Rest, day: str) -> list[RunRow]:
    runs = await rest.rows(RunRow, "health_check_runs", started_at=day)
    return runs or await rest.latest(RunRow, "health_check_runs", by="started_at")


async def _inbox(rest: Rest, now: datetime) -> Inbox:
    # One walk through a day, and no more of a table that has no index for it.
    odd = await rest.rows(
        InboxRow,
        "wapi_webhook_events",
        newest=True,
        most=_MOST_EVENTS,
        received_at=f"gt.{(now - A_DAY).isoformat()}",
        or_="(processed_at.is.null,outcome.eq.unknown_instance,relay.eq.refused)",
    )
    waiting = await rest.rows(
        InboxRow,
        "wapi_webhook_events",
        most=_MOST_EVENTS,
        relay="eq.pending",
        received_at=f"lt.{(now - _WAITING_AFTER).isoformat()}",
    )
    return Inbox(
        failed=[event for event in odd if event.outcome == "failed"],
        unfinished=[
            event
            for event in odd
            if event.processed_at is None
            and event.outcome in (None, "look")
            and now - event.received_at > _UNFINISHED_AFTER
        ],
        unknown=[event for event in odd if event.outcome == "unknown_instance"],
        waiting=waiting,
        refused=[event for event in odd if event.relay == "refused"],
        is_cut=len(odd) == _MOST_EVENTS,
        more_wait=len(waiting) == _MOST_EVENTS,
    )
