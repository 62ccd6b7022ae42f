"""follow_up_check: Cloud Scheduler calls it every five minutes; it runs one sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions_framework import aio

from shared import logs
from shared.errors import SettingsError, StoreError, StoreUnavailable
from shared.requests import answer, health, method_not_allowed, unavailable
from shared.service import Service
from shared.settings import load_sweep_settings
from shared.sweep import run_sweep

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

try:
    _settings = load_sweep_settings()
except SettingsError as error:
    raise SystemExit(str(error)) from None  # the message is all an operator needs
_service = Service(_settings, pooled=True)


@aio.http
async def follow_up_check(request: Request) -> Response:
    """``POST /`` (or GET): 200 and the sweep's counts; 503 when the database is away. ``GET /health``: 200."""
    logs.configure()
    logs.follow_trace(request.headers, _settings.google_cloud_project)
    if healthy := health(request):
        return healthy
    if request.method not in ("GET", "POST"):
        return method_not_allowed("GET, POST")
    try:
        report = await run_sweep(
            _service.store,
            _service.provider,
            policy=_settings.policy,
            limits=_settings.limits,
            relay=_service.relay,
        )
    except StoreUnavailable as error:
        logs.error("store.unavailable", operation=error.operation, code=error.code)
        return unavailable()
    except StoreError as error:
        logs.error("store.refused", cause=error, operation=error.operation, code=error.code)
        return answer(500, error="the database refused; see the log")
    except Exception as error:  # noqa: BLE001 - the last guard: a 500 never goes without a logged reason
        logs.error("sweep.failed", cause=error)
        return answer(500, error="the sweep failed; see the log")
    return answer(200, **report.as_answer())
