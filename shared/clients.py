"""The clients of one process: made at first use, reused by every request.

What not every function needs is loaded with the client that needs it: a function starts as fast as what it must load.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import httpx

from shared.database.store import Store, connect
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient

if TYPE_CHECKING:
    from shared.deliveries import Deliveries
    from shared.providers.port import Provider
    from shared.receiving.registrations import Registrations
    from shared.relay import Relay
    from shared.settings import Settings, SweepSettings

_STORE_TIMEOUT: Final = httpx.Timeout(15, connect=5)
_PROVIDER_TIMEOUT: Final = httpx.Timeout(None)
"""Every call to the provider and to the relay is bounded as a whole."""


class Clients:
    """The database and the provider, as the settings name them.

    Args:
        settings: Validated.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: list[httpx.AsyncClient] = []
        self._deliveries: Deliveries | None = None

    async def aclose(self) -> None:
        """Close what was opened. A function never does: its process ends with its connections."""
        while self._opened:
            await self._opened.pop().aclose()

    @cached_property
    def store(self) -> Store:
        """The database."""
        settings = self._settings
        http = self._open(pooled_http(_STORE_TIMEOUT))
        return connect(settings.supabase_url, settings.supabase_service_role_key, http, settings.policy)

    async def is_migrated(self) -> bool:
        """Whether the database can be reached and has what this code needs; see ``Store.is_migrated``."""
        return await self.store.is_migrated()

    @cached_property
    def relay(self) -> Relay | None:
        """The platform's own handler, with ``EVENT_RELAY_URL``."""
        url = self._settings.event_relay_url
        if url is None:
            return None
        from shared.relay import Relay

        http = self._open(httpx.AsyncClient(timeout=_PROVIDER_TIMEOUT, trust_env=False))
        return Relay(http, url, with_connections=self._settings.event_relay_connections)

    @cached_property
    def provider(self) -> Provider:
        """W-API directly or, with ``WAPI_SEND_URL``, through the platform's function: all of it, or restarts alone."""
        settings = self._settings
        if not settings.wapi_send_url:
            return self._direct
        from shared.providers.wapi.send import RestartsThroughSend, WapiSendClient

        send = WapiSendClient(self._provider_http, settings.wapi_send_url, settings.supabase_service_role_key)
        return send if settings.wapi_send_looks else RestartsThroughSend(self._direct, send)

    def deliveries(self, settings: SweepSettings) -> Deliveries:
        """Whoever sends what waits in the outbox, through the channels that are configured."""
        if self._deliveries is None:
            from shared.channels.configured import channels_of
            from shared.deliveries import Deliveries

            texter = self._direct if settings.alert_instance_id is not None else None
            channels = channels_of(
                lambda: self._open(httpx.AsyncClient(timeout=_PROVIDER_TIMEOUT, trust_env=False)),
                settings.alert_email_url,
                settings.operator_alert_urls,
                settings.operator_webhook_secret,
            )
            self._deliveries = Deliveries(channels, texter, line=settings.alert_instance_id)
        return self._deliveries

    def registrations(self, settings: SweepSettings) -> Registrations | None:
        """What W-API keeps of lines, asked directly.

        Args:
            settings: Where looks go through the platform's function the rows need not hold tokens: without an address
                to set nobody is asked.
        """
        target = settings.target
        if target is None and settings.wapi_send_url and settings.wapi_send_looks:
            return None
        from shared.providers.own_address import OwnAddress
        from shared.receiving.registrations import Registrations

        return Registrations(
            self._direct,
            None if target is None else OwnAddress(self._provider_http, target),
            policy=settings.policy,
            within=settings.look_timeout,
            take_over=settings.webhook_take_over,
            tell_venues=settings.tell_venues_subscription,
        )

    @cached_property
    def _provider_http(self) -> httpx.AsyncClient:
        return self._open(pooled_http(_PROVIDER_TIMEOUT))

    @cached_property
    def _direct(self) -> WapiClient:
        return WapiClient(self._provider_http, self._settings.wapi_base_url)

    def _open(self, http: httpx.AsyncClient) -> httpx.AsyncClient:
        self._opened.append(http)
        return http
