"""HTTP out: one bounded exchange with a server that may drip, hang or send ten megabytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from shared.core.packing import PackingError, unpack
from shared.providers.answer import MAX_ANSWER_BYTES, HttpAnswer, read_retry_after

if TYPE_CHECKING:
    from datetime import timedelta


class ExchangeFailedError(Exception):
    """No usable answer came: time-out, DNS, reset, TLS, a body without end.

    Args:
        cause: A short constant word: ``timeout``, ``too_large``, ``encoded`` or the transport error's name.
    """

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


async def exchange(client: httpx.AsyncClient, request: httpx.Request, *, within: timedelta) -> HttpAnswer:
    """Send a request and read its whole answer.

    Args:
        client: Redirects are not followed: a provider that moves is one that we do not know.
        request: Sent once; nothing here retries.
        within: For everything, from the connection to the last byte.

    Raises:
        ExchangeFailedError: When there is no complete answer of at most ``MAX_ANSWER_BYTES``.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                body = _unpacked(await _read(response), response.headers.get("content-encoding", ""))
            finally:
                await response.aclose()
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ExchangeFailedError("timeout") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ExchangeFailedError(type(error).__name__) from error
    except OSError as error:  # the transports let a few of these through as they are
        raise ExchangeFailedError(type(error).__name__) from error
    headers = response.headers
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    retry_after = read_retry_after(headers.get("retry-after", ""), headers.get("date", ""))
    return HttpAnswer(response.status_code, content_type, body, retry_after)


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():  # as it comes: what httpx unpacks has no bound
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise ExchangeFailedError("too_large")
    return bytes(body)


def _unpacked(body: bytes, encodings: str) -> bytes:
    """A body as it was before it was packed once, by a server that packs although it was asked not to.

    What names no packing that we know, or several, is left as it is: if it is packed it is no JSON.
    """
    named = [each for part in encodings.split(",") if (each := part.strip().lower()) not in ("", "identity")]
    if len(named) != 1 or named[0] not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return unpack(body, MAX_ANSWER_BYTES, may_be_bare=named == ["deflate"])
    except PackingError as error:
        raise ExchangeFailedError("too_large" if error.is_too_long else "encoded") from None


class _StraightClient(httpx.AsyncClient):
    """Hands requests to its transport as they are: what httpx does around that takes a third of a call's CPU.

    So no answer's cookies are kept, which would make lines share a session at the provider; no redirect is followed; of
    hooks those that look at an answer are run.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, timeout: httpx.Timeout) -> None:
        super().__init__(transport=transport, timeout=timeout, trust_env=False)
        self._straight = transport
        self._bounds = timeout.as_dict()

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: object) -> httpx.Response:
        """The answer to one request, whatever its status."""
        request.extensions.setdefault("timeout", self._bounds)
        response = await self._straight.handle_async_request(request)
        is_ready = False
        try:
            for hook in self.event_hooks["response"]:
                await hook(response)
            if not stream:
                await response.aread()
            is_ready = True
        finally:
            if not is_ready:
                await response.aclose()
        return response


def pooled_http(timeout: httpx.Timeout) -> httpx.AsyncClient:
    """A client for hundreds of requests at once."""
    from shared.providers.transport import PooledTransport  # noqa: PLC0415 - see that module

    return _StraightClient(PooledTransport(), timeout)


def bearer(token: str) -> dict[str, str]:
    """The headers of every call to the provider; identity, so that a small body cannot unpack into a huge one."""
    return {"Authorization": f"Bearer {token}", "Accept": "application/json", "Accept-Encoding": "identity"}
