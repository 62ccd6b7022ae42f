"""What W-API tells of a line's subscription. Its words and units are written down nowhere: the rest is said as told."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.core.registration import Unanswered
from shared.core.subscription import Payment, Subscription
from shared.providers.wapi.names import names_another

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.providers.answer import HttpAnswer
    from shared.providers.wapi.values import Json

# Nobody has written down the values of paymentStatus: these are the words that people use for it.
_PAID: Final = re.compile(r"active|paid|ok|trial|approved|current|ativ[oa]|pag[oa]|em dia", re.IGNORECASE)
_LAPSED: Final = re.compile(
    r"(?:payment|subscription|pagamento|assinatura)?[ _-]?"
    r"(?:unpaid|overdue|past.?due|expired|cancell?ed|suspended|inactive|blocked|refused|failed"
    r"|vencid[oa]|inativ[oa]|atrasad[oa]|bloquead[oa]|cancelad[oa]|suspens[oa]|expirad[oa])",
    re.IGNORECASE,
)
"""Whole words: "not expired", "cancel_scheduled" and "desbloqueado" hold one."""
# Nor the unit of expires: seconds, milliseconds, ISO and Brazilian dates are read, all else is said as it was told.
_MILLISECONDS_FROM: Final = 100_000_000_000
_SECONDS_FROM: Final = 1_000_000_000
_NUMBER: Final = re.compile(r"\d{1,16}", re.ASCII)
_YEARS: Final = range(2000, 2200)
_LONGEST_WORD: Final = 60
_BRAZILIAN_DATE: Final = re.compile(r"(\d{2})/(\d{2})/(\d{4})", re.ASCII)

_WORDS: Final = ("paymentStatus", "status", "state")
_ENDS: Final = ("expires", "dueDate", "expiresAt", "due_date", "expires_at")
"""``GET /payment/status`` exists, with a plan, a due date and a state; how it calls them is unconfirmed."""
_WRAPPERS: Final = ("data", "payment", "subscription", "instance")


def read_object(answer: HttpAnswer, *, external_id: str | None = None) -> Json | Unanswered:
    """What an answer tells, if it is a usable one: 200 with a JSON object without ``"error": true``.

    Args:
        answer: The provider's.
        external_id: Of the line that was asked about; an answer that names another one says nothing of this line.
    """
    if answer.status != HTTPStatus.OK:
        return Unanswered(f"http_{answer.status}", asked_to_wait=answer.asks_to_wait)
    found = answer.json_object()
    if found is None:
        return Unanswered("unreadable")
    if found.get("error") is True:
        return Unanswered("error_true")
    if any(names_another(told, external_id) for told in _objects(found)):
        return Unanswered("another_line")
    return found


def read_payment(answer: HttpAnswer, *, external_id: str | None = None) -> Subscription | Unanswered:
    """Read ``GET /payment/status``: flat, or wrapped once. A form from which nothing can be concluded is no answer."""
    found = read_object(answer, external_id=external_id)
    if isinstance(found, Unanswered):
        return found
    objects = _objects(found)
    for told in objects:
        subscription = _subscription(told, _WORDS, _ENDS)
        if subscription.ends_at is not None:
            return subscription
    # Without a date "status" may be the request's own.
    for told in objects:
        subscription = _subscription(told, _WORDS[:1], _ENDS)
        if subscription.is_clear:
            return subscription
    return Unanswered("unknown_form")


def read_subscription(told: Mapping[str, object]) -> Subscription:
    """Read what ``GET /instance/fetch-instance`` tells of it."""
    return _subscription(told, _WORDS[:1], _ENDS[:1])


def read_word(word: str | None) -> Payment | None:
    """What a word about payment seems to say; None where nothing is told."""
    if not word:
        return None
    if _LAPSED.fullmatch(word):
        return Payment.LAPSED
    return Payment.PAID if _PAID.fullmatch(word) else Payment.UNCLEAR


def read_end(told: str | None) -> datetime | None:
    """When a subscription ends, if that can be read as an instant."""
    if not told:
        return None
    try:
        instant = _instant(told)
    except (ValueError, OverflowError, OSError):
        return None
    return instant if instant is not None and instant.year in _YEARS else None


def _instant(told: str) -> datetime | None:
    if _NUMBER.fullmatch(told.removesuffix(".0")):
        number = int(told.removesuffix(".0"))
        if number >= _MILLISECONDS_FROM:
            number //= 1000
        return datetime.fromtimestamp(number, UTC) if number >= _SECONDS_FROM else None
    if date := _BRAZILIAN_DATE.match(told):
        return datetime(int(date[3]), int(date[2]), int(date[1]), tzinfo=UTC)
    instant = datetime.fromisoformat(told)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _objects(found: Json) -> tuple[Json, ...]:
    return found, *(wrapped for name in _WRAPPERS if isinstance(wrapped := found.get(name), dict))


def _subscription(told: Mapping[str, object], words: tuple[str, ...], ends: tuple[str, ...]) -> Subscription:
    word = next((found for name in words if (found := _text(told.get(name)))), None)
    end = next((found for name in ends if (found := _text(told.get(name)))), None)
    return Subscription(read_word(word), word, read_end(end), end)


def _text(told: object) -> str | None:
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        return None
    return "".join(character for character in str(told) if character.isprintable()).strip()[:_LONGEST_WORD] or None
