"""The provider through the platform's own edge function ``wapi-send``, which owns the credentials.

It answers HTTP 200 to everything: a caller that tested only the status took every failure for a recovery.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.http import ExchangeFailedError, bearer, exchange
from shared.model import Observation
from shared.wapi.answers import UNREADABLE, Answer, Look, RestartAnswer, read_restart, unknown

if TYPE_CHECKING:
    from datetime import timedelta

    import httpx
    from pydantic import SecretStr

    from shared.looks import Line

_OBSERVATIONS: Final = {
    "connected": Observation.ALIVE,
    "disconnected": Observation.DISCONNECTED,
    "instance_not_found": Observation.NOT_FOUND,
    "unauthorized": Observation.REFUSED,
    "degraded": Observation.GHOST,
}
# A status that came with one of these is what wapi-send says when it could not ask.
_COULD_NOT_ASK = re.compile(r"timed?.?out|gateway|network|unreachable|abort", re.IGNORECASE)


def read_get_status(answer: Answer) -> Look:
    """Read ``get-status``."""
    if answer.status != HTTPStatus.OK:
        return Look(
            Observation.UNKNOWN,
            f"http_{answer.status}",
            throttled=answer.status == HTTPStatus.TOO_MANY_REQUESTS,
            drifted=answer.status == HTTPStatus.NOT_FOUND,
        )
    found = answer.json_object()
    if found is None:
        return UNREADABLE
    status = found.get("status")
    observation = _OBSERVATIONS.get(status) if isinstance(status, str) else None
    if observation is None:
        return unknown("status_unknown")
    if _COULD_NOT_ASK.search(str(found.get("errorType") or "")):
        return unknown("could_not_ask")
    return Look(observation, f"send_{status}")


class WapiSendClient:
    """The same two questions as ``WapiClient``, asked through ``wapi-send``.

    Args:
        http: Follows no redirects.
        url: The function's full address.
        key: The Supabase service key it expects.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, key: SecretStr) -> None:
        self._http = http
        self._url = url
        self._key = key

    async def look(self, line: Line, *, within: timedelta) -> Look:
        """Ask about a line once."""
        try:
            return read_get_status(await self._post("get-status", line, within))
        except ExchangeFailedError as error:
            return unknown(error.cause)

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:
        """Ask for a restart, once."""
        try:
            return read_restart(await self._post("restart-instance", line, within))
        except ExchangeFailedError:
            return RestartAnswer.UNCLEAR

    async def _post(self, action: str, line: Line, within: timedelta) -> Answer:
        key = self._key.get_secret_value()
        request = self._http.build_request(
            "POST",
            self._url,
            json={
                "action": action,
                "instanceId": line.external_id,
                "instanceToken": line.token.get_secret_value().strip() if line.token else "",
            },
            headers=bearer(key) | {"apikey": key},
        )
        return await exchange(self._http, request, within=within)
