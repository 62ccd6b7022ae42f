"""follow_up_check: Cloud Scheduler calls it every five minutes; it runs one sweep."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from functions_framework import aio

from shared import logs
from shared.clients import Clients
from shared.errors import SettingsError
from shared.housekeeping import keep_house
from shared.settings import load_sweep_settings
from shared.sweep.fanout import Fanout, read_help
from shared.sweep.run import run_sweep
from shared.web import Readiness, answer, guarded, health, unless_posted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

try:
    _settings = load_sweep_settings()
except SettingsError as error:
    raise SystemExit(str(error)) from None  # the message is all an operator needs
_clients = Clients(_settings)
_readiness = Readiness(_clients.is_migrated)

ABOUT = "This is follow_up_check: Cloud Scheduler posts here every five minutes to have all WhatsApp lines looked at."


@aio.http
async def follow_up_check(request: Request) -> Response:
    """``POST /``: 200 and the sweep's counts; 503 when the database is away. ``GET /health`` and ``/ready``: 200.

    Any other GET says what this is and does nothing. With the header ``X-Sweep-Helper``, which another sweep sends, it
    helps that one.
    """
    logs.configure()
    logs.follow_trace(request.headers, _settings.google_cloud_project)
    if known := health(request) or await _readiness.answer(request):
        return known
    if not_posted := unless_posted(request, ABOUT):
        return not_posted
    return await guarded("sweep", lambda: _sweep(request))


async def _sweep(request: Request) -> Response:
    began = asyncio.get_running_loop().time()
    helping = read_help(request.headers)
    async with Fanout(0 if helping else _settings.sweep_fanout, _settings.sweep_fanout_url) as fanout:
        report = await run_sweep(
            _clients.store,
            _clients.provider,
            policy=_settings.policy,
            limits=_settings.limits,
            fanout=fanout,
            helping=helping,
        )
    if helping is None:
        await keep_house(
            _clients.store,
            _clients.relay,
            sweep_began=began,
            deliveries=_clients.deliveries(_settings),
            run=report.run_id,
            registrations=_clients.registrations(_settings),
        )
    return answer(200, **report.as_answer())
