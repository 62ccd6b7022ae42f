"""The project's tables through PostgREST, a page at a time, and its functions.

Plain HTTP and not the Supabase client, which hides the status of a refusal: a wrong key, a key of another role and a
missing table are different findings.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
from pydantic import ValidationError

from ops.common.rows import Row
from ops.common.shown import shown, status_in_words
from shared.database.failures import CLAIMS_REFUSED
from shared.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pydantic import SecretStr

PAGE: Final = 1000
"""PostgREST answers no more, and a project may have set less: a page ends a table only when it is empty."""
_SECONDS: Final = 60
_TRIES: Final = 4
_AGAIN_AFTER: Final = 0.2
_KEY_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_NOT_READY: Final = "PGRST00"
"""PostgREST's own codes for a database that it does not reach."""

_Shape = TypeVar("_Shape", bound=Row)


class KeyRefused(StoreRefused):
    """Supabase answers, but not with this key.

    Args:
        table: Which was asked for.
        code: As ``StoreError`` has it.
        status: 401 or 403.
    """

    def __init__(self, table: str, code: str, status: int) -> None:
        self.status = status
        super().__init__(table, code)


class _NotThisTime(KeyRefused):
    """The claims of a token were refused, which passes by itself or does not."""


class Rest:
    """Reads tables of schema public, and calls functions where somebody says so.

    Args:
        http: Follows no redirects.
        url: The project's.
        key: The service role's.

    Raises:
        StoreUnavailable: From every method, when nobody answers, or somebody who is not the database.
        StoreRefused: From every method, when the database answers with an error, or with rows that we do not know;
            ``KeyRefused`` when it is about the key.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, key: SecretStr) -> None:
        self._http = http
        self._base = f"{url}/rest/v1"
        self._heard: datetime | None = None
        self._headers = {"apikey": key.get_secret_value(), "Authorization": f"Bearer {key.get_secret_value()}"}

    def now(self) -> datetime:
        """The time by Supabase's last answer, a few seconds late; the operator's clock may be wrong by hours."""
        return self._heard or datetime.now(UTC)

    async def reach(self) -> None:
        """Ask for something small, to learn whether the key is good for anything."""
        try:
            await self._get("companies", [("select", "id"), ("limit", "1")])
        except KeyRefused:
            raise
        except StoreRefused:
            return  # it answered: what is missing is found by whoever looks for it

    async def interface(self) -> Mapping[str, Any] | None:
        """PostgREST's own description of tables and functions; None when the project has switched it off."""
        try:
            described = await self._get("", [])
        except KeyRefused:
            raise
        except StoreRefused:
            return None
        return described if isinstance(described, dict) and "paths" in described else None

    async def lacks(self, table: str, columns: tuple[str, ...]) -> bool:
        """Whether a table does not answer with these columns."""
        try:
            await self._get(table, [("select", ",".join(columns) or "*"), ("limit", "0")])
        except KeyRefused:
            raise
        except StoreRefused:
            return True
        return False

    async def rows(
        self,
        shape: type[_Shape],
        *filters: tuple[str, str],
        by: str | None = None,
        newest: bool = False,
        most: int | None = None,
    ) -> list[_Shape]:
        """The rows of ``shape.table``, page after page.

        Args:
            shape: Its fields are the columns that are asked for.
            filters: In PostgREST's words: ``("is_active", "is.true")``.
            by: Read in the order of this field, and of the key where it is the same; no row may hold null in it.
            newest: The largest first.
            most: Stop there: with so many rows there may be more.
        """
        found: list[_Shape] = []
        async for page in self._pages(shape, filters, by=by or shape.key, newest=newest, most=most):
            found += page
        return found

    async def words(self, table: str, column: str) -> list[str]:
        """One column of a table that is small."""
        rows = await self._get(table, [("select", column)])
        if not isinstance(rows, list):
            raise StoreUnavailable(table, "not an answer")
        return [str(row[column]) for row in rows if isinstance(row, dict)]

    async def latest(self, shape: type[_Shape], *, by: str) -> list[_Shape]:
        """The one row that is last by a field, if there is one."""
        query = [("select", shape.columns()), ("order", f"{by}.desc"), ("limit", "1")]
        return _shaped(shape, await self._get(shape.table, query))

    async def call(self, function: str, arguments: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
        """Call a function; what it does is its own affair."""
        return await self._ask("POST", f"rpc/{function}", arguments=arguments)

    async def _pages(
        self, shape: type[_Shape], filters: Sequence[tuple[str, str]], *, by: str, newest: bool, most: int | None
    ) -> AsyncIterator[list[_Shape]]:
        order = "desc" if newest else "asc"
        fixed = [("select", shape.columns()), *filters]
        key = shape.key
        fixed.append(("order", f"{by}.{order}" if by == key else f"{by}.{order},{key}.{order}"))
        left = most
        last: list[tuple[str, str]] = []
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = await self._get(shape.table, [*fixed, *last, ("limit", str(size))])
            rows = _shaped(shape, page)
            if not rows:
                return
            yield rows
            left = None if left is None else left - len(rows)
            last = [_after(page[-1], by, key, newest=newest)]

    async def _get(self, table: str, query: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401 - JSON
        return await self._ask("GET", table, query=query)

    async def _ask(
        self,
        method: str,
        table: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        arguments: Mapping[str, object] | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        for waited in range(1, _TRIES):
            with suppress(_NotThisTime):
                return await self._ask_once(method, table, query, arguments)
            await asyncio.sleep(_AGAIN_AFTER * waited)
        return await self._ask_once(method, table, query, arguments)

    async def _ask_once(
        self, method: str, table: str, query: Sequence[tuple[str, str]], arguments: Mapping[str, object] | None
    ) -> Any:  # noqa: ANN401 - JSON
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._http.request(
                    method,
                    f"{self._base}/{table}",
                    params=httpx.QueryParams(list(query)),
                    json=arguments,
                    headers=self._headers,
                )
        except (TimeoutError, httpx.HTTPError, OSError) as error:
            raise StoreUnavailable(table, type(error).__name__) from error
        with suppress(KeyError, ValueError):
            self._heard = parsedate_to_datetime(answer.headers["date"])
        try:
            body = answer.json()
        except ValueError:
            body = None
        if answer.status_code == HTTPStatus.OK and body is not None:
            return body
        raise _error(table, answer.status_code, body.get("code") if isinstance(body, dict) else None)


def _error(table: str, status: int, told: object) -> StoreUnavailable | StoreRefused:
    """What an answer means that is no table; what is not the database's own word says nothing about it."""
    code = shown(told, longest=20) if told else status_in_words(status)
    if status in _KEY_REFUSED:
        return (_NotThisTime if code == CLAIMS_REFUSED else KeyRefused)(table, code, status)
    away = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    if away or not told or code.startswith(_NOT_READY):
        return StoreUnavailable(table, code)
    return StoreRefused(table, code)


def _shaped(shape: type[_Shape], rows: Any) -> list[_Shape]:  # noqa: ANN401 - JSON
    if not isinstance(rows, list):
        raise StoreUnavailable(shape.table, "not an answer")
    try:
        return [shape.model_validate(row) for row in rows]
    except ValidationError as error:
        # Its text quotes rows.
        wrong = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise StoreRefused(shape.table, f"unexpected value in {wrong or 'a row'}") from None


def _after(row: Mapping[str, Any], by: str, key: str, *, newest: bool) -> tuple[str, str]:
    """A filter for what comes after a row."""
    beyond = "lt" if newest else "gt"
    if by == key:
        return (key, f"{beyond}.{row[key]}")
    at, own = f'"{row[by]}"', f'"{row[key]}"'
    return ("or", f"({by}.{beyond}.{at},and({by}.eq.{at},{key}.{beyond}.{own}))")
