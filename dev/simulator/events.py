"""The webhook events, as the provider's contract describes them: flat JSON, ``moment`` in epoch seconds. Pure."""

from enum import StrEnum

from pydantic import JsonValue

from dev.simulator.lines import Line, WebhookKind

Event = dict[str, JsonValue]

CONTACT_PHONE = "5511900000002"
CONTACT_LID = "100000000000002@lid"


class EventKind(StrEnum):
    """The events that the simulator can make up by itself."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    RECEIVED = "received"
    STATUS = "status"
    DELIVERY = "delivery"
    PRESENCE = "presence"


_EVENT_NAMES = {
    EventKind.DISCONNECTED: "webhookDisconnected",
    EventKind.CONNECTED: "webhookConnected",
    EventKind.RECEIVED: "webhookReceived",
    EventKind.STATUS: "webhookStatus",
    EventKind.DELIVERY: "webhookDelivery",
    EventKind.PRESENCE: "webhookChatPresence",
}

_WEBHOOKS = {
    "webhookDisconnected": WebhookKind.DISCONNECTED,
    "webhookConnected": WebhookKind.CONNECTED,
    "webhookReceived": WebhookKind.RECEIVED,
    "webhookStatus": WebhookKind.MESSAGE_STATUS,
    "webhookDelivery": WebhookKind.DELIVERY,
    "webhookChatPresence": WebhookKind.CHAT_PRESENCE,
}


def webhook_of(event: JsonValue) -> WebhookKind:
    """The kind of webhook by which an event goes out; one without a known name goes by ``received``."""
    name = event.get("event") if isinstance(event, dict) else None
    return _WEBHOOKS.get(name, WebhookKind.RECEIVED) if isinstance(name, str) else WebhookKind.RECEIVED


def message_id_of(number: int) -> str:
    """A message id such as WhatsApp's, from a running number."""
    return f"3EB0AA{number:016X}"


def event_of(kind: EventKind, line: Line, *, moment: int, message_id: str) -> Event:
    """One event of a line.

    Args:
        kind: Which one.
        line: Whose.
        moment: When, in whole epoch seconds.
        message_id: For the events about a message.

    Returns:
        The body to post. A disconnect has exactly four fields: no reason, no phone.
    """
    name = _EVENT_NAMES[kind]
    if kind is EventKind.DISCONNECTED:
        return {"event": name, "instanceId": line.external_id, "disconnected": True, "moment": moment}
    common: Event = {
        "event": name,
        "instanceId": line.external_id,
        "connectedPhone": line.phone,
        "moment": moment,
    }
    return common | _fields_of(kind, line, message_id)


def _fields_of(kind: EventKind, line: Line, message_id: str) -> Event:
    outgoing: Event = {"messageId": message_id, "isGroup": False, "chat": {"id": CONTACT_PHONE}}
    match kind:
        case EventKind.DISCONNECTED:
            return {"disconnected": True}
        case EventKind.CONNECTED:
            return {"connected": True}
        case EventKind.RECEIVED:
            return {
                "connectedLid": "100000000000001@lid",
                "isGroup": False,
                "messageId": message_id,
                "fromMe": False,
                "chat": {"id": CONTACT_LID},
                "sender": {"id": CONTACT_PHONE, "senderLid": CONTACT_LID, "pushName": "Ana"},
                "msgContent": {"conversation": "Oi, tem data em maio?"},
            }
        case EventKind.STATUS:
            return outgoing | {"fromMe": False, "status": "READ"}
        case EventKind.DELIVERY:
            return outgoing | {
                "fromMe": True,
                "fromApi": True,
                "sender": {"id": line.phone},
                "msgContent": {"conversation": "Temos, sim!"},
            }
        case EventKind.PRESENCE:
            return {"chat": {"id": CONTACT_PHONE}, "presence": "composing"}
