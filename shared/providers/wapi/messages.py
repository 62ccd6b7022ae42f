"""What a message event says: who, what kind, which text and media. Pure: a parsed JSON object -> a change, or a reason.

What is not a message (protocol noise, stories, newsletters, calls, empty bursts) is named.
"""

from __future__ import annotations

import re
from typing import Final

from shared.core.event import AckStatus, Change, Message, Noise, Who
from shared.providers.wapi.contents import (
    READERS,
    Json,
    NoMessageError,
    body_of,
    edit_inside,
    either,
    id_of,
    is_true,
    object_of,
    text_of,
    unwrap,
)

_PHONE = re.compile(r"[1-9][0-9]{7,14}")
_LID = re.compile(r"[0-9]{6,20}@lid")
_GROUP = re.compile(r"[0-9]{6,25}(-[0-9]{6,15})?@g\.us")
_MAX_CONTACT_PHONE: Final = 13
"""LIDs have 14 or 15 digits; so many are not taken for a phone."""


# Acks

_ACKS: Final[dict[str, AckStatus]] = {
    "PENDING": "pending",
    "SERVER": "sent",
    "SENT": "sent",
    "SERVER_ACK": "sent",
    "DELIVERY": "delivered",
    "DELIVERED": "delivered",
    "DELIVERY_ACK": "delivered",
    "READ": "read",
    "PLAYED": "read",
    "ERROR": "error",
}
_ACKS_OF_LIFE: Final = frozenset({"DELIVERY", "READ", "PLAYED"})


def read_ack(event: Json) -> Change:
    """Read a ``webhookStatus``.

    Raises:
        NoMessageError: When it names no message or a status we do not know.
    """
    message_id = id_of(event.get("messageId"))
    status = _ACKS.get(str(event.get("status")).upper())
    if message_id is None or status is None:
        raise NoMessageError(Noise.ACK_UNREADABLE)
    return Change(do="ack", message_id=message_id, status=status)


def is_ack_of_life(event: Json) -> bool:
    """Whether an ack proves that the line's session works: somebody's phone received something."""
    return str(event.get("status")) in _ACKS_OF_LIFE


# Messages


def read_message(event: Json) -> Message | Change:
    """Read a ``webhookReceived`` or ``webhookDelivery``.

    Raises:
        NoMessageError: When it is none.
    """
    chat_id = id_of(object_of(event.get("chat")).get("id"))
    if chat_id is None:
        raise NoMessageError(Noise.NO_CHAT)
    if is_story(event):
        raise NoMessageError(Noise.STORY)
    if chat_id.endswith(("@newsletter", "@broadcast")):
        raise NoMessageError(Noise.NEWSLETTER if chat_id.endswith("@newsletter") else Noise.BROADCAST)
    who = _who(event, chat_id)
    message_id = id_of(event.get("messageId"))
    content = object_of(event.get("msgContent"))
    if change := _change_of_another(content, message_id, who):
        return change
    if message_id is None:
        raise NoMessageError(Noise.NO_MESSAGE_ID)
    content = unwrap(content)
    if event.get("messageStubType") or content.get("messageStubType"):
        raise NoMessageError(Noise.STUB)
    return _message(event, who, message_id, content)


def is_story(event: Json) -> bool:
    """Whether an event is about a status story: not a message, no sign of life."""
    chat_id = object_of(event.get("chat")).get("id")
    return isinstance(chat_id, str) and (chat_id == "status" or chat_id.startswith("status@"))


def is_echo(event: Json) -> bool:
    """Whether an event echoes what was sent through the API."""
    return is_true(event.get("fromMe")) and is_true(event.get("fromApi"))


def _message(event: Json, who: Who, message_id: str, content: Json) -> Message:
    sender, chat = object_of(event.get("sender")), object_of(event.get("chat"))
    kind, body = body_of(content)
    read = READERS[kind](body)
    context = object_of(body.get("contextInfo")) or object_of(content.get("messageContextInfo"))
    name = text_of(sender.get("pushName")) or text_of(sender.get("verifiedBizName"))
    metadata = {**read.pop("metadata", {}), "provider_event": event.get("event")}
    if who.group is not None and not who.from_me:
        metadata |= {"sender_name": name, "sender_phone": who.sender_phone, "sender_lid": who.sender_lid}
    is_theirs = who.group is None and not who.from_me
    return Message(
        **who.model_dump(),
        message_id=message_id,
        contact_name=name if is_theirs else text_of(chat.get("subject")) if who.group is not None else None,
        contact_picture=text_of(chat.get("profilePicture"))
        or (text_of(sender.get("profilePicture")) if is_theirs else None),
        quoted_message_id=read.pop("quoted_message_id", None) or id_of(either(context, "stanzaId", "stanzaID")),
        metadata={key: value for key, value in metadata.items() if value is not None},
        **read,
    )


