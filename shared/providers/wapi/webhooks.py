"""Where W-API posts a line's events: what ``fetch-instance`` tells of it, and whether that is where they belong.

No I/O: ``WapiClient`` asks and sets. The answer echoes the line's token: only what is named here leaves it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlsplit

from shared.core.secrets import is_line_key, knows_secret, line_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

    from shared.providers.answer import HttpAnswer


class WebhookKind(StrEnum):
    """The six kinds of webhooks, as ``PUT /webhook/update-webhook-<kind>`` names them, in the order of setting.

    Source: W-API's public Postman collection; over a dozen integrators set them so.
    """

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    RECEIVED = "received"
    DELIVERY = "delivery"
    MESSAGE_STATUS = "message-status"
    CHAT_PRESENCE = "chat-presence"

    @property
    def is_needed(self) -> bool:
        """Typing tells nobody anything: where that goes is the platform's own affair."""
        return self is not WebhookKind.CHAT_PRESENCE


# ``GET /instance/fetch-instance``: seen in production by several integrators.
_FIELDS: Final = {
    WebhookKind.DISCONNECTED: "webhookDisconnectedUrl",
    WebhookKind.CONNECTED: "webhookConnectedUrl",
    WebhookKind.RECEIVED: "webhookReceivedUrl",
    WebhookKind.DELIVERY: "webhookDeliveryUrl",
    WebhookKind.MESSAGE_STATUS: "webhookStatusUrl",
    WebhookKind.CHAT_PRESENCE: "webhookPresenceUrl",
}


class Payment(StrEnum):
    """What ``paymentStatus`` seems to say."""

    PAID = "paid"
    LAPSED = "lapsed"
    UNCLEAR = "unclear"


# Nobody has written down the values of paymentStatus: these are the words that people use for it.
_PAID: Final = re.compile(r"active|paid|ok|trial|approved|current|ativ[oa]|pag[oa]|em dia", re.IGNORECASE)
_LAPSED: Final = re.compile(
    r"unpaid|overdue|past.?due|expired|cancel|suspend|inactive|blocked|refused|failed|vencid|inativ|atrasad|bloquead",
    re.IGNORECASE,
)
# Nor the unit of expires: seconds, milliseconds, ISO and Brazilian dates are read, all else is said as it was told.
_MILLISECONDS_FROM: Final = 100_000_000_000
_SECONDS_FROM: Final = 1_000_000_000
_NUMBER: Final = re.compile(r"\d{1,16}", re.ASCII)
_BRAZILIAN_DATE: Final = re.compile(r"(\d{2})/(\d{2})/(\d{4})", re.ASCII)
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Registration:
    """A line as the provider has it.

    Attributes:
        urls: By kind; empty = none is set, a kind that the answer does not name is missing.
        payment_status: As told; its values are unconfirmed.
        expires: As told; its unit is unconfirmed.
    """

    urls: Mapping[WebhookKind, str] = field(repr=False)
    payment_status: str | None
    expires: str | None

    @property
    def expires_at(self) -> datetime | None:
        """When the subscription ends, if ``expires`` can be read as an instant."""
        return _instant(self.expires) if self.expires else None

    @property
    def payment(self) -> Payment | None:
        """What ``payment_status`` seems to say; None where nothing is told."""
        if not self.payment_status:
            return None
        if _LAPSED.search(self.payment_status):
            return Payment.LAPSED
        return Payment.PAID if _PAID.fullmatch(self.payment_status) else Payment.UNCLEAR


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A call without a usable answer.

    Attributes:
        cause: Why, in one constant word.
        asked_to_wait: The provider wants to be left alone: the same call may work later.
    """

    cause: str
    asked_to_wait: bool = False


@dataclass(frozen=True, slots=True)
class SettingWebhooks:
    """What came of setting webhooks, one after another.

    Attributes:
        kinds: Those that were set.
        failed: Why the next one was not, and none after it; None when all were set.
        found: What the provider has now: done is what is read back. None when it had asked to wait.
    """

    kinds: Sequence[WebhookKind]
    failed: Unanswered | None
    found: Registration | Unanswered | None


def read_registration(answer: HttpAnswer) -> Registration | Unanswered:
    """Read ``GET /instance/fetch-instance``."""
    if answer.status != HTTPStatus.OK:
        return Unanswered(f"http_{answer.status}", asked_to_wait=answer.asks_to_wait)
    found = answer.json_object()
    if found is None:
        return Unanswered("unreadable")
    if found.get("error") is True:
        return Unanswered("error_true")
    urls = {kind: str(found[name] or "") for kind, name in _FIELDS.items() if name in found}
    if not urls:
        return Unanswered("tells_no_webhooks")
    return Registration(urls, _word(found.get("paymentStatus")), _word(found.get("expires")))


def read_update(answer: HttpAnswer) -> Unanswered | None:
    """Read ``PUT /webhook/update-webhook-<kind>``, whose body is ``{"value": <url>}``.

    Source: W-API's public Postman collection. A yes is 200 with a JSON object without ``"error": true``.
    """
    if answer.status != HTTPStatus.OK:
        return Unanswered(f"http_{answer.status}", asked_to_wait=answer.asks_to_wait)
    found = answer.json_object()
    return None if found is not None and found.get("error") is not True else Unanswered("refused")


@dataclass(frozen=True, slots=True)
class Target:
    """Where webhooks must point to.

    Attributes:
        url: Of wapi_webhook, without a query.
        secrets: The function's; the first is the one to set, the others are on their way out.
    """

    url: str
    secrets: tuple[SecretStr, ...] = field(repr=False)

    def url_for(self, external_id: str) -> str:
        """With the line's own key: for the provider and nobody else. W-API signs nothing: the key is in the address."""
        return f"{self.url}/?key={quote(line_key(self.secrets[0], external_id), safe='')}"


