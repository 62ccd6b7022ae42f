"""``--fix-webhooks``: sets the URLs that are wrong, one after another, since parallel ones met 429."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.doctor.checks.webhooks import wrong_kinds
from ops.doctor.findings import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from ops.doctor.checks.webhooks import Target
    from ops.doctor.facts import Fleet, LineRow
    from ops.doctor.provider import Registry
    from shared.providers.wapi.webhooks import Kind, Registration


@dataclass(frozen=True, slots=True)
class Order:
    """A line and its webhooks that have to be set."""

    line: LineRow
    kinds: tuple[Kind, ...]


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
) -> tuple[list[Change], Mapping[UUID, Registration | str]]:
    """Set them, and ask the provider what it has now.

    Args:
        orders: In the order in which they are carried out.
        target: Its first secret goes into the URLs.
        registry: The provider.
        done: Called after each line.

    Returns:
        What was set, and what ``Registry.register`` says afterwards, by our id.
    """
    changes = []
    after: dict[UUID, Registration | str] = {}
    for order in orders:
        was_set: list[Kind] = []
        failed = None
        for kind in order.kinds:
            failed = await registry.set_webhook(order.line, kind, target.url_to_set)
            if failed is not None:
                break
            was_set.append(kind)
        changes.append(Change(order.line.subject(), tuple(was_set), failed))
        after[order.line.id] = await registry.register(order.line)
        done()
    return changes, after


def planned(orders: Sequence[Order]) -> list[Change]:
    """What a dry run says."""
    return [Change(order.line.subject(), tuple(order.kinds)) for order in orders]
