"""Calls of the database through the Supabase client: each one PostgREST request and so one transaction.

Only what certainly had no effect is called again. An answer becomes a type here, or an error of ours.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from shared import logs
from shared.database.client import PostgrestAPIError
from shared.database.failures import (
    NOT_BEGUN,
    ROLLED_BACK,
    failure_of_database,
    failure_of_gateway,
)
from shared.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from supabase import AsyncClient

_ATTEMPTS: Final = 4
_WAIT_AFTER: Final = dict.fromkeys(ROLLED_BACK, 0.05) | dict.fromkeys(NOT_BEGUN, 0.5)
"""Seconds, at most, times the tries so far, before what had no effect is asked again."""
_CALL_SECONDS: Final = 20
_Shape = TypeVar("_Shape", bound=BaseModel)


class Rpc:
    """SQL functions by name.

    Args:
        client: Its key must be the service role's.

    Raises:
        StoreUnavailable: From every call, when the database cannot be reached or is not ready.
        StoreRefused: From every call, when it answers with an error of its own.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Call a function; its answer is JSON."""
        return await self._execute(operation, lambda: self._client.rpc(operation, arguments))

    async def ask(self, shape: type[_Shape], operation: str, arguments: dict[str, Any]) -> _Shape:
        """Call a function that answers in one shape."""
        return read_answer(shape, operation, await self.call(operation, arguments))

    async def ask_if_any(self, shape: type[_Shape], operation: str, arguments: dict[str, Any]) -> _Shape | None:
        """Call a function that answers in one shape, or null."""
        answer = await self.call(operation, arguments)
        return None if answer is None else read_answer(shape, operation, answer)

    async def rows_where(self, table: str, column: str, value: str) -> Any:  # noqa: ANN401 - JSON
        """Read a column of the rows in which it has a value."""
        return await self._execute(table, lambda: self._client.table(table).select(column).eq(column, value))

    async def _execute(self, operation: str, query: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with asyncio.timeout(_CALL_SECONDS):  # a dripping answer never times out by itself
                    return (await query().execute()).data
            except PostgrestAPIError as error:
                wait = _WAIT_AFTER.get(error.code or "")
                if wait is None or attempt == _ATTEMPTS:
                    raise failure_of_database(operation, error.code) from None
                logs.warning("store.retried", operation=operation, code=error.code)
                await asyncio.sleep(random.uniform(0.2, 1.0) * wait * attempt)  # noqa: S311 - spreads retries
            except httpx.HTTPStatusError as error:
                raise failure_of_gateway(operation, error.response.status_code) from None
            except (httpx.HTTPError, OSError) as error:
                raise StoreUnavailable(operation, type(error).__name__) from error
        raise AssertionError("unreachable: the last attempt returns or raises")


def read_answer(shape: type[_Shape], operation: str, answer: Any) -> _Shape:  # noqa: ANN401 - JSON
    """Read an answer in the shape that its function promises."""
    if not isinstance(answer, dict):
        raise not_an_answer(operation)
    try:
        return shape.model_validate(answer)
    except ValidationError:
        # Its text quotes rows. A shape we do not know means a migration and code that do not fit.
        raise StoreRefused(operation, "unexpected answer") from None


def read_list(operation: str, answer: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """Read an answer that is a list."""
    if not isinstance(answer, list):
        raise not_an_answer(operation)
    return answer


def read_count(operation: str, answer: Any) -> int:  # noqa: ANN401 - JSON
    """Read an answer that is a number."""
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise not_an_answer(operation)
    return answer


def not_an_answer(operation: str) -> StoreUnavailable:
    """A 200 with a page, with nothing: a gateway speaks, not our function."""
    return StoreUnavailable(operation, "not an answer")
