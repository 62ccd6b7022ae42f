"""The intake: one webhook event, kept and given its effect before it is answered."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared import logs
from shared.actions import warn_if_nobody_heard
from shared.clock import DatabaseClock
from shared.looks import doubt_fresh_ghost
from shared.model import Observation, Policy
from shared.wapi.events import parse_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.looks import Provider
    from shared.settings import WebhookSettings
    from shared.store import Intake, Store

LOOK_WITHIN: Final = timedelta(seconds=2)
"""The provider waits for our answer while we look."""


async def take_event(
    body: bytes, store: Store, provider: Callable[[], Provider], *, settings: WebhookSettings
) -> Intake:
    """Keep an event and let it have its effect.

    Args:
        body: As it came.
        store: One round trip; a disconnection that has to be looked into takes two.
        provider: Made at first use.
        settings: Whether and how long to look.

    Raises:
        EventRejected: When the body is no event at all.
        StoreError: When it could not be kept; nothing has been answered then.
    """
    event = parse_event(body)
    intake = await store.receive_event(event, restart_quiet_seconds=settings.restart_quiet_seconds)
    if intake.outcome == "look":
        intake = await _settle(intake, store, provider, settings)
    logs.info(
        "event.taken",
        event=event.name,
        kind=event.kind,
        outcome=intake.outcome,
        event_id=intake.event_id,
        instance=intake.instance_id,
        life=intake.life,
        told=intake.told,
    )
    warn_if_nobody_heard(intake.told, intake.instance_id)
    return intake


async def _settle(intake: Intake, store: Store, provider: Callable[[], Provider], settings: WebhookSettings) -> Intake:
    """Believe a disconnection unless one look says ALIVE."""
    line, said = intake.instance, intake.now
    if line is None or said is None:
        raise AssertionError("receive_event answers look with the line and its clock")
    clock = DatabaseClock.heard(said)
    looked_at = clock.now()
    observation = Observation.UNKNOWN
    if settings.confirm_disconnect_events:
        look = await provider().look(line, within=min(LOOK_WITHIN, settings.look_timeout))
        look = doubt_fresh_ghost(look, line, policy=Policy(), now=clock.now())
        observation = look.observation
        if look.drifted:
            logs.error("contract.drifted", cause_word=look.cause, instance=line.id)
    return await store.settle_disconnection(
        intake.event_id,
        observation=observation,
        looked_at=looked_at,
        restart_quiet_seconds=settings.restart_quiet_seconds,
    )
