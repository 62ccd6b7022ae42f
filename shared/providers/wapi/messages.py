"""What a message event says: who, what kind, which text and media. Pure: a parsed JSON object -> a change, or a reason.

What is not a message (protocol noise, stories, newsletters, calls, empty bursts) is named.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict

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


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True)


class Who(_Change):
    """Between whom an event is.

    Attributes:
        from_me: Sent by the line, not to it.
        group: The group's address, None in a direct chat.
        phone: The other side's number in a direct chat, None if the event does not give it; never a LID.
        lid: The other side's hidden identity (``…@lid``), None if the event does not give it.
        sender_phone: Who wrote in a group, None if it is not said or was the line.
        sender_lid: The same one's hidden identity.
    """

    from_me: bool
    group: str | None
    phone: str | None
    lid: str | None
    sender_phone: str | None = None
    sender_lid: str | None = None


class StoreMessage(Who):
    """A message to store, once.

    Attributes:
        do: Always ``store``.
        message_id: The provider's.
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
        who: Of an edit or deletion: only the message's own side may change it.
    """

    do: str
    message_id: str
    status: str | None = None
    content: str | None = None
    who: Who | None = None


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
    message_id = id_of(event.get("messageId"))
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
    chat_id = id_of(object_of(event.get("chat")).get("id"))
    if chat_id is None:
        raise NoMessageError("no_chat")
    if is_story(event):
        raise NoMessageError("story")
    if chat_id.endswith(("@newsletter", "@broadcast")):
        raise NoMessageError("newsletter" if chat_id.endswith("@newsletter") else "broadcast")
    who = _who(event, chat_id)
    message_id = id_of(event.get("messageId"))
    content = object_of(event.get("msgContent"))
    if change := _change_of_another(content, message_id, who):
        return change
    if message_id is None:
        raise NoMessageError("no_message_id")
    content = unwrap(content)
    if event.get("messageStubType") or content.get("messageStubType"):
        raise NoMessageError("stub")
    return _message(event, who, message_id, content)


def is_story(event: Json) -> bool:
    """Whether an event is about a status story: not a message, no sign of life."""
    chat_id = object_of(event.get("chat")).get("id")
    return isinstance(chat_id, str) and (chat_id == "status" or chat_id.startswith("status@"))


def is_echo(event: Json) -> bool:
    """Whether an event echoes what was sent through the API."""
    return is_true(event.get("fromMe")) and is_true(event.get("fromApi"))


def _message(event: Json, who: Who, message_id: str, content: Json) -> StoreMessage:
    sender, chat = object_of(event.get("sender")), object_of(event.get("chat"))
    kind, body = body_of(content)
    read = READERS[kind](body)
    context = object_of(body.get("contextInfo")) or object_of(content.get("messageContextInfo"))
    name = text_of(sender.get("pushName")) or text_of(sender.get("verifiedBizName"))
    metadata = {**read.pop("metadata", {}), "provider_event": event.get("event")}
    if who.group is not None and not who.from_me:
        metadata |= {"sender_name": name, "sender_phone": who.sender_phone, "sender_lid": who.sender_lid}
    is_theirs = who.group is None and not who.from_me
    return StoreMessage(
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
            raise NoMessageError("chat_unreadable")
        return Who(from_me=from_me, group=group, phone=None, lid=None, sender_phone=phone, sender_lid=lid)
    digits = _digits(chat_id)
    if digits is not None and len(digits) > _MAX_CONTACT_PHONE:
        chat_id = f"{digits}@lid"  # too long for a phone: a LID without its suffix
    if chat_id.endswith("@lid"):
        if not _LID.fullmatch(chat_id):
            raise NoMessageError("chat_unreadable")
        return Who(
            from_me=from_me, group=None, phone=phone if phone != chat_id.removesuffix("@lid") else None, lid=chat_id
        )
    if digits is None:
        raise NoMessageError("chat_unreadable")
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


def _change_of_another(content: Json, message_id: str | None, who: Who) -> ChangeMessage | None:
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
        return ChangeMessage(do="delete", message_id=target, who=who)
    raise NoMessageError("protocol")


def _edit(content: Json, target: str | None, who: Who) -> ChangeMessage:
    if target is None:
        raise NoMessageError("edit_unreadable")
    try:
        name, body = body_of(unwrap(content))
    except NoMessageError:
        raise NoMessageError("edit_unreadable") from None
    return ChangeMessage(do="edit", message_id=target, content=READERS[name](body).get("content"), who=who)
