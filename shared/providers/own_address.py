"""Whether the function that takes events answers at its address and knows a line's key. Nothing is kept of it."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.core.secrets import line_key
from shared.providers.exchange import ExchangeFailedError, exchange

if TYPE_CHECKING:
    import httpx

    from shared.core.registration import Target

_WITHIN: Final = timedelta(seconds=15)  # a cold start


class OwnAddress:
    """Our own function, asked as the provider would post to it.

    Args:
        http: Follows no redirects.
        target: The function's address and secrets.
    """

    def __init__(self, http: httpx.AsyncClient, target: Target) -> None:
        self._http = http
        self.target = target

    async def cause_if_away(self) -> str | None:
        """Why it does not count as there; None when it answers ``/health`` as ours does."""
        try:
            health = await exchange(
                self._http, self._http.build_request("GET", f"{self.target.url}/health"), within=_WITHIN
            )
        except ExchangeFailedError as error:
            return error.cause
        if health.status != HTTPStatus.OK:
            return f"http_{health.status}"
        return None if (health.json_object() or {}).get("status") == "ok" else "another_service"

    async def knows_key(self, external_id: str, *, secret: int = 0) -> bool | None:
        """Send an empty body with a line's key: 400 to a known one, 401 to another.

        Args:
            external_id: Whose key.
            secret: Which of the target's it is made from; the first is the one that is set.

        Returns:
            None when it did not say.
        """
        key = line_key(self.target.secrets[secret], external_id)
        request = self._http.build_request("POST", self.target.url, params={"key": key})
        try:
            answer = await exchange(self._http, request, within=_WITHIN)
        except ExchangeFailedError:
            return None
        known = {HTTPStatus.BAD_REQUEST.value: True, HTTPStatus.UNAUTHORIZED.value: False}
        return known.get(answer.status)

    async def refusal(self, external_id: str) -> str | None:
        """Why the line's address may not be set; None is the yes without which nothing is."""
        if (cause := await self.cause_if_away()) is not None:
            return cause
        match await self.knows_key(external_id):
            case True:
                return None
            case False:
                return "key_refused"
            case None:
                return "key_unanswered"
