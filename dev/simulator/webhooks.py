"""Posts events to webhook URLs and keeps what became of them. A failure is recorded, never raised."""

import asyncio
import time
from collections import deque
from dataclasses import asdict, dataclass

import httpx

KEPT_DELIVERIES = 1_000
KEPT_BODY = 2_000

# More posts wait for their turn here: httpx's own pool collapses above some 60 connections.
CONCURRENT_POSTS = 32
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one event. The provider neither stores nor resends one that failed.

    Attributes:
        external_id: Whose event.
        event: The event's name, empty when it has none.
        url: Where it was posted, without the query, which holds the receiver's secret.
        status: The receiver's HTTP status; None when there was no answer.
        body: The beginning of the receiver's answer.
        error: Why it was not posted or not answered; None when it was answered.
        at: Monotonic seconds of the machine when that was known.
    """

    external_id: str
    event: str
    url: str
    status: int | None
    body: str
    error: str | None
    at: float


class Poster:
    """Posts events, a bounded number at once, and keeps the last deliveries."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(CONCURRENT_POSTS)
        self._deliveries: deque[Delivery] = deque(maxlen=KEPT_DELIVERIES)
        self._client: httpx.AsyncClient | None = None

    async def post(self, external_id: str, event: str, url: str, body: bytes) -> Delivery:
        """Post one event once and record what came back."""
        if self._client is None:
            # The environment's proxies are not for loopback addresses.
            self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        status, text, error = None, "", None
        try:
            async with self._slots:
                answer = await self._client.post(url, content=body, headers={"content-type": "application/json"})
            status, text = answer.status_code, answer.text[:KEPT_BODY]
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return self._keep(Delivery(external_id, event, url.partition("?")[0], status, text, error, time.monotonic()))

    def not_posted(self, external_id: str, event: str, reason: str) -> Delivery:
        """Record an event that the provider kept to itself."""
        return self._keep(Delivery(external_id, event, "", None, "", reason, time.monotonic()))

    def deliveries(self, external_id: str | None = None) -> list[dict[str, object]]:
        """The last deliveries, oldest first, of one line or of all."""
        return [asdict(kept) for kept in self._deliveries if external_id is None or kept.external_id == external_id]

    def forget(self) -> None:
        """Forget all deliveries."""
        self._deliveries.clear()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _keep(self, delivery: Delivery) -> Delivery:
        self._deliveries.append(delivery)
        return delivery
