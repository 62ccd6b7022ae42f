"""W-API over HTTP: look at a line, restart it, read and set its webhooks. No error leaves: each is translated here."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import httpx

from shared.core.delivery import SendAnswer, SendResult
from shared.core.look import NOT_ASKED, Look, RestartAnswer, unknown
from shared.core.model import Observation
from shared.core.registration import SettingWebhooks, Unanswered
from shared.providers.exchange import ExchangeFailedError, bearer, exchange
from shared.providers.port import Unpaced
from shared.providers.wapi.answers import join_device, read_restart, read_sent, read_status
from shared.providers.wapi.payments import read_payment
from shared.providers.wapi.webhooks import read_registration, read_update, update_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from pydantic import SecretStr

    from shared.core.registration import Registration, WebhookKind
    from shared.core.subscription import Subscription
    from shared.providers.answer import HttpAnswer
    from shared.providers.port import Line, Pacer

_NEVER_SENT: Final = ("ConnectError", "ConnectTimeout", "unusable_token")
_NOT_ASKED: Final = Unanswered(NOT_ASKED.cause, asked_to_wait=True)


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
        status = await self._status(line, within)
        if status.observation is not Observation.CLAIMED:
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

    async def send_text(self, line: Line, phone: SecretStr, text: str, *, within: timedelta) -> SendAnswer:
        """Queue one text with ``send-text``, once: nothing below repeats a POST.

        Args:
            line: Who sends.
            phone: To whom.
            text: What.
            within: For the call.
        """
        body = {"phone": phone.get_secret_value(), "message": text}
        try:
            return read_sent(await self._ask("POST", "message/send-text", line, within, body=body))
        except ExchangeFailedError as error:
            never_sent = error.cause in _NEVER_SENT
            return SendAnswer(SendResult.REFUSED if never_sent else SendResult.UNCLEAR, error.cause)

    async def status(self, line: Line, *, within: timedelta) -> Look:
        """Ask ``status-instance`` alone: whether the token is good. ALIVE here means "says connected" and no more."""
        if not await self._pacer.ready():
            return NOT_ASKED
        return await self._status(line, within)

    async def registration(self, line: Line, *, within: timedelta) -> Registration | Unanswered:
        """Ask ``fetch-instance`` where a line's webhooks point to."""
        if not await self._pacer.ready():
            return _NOT_ASKED
        try:
            return read_registration(await self._get("fetch-instance", line, within), external_id=line.external_id)
        except ExchangeFailedError as error:
            return Unanswered(error.cause)

    async def subscription(self, line: Line, *, within: timedelta) -> Subscription | Unanswered:
        """Ask ``payment/status`` until when a line is paid for."""
        if not await self._pacer.ready():
            return _NOT_ASKED
        try:
            return read_payment(await self._ask("GET", "payment/status", line, within), external_id=line.external_id)
        except ExchangeFailedError as error:
            return Unanswered(error.cause)

    async def set_webhooks(
        self, line: Line, kinds: Sequence[WebhookKind], url: str, *, within: timedelta
    ) -> SettingWebhooks:
        """Point webhooks of a line to ``url``, one after another, and read back what the provider has then.

        Never two at once: parallel ones met 429 at an operator's. Each may be repeated. The first that fails ends it,
        and one that was asked to wait is not followed by another call.

        Args:
            line: Whose.
            kinds: Which, in this order.
            url: With the key.
            within: For each call.
        """
        was_set: list[WebhookKind] = []
        failed = None
        for kind in kinds:
            failed = await self._set_webhook(line, kind, url, within)
            if failed is not None:
                break
            was_set.append(kind)
        found = None if failed and failed.asked_to_wait else await self.registration(line, within=within)
        return SettingWebhooks(was_set, failed, found)

    async def answer(
        self,
        method: str,
        path: str,
        line: Line,
        *,
        within: timedelta,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
    ) -> HttpAnswer | Unanswered:
        """The bare answer to one call: for the doctor, who holds it against what is believed of it.

        Asked once and never repeated. What is in it is the provider's and the line's: no part may be shown as it is.

        Args:
            method: HTTP's.
            path: Below the base.
            line: About which.
            within: For everything.
            query: Beside the line's id.
            body: Sent as JSON.
        """
        try:
            return await self._ask(method, path, line, within, body=body, query=query)
        except ExchangeFailedError as error:
            return Unanswered(error.cause)

    async def _set_webhook(self, line: Line, kind: WebhookKind, url: str, within: timedelta) -> Unanswered | None:
        if not await self._pacer.ready():
            return _NOT_ASKED
        try:
            return read_update(await self._ask("PUT", update_call(kind), line, within, body={"value": url}))
        except ExchangeFailedError as error:
            return Unanswered(error.cause)

    async def _status(self, line: Line, within: timedelta) -> Look:
        try:
            answer = await self._get("status-instance", line, within)
            return read_status(answer, external_id=line.external_id)
        except ExchangeFailedError as error:
            return unknown(error.cause)

    async def _get(self, call: str, line: Line, within: timedelta) -> HttpAnswer:
        return await self._ask("GET", f"instance/{call}", line, within)

    async def _ask(
        self,
        method: str,
        path: str,
        line: Line,
        within: timedelta,
        *,
        body: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        token = line.token.get_secret_value().strip() if line.token else ""
        if not token.isascii() or not token.isprintable():
            raise ExchangeFailedError("unusable_token")
        # Not the client's build_request: it merges addresses, parameters and headers for a sixth of a sweep's time.
        url = f"{self._base_url}/{path}?{urlencode({'instanceId': line.external_id, **(query or {})})}"
        request = httpx.Request(method, url, headers=bearer(token), json=body)
        began_in = self._pacer.round
        answer = await exchange(self._http, request, within=within)
        if answer.asks_to_wait:
            self._pacer.refused(line.id, answer.retry_after, began_in=began_in)
        return answer
