"""``--fix-webhooks``: sets the URLs that are wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.common.shown import cause_in_words
from ops.doctor.findings import Change
from shared.core.registration import wrong_kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from ops.doctor.facts import Fleet, LineRow
    from ops.doctor.provider import Registry
    from shared.core.registration import Registration, Target, Unanswered, WebhookKind


@dataclass(frozen=True, slots=True)
class Order:
    """A line and its webhooks that have to be set."""

    line: LineRow
    kinds: tuple[WebhookKind, ...]


def plan(fleet: Fleet, target: Target) -> list[Order]:
    """What has to be set; nothing where the registration could not be read."""
    orders = []
    for line in fleet.active:
        asked = fleet.asked.get(line.id)
        if asked is not None and asked.registration is not None:
            wrong = wrong_kinds(asked.registration, target, line.external_id)
            if wrong:
                orders.append(Order(line, tuple(wrong)))
    return orders


async def repair(
    orders: Sequence[Order], target: Target, registry: Registry, *, done: Callable[[Change], object]
) -> Mapping[UUID, Registration | Unanswered]:
    """Set them, some lines at once and the webhooks of each line one after another; hear what the provider has now.

    Args:
        orders: What to set.
        target: Each line's key under its first secret goes into the line's URLs.
        registry: The provider.
        done: Called with each line that is done, so that it is known even if the rest is cut off.

    Returns:
        What was read back, by our id.
    """

    async def one(order: Order) -> tuple[UUID, Registration | Unanswered | None]:
        setting = await registry.set_webhooks(order.line, order.kinds, target.url_for(order.line.external_id))
        failed = cause_in_words(setting.failed.cause) if setting.failed else None
        done(Change(order.line.subject(), tuple(setting.kinds), failed))
        return order.line.id, setting.found

    found = await asyncio.gather(*(one(order) for order in orders))
    return {line: registration for line, registration in found if registration is not None}


def planned(orders: Sequence[Order]) -> list[Change]:
    """What a dry run says."""
    return [Change(order.line.subject(), tuple(order.kinds)) for order in orders]
