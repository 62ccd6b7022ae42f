"""What W-API tells of where it posts a line's events, and its answer when that is set.

No I/O: ``WapiClient`` asks and sets. The answer echoes the line's token: only what is named here leaves it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.core.registration import Registration, Unanswered, WebhookKind
from shared.providers.wapi.payments import read_object, read_subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.providers.answer import HttpAnswer

# ``GET /instance/fetch-instance``: seen in production by several integrators.
_FIELDS: Final = {
    WebhookKind.DISCONNECTED: "webhookDisconnectedUrl",
    WebhookKind.CONNECTED: "webhookConnectedUrl",
    WebhookKind.RECEIVED: "webhookReceivedUrl",
    WebhookKind.DELIVERY: "webhookDeliveryUrl",
    WebhookKind.MESSAGE_STATUS: "webhookStatusUrl",
    WebhookKind.CHAT_PRESENCE: "webhookPresenceUrl",
}


def update_call(kind: WebhookKind) -> str:
    """The route that sets one webhook; its body is ``{"value": <url>}``.

    Source: W-API's public Postman collection; over a dozen integrators set them so.
    """
    return f"webhook/update-webhook-{kind}"


def read_registration(answer: HttpAnswer) -> Registration | Unanswered:
    """Read ``GET /instance/fetch-instance``: a flat object, which one integrator unwraps from ``instance``.

    One that names no address at all is a line's if it says which.
    """
    found = read_object(answer)
    if isinstance(found, Unanswered):
        return found
    told = _of_the_line(found)
    urls = {kind: str(told[name] or "") for kind, name in _FIELDS.items() if name in told}
    if not urls and not told.get("instanceId"):
        return Unanswered("tells_no_webhooks")
    return Registration(urls, read_subscription(told))


def read_update(answer: HttpAnswer) -> Unanswered | None:
    """Read ``PUT /webhook/update-webhook-<kind>``.

    Source: W-API's public Postman collection. A yes is 200 with a JSON object without ``"error": true``.
    """
    if answer.status != HTTPStatus.OK:
        return Unanswered(f"http_{answer.status}", asked_to_wait=answer.asks_to_wait)
    found = answer.json_object()
    return None if found is not None and found.get("error") is not True else Unanswered("refused")


def _of_the_line(found: Mapping[str, object]) -> Mapping[str, object]:
    wrapped = found.get("instance")
    return wrapped if isinstance(wrapped, dict) and not _FIELDS.values() & found.keys() else found
