"""Until when a line is paid for: read once a day, told to the operator, and to the venue only if that is wished."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared import logs
from shared.core.notices import SUBSCRIPTION_TEXTS
from shared.core.subscription import LAPSED, ending_of, is_news

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.policy import Policy
    from shared.core.subscription import Subscription
    from shared.database.registrations import RegisteredLine, Visited


def with_subscription(
    visited: Visited, subscription: Subscription, *, policy: Policy, tell_venues: bool, now: datetime
) -> Visited:
    """A visit with what was told of the line's subscription, and whom that is told."""
    ending = visited.line.told  # as long as nothing is told from which anything could be concluded
    if subscription.is_clear:
        ending = ending_of(subscription, ending, stages=policy.subscription_stages, now=now)
    news = tell_venues and ending is not None and is_news(ending, visited.line.told)
    text = SUBSCRIPTION_TEXTS[ending.days] if ending is not None and news else None
    return replace(visited, subscription=subscription, ending=ending, text=text)


def tell_operator(visited: Visited) -> None:
    """Log what is new about a line's subscription, once it is recorded: each stage of an end once."""
    line, subscription, ending = visited.line, visited.subscription, visited.ending
    if subscription is None:
        return
    if ending is not None and is_news(ending, line.told):
        ends_on = f"{ending.due_at:%Y-%m-%d}"
        if ending.days == LAPSED:
            logs.error("subscription.ending", instance=line.id, ends_on=ends_on, days=LAPSED, word=subscription.word)
        else:
            logs.warning("subscription.ending", instance=line.id, ends_on=ends_on, days=ending.days)
    if ending is None and line.told is not None:
        logs.info("subscription.renewed", instance=line.id)
    _tell_unread(line, subscription)


def _tell_unread(line: RegisteredLine, subscription: Subscription) -> None:
    """What cannot be read is a human's to interpret."""
    if subscription.unread is not None and subscription.unread != line.payment_word:
        logs.warning("subscription.unclear", instance=line.id, word=subscription.unread)
