"""Fan-out: the function calls its own address for more sweeps, which share the fleet through their claims.

What helps is an ordinary sweep with a row of its own. Who gets no help does the work alone.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared import logs
from shared.errors import EventRejected
from shared.providers.exchange import ExchangeFailedError, exchange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from shared.providers.answer import HttpAnswer

HEADER: Final = "X-Sweep-Helper"
METADATA_URL: Final = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity"
_TOKEN: Final = re.compile(rb"[\w.-]+")
_TOKEN_WITHIN: Final = timedelta(seconds=5)
_ENDS_BEFORE: Final = timedelta(seconds=5)
"""A helper ends this much before the sweep that asked it, so that its answer is heard."""


class Help(BaseModel):
    """What a helper is told.

    Attributes:
        within_seconds: Its budget, if its own is not smaller.
        due_before: As the asking sweep sees it: what that has looked at is not due again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    within_seconds: float = Field(gt=0, le=86_400, allow_inf_nan=False)
    due_before: AwareDatetime


def read_help(headers: Mapping[str, str]) -> Help | None:
    """Say whether, and with what, another sweep asks for help.

    Raises:
        EventRejected: With 400 when the header is none that we send.
    """
    told = headers.get(HEADER)
    if told is None:
        return None
    try:
        return Help.model_validate_json(told)
    except ValidationError:
        raise EventRejected(400, f"{HEADER} must be JSON with within_seconds and due_before") from None


class Fanout:
    """Asks for help once, and hears what became of it. Leaving the ``with`` block stops listening.

    Args:
        helpers: How many; 0 asks nobody.
        url: The function's own address, also the audience of its identity. Plain http, which is loopback, needs none.
        metadata_url: Where Google tells who we are.
    """

    def __init__(self, helpers: int, url: str | None, *, metadata_url: str = METADATA_URL) -> None:
        self._helpers = helpers if url else 0
        self._url = url or ""
        self._metadata_url = metadata_url
        self._asking: asyncio.Task[int] | None = None

    @property
    def asked(self) -> int:
        """How many were asked."""
        return self._helpers if self._asking else 0

    def begin(self, *, due_before: datetime, within: timedelta) -> None:
        """Ask, without waiting; once a sweep.

        Args:
            due_before: Of the sweep that asks.
            within: What is left of its budget.
        """
        if not self._helpers or self._asking:
            return
        help_with = Help(
            within_seconds=max((within - _ENDS_BEFORE).total_seconds(), within.total_seconds() / 2),
            due_before=due_before,
        )
        self._asking = asyncio.create_task(self._ask_all(help_with, within))

    async def answered(self) -> int:
        """Wait for the helpers; no longer than the budget that was left when they were asked.

        Returns:
            How many ended well.
        """
        return await self._asking if self._asking else 0

    async def _ask_all(self, help_with: Help, within: timedelta) -> int:
        # Every exchange is bounded as a whole.
        async with httpx.AsyncClient(timeout=None, trust_env=False) as http:  # noqa: S113
            try:
                headers = {HEADER: help_with.model_dump_json(), **await self._identity(http)}
            except ExchangeFailedError as error:
                logs.warning("fanout.failed", cause_word=f"no_identity_{error.cause}", helpers=self._helpers)
                return 0
            return sum(await asyncio.gather(*(self._ask(http, headers, within) for _ in range(self._helpers))))

    async def _ask(self, http: httpx.AsyncClient, headers: dict[str, str], within: timedelta) -> bool:
        try:
            await _ok(http, http.build_request("POST", self._url, headers=headers), within)
        except ExchangeFailedError as error:
            logs.warning("fanout.failed", cause_word=error.cause, helpers=1)
            return False
        return True

    async def _identity(self, http: httpx.AsyncClient) -> dict[str, str]:
        if not self._url.startswith("https:"):
            return {}
        request = http.build_request(
            "GET", self._metadata_url, params={"audience": self._url}, headers={"Metadata-Flavor": "Google"}
        )
        token = (await _ok(http, request, _TOKEN_WITHIN)).body.strip()
        if not _TOKEN.fullmatch(token):
            raise ExchangeFailedError("unreadable")
        return {"Authorization": f"Bearer {token.decode('ascii')}"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)


async def _ok(http: httpx.AsyncClient, request: httpx.Request, within: timedelta) -> HttpAnswer:
    """Exchange; any answer but a 200 is a failure."""
    answer = await exchange(http, request, within=within)
    if answer.status != HTTPStatus.OK:
        raise ExchangeFailedError(f"http_{answer.status}")
    return answer
