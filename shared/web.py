"""HTTP in: read a request, check its key, turn every error into an answer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse

from shared import logs
from shared.core.packing import GZIP, PackingError, unpack
from shared.errors import EventRejected, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

RETRY_AFTER_SECONDS = 5
BODY_SECONDS = 15
READY_SECONDS = 5
"""So long an answer to ``/ready`` serves: anybody may ask, and each look is a call to the database."""
WRONG_KEYS_SECONDS = 30
"""Half a minute, so that continued attempts show in every whole minute, which the alert looks at."""


def answer(code: int, **body: object) -> JSONResponse:
    """A JSON answer."""
    return JSONResponse(body, status_code=code)


def health(request: Request) -> JSONResponse | None:
    """The answer to ``GET /health``, else None. (``/healthz`` is reserved on Cloud Run.)."""
    if request.scope["path"].rstrip("/") == "/health" and request.method in ("GET", "HEAD"):
        return answer(200, status="ok")
    return None


class Readiness:
    """Answers ``GET /ready``: whether the database can be reached and has the migrations that this code needs.

    Args:
        is_migrated: Asks the database; one call at a time, whoever asks.
        clock: Seconds that only go forward.
    """

    def __init__(self, is_migrated: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.monotonic) -> None:
        self._is_migrated = is_migrated
        self._clock = clock
        self._alone = asyncio.Lock()
        self._answer: Response | None = None
        self._asked_at = 0.0

    async def answer(self, request: Request) -> Response | None:
        """200, 503 when the database is away or lacks migrations, 500 when it refuses; None to any other request."""
        if request.scope["path"].rstrip("/") != "/ready" or request.method not in ("GET", "HEAD"):
            return None
        async with self._alone:
            if self._answer is None or self._clock() - self._asked_at >= READY_SECONDS:
                self._answer = await guarded("readiness", self._ask)
                self._asked_at = self._clock()
            return self._answer

    async def _ask(self) -> Response:
        if await self._is_migrated():
            return answer(200, status="ready")
        logs.error("migrations.missing")
        return answer(503, error="migrations are missing: run deploy/migrate")


def unless_posted(request: Request, about: str) -> Response | None:
    """The answer to whatever is no POST: nothing is done, for a browser's or a link preview's GET is nobody's order.

    Args:
        request: Any.
        about: One sentence that says what this address is; GET and HEAD answer with it, other methods with 405.
    """
    if request.method == "POST":
        return None
    if request.method in ("GET", "HEAD"):
        return PlainTextResponse(f"{about}\n")
    return JSONResponse({"error": "use POST"}, status_code=405, headers={"Allow": "POST, GET, HEAD"})


def unavailable() -> JSONResponse:
    """503: the database is away, come back in a moment."""
    return JSONResponse(
        {"error": "the database cannot be reached"},
        status_code=503,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


async def guarded(doing: str, call: Callable[[], Awaitable[Response]]) -> Response:
    """Answer with what ``call`` answers; every error becomes an answer, and none goes unlogged.

    Args:
        doing: What failed, if it does: the log says ``<doing>.failed``.
        call: The use case.
    """
    try:
        return await call()
    except EventRejected as error:
        logs.warning("event.rejected", status=error.status, reason=error.reason)
        return answer(error.status, error=error.reason)
    except StoreUnavailable as error:
        logs.error("store.unavailable", operation=error.operation, code=error.code)
        return unavailable()
    except StoreError as error:
        logs.error("store.refused", cause=error, operation=error.operation, code=error.code)
        return answer(500, error="the database refused; see the log")
    except Exception as error:  # noqa: BLE001 - the last guard: a 500 never goes without a logged reason
        logs.error(f"{doing}.failed", cause=error)
        return answer(500, error="it failed; see the log")


class WrongKeys:
    """Logs calls with a wrong key: of each half minute the first, the tenth, the hundredth, and so on.

    However many come, the log shows at once that they do and how many, and cannot be flooded by anybody without a key.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._count = 0
        self._total = 0

    def note(self) -> None:
        """Count one more."""
        now = self._clock()
        if now - self._since >= WRONG_KEYS_SECONDS:
            self._since, self._count = now, 0
        self._count += 1
        self._total += 1
        if str(self._count).strip("0") == "1":
            logs.warning("webhook.unauthorized", count=self._count, total=self._total)


def unpacked(body: bytes, encoding: str | None, limit: int) -> bytes:
    """A body as it was before it was packed: gzip, also where no header says so, and deflate.

    Raises:
        EventRejected: With 400 when it cannot be unpacked, with 413 when it is longer than ``limit`` bytes then.
    """
    is_deflated = (encoding or "").strip().lower() == "deflate"
    if not body.startswith(GZIP) and not is_deflated:
        return body  # JSON in UTF-8 begins with nothing of the kind, whatever a header says
    try:
        return unpack(body, limit, may_be_bare=is_deflated)
    except PackingError as error:
        raise EventRejected(413 if error.is_too_long else 400, error.reason) from None


async def read_body(request: Request, limit: int) -> bytes:
    """The body, counted while it comes: the framework has no limit of its own.

    Raises:
        EventRejected: With 413 when it is longer than ``limit`` bytes, with 400 or 408 when it never ends.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise EventRejected(413, f"the body is longer than {limit} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise EventRejected(413, f"the body is longer than {limit} bytes")
    except TimeoutError:
        raise EventRejected(408, "the body did not come in time") from None
    except ClientDisconnect:
        raise EventRejected(400, "the sender went away in the middle of the body") from None
    return bytes(body)