class WebhookState(StrEnum):
    """Where one webhook points to."""

    GOOD = "good"
    MISSING = "missing"
    ELSEWHERE = "elsewhere"
    WRONG_KEY = "wrong_key"
    OLD_KEY = "old_key"
    PLAIN_KEY = "plain_key"
    """It works, and whoever reads the address speaks for every line."""
    UNTOLD = "untold"


def judge_url(url: str | None, target: Target, external_id: str) -> WebhookState:
    """Say where a URL of a line points to.

    Args:
        url: As the provider tells it; None when it does not.
        target: Secrets are compared in time that tells nothing about them.
        external_id: The line's: only its own key is good.
    """
    if url is None:
        return WebhookState.UNTOLD
    if not url.strip():
        return WebhookState.MISSING
    try:
        given = urlsplit(url.strip())
        same = _place(url.strip()) == _place(target.url)
    except ValueError:
        return WebhookState.ELSEWHERE
    if not same:
        return WebhookState.ELSEWHERE
    # Of several keys the function reads the last.
    key = dict(parse_qsl(given.query, keep_blank_values=True)).get("key")
    if is_line_key(key, external_id, target.secrets[:1]):
        return WebhookState.GOOD
    if is_line_key(key, external_id, target.secrets[1:]):
        return WebhookState.OLD_KEY
    return WebhookState.PLAIN_KEY if knows_secret(key, target.secrets) else WebhookState.WRONG_KEY


_HERE_AND_WRONG: Final = (WebhookState.WRONG_KEY, WebhookState.OLD_KEY, WebhookState.PLAIN_KEY)


def wrong_kinds(registration: Registration, target: Target, external_id: str) -> dict[WebhookKind, WebhookState]:
    """The webhooks of a line that have to be set; what the answer does not tell is not known to be wrong."""
    states = {kind: judge_url(registration.urls.get(kind), target, external_id) for kind in WebhookKind}
    return {
        kind: state
        for kind, state in states.items()
        if state in _HERE_AND_WRONG or (state in (WebhookState.MISSING, WebhookState.ELSEWHERE) and kind.is_needed)
    }


def _place(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme), parts.path.rstrip("/")


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
