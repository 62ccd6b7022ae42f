"""The gateway of the local stack: what Supabase's gateway does between a client and PostgREST, and no more.

``/rest/v1/*`` goes to PostgREST without the prefix; a request needs an ``apikey``; an ``sb_secret_…`` key is exchanged
for the service role's token. Benchmarks run through here, hence plain ASGI and bare aiohttp: httpx over the same
transport costs half as much again per request.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from dev.processes import LOOPBACK
from dev.serving import ThreadServer, config_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

PREFIX = b"/rest/v1/"
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
NOT_FORWARDED = HOP_BY_HOP | {b"host", b"content-length"}
BODILESS = frozenset((204, 304))


class PostgrestRequests:
    """Counts what was forwarded to PostgREST, whether or not it answered. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_path: Counter[str] = Counter()

    def add(self, path: str) -> None:
        """Count one request; ``path`` is without prefix and query, such as ``rpc/claim_instances``."""
        with self._lock:
            self._by_path[path] += 1

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._by_path.clear()

    @property
    def total(self) -> int:
        """All requests since the last reset."""
        with self._lock:
            return self._by_path.total()

    @property
    def by_path(self) -> Counter[str]:
        """Requests by path, such as ``rpc/claim_instances`` or ``wapi_instances``; a copy."""
        with self._lock:
            return self._by_path.copy()


class Gateway:
    """Serves in a thread and an event loop of its own.

    Args:
        secret_key: The new-style key to accept.
        service_role_key: The token for which it is exchanged.

    Attributes:
        postgrest_port: Where requests go; set before the first request.
        requests: The counter.
        url: ``http://127.0.0.1:<port>``, no slash at the end.
    """

    def __init__(self, *, secret_key: str, service_role_key: str) -> None:
        self._secret_key = secret_key.encode()
        self._service_authorization = b"Bearer " + service_role_key.encode()
        self._session: aiohttp.ClientSession | None = None
        self.postgrest_port = 0
        self.requests = PostgrestRequests()
        # PostgREST's own date passes through.
        config = config_of(self, date_header=False, log_level="warning", timeout_graceful_shutdown=1)
        self._server = ThreadServer(config, "the gateway of the local stack")
        self.url = self._server.url

    def start(self) -> None:
        """Start serving.

        Raises:
            StackError: It did not come up.
        """
        self._server.start()

    def stop(self) -> None:
        """Stop serving; requests in flight have a second to end."""
        self._server.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: bytes = scope["raw_path"]
        if not path.startswith(PREFIX) and path != PREFIX[:-1]:
            await _answer(send, 404, "no Route matched with those values")
            return
        headers = self._forwarded(scope["headers"])
        if isinstance(headers, str):
            await _answer(send, 401, headers)
            return
        below = path[len(PREFIX) :].decode("latin-1")
        self.requests.add(below)
        await self._forward(scope, below, headers, await _body(receive), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            # PostgREST closes a connection that was idle for 30 s: we let go of it first.
            connector=aiohttp.TCPConnector(limit=1000, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None),  # the caller's to set, as with the real gateway
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _forwarded(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers | str:
        """Return the headers for PostgREST, or why the gateway refuses.

        Tokens that are no ``sb_…`` keys are PostgREST's to judge.
        """
        kept: Headers = []
        key = authorization = b""
        for header in headers:
            name, text = header
            if name in NOT_FORWARDED:
                continue
            if name == b"authorization":
                authorization = text
                continue
            if name == b"apikey":
                key = text
            kept.append(header)
        if not key:
            return "No API key found in request"
        if not authorization or authorization.startswith(b"Bearer sb_"):  # a user's own token stays
            authorization = b"Bearer " + key
        if key.startswith(b"sb_"):
            if key != self._secret_key:
                return "Invalid API key"
            if authorization == b"Bearer " + key:
                authorization = self._service_authorization
        kept.append((b"authorization", authorization))
        return kept

    async def _forward(self, scope: Scope, below: str, headers: Headers, body: bytes, send: Send) -> None:
        assert self._session is not None  # noqa: S101  for the type checker: the server starts after _live
        query = scope["query_string"].decode("latin-1")
        address = f"http://{LOOPBACK}:{self.postgrest_port}/{below}{'?' + query if query else ''}"
        try:
            async with self._session.request(
                scope["method"],
                URL(address, encoded=True),  # to the letter: nothing is quoted anew
                headers=[(name.decode("latin-1"), text.decode("latin-1")) for name, text in headers],
                data=body or None,
                allow_redirects=False,
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientError:
            await _answer(send, 503, "PostgREST is not reachable")
            return
        returned = [header for header in answer.raw_headers if header[0].lower() not in HOP_BY_HOP]
        if answer.status not in BODILESS and scope["method"] != "HEAD":
            returned = [header for header in returned if header[0].lower() != b"content-length"]
            returned.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": returned})
        await send({"type": "http.response.body", "body": content})


async def _body(receive: Receive) -> bytes:
    message: Message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    chunks = [body]
    while message.get("more_body"):
        message = await receive()
        chunks.append(message.get("body", b""))
    return b"".join(chunks)


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"message": message}, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
