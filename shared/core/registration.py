"""Where a provider posts a line's events, and whether that is where they belong. Pure.

How they are called, asked for and set is the provider's affair: ``providers.port.Registrar``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlsplit

from shared.core.secrets import is_line_key, knows_secret, line_key
from shared.core.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

_PORTS: Final = {"https": 443, "http": 80}


class WebhookKind(StrEnum):
    """The kinds of events for which a provider keeps an address, in the order of setting."""

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


@dataclass(frozen=True, slots=True)
class Registration:
    """A line as the provider has it.

    Attributes:
        urls: By kind; empty = none is set, a kind that the answer does not name is missing.
        subscription: What the same answer tells of payment.
    """

    urls: Mapping[WebhookKind, str] = field(repr=False)
    subscription: Subscription = field(default_factory=Subscription)


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


@dataclass(frozen=True, slots=True)
class Target:
    """Where webhooks must point to.

    Attributes:
        url: Of the function that takes events, without a query.
        secrets: The function's; the first is the one to set, the others are on their way out.
    """

    url: str
    secrets: tuple[SecretStr, ...] = field(repr=False)

    def url_for(self, external_id: str) -> str:
        """With the line's own key: for the provider and nobody else. Nothing is signed: the key is in the address."""
        return f"{self.url}/?key={quote(line_key(self.secrets[0], external_id), safe='')}"


class WebhookState(StrEnum):
    """Where one webhook points to."""

    GOOD = "good"
    MISSING = "missing"
    ELSEWHERE = "elsewhere"
    """Our host, another place."""
    FOREIGN = "foreign"
    """Another host: somebody may mean that."""
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
    url = url.strip()
    if "://" not in url:
        url = f"//{url}"  # nobody can post there; whose it was meant to be is its host all the same
    try:
        given, place, ours = urlsplit(url), _place(url), _place(target.url)
    except ValueError:
        return WebhookState.FOREIGN
    if place != ours:
        return WebhookState.ELSEWHERE if place[1] == ours[1] else WebhookState.FOREIGN
    # Of several keys the function reads the last.
    key = dict(parse_qsl(given.query, keep_blank_values=True)).get("key")
    if is_line_key(key, external_id, target.secrets[:1]):
        return WebhookState.GOOD
    if is_line_key(key, external_id, target.secrets[1:]):
        return WebhookState.OLD_KEY
    return WebhookState.PLAIN_KEY if knows_secret(key, target.secrets) else WebhookState.WRONG_KEY


_WORST_FIRST: Final = (
    WebhookState.MISSING,
    WebhookState.FOREIGN,
    WebhookState.ELSEWHERE,
    WebhookState.WRONG_KEY,
    WebhookState.PLAIN_KEY,
    WebhookState.OLD_KEY,
    WebhookState.UNTOLD,
    WebhookState.GOOD,
)
_HERE_AND_WRONG: Final = (WebhookState.WRONG_KEY, WebhookState.OLD_KEY, WebhookState.PLAIN_KEY)
_NOT_HERE: Final = (WebhookState.MISSING, WebhookState.ELSEWHERE, WebhookState.FOREIGN)


def wrong_kinds(registration: Registration, target: Target, external_id: str) -> dict[WebhookKind, WebhookState]:
    """The webhooks of a line that have to be set; what the answer does not tell is not known to be wrong."""
    states = {kind: judge_url(registration.urls.get(kind), target, external_id) for kind in WebhookKind}
    return {
        kind: state
        for kind, state in states.items()
        if state in _HERE_AND_WRONG or (state in _NOT_HERE and kind.is_needed)
    }


def worst_of(registration: Registration, target: Target, external_id: str) -> WebhookState:
    """The worst state of a line's webhooks, of those that count."""
    states = {judge_url(registration.urls.get(kind), target, external_id) for kind in WebhookKind if kind.is_needed}
    states |= set(wrong_kinds(registration, target, external_id).values())
    return next(state for state in _WORST_FIRST if state in states)


def kinds_to_set(
    registration: Registration,
    target: Target,
    external_id: str,
    *,
    is_suspected: bool = False,
    was_untold: bool = False,
    take_over: bool = False,
) -> tuple[WebhookKind, ...]:
    """The webhooks that are set without asking anybody.

    Args:
        registration: As the provider has it now.
        target: Where they belong.
        external_id: The line's.
        is_suspected: The line is: what is good is set as well.
        was_untold: Before, too, the provider did not tell all of them: setting those has not helped.
        take_over: What points to a foreign host is set as well.
    """
    chosen = []
    for kind in WebhookKind:
        match judge_url(registration.urls.get(kind), target, external_id):
            case WebhookState.GOOD:
                is_chosen = is_suspected and kind.is_needed
            case WebhookState.UNTOLD:
                is_chosen = kind.is_needed and (is_suspected or not was_untold)
            case WebhookState.FOREIGN:
                is_chosen = kind.is_needed and take_over
            case state:
                is_chosen = kind.is_needed or state in _HERE_AND_WRONG
        if is_chosen:
            chosen.append(kind)
    return tuple(chosen)


class Visit(StrEnum):
    """What came of a line whose registration was due: ``registration_visit.outcome``."""

    KEPT = "kept"
    """Nothing had to be set, or nothing of it may be."""
    SET = "set"
    """Set, and read back equal."""
    NOT_SET = "not_set"
    UNREAD = "unread"
    LEFT = "left"
    """There was no time or no leave for it: it comes first next time."""


def judge_setting(
    kinds: Sequence[WebhookKind], done: SettingWebhooks, target: Target, external_id: str, *, is_suspected: bool
) -> tuple[Visit, str | None]:
    """Say whether a registration was set: done is what is read back equal, whatever the provider answered.

    Args:
        kinds: That were to be set.
        done: What came of it.
        target: Where they belong.
        external_id: The line's.
        is_suspected: All was good before, for the eye: then only the provider's yes says that it was set again.

    Returns:
        Also why not. What the provider does not tell afterwards either is neither set nor to be tried for ever.
    """
    found = done.found
    if not isinstance(found, Registration):
        return Visit.NOT_SET, (done.failed or found or Unanswered("not_read_back")).cause
    states = {judge_url(found.urls.get(kind), target, external_id) for kind in kinds}
    if states == {WebhookState.GOOD} and not (is_suspected and done.failed):
        return Visit.SET, None
    if done.failed is not None:
        return Visit.NOT_SET, done.failed.cause
    if states <= {WebhookState.GOOD, WebhookState.UNTOLD}:
        return Visit.KEPT, "not_told"
    return Visit.NOT_SET, "without_effect"


def _place(url: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), parts.path.rstrip("/")
