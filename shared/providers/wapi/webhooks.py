"""What W-API tells of where it posts a line's events, and its answer when that is set.

No I/O: ``WapiClient`` asks and sets. The answer echoes the line's token: only what is named here leaves it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.core.registration import Registration, Unanswered, WebhookKind
from shared.providers.wapi.names import is_told
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
_LOWER: Final = {name.lower() for name in _FIELDS.values()}


def update_call(kind: WebhookKind) -> str:
    """The route that sets one webhook; its body is ``{"value": <url>}``.

    Source: W-API's public Postman collection; over a dozen integrators set them so.
    """
    return f"webhook/update-webhook-{kind}"


def read_registration(answer: HttpAnswer, *, external_id: str | None = None) -> Registration | Unanswered:
    """Read ``GET /instance/fetch-instance``: a flat object, which one integrator unwraps from ``instance``.

    One that names no address at all is a line's if it says which. Names are read whatever their case (the provider's
    own log has them in lower case); an address that is neither a text nor null is not told.

    Args:
        answer: The provider's.
        external_id: Of the line that was asked about.
    """
    found = read_object(answer, external_id=external_id)
    if isinstance(found, Unanswered):
        return found
    told = _of_the_line(found)
    by_name = {name.lower(): value for name, value in told.items()}
    urls = {
        kind: address
        for kind, name in _FIELDS.items()
        if name.lower() in by_name and (address := _address(by_name[name.lower()])) is not None
    }
    if not urls and not by_name.get("instanceid"):
        return Unanswered("tells_no_webhooks")
    return Registration(urls, read_subscription(told))


def read_update(answer: HttpAnswer) -> Unanswered | None:
    """Read ``PUT /webhook/update-webhook-<kind>``.

    Source: W-API's public Postman collection. A yes is 200 with a JSON object without ``"error": true``; another
    success, and one without a body, is taken for one as well: what was done is read back.
    """
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return Unanswered(f"http_{answer.status}", asked_to_wait=answer.asks_to_wait)
    if not answer.body.strip():
        return None
    found = answer.json_object()
    if found is None or found.get("error") is True or found.get("success") is False:
        return Unanswered("refused")
    return None


def _address(told: object) -> str | None:
    """An address as told; empty where it is none, None where nobody can tell."""
    if told is None:
        return ""
    if not isinstance(told, str):
        return None
    return told if is_told(told) else ""


def _of_the_line(found: Mapping[str, object]) -> Mapping[str, object]:
    wrapped = found.get("instance")
    if not isinstance(wrapped, dict) or {name.lower() for name in found} & _LOWER:
        return found
    return wrapped
