"""``--fix-webhooks``: sets the URLs that are wrong, one line after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.doctor.findings import Change
from shared.providers.wapi.webhooks import wrong_kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from ops.doctor.facts import Fleet, LineRow
    from ops.doctor.provider import Registry
    from shared.providers.wapi.webhooks import Registration, Target, Unanswered, WebhookKind


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
            wrong = wrong_kinds(asked.registration, target)
            if wrong:
                orders.append(Order(line, tuple(wrong)))
    return orders


async def repair(
    orders: Sequence[Order], target: Target, registry: Registry, *, done: Callable[[], object]
) -> tuple[list[Change], Mapping[UUID, Registration | Unanswered]]:
    """Set them, and hear what the provider has now.

    Args:
        orders: In the order in which they are carried out.
        target: Its first secret goes into the URLs.
        registry: The provider.
        done: Called after each line.

    Returns:
        What was set, and what was read back, by our id.
    """
    changes = []
    after: dict[UUID, Registration | Unanswered] = {}
    for order in orders:
        setting = await registry.set_webhooks(order.line, order.kinds, target.url_to_set)
        failed = setting.failed.cause if setting.failed else None
        changes.append(Change(order.line.subject(), tuple(setting.kinds), failed))
        if setting.found is not None:
            after[order.line.id] = setting.found
        done()
    return changes, after


def planned(orders: Sequence[Order]) -> list[Change]:
    """What a dry run says."""
    return [Change(order.line.subject(), tuple(order.kinds)) for order in orders]
