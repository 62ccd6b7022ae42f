"""What a message event says: who, what kind, which text and media. Pure: a parsed JSON object -> a change, or a reason.

What is not a message (protocol noise, stories, newsletters, calls, empty bursts) is named.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict

from shared.wapi.contents import READERS, Json, NoMessageError, body_of, either, object_of, text_of, unwrap

_PHONE = re.compile(r"[1-9][0-9]{7,14}")
_MAX_CONTACT_PHONE: Final = 13
"""LIDs have 14 or 15 digits; a sender with so many is not taken for a phone."""


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoreMessage(_Change):
    """A message to store, once.

    Attributes:
        do: Always ``store``.
        message_id: The provider's.
        from_me: Sent by the line, not to it.
        group: The group's address, None in a direct chat.
        phone: The other side's number, None if the event does not give it; never a LID.
        lid: The other side's hidden identity (``…@lid``), None if the event does not give it.
        contact_name: Of the person or the group.
        contact_picture: Its address.
        type: text, image, video, audio, document, sticker, location, contact, poll, reaction or button_reply.
        content: Text or caption, None without one.
        media_url: As delivered.
        media_key: As delivered.
        media_direct_path: As delivered.
        quoted_message_id: The message that this one answers or reacts to.
        metadata: What else is worth keeping.
    """

    do: str = "store"
    message_id: str
    from_me: bool
    group: str | None
    phone: str | None
    lid: str | None
    contact_name: str | None
    contact_picture: str | None
    type: str
    content: str | None
    media_url: str | None = None
    media_key: str | None = None
    media_direct_path: str | None = None
    quoted_message_id: str | None = None
    metadata: dict[str, Any]


class ChangeMessage(_Change):
    """A change of a message that may not be there yet.

    Attributes:
        do: ``ack``, ``edit`` or ``delete``.
        message_id: Which message.
        status: Of an ack: sent, delivered, read or error.
        content: Of an edit: the new text.
    """

    do: str
    message_id: str
    status: str | None = None
    content: str | None = None


Change: TypeAlias = StoreMessage | ChangeMessage


# Acks

_ACKS: Final = {
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


def read_ack(event: Json) -> ChangeMessage:
    """Read a ``webhookStatus``.

    Raises:
        NoMessageError: When it names no message or a status we do not know.
    """
    message_id = text_of(event.get("messageId"))
    status = _ACKS.get(str(event.get("status")).upper())
    if message_id is None or status is None:
        raise NoMessageError("ack_unreadable")
    return ChangeMessage(do="ack", message_id=message_id, status=status)


def is_ack_of_life(event: Json) -> bool:
    """Whether an ack proves that the line's session works: somebody's phone received something."""
    return str(event.get("status")) in _ACKS_OF_LIFE


# Messages


def read_message(event: Json) -> Change:
    """Read a ``webhookReceived`` or ``webhookDelivery``.

    Raises:
        NoMessageError: When it is none.
    """
    chat_id = text_of(object_of(event.get("chat")).get("id"))
    if chat_id is None:
        raise NoMessageError("no_chat")
    if is_story(event):
        raise NoMessageError("story")
    if chat_id.endswith(("@newsletter", "@broadcast")):
        raise NoMessageError("newsletter" if chat_id.endswith("@newsletter") else "broadcast")
    content = unwrap(object_of(event.get("msgContent")))
    if change := _change_of_another(content):
        return change
    message_id = text_of(event.get("messageId"))
    if message_id is None:
        raise NoMessageError("no_message_id")
    if event.get("messageStubType") is not None or "messageStubType" in content:
        raise NoMessageError("stub")
    return _message(event, chat_id, message_id, content)


def is_story(event: Json) -> bool:
    """Whether an event is about a status story: not a message, no sign of life."""
    chat_id = object_of(event.get("chat")).get("id")
    return isinstance(chat_id, str) and (chat_id == "status" or chat_id.startswith("status@"))


def _message(event: Json, chat_id: str, message_id: str, content: Json) -> StoreMessage:
    from_me = event.get("fromMe") is True
    sender, chat = object_of(event.get("sender")), object_of(event.get("chat"))
    is_group = chat_id.endswith("@g.us") or event.get("isGroup") is True
    kind, body = body_of(content)
    read = READERS[kind](body)
    context = object_of(body.get("contextInfo")) or object_of(content.get("messageContextInfo"))
    metadata = {**read.pop("metadata", {}), "provider_event": event.get("event")}
    name = text_of(sender.get("pushName")) or text_of(sender.get("verifiedBizName"))
    phone, lid = (None, None) if is_group else _other_side(chat_id, sender, from_me=from_me)
    if is_group and not from_me:
        metadata["sender_name"] = name
        metadata["sender_phone"], metadata["sender_lid"] = _person(sender)
    if is_group and not chat_id.endswith("@g.us"):
        chat_id = f"{chat_id}@g.us"
    return StoreMessage(
        message_id=message_id,
        from_me=from_me,
        group=chat_id if is_group else None,
        phone=phone,
        lid=lid,
        contact_name=text_of(chat.get("subject")) if is_group else None if from_me else name,
        contact_picture=text_of(chat.get("profilePicture"))
        or (None if from_me or is_group else text_of(sender.get("profilePicture"))),
        quoted_message_id=read.pop("quoted_message_id", None) or either(context, "stanzaId", "stanzaID"),
        metadata={key: value for key, value in metadata.items() if value is not None},
        **read,
    )


# Who


def _other_side(chat_id: str, sender: Json, *, from_me: bool) -> tuple[str | None, str | None]:
    """The phone and the LID of the other side of a direct chat; on ``fromMe`` it is only in ``chat.id``."""
    sender_phone, sender_lid = (None, None) if from_me else _person(sender)
    if chat_id.endswith("@lid"):
        digits = chat_id.removesuffix("@lid")
        return (sender_phone if sender_phone != digits else None), chat_id
    phone = _digits(chat_id)
    if phone is None:
        raise NoMessageError("chat_unreadable")
    if sender_lid is not None and phone == sender_lid.removesuffix("@lid"):
        return sender_phone, sender_lid
    return phone, sender_lid


def _person(sender: Json) -> tuple[str | None, str | None]:
    """A sender's phone, unless it is a LID in disguise, and LID."""
    raw, lid = text_of(sender.get("id")) or "", text_of(sender.get("senderLid"))
    if raw.endswith("@lid"):
        return None, lid or raw
    if lid is not None and not lid.endswith("@lid"):
        lid = f"{lid}@lid"
    digits = _digits(raw)
    if digits is None or len(digits) > _MAX_CONTACT_PHONE or (lid and digits == lid.removesuffix("@lid")):
        return None, lid
    return digits, lid


def _digits(address: str) -> str | None:
    digits = address.removesuffix("@s.whatsapp.net").removesuffix("@c.us").removeprefix("+").partition(":")[0]
    return digits if _PHONE.fullmatch(digits) else None


def _change_of_another(content: Json) -> ChangeMessage | None:
    """An edit or a deletion names the message it changes; every other protocol message is noise."""
    protocol = object_of(content.get("protocolMessage"))
    if not protocol:
        return None
    target = text_of(object_of(protocol.get("key")).get("id")) or either(
        object_of(protocol.get("key")), "ID", "messageId"
    )
    kind = protocol.get("type")
    edited = object_of(protocol.get("editedMessage"))
    if target is not None and (kind in (14, "14", "MESSAGE_EDIT") or (kind is None and edited)):
        try:
            name, body = body_of(unwrap(edited))
        except NoMessageError:
            raise NoMessageError("edit_unreadable") from None
        return ChangeMessage(do="edit", message_id=target, content=READERS[name](body).get("content"))
    if target is not None and not isinstance(kind, bool) and kind in (0, "0", "REVOKE"):
        return ChangeMessage(do="delete", message_id=target)
    raise NoMessageError("protocol")
