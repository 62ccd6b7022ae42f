"""Until when a line is paid for, and when that is told. Pure.

Words and dates come from a provider whose forms are unconfirmed: what cannot be read is said as it was told, and
nothing is concluded from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

LAPSED: Final = 0
"""The last of the stages, which are days before the end."""


class Payment(StrEnum):
    """What the provider's word about the payment seems to say."""

    PAID = "paid"
    LAPSED = "lapsed"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a provider tells of a line's subscription.

    Attributes:
        payment: What its word seems to say; None where it tells none.
        word: That word, as told.
        ends_at: When it ends, if that can be read as an instant.
        ends: The same as told.
    """

    payment: Payment | None = None
    word: str | None = None
    ends_at: datetime | None = None
    ends: str | None = None

    @property
    def is_clear(self) -> bool:
        """Whether anything can be concluded from it."""
        return self.ends_at is not None or self.payment in (Payment.PAID, Payment.LAPSED)

    @property
    def unread(self) -> str | None:
        """What was told and cannot be read, for a human; None when there is no such thing."""
        if self.payment is Payment.UNCLEAR:
            return self.word
        return self.ends if self.ends and self.ends_at is None else None


@dataclass(frozen=True, slots=True)
class Ending:
    """A stage of a subscription's end.

    Attributes:
        due_at: When it ends; for one that is lapsed without a date, when that was first found.
        days: 7, 3, 1, or 0 on lapse.
    """

    due_at: datetime
    days: int


def ending_of(
    subscription: Subscription, told: Ending | None, *, stages: tuple[int, ...], now: datetime
) -> Ending | None:
    """Which stage of its end a subscription is in; None when none is near.

    Args:
        subscription: As told now. A word that says lapsed counts more than a date.
        told: The stage that was told last, if one was.
        stages: Days before the end, falling, with ``LAPSED`` as the last.
        now: The instant of the decision.
    """
    ends_at = subscription.ends_at
    if subscription.payment is Payment.LAPSED:
        if told is not None and told.days == LAPSED and (ends_at is None or ends_at.date() >= told.due_at.date()):
            return told  # the same lapse, whatever date it has by now
        return Ending(min(ends_at or now, now), LAPSED)
    if ends_at is None:
        return None
    reached = [days for days in stages if ends_at - now <= timedelta(days=days)]
    return Ending(ends_at, min(reached)) if reached else None


def is_news(ending: Ending | None, told: Ending | None) -> bool:
    """Whether a stage was not told yet: of a later end, or nearer to the same."""
    if ending is None:
        return False
    return told is None or ending.due_at.date() != told.due_at.date() or ending.days < told.days
