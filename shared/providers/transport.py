"""httpx's API over aiohttp's connection pool. Imported at first use: a cold webhook need not pay for it."""

from __future__ import annotations

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


class PooledTransport(AiohttpTransport):
    """A transport for hundreds of requests at once; httpx's own pool scans all its connections at every request."""

    def __init__(self) -> None:
        super().__init__(client=self._session)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ssl=self.ssl_context)
        # Neither this jar nor httpx's keeps a cookie: it would make lines share a session at the provider.
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        # aiohttp sends a GET that was reset once more by itself, and a restart is a GET with a side effect.
        # There is no public switch; a test on the wire counts the requests.
        session._retry_connection = False  # noqa: SLF001
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; errors that the base class lets through raw, or calls a time-out, get their own name."""
        try:
            return await super().handle_async_request(request)
        except httpx.TimeoutException as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            raise httpx.ReadError(type(error.__cause__).__name__, request=request) from error
        except aiohttp.ClientError as error:
            raise httpx.RemoteProtocolError(type(error).__name__, request=request) from error
