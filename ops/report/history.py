"""What the report needs of the database, read through the Supabase client and nothing changed.

Every table is paged by key until a page is empty: PostgREST answers at most 1,000 rows, on some projects fewer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
from pydantic import ValidationError
from supabase import AsyncClient, AsyncClientOptions, PostgrestAPIError

from ops.report.rows import EVENT_KINDS, KEPT, Company, Line, LineEvent, Outage, Row, Run
from shared.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from postgrest import AsyncSelectRequestBuilder

    from shared.settings import Settings

    Narrowed = Callable[[AsyncSelectRequestBuilder], AsyncSelectRequestBuilder]

PAGE: Final = 1000
_TIMEOUT: Final = httpx.Timeout(60, connect=10)
_REFUSED: Final = (401, 403)
_AWAY: Final = (429, 502, 503, 504)
_Row = TypeVar("_Row", bound=Row)


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
        lines: In no order.
        outages: Open ones and those closed in the last 30 days.
        events: Oldest first.
        runs: Oldest first.
        outages_since: Before this, outages may be missing: there were more than are read.
        events_since: The same for events.
        runs_since: The same for runs.
        lines_left: Whether there are more lines than are read.
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


class Reader:
    """Reads tables page by page.

    Args:
        client: Its key must be the service role's.
        company: Only its lines, outages and events; the sweeps are everybody's.
        bounds: How much at most.

    Raises:
        StoreUnavailable: From every method, when the database cannot be reached or is not ready.
        StoreRefused: From every method, when it answers with an error, or with rows that we do not know.
    """

    def __init__(self, client: AsyncClient, *, company: UUID | None = None, bounds: Bounds | None = None) -> None:
        self._client = client
        self._company = company
        self._bounds = bounds or Bounds()

    async def read(self, now: datetime) -> History:
        """Read the last 30 days; the tables at once, each page after page."""
        since = now - KEPT
        bounds = self._bounds
        async with asyncio.TaskGroup() as tasks:
            companies = tasks.create_task(self._read(Company, "id", bounds.lines, own="id"))
            lines = tasks.create_task(self._read(Line, "id", bounds.lines))
            still_open = tasks.create_task(
                self._read(Outage, "id", bounds.lines, lambda query: query.is_("closed_at", "null"))
            )
            closed = tasks.create_task(
                self._read(
                    Outage,
                    "closed_at",
                    bounds.closed_outages,
                    lambda query: query.gte("closed_at", since.isoformat()),
                    newest_first=True,
                )
            )
            events = tasks.create_task(
                self._read(
                    LineEvent,
                    "at",
                    bounds.events,
                    lambda query: query.gte("at", since.isoformat()).in_("kind", EVENT_KINDS),
                    newest_first=True,
                )
            )
            runs = tasks.create_task(
                self._read(
                    Run,
                    "started_at",
                    bounds.runs,
                    lambda query: query.gte("started_at", since.isoformat()),
                    newest_first=True,
                    own=None,
                )
            )
        (closed_rows, closed_cut), (event_rows, events_cut), (run_rows, runs_cut) = (
            closed.result(),
            events.result(),
            runs.result(),
        )
        line_rows, lines_left = lines.result()
        return History(
            companies={each.id: each for each in companies.result()[0]},
            lines=line_rows,
            # Closed while we read: once, as closed.
            outages=[*{each.id: each for each in [*still_open.result()[0], *closed_rows]}.values()],
            events=event_rows[::-1],
            runs=run_rows[::-1],
            outages_since=(closed_rows[-1].closed_at or since) if closed_cut else since,
            events_since=event_rows[-1].at if events_cut else since,
            runs_since=run_rows[-1].started_at if runs_cut else since,
            lines_left=lines_left,
        )

    async def _read(
        self,
        shape: type[_Row],
        key: str,
        at_most: int,
        narrowed: Narrowed | None = None,
        *,
        newest_first: bool = False,
        own: str | None = "company_id",
    ) -> tuple[list[_Row], bool]:
        """Read pages in the order of (key, id).

        Returns:
            The rows, and whether there may be more of them than ``at_most``.
        """
        rows: list[_Row] = []
        while len(rows) < at_most:
            query = self._client.table(shape.table).select(shape.columns())
            if narrowed:
                query = narrowed(query)
            if self._company and own:
                query = query.eq(own, str(self._company))
            if rows:
                query = query.or_(_after(rows[-1], key, newest_first=newest_first))
            query = query.order(key, desc=newest_first)
            if key != "id":
                query = query.order("id", desc=newest_first)
            page = await self._fetch(shape, query.limit(min(PAGE, at_most - len(rows))))
            if not page:
                return rows, False
            rows += page
        return rows, True

    async def _fetch(self, shape: type[_Row], query: AsyncSelectRequestBuilder) -> list[_Row]:
        try:
            answer = (await query.execute()).data
        except PostgrestAPIError as error:
            raise StoreRefused(shape.table, str(error.code or "no code")) from None  # its words quote rows
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            kind = StoreRefused if status in _REFUSED else StoreUnavailable
            raise kind(shape.table, f"HTTP {status}") from None
        except (httpx.HTTPError, OSError) as error:
            raise StoreUnavailable(shape.table, type(error).__name__) from error
        if not isinstance(answer, list):
            raise StoreUnavailable(shape.table, "not an answer")
        try:
            return [shape.model_validate(row, by_name=True) for row in answer]
        except ValidationError as error:
            wrong = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            raise StoreRefused(shape.table, f"unexpected value in {wrong or 'a row'}") from None


def _after(row: Row, key: str, *, newest_first: bool) -> str:
    """A filter for what comes after a row."""
    beyond = "lt" if newest_first else "gt"
    wire = row.model_dump(mode="json")
    by_id = f'id.{beyond}."{wire["id"]}"'
    if key == "id":
        return by_id
    return f'{key}.{beyond}."{wire[key]}",and({key}.eq."{wire[key]}",{by_id})'


async def _stop_at_the_gateway(response: httpx.Response) -> None:
    """Raise for a wrong key or a database that is away: the Supabase client forgets the status of a JSON error."""
    if response.status_code in _REFUSED + _AWAY:
        response.raise_for_status()


async def read_history(
    settings: Settings, now: datetime, *, company: UUID | None = None, bounds: Bounds | None = None
) -> History:
    """Read everything that the report needs; raises as ``Reader`` says."""
    hooks = {"response": [_stop_at_the_gateway]}
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, event_hooks=hooks) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = AsyncClient(settings.supabase_url, settings.supabase_service_role_key.get_secret_value(), options)
        try:
            return await Reader(client, company=company, bounds=bounds).read(now)
        except* (StoreUnavailable, StoreRefused) as group:
            raise group.exceptions[0] from None