# Who


def _who(event: Json, chat_id: str) -> Who:
    """Between whom an event is; on ``fromMe`` the other side is only in ``chat.id``.

    Raises:
        NoMessageError: When the chat is neither a person nor a group.
    """
    from_me = is_true(event.get("fromMe"))
    phone, lid = (None, None) if from_me else _sender(event)
    group = chat_id if chat_id.endswith("@g.us") else f"{chat_id}@g.us"
    if chat_id.endswith("@g.us") or (is_true(event.get("isGroup")) and "@" not in chat_id and len(chat_id) > 15):  # noqa: PLR2004 - no phone is so long
        if not _GROUP.fullmatch(group):
            raise NoMessageError(Noise.CHAT_UNREADABLE)
        return Who(from_me=from_me, group=group, phone=None, lid=None, sender_phone=phone, sender_lid=lid)
    digits = _digits(chat_id)
    if digits is not None and len(digits) > _MAX_CONTACT_PHONE:
        chat_id = f"{digits}@lid"  # too long for a phone: a LID without its suffix
    if chat_id.endswith("@lid"):
        if not _LID.fullmatch(chat_id):
            raise NoMessageError(Noise.CHAT_UNREADABLE)
        return Who(
            from_me=from_me, group=None, phone=phone if phone != chat_id.removesuffix("@lid") else None, lid=chat_id
        )
    if digits is None:
        raise NoMessageError(Noise.CHAT_UNREADABLE)
    if lid is not None and digits == lid.removesuffix("@lid"):
        return Who(from_me=from_me, group=None, phone=phone, lid=lid)
    return Who(from_me=from_me, group=None, phone=digits, lid=lid)


def _sender(event: Json) -> tuple[str | None, str | None]:
    """A sender's phone, unless it is a LID in disguise, and LID; nothing if the sender is the line itself."""
    sender = object_of(event.get("sender"))
    raw, lid = id_of(sender.get("id")) or "", id_of(sender.get("senderLid"))
    if raw.endswith("@lid"):
        lid = lid or raw
    if lid is not None:
        lid = lid if lid.endswith("@lid") else f"{lid}@lid"
        lid = lid if _LID.fullmatch(lid) else None
    digits = _digits(raw)
    own = _digits(id_of(event.get("connectedPhone")) or "")
    if (digits is not None and digits == own) or (lid is not None and lid == id_of(event.get("connectedLid"))):
        return None, None
    if digits is None or len(digits) > _MAX_CONTACT_PHONE or (lid and digits == lid.removesuffix("@lid")):
        return None, lid
    return digits, lid


def _digits(address: str) -> str | None:
    digits = address.removesuffix("@s.whatsapp.net").removesuffix("@c.us").removeprefix("+").partition(":")[0]
    return digits if _PHONE.fullmatch(digits) else None


# Changes


def _change_of_another(content: Json, message_id: str | None, who: Who) -> Change | None:
    """An edit or a deletion names the message it changes; every other protocol message is noise."""
    edit = edit_inside(content)
    content = unwrap(content) if edit is None else edit
    protocol = object_of(content.get("protocolMessage"))
    if not protocol:
        if edit is None:
            return None
        # An edit without a protocol message: the event's own id is the message's.
        return _edit(edit, message_id, who)
    key = object_of(protocol.get("key"))
    target = id_of(key.get("id")) or id_of(either(key, "ID", "messageId"))
    kind = protocol.get("type")
    edited = object_of(protocol.get("editedMessage"))
    if kind in (14, "14", "MESSAGE_EDIT") or (kind is None and edited):
        return _edit(object_of(edited.get("message")) or edited, target, who)
    if target is not None and not isinstance(kind, bool) and kind in (0, "0", "REVOKE"):
        return Change(do="delete", message_id=target, who=who)
    raise NoMessageError(Noise.PROTOCOL)


def _edit(content: Json, target: str | None, who: Who) -> Change:
    if target is None:
        raise NoMessageError(Noise.EDIT_UNREADABLE)
    try:
        name, body = body_of(unwrap(content))
    except NoMessageError:
        raise NoMessageError(Noise.EDIT_UNREADABLE) from None
    return Change(do="edit", message_id=target, content=READERS[name](body).get("content"), who=who)
