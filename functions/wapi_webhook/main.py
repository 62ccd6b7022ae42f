"""wapi_webhook: W-API posts every event of every line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions_framework import aio

from shared import logs
from shared.clients import Clients
from shared.core.secrets import Key, read_key
from shared.errors import EventRejected, SettingsError
from shared.providers.wapi.events import MAX_BODY_BYTES, parse_event
from shared.settings import load_webhook_settings
from shared.web import Readiness, WrongKeys, answer, guarded, health, read_body, unless_posted, unpacked
from shared.webhook.intake import keep_rejected, take_event

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

try:
    _settings = load_webhook_settings()
except SettingsError as error:
    raise SystemExit(str(error)) from None  # the message is all an operator needs
_clients = Clients(_settings)
_readiness = Readiness(_clients.is_migrated)
_wrong_keys = WrongKeys()

ABOUT = "This is wapi_webhook: W-API posts what happens on WhatsApp lines here, with the key of the address."


@aio.http
async def wapi_webhook(request: Request) -> Response:
    """``POST /?key=<key>``: 200 when the event is committed; 400, 401, 405, 413, or 503.

    ``GET /health`` and ``/ready``: 200. Any other GET says what this is and does nothing.
    """
    logs.configure()
    logs.follow_trace(request.headers, _settings.google_cloud_project)
    if known := health(request) or await _readiness.answer(request):
        return known
    if not_posted := unless_posted(request, ABOUT):
        return not_posted
    key = read_key(
        request.query_params.get("key"),
        _settings.wapi_webhook_secrets,
        line_keys_only=_settings.wapi_webhook_line_keys_only,
    )
    if key is None:
        return _unauthorized("wrong or missing key")
    return await guarded("event", lambda: _take(request, key))


async def _take(request: Request, key: Key) -> Response:
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        body = unpacked(body, request.headers.get("content-encoding"), MAX_BODY_BYTES)
        event = parse_event(body)
    except EventRejected as rejected:
        await keep_rejected(body, rejected, _clients.store)
        raise
    if key.external_id is not None:
        own = event.said_by(key.external_id)
        if own is None:
            return _unauthorized("the key is another line's")
        event = own
    intake = await take_event(
        event, _clients.store, lambda: _clients.provider, settings=_settings, relay=_clients.relay
    )
    return answer(200, outcome=intake.outcome)


def _unauthorized(why: str) -> Response:
    _wrong_keys.note()
    return answer(401, error=why)
