"""The intake: one webhook event, kept and given its effect before it is answered."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared import logs
from shared.core.event import CONNECTION_KINDS, EventKind, EventOutcome, Noise
from shared.core.look import unknown
from shared.database.clock import DatabaseClock
from shared.errors import StoreError, StoreUnavailable
from shared.providers.looks import ask_once
from shared.relay import IN_REQUEST
from shared.webhook.dead_letters import log_undelivered
from shared.webhook.per_line import Turns
from shared.webhook.shared_looks import Looked, SharedLooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.core.event import Event
    from shared.database.results import Intake
    from shared.database.store import Store
    from shared.errors import EventRejected
    from shared.providers.port import Provider
    from shared.relay import Relay
    from shared.settings import IntakeSettings

LOOK_WITHIN: Final = timedelta(seconds=2)
"""The provider waits for our answer while we look."""
PATIENCE: Final = timedelta(seconds=8)
"""For an event as a whole: its turn, its calls, its look and all tries."""
REJECTED_PER_HOUR: Final = 60
_REJECTED_BYTES: Final = 64 * 1024
_ONE_TRY: Final = timedelta(seconds=4)
_RETRY_AFTER_SECONDS: Final = (0.1, 0.3, 0.6, 1.0, 1.5)

_turns = Turns()
_looks = SharedLooks()


async def take_event(
    event: Event,
    store: Store,
    provider: Callable[[], Provider],
    *,
    settings: IntakeSettings,
    relay: Relay | None = None,
) -> Intake:
    """Keep an event and let it have its effect; what cannot be kept goes into the log, sealed.

    Args:
        event: As the vendor's reader has read it.
        store: One round trip; a disconnection that has to be looked into takes two.
        provider: Made at first use.
        settings: Whether and how long to look.
        relay: The platform's own handler, if events go there as well.

    Raises:
        StoreError: When it could not be kept, for as long as there is patience; nothing has been answered then.
    """
    arrived = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            intake = await deliver(event, store, provider, settings=settings, relay=relay, arrived=arrived)
    except TimeoutError:
        log_undelivered(event, settings.event_log_key)
        raise StoreUnavailable("event", "no answer in time") from None
    except Exception:
        # Whatever it was, the provider may not send it again.
        log_undelivered(event, settings.event_log_key)
        raise
    if relay is not None and intake.relay is not None:
        await relay.forward(intake.relay, store, within=IN_REQUEST)
    return intake


async def keep_rejected(body: bytes, rejected: EventRejected, store: Store) -> None:
    """Keep a body that is no event, so that an operator can see what came; it is answered as it would be anyway.

    Args:
        body: As it came; an empty one (the doctor's knock) is not kept.
        rejected: Why it is none.
        store: Keeps each body once, and ``REJECTED_PER_HOUR`` of them.
    """
    if rejected.status != HTTPStatus.BAD_REQUEST or not body.strip():
        return
    text = body[:_REJECTED_BYTES].decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    try:
        await store.keep_rejected(
            hashlib.sha256(body).hexdigest(), text, rejected.reason, per_hour=REJECTED_PER_HOUR
        )  # fmt: skip
    except StoreError as error:
        logs.warning("rejection.not_kept", operation=error.operation, code=error.code)


async def deliver(
    event: Event,
    store: Store,
    provider: Callable[[], Provider],
    *,
    settings: IntakeSettings,
    relay: Relay | None = None,
    arrived: float | None = None,
) -> Intake:
    """Keep a parsed event and let it have its effect. Idempotent: an event is kept once.

    Args:
        event: As the vendor's reader has read it.
        store: See ``take_event``.
        provider: See ``take_event``.
        settings: See ``take_event``.
        relay: See ``take_event``.
        arrived: When it came, on the loop's clock; None is now.

    Raises:
        StoreError: When it could not be kept.
    """
    if arrived is None:
        arrived = asyncio.get_running_loop().time()
    goes_on = relay is not None and (relay.with_connections or event.kind not in CONNECTION_KINDS)
    goes_now = goes_on and relay is not None and relay.is_closed
    turn = _turns.of(event.external_id or "")
    intake = await _patiently(
        turn, lambda again: store.receive_event(event, relay=goes_on, relay_now=goes_now, alone=again)
    )
    logs.name_line(intake.instance_id, unit=intake.unit, external_id=event.external_id)
    if intake.outcome is EventOutcome.LOOK:
        settled = await _settle(intake, event.kind, store, provider, settings, arrived=arrived)
        intake = settled.model_copy(update={"relay": intake.relay})
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
    if event.noise is Noise.UNREADABLE:
        logs.error("event.unreadable", event_id=intake.event_id, instance=intake.instance_id)
    if intake.outcome is EventOutcome.FAILED:
        logs.error("event.not_applied", event_id=intake.event_id, instance=intake.instance_id, code=intake.code)
    if intake.life is EventOutcome.FAILED:
        logs.warning("life.not_written", event_id=intake.event_id, instance=intake.instance_id, code=intake.code)
    if intake.told == 0:
        logs.warning("notice.without_recipients", instance=intake.instance_id)
    return intake


async def _settle(
    intake: Intake,
    kind: EventKind,
    store: Store,
    provider: Callable[[], Provider],
    settings: IntakeSettings,
    *,
    arrived: float,
) -> Intake:
    """Believe a disconnection unless one look says ALIVE, and a connection that does not say whose only if it does."""
    line, said = intake.instance, intake.now
    if line is None or said is None:
        raise AssertionError("receive_event answers look with the line and its clock")
    clock = DatabaseClock.heard(said)

    async def look() -> Looked:
        began = clock.now()
        within = min(LOOK_WITHIN, settings.look_timeout)
        return Looked(await ask_once(provider(), line, within=within), began)

    if kind is EventKind.CONNECTION or settings.confirm_disconnect_events:
        looked, token_hash = await _looks.of(line, arrived=arrived, look=look), line.token_hash
    else:
        looked, token_hash = Looked(unknown("not_confirmed"), said), None
    # What came to light before the event came does not overtake it.
    looked_at = max(looked.at, said)
    settled = await _patiently(
        _turns.of(line.external_id),
        lambda again: store.settle_event(
            intake.event_id,
            looked.look,
            external_id=line.external_id,
            looked_at=looked_at,
            token_hash=token_hash,
            alone=again,
        ),
    )
    logs.info(
        "event.settled",
        kind=kind,
        event_id=intake.event_id,
        instance=line.id,
        observation=looked.look.observation,
        cause_word=looked.look.cause,
        outcome=settled.outcome,
    )
    return settled


async def _patiently(turn: asyncio.Semaphore, call: Callable[[bool], Awaitable[Intake]]) -> Intake:
    """Try again while the database is away or a row is held; the patience of the whole event ends it.

    Args:
        turn: Held for each try and given back between them: what waits for one chat leaves others their turns.
        call: Told whether this is a try after the first.
    """
    for tries, wait in enumerate(_RETRY_AFTER_SECONDS):
        try:
            async with turn, asyncio.timeout(_ONE_TRY.total_seconds()):
                return await call(tries > 0)
        except StoreUnavailable as error:
            logs.warning("store.retried", operation=error.operation, code=error.code)
        except TimeoutError:
            logs.warning("store.retried", operation="event", code="timeout")
        await asyncio.sleep(wait)
    async with turn:
        return await call(True)
