"""The state of one line at the provider, as values: what it is, how it behaves, what changes it.

Pure: nothing here reads a clock or the network. A changed line is a new :class:`Line`.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dev.simulator.faults import Fault


class Session(StrEnum):
    """What the WhatsApp session of a line is in, whatever the provider says about it."""

    ALIVE = "alive"
    GHOST = "ghost"  # status-instance says connected:true, device knows no phone
    GHOST_401 = "ghost_401"  # status-instance says connected:true, device answers 401
    DISCONNECTED = "disconnected"
    NOT_FOUND = "not_found"  # 404 JSON to every call
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - 401 JSON to every call
    TOKEN_REFUSED_403 = "token_refused_403"  # noqa: S105 - 403 JSON to every call


class RestartBehaviour(StrEnum):
    """What a restart of a line answers and does."""

    WORKS = "works"
    REFUSED = "refused"  # HTTP 200 {"error": true}
    REFUSED_400 = "refused_400"
    ACCEPTED_NO_EFFECT = "accepted_no_effect"
    COMES_BACK_AFTER_SECONDS = "comes_back_after_seconds"  # disconnected until then
    EMPTY_200 = "empty_200"  # takes effect unless told otherwise
    NON_JSON_200 = "non_json_200"  # takes effect unless told otherwise
    HTTP_500 = "http_500"  # no effect unless told otherwise
    HANG = "hang"  # no effect unless told otherwise


class WebhookKind(StrEnum):
    """The kinds of webhook that the provider registers one by one."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    DELIVERY = "delivery"
    RECEIVED = "received"
    MESSAGE_STATUS = "message-status"
    CHAT_PRESENCE = "chat-presence"


class PaymentForm(StrEnum):
    """How ``payment/status`` answers: it exists, and nobody has written down its body."""

    FLAT = "flat"
    WRAPPED = "wrapped"
    UNKNOWN = "unknown"  # an object from which nobody can tell anything


class Call(StrEnum):
    """The calls that are played and counted, by the last part of their path."""

    STATUS_INSTANCE = "status-instance"
    DEVICE = "device"
    RESTART = "restart"
    FETCH_INSTANCE = "fetch-instance"
    QR_CODE = "qr-code"
    SEND_TEXT = "send-text"
    FETCH_WEBHOOK_LOGS = "fetch-webhook-logs"
    PAYMENT_STATUS = "payment-status"
    UPDATE_WEBHOOK_CONNECTED = "update-webhook-connected"
    UPDATE_WEBHOOK_DISCONNECTED = "update-webhook-disconnected"
    UPDATE_WEBHOOK_DELIVERY = "update-webhook-delivery"
    UPDATE_WEBHOOK_RECEIVED = "update-webhook-received"
    UPDATE_WEBHOOK_MESSAGE_STATUS = "update-webhook-message-status"
    UPDATE_WEBHOOK_CHAT_PRESENCE = "update-webhook-chat-presence"
    WAPI_SEND = "wapi-send"  # a fault here is the edge function's own, raw on the wire


