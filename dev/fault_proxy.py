"""Stands between a function and everything that it calls, counts the calls, and lets one of them go wrong.

Plain HTTP on loopback, one address for the database, the provider and a handler of events. A test gives a
``plan``: told of each call, it names the mishap that this call meets, or none.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from dev.gateway import BODILESS, HOP_BY_HOP, NOT_FORWARDED
from dev.processes import StackError
from dev.serving import AbortableProtocol, ThreadServer, config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from starlette.types import Receive, Scope, Send

_PAGE = b"<html><head><title>Error</title></head><body><h1>Bad Gateway</h1></body></html>"


class Mishap(StrEnum):
    """What can go wrong at one call.

    "Lost" means that the other side has done what was asked, and its caller does not learn of it.
    """

    KILLED_BEFORE = "killed_before"  # the caller dies before its call is sent on
    KILLED_AFTER = "killed_after"  # the caller dies when the call is done, before it hears
    DROPPED = "dropped"  # the connection is reset, nothing was sent on
    LOST = "lost"  # done, then the connection is reset
    LOST_500 = "lost_500"  # done, then a gateway's 500 instead of the answer
    REFUSED_500 = "refused_500"  # a gateway's 500, nothing was sent on
    UNAVAILABLE_503_JSON = "unavailable_503_json"
    UNAVAILABLE_503_HTML = "unavailable_503_html"
    PAGE_200 = "page_200"  # a page with 200, nothing was sent on
    HALF_A_BODY = "half_a_body"  # done, and the connection ends in the middle of the answer
    DELAYED = "delayed"  # sent on after a while
    LATE = "late"  # done at once, answered after a while
    NEVER = "never"  # nothing is sent on, and nothing comes back


@dataclass(frozen=True)
class Call:
    """One call that came by.

    Attributes:
        number: From 0, since the plan was made.
        path: Without the prefix of the other side: ``rpc/claim_restart``, ``instance/restart``.
        query: As it came.
        body: As it came.
    """

    number: int
    path: str
    query: str
    body: bytes


_INSTEAD = {
    Mishap.REFUSED_500: (500, _PAGE, b"text/html"),
    Mishap.UNAVAILABLE_503_JSON: (503, b'{"message": "unavailable"}', b"application/json"),
    Mishap.UNAVAILABLE_503_HTML: (503, _PAGE, b"text/html"),
    Mishap.PAGE_200: (200, _PAGE, b"text/html"),
}


@dataclass(frozen=True)
class _Answered:
    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes


@dataclass(frozen=True)
class _Exchange:
    """A call under way: what came, where it goes, and its connection."""

    call: Call
    base: str
    scope: Scope
    receive: Receive
    send: Send

    def reset(self) -> None:
        self.scope["state"]["transport"].abort()

    def close(self) -> None:
        self.scope["state"]["transport"].close()


class FaultProxy:
    """Serves in a thread and an event loop of its own; leaving the ``with`` block ends it.

    Args:
        routes: Where calls go, by the prefix of their path, such as ``{"/rest/v1/": "http://127.0.0.1:3000/rest/v1/"}``.
        delay_seconds: The "while" of a mishap.

    Attributes:
        url: The address for all of them; prefixes stay as they are.
        victim: The process that KILLED_BEFORE and KILLED_AFTER kill; a function, because it changes.
        calls: Those that came by since the plan was made.
        met: Those that met a mishap.
    """

    def __init__(self, routes: Mapping[str, str], *, delay_seconds: float = 0.7) -> None:
        self._routes = dict(routes)
        self._delay_seconds = delay_seconds
        self._session: aiohttp.ClientSession | None = None
        self._lock = threading.Lock()
        self._in_flight = 0
        self._plan: Callable[[Call], Mishap | None] = _nothing
        self.calls: list[Call] = []
        self.met: list[Call] = []
        self.victim: Callable[[], int] | None = None
        self._server = ThreadServer(config_of(self, http=AbortableProtocol, date_header=False), "the proxy of faults")
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    def route(self, prefix: str, url: str) -> None:
        """One more place where calls go: of a server that had to know this proxy before it began."""
        self._routes[prefix] = url

    def plan(self, plan: Callable[[Call], Mishap | None] | None) -> None:
        """Plan what goes wrong from now on; None lets everything through. Calls are counted anew."""
        with self._lock:
            self._plan = plan or _nothing
            self.calls, self.met = [], []

    def settle(self, within_seconds: float = 10) -> None:
        """Wait until nothing is under way: what a dead caller had sent is done."""
        deadline = time.monotonic() + within_seconds
        quiet = 0
        while quiet < 3:  # noqa: PLR2004 - a request may still wait in a socket
            quiet = quiet + 1 if not self._in_flight else 0
            if time.monotonic() > deadline:
                raise StackError(f"{self._in_flight} calls do not end")
            time.sleep(0.005)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call (ASGI)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        prefix = next((each for each in self._routes if scope["path"].startswith(each)), None)
        if prefix is None:
            await _answer(send, 404, b'{"message": "no such route"}', b"application/json")
            return
        self._in_flight += 1
        try:
            body = await _body(receive)
            path = scope["raw_path"].decode("latin-1").removeprefix(prefix)
            call, mishap = self._note(path, scope["query_string"].decode("latin-1"), body)
            await self._play(_Exchange(call, self._routes[prefix], scope, receive, send), mishap)
        finally:
            self._in_flight -= 1

    def _note(self, path: str, query: str, body: bytes) -> tuple[Call, Mishap | None]:
        with self._lock:
            call = Call(len(self.calls), path, query, body)
            self.calls.append(call)
            mishap = self._plan(call)
            if mishap is not None:
                self.met.append(call)
        return call, mishap

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            # A new connection for each call: the other side's own habits of closing them are not what is tested.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _play(self, met: _Exchange, mishap: Mishap | None) -> None:
        if mishap in _INSTEAD:
            await _answer(met.send, *_INSTEAD[mishap])
        elif mishap in (Mishap.KILLED_BEFORE, Mishap.DROPPED):
            if mishap is Mishap.KILLED_BEFORE:
                self._kill()
            met.reset()
        elif mishap is Mishap.NEVER:
            while (await met.receive())["type"] != "http.disconnect":
                pass
        else:
            if mishap is Mishap.DELAYED:
                await asyncio.sleep(self._delay_seconds)
            try:
                answer = await self._forward(met)
            except aiohttp.ClientError:  # the other side's own fault, such as a simulator that resets
                met.reset()
                return
            await self._pass_on(met, answer, mishap)

    async def _pass_on(self, met: _Exchange, answer: _Answered, mishap: Mishap | None) -> None:
        """What becomes of an answer: the other side has done what was asked."""
        match mishap:
            case Mishap.KILLED_AFTER | Mishap.LOST:
                if mishap is Mishap.KILLED_AFTER:
                    self._kill()
                met.reset()
                return
            case Mishap.LOST_500:
                await _answer(met.send, 500, _PAGE, b"text/html")
                return
            case Mishap.LATE:
                await asyncio.sleep(self._delay_seconds)
            case _:
                pass
        half = mishap is Mishap.HALF_A_BODY
        content = answer.content[: len(answer.content) // 2] if half else answer.content
        await met.send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await met.send({"type": "http.response.body", "body": content, "more_body": half})
        if half:
            met.close()

    async def _forward(self, met: _Exchange) -> _Answered:
        assert self._session is not None  # noqa: S101 - for the type checker: the server starts after _live
        call = met.call
        address = f"{met.base}{call.path}{'?' + call.query if call.query else ''}"
        sent = [(name, text) for name, text in met.scope["headers"] if name not in NOT_FORWARDED]
        async with self._session.request(
            met.scope["method"],
            URL(address, encoded=True),  # to the letter: nothing is quoted anew
            headers=[(name.decode("latin-1"), text.decode("latin-1")) for name, text in sent],
            data=call.body or None,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
        headers = [(name.lower(), text) for name, text in answer.raw_headers if name.lower() not in HOP_BY_HOP]
        if answer.status not in BODILESS:
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-length", str(len(content)).encode()))
        return _Answered(answer.status, headers, content)

    def _kill(self) -> None:
        assert self.victim is not None, "nobody to kill"  # noqa: S101 - a mistake of the test
        os.kill(self.victim(), 9)


def _nothing(_: Call) -> None:
    return None


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _answer(send: Send, status: int, body: bytes, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
