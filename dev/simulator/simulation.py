"""The simulated provider as a whole: its lines, its settings, what was asked of it, what goes on by itself.

One event loop owns a simulation. It knows the clock and the webhooks, but neither routes nor the wire.
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Iterable
from contextlib import AbstractContextManager
from datetime import timedelta

from pydantic import JsonValue

from dev.simulator.events import EventKind, event_of, message_id_of, webhook_of
from dev.simulator.faults import Answer, Fault, error_answer
from dev.simulator.ledger import Ledger
from dev.simulator.lines import (
    Call,
    Line,
    RestartOutcome,
    Session,
    WebhookKind,
    restarted,
    take_fault,
    with_session,
    with_webhook,
)
from dev.simulator.log import DeliveryLog
from dev.simulator.provider import (
    WEBHOOK_CALLS,
    Provider,
    device_answer,
    fetch_answer,
    payment_answer,
    qr_answer,
    refusal_of,
    restart_answer,
    sent_answer,
    session_of,
    status_answer,
    webhook_url_of,
)
from dev.simulator.webhooks import Delivery, Poster

_REFUSED_FROM = 300


def _object_of(body: bytes) -> dict[str, JsonValue]:
    """The JSON object of a request; an unreadable body is as good as an empty one."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


class Simulation:
    """Lines that are asked, restarted and changed, and the events that this causes."""

    def __init__(self, provider: Provider | None = None) -> None:
        self._initial = provider or Provider()
        self.provider = self._initial
        self.lines: dict[str, Line] = {}
        self.ledger = Ledger()
        self.poster = Poster()
        self.log = DeliveryLog()
        self._revivals: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._messages = 0

    # What the control side does

    def put_lines(self, lines: Iterable[Line]) -> None:
        """Create lines; one of the same external id is replaced."""
        for line in lines:
            self._cancel_revival(line.external_id)
            self.lines[line.external_id] = line

    def change_line(self, line: Line, *, session_told: bool) -> None:
        """Replace a line by its changed self; a session that was told ends the wait of a restart."""
        if session_told:
            self._cancel_revival(line.external_id)
        self.lines[line.external_id] = line

    def reset(self) -> None:
        """Back to how it was started: no lines, first settings, nothing counted, nothing under way."""
        self._stop_all()
        self.lines.clear()
        self.provider = self._initial
        self.ledger.forget_calls()
        self.poster.forget()
        self.log.forget()

    async def aclose(self) -> None:
        """Stop what goes on by itself."""
        self._stop_all()
        await self.poster.aclose()

    async def scan_qr(self, line: Line) -> Delivery:
        """A person reads the QR code: the line is alive again, and the provider says so."""
        line = with_session(line, Session.ALIVE)
        self.change_line(line, session_told=True)
        return await self.post_event(line, self.make_event(line, EventKind.CONNECTED))

    def make_event(self, line: Line, kind: EventKind) -> dict[str, JsonValue]:
        """An event of this moment."""
        return event_of(kind, line, moment=int(time.time()), message_id=self._next_message_id())

    async def post_event(self, line: Line, event: JsonValue, *, raw: str | None = None, url: str = "") -> Delivery:
        """Post an event to the webhook of its kind.

        Args:
            line: Whose event; its current URLs count.
            event: Any JSON.
            raw: Posted as it is instead of ``event``, well-formed or not.
            url: Posted there, instead of the registered URL.
        """
        told = event.get("event") if isinstance(event, dict) else None
        name = told if isinstance(told, str) else ""
        line = self.lines.get(line.external_id, line)
        if line.webhooks_mute:
            return self.poster.not_posted(line.external_id, name, "the webhooks of this line are mute")
        url = url or webhook_url_of(line, webhook_of(event), self.provider)
        if not url:
            return self.poster.not_posted(line.external_id, name, "no webhook URL")
        body = json.dumps(event) if raw is None else raw
        delivery = await self.poster.post(line.external_id, name, url, body.encode())
        self.log.keep(
            line.external_id, event, delivered=delivery.status is not None and delivery.status < _REFUSED_FROM
        )
        return delivery

    # What callers of the provider meet

    def latency_ms(self, external_id: str) -> float:
        """Milliseconds before any answer about this line."""
        line = self.lines.get(external_id)
        own = line.latency_ms if line is not None else None
        return self.provider.latency_ms if own is None else own

    def take_fault(self, external_id: str, call: Call) -> Fault | None:
        """The fault to play for this call, if any; the provider's before the line's."""
        if self.provider.down is not None and call is not Call.WAPI_SEND:
            return self.provider.down
        line = self.lines.get(external_id)
        if line is None or not line.faults:
            return None
        self.lines[external_id], fault = take_fault(line, call)
        return fault

    def recorded_restart(self, external_id: str, via: str) -> AbstractContextManager[None]:
        """Record a restart while it runs."""
        return self.ledger.restart(external_id, via, time.monotonic)

    def answer(self, call: Call, external_id: str, token: str, body: bytes) -> Answer | None:
        """Do what a call asks, in its body or (a GET) in its query; None is a call that is never answered."""
        line = self.lines.get(external_id)
        refusal = refusal_of(line, token)
        if refusal is not None or line is None:
            return refusal
        session = session_of(line, self.provider)
        if call is Call.STATUS_INSTANCE:
            return status_answer(line, session)
        if call is Call.DEVICE:
            return device_answer(line, session)
        if call is Call.RESTART:
            self.restart(line)
            return restart_answer(line.restart)
        return self._answer_rarer(call, line, session, body)

    def restart(self, line: Line) -> RestartOutcome:
        """Restart a line as it behaves, and tell its webhooks if it is one that does."""
        outcome = restarted(line)
        if not outcome.took_place:
            return outcome
        self._cancel_revival(line.external_id)
        self.lines[line.external_id] = outcome.line
        if outcome.back_after is not None:
            loop = asyncio.get_running_loop()
            wait_seconds = outcome.back_after.total_seconds()
            self._revivals[line.external_id] = loop.call_later(wait_seconds, self._revive, line.external_id)
        if line.restart_events:
            self._in_background(self._tell_restart(outcome.line, outcome.back_after or timedelta()))
        return outcome

    def _answer_rarer(self, call: Call, line: Line, session: Session, body: bytes) -> Answer:
        if call is Call.FETCH_INSTANCE:
            return fetch_answer(line, session, self.provider)
        if call is Call.PAYMENT_STATUS:
            return payment_answer(line)
        if call is Call.QR_CODE:
            # A connect verb: polling it dropped live sessions (the provider's contract).
            if session is Session.ALIVE:
                self.change_line(with_session(line, Session.DISCONNECTED), session_told=True)
            return qr_answer(line, session)
        if call is Call.SEND_TEXT:
            return self._answer_send(line, body)
        if call is Call.FETCH_WEBHOOK_LOGS:
            provider = self.provider
            return self.log.answer(
                line.external_id, body.decode(), form=provider.log_form, undelivered=provider.log_holds_undelivered
            )
        return self._answer_registration(WEBHOOK_CALLS[call], line, body)

    def _answer_send(self, line: Line, body: bytes) -> Answer:
        content = _object_of(body)
        if not all(isinstance(content.get(field), str) and content[field] for field in ("phone", "message")):
            return error_answer(400, "phone and message are required")
        message_id = self._next_message_id()
        if line.answers_sends:
            self._in_background(self._answer_message(line, str(content["phone"]), str(content["message"]), message_id))
        return sent_answer(line, message_id)

    def _answer_registration(self, kind: WebhookKind, line: Line, body: bytes) -> Answer:
        url = _object_of(body).get("value")
        if not isinstance(url, str):
            return error_answer(400, "value is required")
        self.lines[line.external_id] = with_webhook(line, kind, url)
        return Answer(200, b'{"error":false,"message":"Webhook updated successfully"}')

    # What goes on by itself

    async def _tell_restart(self, line: Line, wait: timedelta) -> None:
        """Tell the disconnect, then, not before the line had its time, the connect of a line that is alive."""
        back_at = time.monotonic() + wait.total_seconds()
        await self.post_event(line, self.make_event(line, EventKind.DISCONNECTED))
        await asyncio.sleep(max(0.0, back_at - time.monotonic()))
        current = self.lines.get(line.external_id)
        if current is not None and session_of(current, self.provider) is Session.ALIVE:
            await self.post_event(current, self.make_event(current, EventKind.CONNECTED))

    async def _answer_message(self, line: Line, phone: str, text: str, message_id: str) -> None:
        """Tell the echo of a message that was sent, then that it was delivered."""
        moment = int(time.time())
        about: dict[str, JsonValue] = {"messageId": message_id, "chat": {"id": phone}}
        echo = event_of(EventKind.DELIVERY, line, moment=moment, message_id=message_id)
        await self.post_event(line, echo | about | {"msgContent": {"conversation": text}})
        ack = event_of(EventKind.STATUS, line, moment=moment, message_id=message_id)
        await self.post_event(line, ack | about | {"status": "DELIVERY", "fromMe": True})

    def _revive(self, external_id: str) -> None:
        self._revivals.pop(external_id, None)
        line = self.lines.get(external_id)
        if line is not None:
            self.lines[external_id] = with_session(line, Session.ALIVE)

    def _cancel_revival(self, external_id: str) -> None:
        revival = self._revivals.pop(external_id, None)
        if revival is not None:
            revival.cancel()

    def _in_background(self, work: Coroutine[object, object, object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    def _stop_all(self) -> None:
        for external_id in list(self._revivals):
            self._cancel_revival(external_id)
        for task in self._tasks:
            task.cancel()

    def _next_message_id(self) -> str:
        self._messages += 1
        return message_id_of(self._messages)
