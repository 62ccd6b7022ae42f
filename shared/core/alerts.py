"""What the operator is told, in words: one cause, one message, and one more when it is over. Pure.

A cause is raised by SQL (``raise_alert(cause, subject, details)``, within the transaction that finds it) or through
``store.outbox.raise_alert``; both may be called as often as it is so, and ``resolve_alert`` as often as it is not. A
new cause needs its word here and its row in ``_WORDS``; whatever its details name may stand in braces.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class AlertCause(StrEnum):
    """Why the operator is told: the column ``operator_alerts.cause``; what ``subject`` tells apart, and the details."""

    BRAKE = "brake"
    SWEEP_BLIND = "sweep_blind"
    CONTRACT_DRIFTED = "contract_drifted"
    """Subject: the deep probe, or any route. Details: ``what``."""
    LINES_SILENT = "lines_silent"
    """Details: ``count``, ``since``."""
    NOTICES_REFUSED = "notices_refused"
    CHANNEL_DEAD = "channel_dead"
    """Subject: the channel."""
    LINE_DOWN = "line_down"
    """Subject: the outage. Details: ``unit``, ``company``, ``since``."""
    LINE_MUTE = "line_mute"
    """Subject: the line. Details: ``unit``, ``company``, ``since``."""
    REGISTRATION_FAILED = "registration_failed"
    """Subject: the line, or empty for all of them. Details: ``unit``, ``why``."""
    OWN_ADDRESS = "own_address"
    """Our own webhook does not take the very key that was to be registered. Details: ``why``."""
    SUBSCRIPTION_ENDING = "subscription_ending"
    """Subject: the line. Details: ``unit``, ``company``, ``ends``."""
    SUBSCRIPTION_UNREADABLE = "subscription_unreadable"
    """Details: ``word``."""


_WORDS: Final[Mapping[AlertCause, tuple[str, str]]] = {
    AlertCause.BRAKE: (
        "The brake is on",
        "Many lines look dead at once: that is the provider or us. Nobody is restarted or notified meanwhile.",
    ),
    AlertCause.SWEEP_BLIND: ("Sweeps are blind", "{count} sweeps in a row found nothing out about any line."),
    AlertCause.CONTRACT_DRIFTED: (
        "The provider's contract has changed",
        "{what} does not answer any more as we know it.",
    ),
    AlertCause.LINES_SILENT: (
        "Lines fell silent together",
        "{count} lines have answered nothing since {since}, while others do: one cause. No venue was notified.",
    ),
    AlertCause.NOTICES_REFUSED: (
        "Notices are refused",
        "The platform's table refuses {count} notices (SQLSTATE {sqlstate}); they are tried again.",
    ),
    AlertCause.CHANNEL_DEAD: (
        "A channel is dead",
        "{channel} (…{which}) has failed since {since}: {cause}.",
    ),
    AlertCause.LINE_DOWN: ("A line is down for an hour", "{unit} ({company}) is down since {since}."),
    AlertCause.LINE_MUTE: ("A line is mute", "{unit} ({company}) lives, but its events do not reach us since {since}."),
    AlertCause.REGISTRATION_FAILED: ("Webhooks cannot be registered", "{unit}: {why}."),
    AlertCause.OWN_ADDRESS: ("Our own webhook does not answer", "Nothing is registered until it does: {why}."),
    AlertCause.SUBSCRIPTION_ENDING: ("A subscription ends", "{unit} ({company}): {ends}."),
    AlertCause.SUBSCRIPTION_UNREADABLE: ("A subscription's state is not understood", "The provider says: {word}."),
}
_OVER: Final = "Resolved: "


class _Known(dict[str, object]):
    def __missing__(self, name: str) -> str:
        return "?"


def words_of(cause: str, details: Mapping[str, object], *, is_over: bool) -> tuple[str, str]:
    """Title and text of an alert; a cause that this version does not know goes by its name."""
    title, text = _WORDS.get(cause, (cause, ""))  # type: ignore[call-overload] # a StrEnum is found by its word
    known = _Known({name: value for name, value in details.items() if value is not None})
    return f"{_OVER if is_over else ''}{title}", text.format_map(known)
