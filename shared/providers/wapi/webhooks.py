"""What ``fetch-instance`` tells of a line. Pure. The answer echoes the token: only what is named here leaves it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.providers.answer import HttpAnswer


class Kind(StrEnum):
    """The kinds of webhooks, as ``update-webhook-<kind>`` names them, in the order in which they are set."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    RECEIVED = "received"
    DELIVERY = "delivery"
    MESSAGE_STATUS = "message-status"
    CHAT_PRESENCE = "chat-presence"

    @property
    def is_needed(self) -> bool:
        """Typing tells nobody anything: where that goes is the platform's own affair."""
        return self is not Kind.CHAT_PRESENCE


_FIELDS = {
    Kind.DISCONNECTED: "webhookDisconnectedUrl",
    Kind.CONNECTED: "webhookConnectedUrl",
    Kind.RECEIVED: "webhookReceivedUrl",
    Kind.DELIVERY: "webhookDeliveryUrl",
    Kind.MESSAGE_STATUS: "webhookStatusUrl",
    Kind.CHAT_PRESENCE: "webhookPresenceUrl",
}
_MILLISECONDS_FROM = 100_000_000_000
_SECONDS_FROM = 1_000_000_000
_NUMBER = re.compile(r"\d{1,16}", re.ASCII)
_BRAZILIAN_DATE = re.compile(r"(\d{2})/(\d{2})/(\d{4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Registration:
    """A line as the provider has it.

    Attributes:
        urls: By kind; empty = none is set, a kind that the answer does not name is missing.
        payment_status: As told; its values are unconfirmed.
        expires: As told; its unit is unconfirmed.
    """

    urls: Mapping[Kind, str] = field(repr=False)
    payment_status: str | None
    expires: str | None

    @property
    def expires_at(self) -> datetime | None:
        """When the subscription ends, if ``expires`` can be read as an instant."""
        return _instant(self.expires) if self.expires else None


def read_registration(answer: HttpAnswer) -> Registration | str:
    """Read ``GET /instance/fetch-instance``.

    Returns:
        A short constant word when it cannot be read.
    """
    if answer.status != HTTPStatus.OK:
        return f"http_{answer.status}"
    found = answer.json_object()
    if found is None:
        return "unreadable"
    if found.get("error") is True:
        return "error_true"
    urls = {kind: str(found[name] or "") for kind, name in _FIELDS.items() if name in found}
    if not urls:
        return "tells_no_webhooks"
    return Registration(urls, _word(found.get("paymentStatus")), _word(found.get("expires")))


def _word(told: object) -> str | None:
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        return None
    return str(told).strip() or None


def _instant(told: str) -> datetime | None:
    try:
        if _NUMBER.fullmatch(told.removesuffix(".0")):
            number = int(told.removesuffix(".0"))
            if number >= _MILLISECONDS_FROM:
                number //= 1000
            return datetime.fromtimestamp(number, UTC) if number >= _SECONDS_FROM else None
        if date := _BRAZILIAN_DATE.match(told):
            return datetime(int(date[3]), int(date[2]), int(date[1]), tzinfo=UTC)
        instant = datetime.fromisoformat(told)
    except (ValueError, OverflowError, OSError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
