"""The provider through the platform's own edge function ``wapi-send``, which owns the credentials.

It answers HTTP 200 to everything: a caller that tested only the status took every failure for a recovery.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.core.look import NOT_ASKED, UNREADABLE, Look, RestartAnswer, unknown
from shared.core.model import Observation
from shared.providers.exchange import ExchangeFailedError, bearer, exchange
from shared.providers.port import Unpaced
from shared.providers.wapi.answers import read_restart, tells_of_a_failure
from shared.providers.wapi.names import read_own_phone

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Self

    import httpx
    from pydantic import SecretStr

    from shared.providers.answer import HttpAnswer
    from shared.providers.port import Line, Pacer
    from shared.providers.wapi.client import WapiClient

_OBSERVATIONS: Final = {
    "connected": Observation.ALIVE,
    "disconnected": Observation.DISCONNECTED,
    "instance_not_found": Observation.NOT_FOUND,
    "unauthorized": Observation.REFUSED,
    "degraded": Observation.GHOST,
}
_AGREEING_ERRORS: Final = {"instance_not_found": "NOT_FOUND", "unauthorized": "UNAUTHORIZED"}
"""The one ``errorType`` that says the same as its status. With any other the function could not ask."""
_THROTTLED = re.compile(r"rate.?limit|too.?many|throttl|429", re.IGNORECASE)


def read_get_status(answer: HttpAnswer) -> Look:
    """Read ``get-status``."""
    if answer.status != HTTPStatus.OK:
        return Look(
            Observation.UNKNOWN,
            f"http_{answer.status}",
            throttled=answer.status == HTTPStatus.TOO_MANY_REQUESTS,
            drifted=answer.status == HTTPStatus.NOT_FOUND,
            asked_to_wait=answer.asks_to_wait,
        )
    found = answer.json_object()
    if found is None:
        return UNREADABLE
    status = found.get("status")
    observation = _OBSERVATIONS.get(status) if isinstance(status, str) else None
    if observation is None:
        return unknown("status_unknown")
    error_type = str(found.get("errorType") or "").strip()
    if _THROTTLED.search(error_type):
        return Look(Observation.UNKNOWN, "rate_limited", throttled=True, asked_to_wait=True)
    agrees = error_type.upper() == _AGREEING_ERRORS.get(str(status))
    if not agrees and (error_type or tells_of_a_failure(found)):
        return unknown("could_not_ask")
    if found.get("connected") is (observation is not Observation.ALIVE) and observation is not Observation.GHOST:
        return unknown("send_contradicts_itself")
    phone = read_own_phone(found.get("phoneNumber")) if observation is Observation.ALIVE else None
    return Look(observation, f"send_{status}", phone=phone)


class WapiSendClient:
    """The same two questions as ``WapiClient``, asked through ``wapi-send``.

    Args:
        http: Follows no redirects.
        url: The function's full address.
        key: The Supabase service key it expects.
        pacer: Asked before each look, and told when the function wants to be left alone.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, key: SecretStr, pacer: Pacer | None = None) -> None:
        self._http = http
        self._url = url
        self._key = key
        self._pacer = pacer or Unpaced()

    def paced_by(self, pacer: Pacer) -> Self:
        """The same provider, asked only when ``pacer`` says so."""
        return type(self)(self._http, self._url, self._key, pacer)

    async def look(self, line: Line, *, within: timedelta) -> Look:
        """Ask about a line once."""
        if not await self._pacer.ready():
            return NOT_ASKED
        began_in = self._pacer.round
        try:
            answer = await self._post("get-status", line, within)
        except ExchangeFailedError as error:
            return unknown(error.cause)
        look = read_get_status(answer)
        if look.asked_to_wait:
            self._pacer.refused(line.id, answer.retry_after, began_in=began_in)
        return look

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:
        """Ask for a restart, once. It waits for no pause, see ``WapiClient.restart``."""
        began_in = self._pacer.round
        try:
            answer = await self._post("restart-instance", line, within)
        except ExchangeFailedError:
            return RestartAnswer.UNCLEAR
        if answer.asks_to_wait:
            self._pacer.refused(line.id, answer.retry_after, began_in=began_in)
        return read_restart(answer)

    async def _post(self, action: str, line: Line, within: timedelta) -> HttpAnswer:
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


class RestartsThroughSend:
    """Looks at W-API directly and restarts through ``wapi-send``: its status polls a connect verb at some platforms.

    Args:
        looks: Asked about lines; their rows must hold tokens.
        restarts: Asked for restarts.
    """

    def __init__(self, looks: WapiClient, restarts: WapiSendClient) -> None:
        self._looks = looks
        self._restarts = restarts

    def paced_by(self, pacer: Pacer) -> Self:
        """The same two, asked only when ``pacer`` says so."""
        return type(self)(self._looks.paced_by(pacer), self._restarts.paced_by(pacer))

    async def look(self, line: Line, *, within: timedelta) -> Look:
        """Ask about a line once, directly."""
        return await self._looks.look(line, within=within)

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:
        """Ask for a restart, once, through the platform's function."""
        return await self._restarts.restart(line, within=within)
