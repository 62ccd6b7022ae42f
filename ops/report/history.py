"""What the report needs of the database, read and nothing changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import httpx

from ops.common.rest import Rest
from ops.common.rows import Company, Row
from ops.report.rows import EVENT_KINDS, KEPT, Contact, Delivery, Line, LineEvent, Mute, Notice, Outage, Run
from shared.core.mute import MuteClosing, MuteProof
from shared.core.notices import FallKind, NoticeState
from shared.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from shared.settings import StoreSettings

_OUTAGES_AT_ONCE: Final = 50
"""So many fit into an address."""
_OCCASION: Final = "outage:"
_OF_A_FALL: Final = (FallKind.DOWN, FallKind.UNSTABLE, FallKind.DOWN_LASTING)
"""Kinds of notices that tell its beginning."""
_Shape = TypeVar("_Shape", bound=Row)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows read at most, the newest first, however much there is: the page says what was not read."""

    lines: int = 20_000
    closed_outages: int = 100_000
    events: int = 200_000
    runs: int = 50_000


# No repr: asyncio.run makes one of a task's result on its way out, and of 100,000 rows that takes seconds.
@dataclass(frozen=True, slots=True, repr=False)
class History:
    """Everything the figures are made of.

    Attributes:
        companies: By id.
        lines: Of our provider, in no order.
        outages: Open ones and those closed in the last 30 days.
        events: Oldest first.
        runs: Oldest first.
        outages_since: Before this, outages may be missing: there were more than are read.
        events_since: The same for events.
        runs_since: The same for runs.
        lines_left: Whether there are more lines than are read.
        told: How many people have a notice of an open outage, by its id; one that nobody has is missing.
        deliveries: To contacts, about open outages, oldest first.
        ends: How a contact's address ends.
        mutes: Lines that lived while their events did not reach us, open or of the last 30 days; the newest first.
    """

    companies: dict[UUID, Company]
    lines: list[Line]
    outages: list[Outage]
    events: list[LineEvent]
    runs: list[Run]
    outages_since: datetime
    events_since: datetime
    runs_since: datetime
    lines_left: bool = False
    told: dict[UUID, int] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    ends: dict[UUID, str] = field(default_factory=dict)
    mutes: list[Mute] = field(default_factory=list)


async def _read(rest: Rest, now: datetime, company: UUID | None, bounds: Bounds) -> History:
    """Read the last 30 days; the tables at once, each page after page."""
    since = f"gte.{(now - KEPT).isoformat()}"
    own = [("company_id", f"eq.{company}")] if company else []
    one = [("id", f"eq.{company}")] if company else []
    kinds = f"in.({','.join(EVENT_KINDS)})"
    async with asyncio.TaskGroup() as tasks:
        companies = tasks.create_task(rest.rows(Company, *one, most=bounds.lines))
        lines = tasks.create_task(rest.rows(Line, *own, most=bounds.lines))
        still_open = tasks.create_task(_open_outages(rest, own, bounds))
        closed = tasks.create_task(
            rest.rows(Outage, ("closed_at", since), *own, by="closed_at", newest=True, most=bounds.closed_outages)
        )
        events = tasks.create_task(
            rest.rows(LineEvent, ("at", since), ("kind", kinds), *own, by="at", newest=True, most=bounds.events)
        )
        mutes = tasks.create_task(
            rest.rows(
                Mute,
                ("or", f"(closed_at.is.null,closed_at.{since})"),
                ("or", f"(proof.neq.{MuteProof.HABIT},closed_as.eq.{MuteClosing.REGISTRATION_LOST})"),
                *own,
                by="suspected_at",
                newest=True,
                most=bounds.lines,
            )
        )
        runs = tasks.create_task(rest.rows(Run, ("started_at", since), by="started_at", newest=True, most=bounds.runs))
    (open_rows, told), closed_rows = still_open.result(), closed.result()
    deliveries = await _about(rest, Delivery, "outage_id", [outage.id for outage in open_rows])
    contacts = await _about(rest, Contact, "id", list({each.contact_id for each in deliveries}))
    event_rows, run_rows = events.result(), runs.result()
    begin = now - KEPT
    return History(
        companies={row.id: row for row in companies.result()},
        lines=[line for line in lines.result() if line.is_ours],
        # Closed while we read: once, as closed.
        outages=[*{row.id: row for row in [*open_rows, *closed_rows]}.values()],
        events=event_rows[::-1],
        runs=run_rows[::-1],
        outages_since=(closed_rows[-1].closed_at or begin) if len(closed_rows) >= bounds.closed_outages else begin,
        events_since=event_rows[-1].at if len(event_rows) >= bounds.events else begin,
        runs_since=run_rows[-1].started_at if len(run_rows) >= bounds.runs else begin,
        lines_left=len(lines.result()) >= bounds.lines,
        told=told,
        deliveries=deliveries,
        ends={contact.id: contact.address for contact in contacts},
        mutes=mutes.result(),
    )


async def _about(rest: Rest, shape: type[_Shape], column: str, ids: Sequence[UUID]) -> list[_Shape]:
    found: list[_Shape] = []
    for first in range(0, len(ids), _OUTAGES_AT_ONCE):
        some = ",".join(str(each) for each in ids[first : first + _OUTAGES_AT_ONCE])
        found += await rest.rows(shape, (column, f"in.({some})"))
    return found


async def _open_outages(
    rest: Rest, own: Iterable[tuple[str, str]], bounds: Bounds
) -> tuple[list[Outage], dict[UUID, int]]:
    outages = await rest.rows(Outage, ("closed_at", "is.null"), *own, most=bounds.lines)
    told: defaultdict[UUID, set[UUID]] = defaultdict(set)
    occasions = [f'"{_OCCASION}{outage.id}"' for outage in outages if outage.told_at]
    for first in range(0, len(occasions), _OUTAGES_AT_ONCE):
        some = ",".join(occasions[first : first + _OUTAGES_AT_ONCE])
        notices = await rest.rows(
            Notice,
            ("occasion", f"in.({some})"),
            ("kind", f"in.({','.join(_OF_A_FALL)})"),
            ("state", f"eq.{NoticeState.SENT}"),
        )
        for notice in notices:
            told[UUID(notice.occasion.removeprefix(_OCCASION))].add(notice.user_id)
    return outages, {outage: len(users) for outage, users in told.items()}


async def read_history(
    settings: StoreSettings, now: datetime, *, company: UUID | None = None, bounds: Bounds | None = None
) -> History:
    """Read everything that the report needs.

    Args:
        settings: Which project.
        now: The end of the 30 days.
        company: Only its lines, outages and events; the sweeps are everybody's.
        bounds: How much at most.

    Raises:
        StoreUnavailable: As ``Rest`` says.
        StoreRefused: The same.
    """
    async with httpx.AsyncClient(timeout=None, trust_env=False) as http:  # noqa: S113 - bounded by Rest
        rest = Rest(http, settings.supabase_url, settings.supabase_service_role_key)
        try:
            return await _read(rest, now, company, bounds or Bounds())
        except* (StoreUnavailable, StoreRefused) as group:
            raise group.exceptions[0] from None


async def read_companies(settings: StoreSettings) -> list[Company]:
    """Read every company's name.

    Raises:
        StoreUnavailable: As ``Rest`` says.
        StoreRefused: The same.
    """
    async with httpx.AsyncClient(timeout=None, trust_env=False) as http:  # noqa: S113 - bounded by Rest
        return await Rest(http, settings.supabase_url, settings.supabase_service_role_key).rows(Company)
