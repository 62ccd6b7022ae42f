"""The project's tables through PostgREST, read only, a page at a time.

Plain HTTP and not the Supabase client, which hides the status of a refusal: a wrong key, a key of another role and a
missing table are different findings.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
from pydantic import ValidationError

from ops.common.shown import shown
from ops.doctor.facts import Row
from shared.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import SecretStr

PAGE: Final = 1000
"""PostgREST answers no more, and a project may have set less: a page ends a table only when it is empty."""
_SECONDS: Final = 30
_KEY_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

_Shape = TypeVar("_Shape", bound=Row)


class KeyRefused(StoreRefused):
    """Supabase answers, but not with this key."""


class Rest:
    """Reads tables of schema public.

    Args:
        http: Follows no redirects.
        url: The project's.
        key: The service role's.

    Raises:
        StoreUnavailable: From every method, when nobody answers.
        StoreRefused: From every method, when the answer is an error; ``KeyRefused`` when it is about the key.
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
            await self._get("companies", {"select": "id", "limit": "1"})
        except KeyRefused:
            raise
        except StoreRefused:
            return  # it answered: what is missing is found by whoever looks for it

    async def interface(self) -> Mapping[str, Any] | None:
        """PostgREST's own description of tables and functions; None when the project has switched it off."""
        try:
            described = await self._get("", {})
        except KeyRefused:
            raise
        except StoreRefused:
            return None
        return described if isinstance(described, dict) and "paths" in described else None

    async def rows(
        self, shape: type[_Shape], table: str, *, most: int | None = None, newest: bool = False, **filters: str
    ) -> list[_Shape]:
        """Rows as ``shape`` names their columns, by id.

        Args:
            shape: Its fields are the columns that are asked for.
            table: In schema public.
            most: Stop there.
            newest: The largest ids first.
            filters: In PostgREST's words: ``is_active="is.true"``.
        """
        found: list[_Shape] = []
        async for page in self._pages(table, ",".join(shape.model_fields), newest=newest, filters=filters):
            found += _shaped(shape, table, page)
            if most is not None and len(found) >= most:
                return found[:most]
        return found

    async def latest(self, shape: type[_Shape], table: str, *, by: str) -> list[_Shape]:
        """The one row that is last by a column, if there is one."""
        columns = ",".join(shape.model_fields)
        rows = await self._get(table, {"select": columns, "order": f"{by}.desc", "limit": "1"})
        return _shaped(shape, table, rows)

    async def lacks(self, table: str, columns: tuple[str, ...]) -> bool:
        """Whether a table does not answer with these columns."""
        try:
            await self._get(table, {"select": ",".join(columns) or "*", "limit": "0"})
        except KeyRefused:
            raise
        except StoreRefused:
            return True
        return False

    async def _pages(
        self, table: str, columns: str, *, newest: bool, filters: Mapping[str, str]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        order, beyond = ("id.desc", "lt") if newest else ("id.asc", "gt")
        query = [("select", columns), ("order", order), ("limit", str(PAGE))]
        query += [(name.rstrip("_"), told) for name, told in filters.items()]
        last: list[tuple[str, str]] = []
        while page := await self._get(table, [*query, *last]):
            if not isinstance(page, list):
                raise StoreUnavailable(table, "not an answer")
            yield page
            last = [("id", f"{beyond}.{page[-1]['id']}")]

    async def _get(self, table: str, query: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._http.get(f"{self._base}/{table}", params=query, headers=self._headers)
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
        code = body.get("code") if isinstance(body, dict) else None
        code = shown(code or f"http_{answer.status_code}", longest=20)
        if answer.status_code in _KEY_REFUSED:
            raise KeyRefused(table, code)
        if body is None or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or code.startswith("PGRST00"):
            raise StoreUnavailable(table, code)
        raise StoreRefused(table, code)


def _shaped(shape: type[_Shape], table: str, rows: Any) -> list[_Shape]:  # noqa: ANN401 - JSON
    try:
        return [shape.model_validate(row) for row in rows]
    except (ValidationError, TypeError):
        # The text of the first quotes rows.
        raise StoreRefused(table, "unexpected row") from None


def role_of(key: SecretStr) -> str | None:
    """The role that a legacy key names; None for an ``sb_secret_`` key, which is the service role's by its name."""
    parts = key.get_secret_value().split(".")
    if len(parts) != 3:  # noqa: PLR2004 - a JWT
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    role = claims.get("role") if isinstance(claims, dict) else None
    return role if isinstance(role, str) else None


def missing_of(
    interface: Mapping[str, Any], tables: Mapping[str, tuple[str, ...]], functions: tuple[str, ...]
) -> set[str]:
    """What PostgREST does not show of tables with their columns, and of functions."""
    definitions, paths = interface.get("definitions") or {}, interface.get("paths") or {}
    missing = {f"{name}()" for name in functions if f"/rpc/{name}" not in paths}
    for table, columns in tables.items():
        if table not in definitions:
            missing.add(table)
            continue
        there = definitions[table].get("properties") or {}
        missing |= {f"{table}.{column}" for column in columns if column not in there}
    return missing
