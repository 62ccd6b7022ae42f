"""Send what waits in the outbox: at least once, and never again once a channel's yes was heard.

A message is leased, sent and recorded. A channel that is not heard in a round, or asks to wait, gets nothing more in
it; the others go on. A yes that the database did not take is offered to it again, now and in the next round, before
anything else is claimed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared import logs
from shared.channels.whatsapp import WhatsAppChannel, text_of
from shared.core.delivery import WHATSAPP, SendAnswer, SendResult
from shared.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from shared.channels.port import Channel
    from shared.channels.whatsapp import Texter
    from shared.core.delivery import ClaimedMessages, OutgoingMessage, SendingLine
    from shared.database.outbox import Outbox

_SEND: Final = timedelta(seconds=10)
_LEASE: Final = timedelta(minutes=2)
"""Longer than a round with all that it sends, so that nobody sends the same meanwhile."""
_MESSAGES_A_CLAIM: Final = 40
_AT_ONCE: Final = 4
"""Of one channel; WhatsApp goes one by one, as people write."""
_NOT_TRIED: Final = SendAnswer(SendResult.NOT_TRIED)


class Deliveries:
    """Sends through the channels that are configured.

    Args:
        channels: ``email`` if it is configured, and ``operator:<fingerprint>`` for each address of the operator's.
        texter: Sends what goes by WhatsApp; None if nothing does.
        line: The platform's own line for that, by its id or the provider's; None: WhatsApp is not configured.
        send_within: For one message.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        texter: Texter | None,
        *,
        line: str | None,
        send_within: timedelta = _SEND,
    ) -> None:
        self._channels = dict(channels)
        self._texter = texter
        self._line = line
        self._send_within = send_within
        self._unrecorded: list[tuple[OutgoingMessage, SendAnswer, UUID | None]] = []

    async def deliver(self, outbox: Outbox, *, deadline: float) -> None:
        """Send what is due until nothing is left or the loop's clock says ``deadline``.

        Raises:
            StoreError: When the outbox cannot be read.
        """
        clock = asyncio.get_running_loop().time
        unrecorded, self._unrecorded = self._unrecorded, []
        for message, answer, sent_by in unrecorded:
            await self.record(outbox, message, answer, sent_by)
        if self._unrecorded:
            return  # what was sent must be known before anything is claimed
        begins_until = deadline - self._send_within.total_seconds()
        over: set[str] = set()  # channels that are left alone for now: what waits for them keeps no other waiting
        while clock() <= begins_until:
            claimed = await outbox.claim(
                channels=[name for name in self._channels if ":" not in name] + ([WHATSAPP] if self._line else []),
                operator=[name.partition(":")[2] for name in self._channels if ":" in name],
                line=self._line,
                lease=_LEASE,
                limit=_MESSAGES_A_CLAIM,
                skip=sorted(over),
            )
            for channel in claimed.dead:
                logs.error("channel.dead", channel=channel)
            if claimed.given_up:
                logs.warning("deliveries.given_up", count=claimed.given_up)
            over |= await self._send_all(outbox, claimed, begins_until)
            if not claimed.messages and not claimed.more:
                break

    async def _send_all(self, outbox: Outbox, claimed: ClaimedMessages, begins_until: float) -> set[str]:
        """Send what was claimed, each channel by itself; answer the channels of which something was left."""
        by_channel: defaultdict[str, list[OutgoingMessage]] = defaultdict(list)
        for message in claimed.messages:
            by_channel[message.key].append(message)
        rounds = [_Round(self, outbox, claimed.line, begins_until) for _ in by_channel]
        await asyncio.gather(*(each.send(m) for each, m in zip(rounds, by_channel.values(), strict=True)))
        sent = sum(each.sent for each in rounds)
        if sent:
            logs.info("deliveries.sent", messages=sent)
        return {key for key, each in zip(by_channel, rounds, strict=True) if each.is_over}

    def channel_of(self, message: OutgoingMessage, line: SendingLine | None) -> Channel | None:
        """Who sends a message; None when it is not configured."""
        if message.channel == WHATSAPP:
            return WhatsAppChannel(self._texter, line) if line and self._texter else None
        return self._channels.get(message.key)

    async def try_to_send(self, message: OutgoingMessage, channel: Channel) -> SendAnswer:
        """Send one message within its time."""
        try:
            return await channel.send(message.address, message.post(), within=self._send_within)
        except Exception as error:  # noqa: BLE001 - the guard around one message: a fault of its channel's stops no other
            logs.error("delivery.failed", cause=error, channel=message.channel, batch=message.batch)
            return SendAnswer(SendResult.UNCLEAR, type(error).__name__)

    async def record(self, outbox: Outbox, message: OutgoingMessage, answer: SendAnswer, sent_by: UUID | None) -> None:
        """Record what came of a message; a yes that is not taken is kept for the next round."""
        try:
            text = text_of(message.post()) if sent_by else None
            await outbox.finish(message, answer, sent_by=sent_by, text=text)
        except StoreError as error:
            logs.warning("delivery.not_recorded", batch=message.batch, operation=error.operation, code=error.code)
            if answer.result is SendResult.SENT:
                self._unrecorded.append((message, answer, sent_by))


class _Round:
    """One channel's messages of one claim."""

    def __init__(self, deliveries: Deliveries, outbox: Outbox, line: SendingLine | None, begins_until: float) -> None:
        self._deliveries = deliveries
        self._outbox = outbox
        self._line = line
        self._begins_until = begins_until
        self.sent = 0
        self.is_over = False

    async def send(self, messages: list[OutgoingMessage]) -> None:
        """Send them, some at once, until the channel fails or time is up."""
        slots = asyncio.Semaphore(1 if messages[0].channel == WHATSAPP else _AT_ONCE)
        await asyncio.gather(*(self._send_one(message, slots) for message in messages))

    async def _send_one(self, message: OutgoingMessage, slots: asyncio.Semaphore) -> None:
        async with slots:
            channel = self._deliveries.channel_of(message, self._line)
            if channel is None or self.is_over or asyncio.get_running_loop().time() > self._begins_until:
                self.is_over = True
                answer = _NOT_TRIED
            else:
                answer = await self._deliveries.try_to_send(message, channel)
                self.is_over = self.is_over or answer.ends_round or answer.result is SendResult.NOT_TRIED
            sent_by = self._line.id if message.channel == WHATSAPP and self._line else None
            await self._deliveries.record(self._outbox, message, answer, sent_by)
            if answer.result is SendResult.SENT:
                self.sent += 1
            elif answer is not _NOT_TRIED:
                logs.warning(
                    "delivery.not_sent", channel=message.channel, batch=message.batch, result=answer.result,
                    cause_word=answer.cause,
                )  # fmt: skip
