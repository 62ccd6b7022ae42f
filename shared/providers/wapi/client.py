"""W-API over HTTP: look at a line, restart a line. Everything is translated here; no error leaves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx

from shared.core.look import NOT_ASKED, Look, RestartAnswer, unknown
from shared.core.model import Observation
from shared.providers.exchange import ExchangeFailedError, bearer, exchange
from shared.providers.port import Unpaced
from shared.providers.wapi.answers import join_device, read_restart, read_status

if TYPE_CHECKING:
    from typing import Self

    from shared.providers.answer import HttpAnswer
    from shared.providers.port import Line, Pacer


class WapiClient:
    """The provider, asked directly.

    Args:
        http: Follows no redirects.
        base_url: Such as ``https://api.w-api.app/v1``.
        pacer: Asked before each look's request, and told when the provider wants to be left alone.
    """

    def __init__(self, http: httpx.AsyncClient, base_url: str, pacer: Pacer | None = None) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._pacer = pacer or Unpaced()

    def paced_by(self, pacer: Pacer) -> Self:
        """The same provider, asked only when ``pacer`` says so."""
        return type(self)(self._http, self._base_url, pacer)

    async def look(self, line: Line, *, within: timedelta) -> Look:
        """Ask about a line once: ``status-instance`` and, if that says connected, ``device``.

        Args:
            line: Its token goes into the Authorization header and nowhere else.
            within: For both calls together, pauses aside. A status without time left for the device is believed.
        """
        if not await self._pacer.ready():
            return NOT_ASKED
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            status = read_status(await self._get("status-instance", line, within))
        except ExchangeFailedError as error:
            return unknown(error.cause)
        if status.observation is not Observation.ALIVE:
            return status
        remaining = within - timedelta(seconds=clock() - started)
        device = None
        if await self._pacer.ready():
            with suppress(ExchangeFailedError):
                device = await self._get("device", line, remaining)
        return join_device(status, device)

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:
        """Ask for a restart, once: a GET with a side effect that nothing may repeat.

        It waits for no pause: the claim that allows it is not to be older than the request. Wait before the claim.
        """
        try:
            return read_restart(await self._get("restart", line, within))
        except ExchangeFailedError:
            return RestartAnswer.UNCLEAR

    async def _get(self, call: str, line: Line, within: timedelta) -> HttpAnswer:
        token = line.token.get_secret_value().strip() if line.token else ""
        if not token.isascii() or not token.isprintable():
            raise ExchangeFailedError("unusable_token")
        # Not the client's build_request: it merges addresses, parameters and headers for a sixth of a sweep's time.
        query = urlencode({"instanceId": line.external_id})
        request = httpx.Request("GET", f"{self._base_url}/instance/{call}?{query}", headers=bearer(token))
        began_in = self._pacer.round
        answer = await exchange(self._http, request, within=within)
        if answer.asks_to_wait:
            self._pacer.refused(line.id, answer.retry_after, began_in=began_in)
        return answer
