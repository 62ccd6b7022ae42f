"""W-API: what it says of each line, and setting a webhook's URL. No body is kept or shown: they echo tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ops.doctor.facts import Asked
from shared.core.look import Look, unknown
from shared.core.model import Observation
from shared.providers.exchange import ExchangeFailedError, bearer, exchange
from shared.providers.wapi.answers import read_status
from shared.providers.wapi.webhooks import Kind, Registration, read_registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from uuid import UUID

    import httpx

    from ops.doctor.facts import LineRow
    from shared.providers.answer import HttpAnswer
    from shared.providers.limiter import Limiter

AT_ONCE: Final = 8
_SILENT: Final = 2 * AT_ONCE
"""So many lines in vain and none that was answered: the provider is away, and asking the rest would take hours."""
_CONDEMNING: Final = (Observation.REFUSED, Observation.NOT_FOUND)


@dataclass(slots=True)
class _Tally:
    answered: int = 0
    silent: int = 0

    @property
    def is_hopeless(self) -> bool:
        return not self.answered and self.silent >= _SILENT


class Registry:
    """The provider's view of lines.

    Args:
        http: Follows no redirects.
        base_url: Such as ``https://api.w-api.app/v1``.
        limiter: How many lines at once; it also waits where the provider asks to.
        within: For one request.
    """

    def __init__(self, http: httpx.AsyncClient, base_url: str, limiter: Limiter, within: timedelta) -> None:
        self._http = http
        self._base_url = base_url
        self._limiter = limiter
        self._within = within

    async def ask_all(self, lines: Iterable[LineRow], *, asked: Callable[[], object]) -> Mapping[UUID, Asked]:
        """Ask about every line that can be asked.

        Args:
            lines: Those that cannot are passed over.
            asked: Called after each line.

        Returns:
            By our id. An empty ``Asked`` is a line that was not asked about, since nobody answers at all.
        """
        tally = _Tally()

        async def one(line: LineRow) -> Asked:
            async with self._limiter.slot() as report:
                if tally.is_hopeless:
                    answer = Asked()
                else:
                    answer = await self._ask(line)
                    look = answer.look or unknown("not_asked")
                    tally.answered += look.observation is not Observation.UNKNOWN
                    tally.silent += look.observation is Observation.UNKNOWN
                    report(look)
            asked()
            return answer

        chosen = [line for line in lines if line.can_be_asked]
        answers = await asyncio.gather(*(one(line) for line in chosen))
        return {line.id: answer for line, answer in zip(chosen, answers, strict=True)}

    async def register(self, line: LineRow) -> Registration | str:
        """Ask where a line's webhooks point to; a short word when that cannot be read."""
        try:
            return read_registration(await self._exchange(line, "GET", "instance/fetch-instance"))
        except ExchangeFailedError as error:
            return error.cause

    async def set_webhook(self, line: LineRow, kind: Kind, url: str) -> str | None:
        """Set one webhook's URL, which may be repeated.

        Returns:
            A short word when it was not set, or nobody knows.
        """
        try:
            answer = await self._exchange(line, "PUT", f"webhook/update-webhook-{kind}", {"value": url})
        except ExchangeFailedError as error:
            return error.cause
        found = answer.json_object()
        if answer.status != HTTPStatus.OK:
            return f"http_{answer.status}"
        return None if found is not None and found.get("error") is not True else "refused"

    async def _ask(self, line: LineRow) -> Asked:
        look = await self._look(line)
        if look.observation in _CONDEMNING:
            look = await self._look(line)  # one word condemns nobody
        if look.observation in (*_CONDEMNING, Observation.UNKNOWN):
            return Asked(look)
        found = await self.register(line)
        return Asked(look, found) if isinstance(found, Registration) else Asked(look, cause=found)

    async def _look(self, line: LineRow) -> Look:
        try:
            return read_status(await self._exchange(line, "GET", "instance/status-instance"))
        except ExchangeFailedError as error:
            return unknown(error.cause)

    async def _exchange(self, line: LineRow, method: str, path: str, body: dict[str, str] | None = None) -> HttpAnswer:
        token = line.token.get_secret_value() if line.token else ""
        if not token.isascii() or not token.isprintable():
            raise ExchangeFailedError("unusable_token")
        while True:
            await self._limiter.ready()
            request = self._http.build_request(
                method,
                f"{self._base_url}/{path}",
                params={"instanceId": line.external_id},
                headers=bearer(token),
                json=body,
            )
            began_in = self._limiter.round
            answer = await exchange(self._http, request, within=self._within)
            if not answer.asks_to_wait:
                return answer
            self._limiter.refused(line.id, answer.retry_after, began_in=began_in)
            if not await self._limiter.may_ask_again(line.id):
                return answer