class FaultOrder(BaseModel):
    """A fault to play for one call of one line.

    Attributes:
        fault: Which one.
        times: For how many calls; after that the line behaves again. None is until told otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    times: int | None = Field(default=None, ge=1)


def _fault_order(told: object) -> object:
    """Accept the bare name of a fault for an order without an end."""
    return {"fault": told} if isinstance(told, str) else told


class Line(BaseModel):
    """One line at the provider.

    Attributes:
        external_id: The provider's id of the line.
        token: The token that its calls must bear.
        phone: The phone that is paired, 12 or 13 digits.
        name: Shown by ``device`` and ``fetch-instance``.
        session: What its session is in now.
        restart: What a restart answers and does.
        comes_back_after_seconds: Seconds until it is alive, for the restart of that name.
        restart_takes_effect: Whether a restart with an unclear answer (``empty_200``, ``non_json_200``,
            ``http_500``, ``hang``) revives the line; None is that behaviour's own default.
        restart_events: Post webhookDisconnected when a restart takes place, then webhookConnected once
            the line is alive.
        latency_ms: Milliseconds before any answer; None is the provider's.
        faults: Faults by call.
        webhook_url: Where its events go when no URL of that kind was registered; None is the
            provider's default, empty is nowhere.
        webhooks: The URLs registered by kind; an empty one is lost at the provider.
        webhooks_mute: No event is posted until a webhook URL is ``PUT`` again, while everything else
            looks healthy.
        answers_sends: Post webhookDelivery (the echo) and webhookStatus (an ack) for each message that is sent.
        restart_loses_webhooks: A restart that takes place forgets the registered URLs, which then are empty.
        webhooks_without_effect: A ``PUT`` of a webhook URL answers 200 and does nothing.
        fetch_leaves_out_empty: ``fetch-instance`` does not name a URL that is empty.
        payment_form: How ``payment/status`` answers.
        payment_status: As told by ``fetch-instance``; its values are unconfirmed.
        expires: As told by ``fetch-instance``; its unit is unconfirmed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    external_id: str = Field(min_length=1)
    token: str = Field(min_length=1)
    phone: str = "5511900000001"
    name: str = "Line"
    session: Session = Session.ALIVE
    restart: RestartBehaviour = RestartBehaviour.WORKS
    comes_back_after_seconds: float | None = Field(default=None, ge=0)
    restart_takes_effect: bool | None = None
    restart_events: bool = False
    latency_ms: float | None = Field(default=None, ge=0)
    faults: dict[Call, Annotated[FaultOrder, BeforeValidator(_fault_order)]] = Field(default_factory=dict)
    webhook_url: str | None = None
    webhooks: dict[WebhookKind, str] = Field(default_factory=dict)
    webhooks_mute: bool = False
    answers_sends: bool = False
    restart_loses_webhooks: bool = False
    webhooks_without_effect: bool = False
    fetch_leaves_out_empty: bool = False
    payment_form: PaymentForm = PaymentForm.FLAT
    payment_status: str = "active"
    expires: int | str = 1893456000

    @model_validator(mode="after")
    def _knows_when_it_comes_back(self) -> Self:
        if self.restart is RestartBehaviour.COMES_BACK_AFTER_SECONDS and self.comes_back_after_seconds is None:
            raise ValueError("restart comes_back_after_seconds needs the field comes_back_after_seconds")
        return self


class RestartOutcome(NamedTuple):
    """What a restart did to a line.

    Attributes:
        line: The line right after it.
        took_place: Whether the session was restarted at all.
        back_after: The wait until the line is alive, when it is not so at once.
    """

    line: Line
    took_place: bool
    back_after: timedelta | None = None


def changed(line: Line, change: Mapping[str, object]) -> Line:
    """The line with some of its fields told anew, all of them checked.

    Raises:
        pydantic.ValidationError: An unknown field or a value that is not one of its kind.
    """
    return Line.model_validate({**line.model_dump(), **change})


def with_session(line: Line, session: Session) -> Line:
    """The line, its session in another state."""
    return line.model_copy(update={"session": session})


def with_webhook(line: Line, kind: WebhookKind, url: str) -> Line:
    """The line after a registration of a webhook URL, which also ends a mute spell (the provider's contract)."""
    if line.webhooks_without_effect:
        return line
    return line.model_copy(update={"webhooks": {**line.webhooks, kind: url}, "webhooks_mute": False})


def take_fault(line: Line, call: Call) -> tuple[Line, Fault | None]:
    """The fault to play for this call, and the line after it was played once."""
    order = line.faults.get(call)
    if order is None:
        return line, None
    if order.times is None:
        return line, order.fault
    faults = {name: kept for name, kept in line.faults.items() if name is not call}
    if order.times > 1:
        faults[call] = FaultOrder(fault=order.fault, times=order.times - 1)
    return line.model_copy(update={"faults": faults}), order.fault


def restarted(line: Line) -> RestartOutcome:
    """What one restart does to a line, by its behaviour alone."""
    outcome = _restarted(line)
    if not (outcome.took_place and line.restart_loses_webhooks):
        return outcome
    lost = dict.fromkeys(WebhookKind, "")
    return outcome._replace(line=outcome.line.model_copy(update={"webhooks": lost}))


def _restarted(line: Line) -> RestartOutcome:
    alive = with_session(line, Session.ALIVE)
    unclear = line.restart_takes_effect
    match line.restart:
        case RestartBehaviour.WORKS:
            return RestartOutcome(alive, took_place=True)
        case RestartBehaviour.REFUSED | RestartBehaviour.REFUSED_400:
            return RestartOutcome(line, took_place=False)
        case RestartBehaviour.ACCEPTED_NO_EFFECT:
            return RestartOutcome(line, took_place=True)
        case RestartBehaviour.COMES_BACK_AFTER_SECONDS:
            wait = timedelta(seconds=line.comes_back_after_seconds or 0)
            return RestartOutcome(with_session(line, Session.DISCONNECTED), took_place=True, back_after=wait)
        case RestartBehaviour.EMPTY_200 | RestartBehaviour.NON_JSON_200:
            took_place = unclear is not False
        case RestartBehaviour.HTTP_500 | RestartBehaviour.HANG:
            took_place = unclear is True
    return RestartOutcome(alive if took_place else line, took_place=took_place)
